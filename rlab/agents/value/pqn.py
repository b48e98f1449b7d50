"""Parallelised Q-network (Gallici et al. 2024): Q(lambda) over rollouts, without replay or target network.

What keeps it from diverging is LayerNorm in the network and data from many environments at once.
"""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlab.agents.diagnostics import ROWS, due, value_diagnostics
from rlab.agents.types import AgentContext, Needs, Step
from rlab.agents.value.background import Background
from rlab.agents.value.config import PQNConfig
from rlab.agents.value.exploration import epsilon_greedy, linear
from rlab.agents.value.q_network import QNetwork, QPolicy, best
from rlab.agents.value.returns import lambda_returns
from rlab.nn.encoders import image_shape
from rlab.nn.init import orthogonal
from rlab.nn.modes import drawing_for
from rlab.nn.optim import make_optimiser, memories_alone, restore, state_of
from rlab.nn.precision import use_bf16
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.seeding import derive
from rlab.tasks.transfer import counts, freeze, trainable

BETA2 = 0.999
"""Adam's decay of squared gradients."""


@dataclass
class Round:
    """What is to be learned from a rollout of R steps beside its observations, and how far that is.

    Attributes:
        action: int64[R], what was done.
        target: float32[R], the returns.
        orders: int64[epochs, R], in which to go over it.
        mask: bool[ROWS, A] of allowed actions, of the first ones.
        steps: environment steps when it began.
        rate: the step size.
        terminals: share of steps that ended a game.
        threads: that torch had when it began.
        measured: [3] of each update so far: loss, norm of the gradient, mean Q.
    """

    action: Tensor
    target: Tensor
    orders: Tensor
    mask: Tensor
    steps: int
    rate: float
    terminals: float
    threads: int
    measured: list[Tensor]

    def to(self, device: torch.device) -> Round:
        """The same, its numbers of updates on a device."""
        names = ("action", "target", "orders")
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
        return replace(self, **moved, measured=[numbers.to(device) for numbers in self.measured])


class PQN:
    """The agent: collects a rollout, computes its returns, goes over it a few times, forgets it.

    With `overlap` it goes over a rollout while the next one is collected, by what it knew before: actions and the
    values that returns bootstrap from are of one rollout earlier. Nothing depends on which of the two is faster.

    A rollout takes many updates. When the run is to stop they end after the present one, and go on after a resume.

    Args:
        config: hyperparameters.
        context: what it is built for; observations are Box or Discrete, actions Discrete.

    Raises:
        RlabError: other observations or actions.
    """

    on_policy = False  # the returns take the value of what was acted on since

    def __init__(self, config: PQNConfig, context: AgentContext):
        self.config = config
        self.context = context
        self.num_actions = num_actions = context.num_actions
        self.total_steps = context.total_steps
        self.seed = seed = context.seed
        self.device = torch.device(context.device)
        shape, dtype = context.observations("pqn")
        with torch.random.fork_rng(devices=[]):  # initialised on the CPU, alike on every device
            torch.manual_seed(derive(seed, "network"))
            network = self.make_network()
        if config.freeze:
            freeze([network.encoder])
        self.online = network.to(self.device)
        self.acting = copy.deepcopy(self.online).requires_grad_(False) if config.overlap else self.online
        """What acts and values; with overlap as it was before the rollout that is being learned from."""
        self.background: Background[dict[str, float] | None] = Background(self.device)
        self._round: Round | None = None  # that is under way
        self._learned: dict[str, float] | None = None  # metrics of the round that was waited for
        self.optimizer = make_optimiser(
            "adam",
            trainable(self.online),
            lr=config.learning_rate,
            betas=(0.9, BETA2),
            eps=config.adam_epsilon,
            fused=True,
        )
        self.rng = np.random.default_rng(derive(seed, "agent"))
        self.steps = 0
        self.updates = 0
        self.filled = 0
        """Steps of the rollout that are in."""
        t, n = config.rollout, config.num_envs
        pixels = torch.from_numpy(np.empty(0, dtype)).dtype
        obs = [_empty_rollout((t, n), shape, pixels, self.device) for _ in range(2 if config.overlap else 1)]
        self.rollout: dict[str, Any] = {
            "obs": obs[0],
            "action": np.zeros((t, n), np.int64),
            "reward": np.zeros((t, n), np.float32),
            "discount": np.zeros((t, n), np.float32),
            "last": np.zeros((t, n), bool),
            "next_value": np.zeros((t, n), np.float32),
            "mask": np.ones((t, n, num_actions), bool),
        }
        self._spare = obs[-1]  # observations of the rollout that is learned from, then of the next one
        self._value = np.zeros(n, np.float32)  # of what was acted on last
        captured = config.compile == "on" or (config.compile == "auto" and self.device.type == "cuda")
        self._loss = torch.compile(self.loss, mode="reduce-overhead") if captured else self.loss

    def make_network(self) -> QNetwork:
        """The network, on the CPU; torch's global generator is seeded for it."""
        space = self.context.observation_space
        bf16 = use_bf16(self.config.precision, self.device, len(space.shape or ()) == 3)
        network = QNetwork(space, self.num_actions, self.config.encoder, bf16)
        orthogonal(network.encoder, math.sqrt(2))
        orthogonal(network.head, 1.0)
        return network

    @property
    def encoders(self) -> list[nn.Module]:
        """Where the weights of another run's encoder go."""
        return [network.encoder for network in dict.fromkeys((self.online, self.acting))]

    @property
    def epsilon(self) -> float:
        """The present probability of a random action."""
        c = self.config
        over = c.epsilon_fraction * self.total_steps
        return linear(c.epsilon_start, c.epsilon_end, self.context.place(self.steps), over)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Explore: obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        with self._beside():
            q = self.acting.predict(obs)
        greedy = best(q, mask)
        self._value = q[np.arange(len(q)), greedy]
        return epsilon_greedy(greedy, self.epsilon, mask, self.num_actions, self.rng)

    def policy(self, seed: int) -> QPolicy:
        """What evaluations and videos play: all that was learned, so it waits for learning that is under way."""
        self._wait()
        return QPolicy(self.online, seed, self.config.evaluate_epsilon)

    def learn(self, step: Step) -> dict[str, float] | None:
        """Add a step of all environments to the rollout; learn from the rollout when it is full."""
        with self._beside():
            self._store(step)
        return self.go_on() if self.unfinished else None

    @property
    def unfinished(self) -> bool:
        """Whether there is a full rollout that is to be learned from before the agent acts again."""
        return self.filled == self.config.rollout

    def go_on(self) -> dict[str, float] | None:
        """Learn from the full rollout, or with overlap begin to; None, too, if a stop comes first."""
        if self._round is None and not self.config.overlap:
            self._round = self._begin()
        if not self._finish():
            return None
        learned, self._learned = self._learned, None
        if self.config.overlap:
            self.acting.load_state_dict(self.online.state_dict())
            self._round = self._begin()
            self.rollout["obs"], self._spare = self._spare, self.rollout["obs"]
            self.background.start(partial(self._fit, self._round), self._round.threads)
        self.filled = 0
        return learned

    def _store(self, step: Step) -> None:
        """The value of a step's successor is that of the observation acted on since (`act` runs before `learn`).

        Only where the stream was cut, and goes on elsewhere, is the true successor looked at by itself.
        """
        r, t, value = self.rollout, self.filled, self._value
        cut = step.last & (step.discount != 0)
        if cut.any():
            q = self.acting.predict(step.next_obs[cut])
            mask = None if step.next_mask is None else step.next_mask[cut]
            value = value.copy()
            value[cut] = q[np.arange(len(q)), best(q, mask)]
        r["obs"][t].copy_(torch.from_numpy(np.ascontiguousarray(step.obs)))
        r["action"][t], r["reward"][t], r["last"][t], r["next_value"][t] = step.action, step.reward, step.last, value
        r["discount"][t] = self.config.gamma * step.discount
        r["mask"][t] = True if step.mask is None else step.mask
        self.filled += 1
        self.steps += len(step.action)

    def _beside(self) -> AbstractContextManager[None]:
        """While learning may be under way, its threads are left to it."""
        return self.background.half_of_threads() if self.config.overlap else nullcontext()

    def _wait(self) -> None:
        """Wait for learning that is under way.

        Raises:
            Stopped: a stop came first.
        """
        if not self._finish():
            raise Stopped

    def _finish(self) -> bool:
        """Finish the round that is under way; whether it is done, which a stop can prevent.

        Its metrics come with the next full rollout, whoever waited.
        """
        if (current := self._round) is None:
            return True
        if self.config.overlap:
            learned = self.background.wait()
            if learned is None:  # it was put down
                self.background.start(partial(self._fit, current), current.threads)
                learned = self.background.wait()
        else:
            learned = self._fit(current)
        if learned is None:
            return False
        self._learned, self._round = learned, None
        return True

    def loss(self, obs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(half the mean squared error to the returns, mean Q of the actions taken); obs[B, *shape]."""
        q = self.online(obs).gather(1, action.unsqueeze(1)).squeeze(1)
        return 0.5 * (q - target).square().mean(), q.detach().mean()

    def _begin(self) -> Round:
        """Everything that learning from the full rollout needs, none of which acting changes."""
        c, r = self.config, self.rollout
        returns = lambda_returns(r["reward"], r["discount"], r["last"], r["next_value"], c.lam)
        return Round(
            action=torch.from_numpy(r["action"].reshape(-1)).to(self.device, copy=True),
            target=torch.from_numpy(returns.reshape(-1)).to(self.device),
            orders=torch.from_numpy(np.stack([self.rng.permutation(returns.size) for _ in range(c.epochs)])).to(
                self.device
            ),
            mask=torch.from_numpy(r["mask"].reshape(-1, self.num_actions)[:ROWS].copy()),
            steps=self.steps,
            rate=linear(c.learning_rate, c.final_learning_rate, self.context.place(self.steps), self.total_steps),
            terminals=float((r["discount"] == 0).mean()),
            threads=torch.get_num_threads(),
            measured=[],
        )

    def _fit(self, r: Round) -> dict[str, float] | None:
        """Go over a rollout in each of its orders, from where that was put down; metrics, None if a stop comes."""
        c, obs = self.config, self._spare.flatten(0, 1)
        batches = [chosen for order in r.orders for chosen in order.split(c.batch_size)]
        for chosen in batches[len(r.measured) :]:
            if self.context.stop.requested:
                return None
            r.measured.append(self._update(_rows(obs, chosen), r.action[chosen], r.target[chosen], r.rate))
        numbers = torch.stack(r.measured).mean(0).tolist()  # one transfer; a NaN in any of them shows
        before = self.updates - len(batches)
        for quantity, value in zip(("loss", "gradient"), numbers, strict=False):
            if not math.isfinite(value):
                raise NonFinite(quantity, value, f"step {r.steps:,} (update {before:,})")
        metrics = dict(zip(("loss", "grad_norm", "q_mean"), numbers, strict=True))
        if c.gamma:
            metrics["terminals"] = r.terminals
        if due(before, self.updates):
            sample = obs[:ROWS].cpu().numpy()
            metrics |= value_diagnostics(self.online, lambda: self.online.predict(sample), len(sample), r.mask, c.gamma)
        return metrics

    def _update(self, obs: Tensor, action: Tensor, target: Tensor, rate: float) -> Tensor:
        self.updates += 1
        for group in self.optimizer.param_groups:
            group["lr"] = rate * rectification(self.updates, BETA2)
        with drawing_for(self.online.modes, self.device, self.seed, "update", self.updates):
            loss, q_mean = self._loss(obs, action, target)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.online.parameters() if p.grad is not None])
        # Adam divides gradients by this in its own pass; clip_grad_norm_ would make another one over them.
        self.optimizer.grad_scale = (norm / self.config.max_grad_norm).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.step()
        return torch.stack([loss.detach(), norm, q_mean])

    def needs(self) -> Needs:
        """Rollout, network, optimiser, and the activations of a batch (estimated)."""
        weights = sum(p.numel() * p.element_size() for p in self.online.parameters())
        obs = self.rollout["obs"]
        rollout = obs.numel() * obs.element_size()
        held = 2 * rollout if self.config.overlap else rollout
        working = 4 * weights + self.config.batch_size * 40 * max(rollout // (obs.shape[0] * obs.shape[1]), 1_000)
        memory, device_memory = (held + working, 0) if self.device.type == "cpu" else (0, held + working)
        return Needs(memory, device_memory, 3 * weights + held, 0, *counts(self.online))

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next; waits for learning that is under way, up to a stop."""
        self._finish()
        return {
            "online": self.online.state_dict(),
            "acting": self.acting.state_dict() if self.config.overlap else None,
            "learned": self._learned,
            "optimizer": state_of(self.optimizer),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "updates": self.updates,
            "filled": self.filled,
            "rollout": {name: column[: self.filled] for name, column in self.rollout.items()},
        } | self._put_down()

    def _put_down(self) -> dict[str, Any]:
        """The round that a stop interrupted, if there is one; without overlap its observations are the rollout's."""
        if self._round is None:
            return {}
        obs = {"round_obs": self._spare} if self.config.overlap else {}
        return {"round": asdict(self._round)} | obs

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes."""
        self.background.wait()
        self._round = None
        self.restore_policy(state)
        if self.config.overlap:
            self.acting.load_state_dict(state["acting"])
        self._learned = state["learned"]
        restore(self.optimizer, state.get("optimizer") or memories_alone(self.optimizer, state["adam"]))
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.updates, self.filled = state["steps"], state["updates"], state["filled"]
        for name, column in state["rollout"].items():
            self.rollout[name][: self.filled] = column
        if "round" in state:
            self._round = Round(**state["round"]).to(self.device)
        if "round_obs" in state:
            self._spare.copy_(state["round_obs"])

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs."""
        self._wait()
        for network in dict.fromkeys((self.online, self.acting)):
            network.load_state_dict(state["online"])


def _empty_rollout(size: tuple[int, int], shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """[T, N, *shape]; images lie channels last, as their encoder wants them: put in order once, read many times."""
    if len(shape) != 3 or image_shape(shape) != shape:
        return torch.empty((*size, *shape), dtype=dtype, device=device)
    channels, height, width = shape
    return torch.empty((*size, height, width, channels), dtype=dtype, device=device).permute(0, 1, 4, 2, 3)


def _rows(obs: Tensor, chosen: Tensor) -> Tensor:
    """obs[chosen], images as they lie in memory: torch gathers whole rows 20 times as fast as permuted ones."""
    if obs.ndim != 4 or obs.is_contiguous():
        return obs.index_select(0, chosen)
    return obs.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)


def rectification(update: int, beta2: float) -> float:
    """What RAdam multiplies Adam's step size with at its `update`-th update, 1-based (Liu et al. 2020, algorithm 2).

    While the variance of the squared gradients is intractable (the first updates, rho <= 5), RAdam takes an
    unadapted step; here the step is left out, as gradients of half a unit times 1e-4 move nothing.
    """
    limit = 2 / (1 - beta2) - 1
    power = beta2**update
    rho = limit - 2 * update * power / (1 - power)
    if rho <= 5:
        return 0.0
    return math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
