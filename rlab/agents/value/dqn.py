"""Deep Q-network (Mnih et al. 2015); every variant is a field of `QConfig`, read in one place."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.agents.diagnostics import ROWS, due, value_diagnostics
from rlab.agents.types import AgentContext, Needs, Step, Transitions
from rlab.agents.value.config import QConfig
from rlab.agents.value.distributions import categorical_loss, greedy, midpoints, project, quantile_huber_loss, take
from rlab.agents.value.exploration import epsilon_greedy, linear
from rlab.agents.value.q_network import NetworkOutputs, QNetwork, QPolicy, RecurrentState, best, forward_batch
from rlab.agents.value.replay import Replay, Sequences
from rlab.agents.value.returns import (
    bootstrap,
    double_next_value,
    log_policy,
    munchausen_reward,
    next_value,
    soft_value,
)
from rlab.nn.modes import drawing_for
from rlab.nn.optim import make_optimiser, memories_alone, restore, state_of
from rlab.nn.precision import use_bf16
from rlab.run.contract import NonFinite, Stop
from rlab.seeding import derive
from rlab.tasks.transfer import counts, freeze, trainable


class DQN:
    """The agent: acts, remembers, learns. Counts environment steps; all its schedules read them.

    A variant overrides `make_network`, `make_target`, `update_target`, `target_of` or `loss`.

    Args:
        config: hyperparameters.
        context: what it is built for; observations are Box or Discrete, actions Discrete.

    Raises:
        RlabError: other observations or actions.
    """

    on_policy = False

    def __init__(self, config: QConfig, context: AgentContext):
        self.config = config
        self.context = context
        self.num_actions = num_actions = context.num_actions
        self.total_steps = context.total_steps
        self.seed = seed = context.seed
        self.device = torch.device(context.device)
        shape, dtype = context.observations("dqn")
        with torch.random.fork_rng(devices=[]):  # initialised on the CPU, alike on every device
            torch.manual_seed(derive(seed, "network"))
            network = self.make_network()
        if config.freeze:
            freeze([network.encoder])
        self.online = network.to(self.device)
        self.target = self.make_target().requires_grad_(False)
        self.fractions = midpoints(config.quantiles).to(self.device)
        self.optimizer = make_optimiser(
            "adam", trainable(self.online), lr=config.learning_rate, eps=config.adam_epsilon, fused=True
        )
        self.rng = np.random.default_rng(derive(seed, "agent"))
        self.generator = torch.Generator().manual_seed(derive(seed, "noise"))  # of noise and fractions, on every device
        self._draws = config.explore == "noisy" or config.value == "iqn"
        each = config.memory_size // config.num_envs
        alpha = config.priority_alpha if config.replay == "prioritised" else None
        self.ring = Replay(
            (each - each % config.sequence if config.recurrent else each) * config.num_envs,
            config.num_envs,
            shape,
            dtype,
            context.frame_stack,
            num_actions if context.has_masks else None,
            context.device,
            context.journal,
            None if config.recurrent else alpha,
        )
        self.memory: Replay | Sequences = self.ring
        if config.recurrent:
            width: int = network.encoder.state_dim  # type: ignore[assignment]
            self.memory = Sequences(self.ring, config.burn_in, config.sequence, config.n_step, width, alpha)
        self.recurrent_state = RecurrentState(self.online)
        self._before: list[np.ndarray] = []  # recurrent states before the steps that were not learned from yet
        self.steps = 0
        self.updates = 0
        captured = config.compile == "on" or (config.compile == "auto" and self.device.type == "cuda")
        captured = captured and not config.recurrent  # its batches differ in length
        self._loss = torch.compile(self.loss, mode="reduce-overhead") if captured else self.loss

    def make_network(self) -> QNetwork:
        """The online network, on the CPU; torch's global generator is seeded for it."""
        c, space = self.config, self.context.observation_space
        bf16 = use_bf16(c.precision, self.device, len(space.shape or ()) == 3)
        return QNetwork(space, self.num_actions, c.encoder, bf16, c)

    def make_target(self) -> Any:
        """What targets are taken from at first: a copy of the online network.

        Any module with `encode`, `head_outputs`, `q_values` and `resample` as `QNetwork` has them will do. Its state
        is part of every checkpoint.
        """
        return copy.deepcopy(self.online)

    def update_target(self) -> None:
        """Every `target_every` steps: take over the online network's weights."""
        self.target.load_state_dict(self.online.state_dict())

    @property
    def encoders(self) -> list[nn.Module]:
        """Where the weights of another run's encoder go."""
        networks = [*self.online.modules(), *self.target.modules()]
        return [network.encoder for network in networks if isinstance(network, QNetwork)]

    @property
    def epsilon(self) -> float:
        """The present probability of a random action."""
        c = self.config
        if self.steps < c.learning_starts:
            return 1.0
        over, place = c.epsilon_fraction * self.total_steps, self.context.place
        return linear(c.epsilon_start, c.epsilon_end, place(self.steps) - place(c.learning_starts), over)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Explore: obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        epsilon = self.epsilon
        if epsilon >= 1 and not self.config.recurrent:
            chosen = np.zeros(len(obs), np.int64)
        else:
            if self.config.recurrent:
                self._before.append(self.recurrent_state.before(len(obs), first))
            self.online.resample(self.generator)
            chosen = best(self.recurrent_state.predict(obs, first, noise=True), mask)
        return epsilon_greedy(chosen, epsilon, mask, self.num_actions, self.rng)

    def policy(self, seed: int) -> QPolicy:
        """What evaluations and videos play."""
        return QPolicy(self.online, seed, self.config.evaluate_epsilon)

    def learn(self, step: Step, columns: np.ndarray | None = None) -> dict[str, float] | None:
        """Remember a step of all environments, or of those numbered `columns`, and make the updates that are due.

        Returns:
            The last update's metrics, or None if there was none.
        """
        c = self.config
        self._remember(step, columns)
        before, self.steps = self.steps, self.steps + len(step.action)
        metrics = None
        if self.steps > c.learning_starts and self.memory.ready(c.n_step):
            beta = linear(c.priority_beta, 1.0, self.context.place(self.steps), self.total_steps)
            updates = self.updates
            for _ in range(self.steps // c.train_every - before // c.train_every):
                metrics = self.update(self.memory.sample(self.rng, c.batch_size, c.n_step, c.gamma, beta))
            if metrics is not None and due(updates, self.updates):
                metrics |= self.diagnostics()
        if before // c.target_every != self.steps // c.target_every:
            self.update_target()
        return metrics

    def _remember(self, step: Step, columns: np.ndarray | None) -> None:
        if isinstance(self.memory, Replay):
            self.memory.add(step, columns)
            return
        after = self.recurrent_state.before(len(step.action), step.last)
        known = [*self._before, after]
        self.memory.add(step, known[0], known[min(1, len(known) - 1)])
        del self._before[:1]

    def target_of(self, batch: Transitions, taus: Tensor | None, features: NetworkOutputs | None = None) -> Tensor:
        """What is predicted for (obs, action): values [B], probabilities of the support or quantiles [B, K].

        Args:
            batch: B transitions.
            taus: [B, K], the fractions of the target's quantiles (iqn).
            features: of the batch, from both networks; None: they are computed here.
        """
        c, mask = self.config, batch.next_mask
        features = features or forward_batch(self.online, self.target, batch, c.double, c.munchausen)
        if taus is None:
            output = self.target.head_outputs(features.target_next)
            q = self.target.q_values(output)
        else:  # actions are chosen by evenly spread fractions, in the same forward
            even = self.target.act_taus.expand(len(taus), -1)
            output = self.target.head_outputs(features.target_next, torch.cat([taus, even], dim=1))
            q, output = output[..., taus.shape[1] :].mean(dim=2), output[..., : taus.shape[1]]
        if features.target is not None:
            tau = c.munchausen_temperature
            here = log_policy(self.target.q_values(self.target.head_outputs(features.target)), tau, batch.mask)
            bonus = munchausen_reward(here, batch.action, c.munchausen_alpha, tau, c.munchausen_clip)
            value = soft_value(output, log_policy(q, tau, mask), tau, mask)
            return bootstrap(batch.reward + bonus, batch.discount, value)
        chooser = q
        if features.online_next is not None:
            chooser = self.online.q_values(self.online.head_outputs(features.online_next))
        if c.value == "expected":
            value = double_next_value(q, chooser, mask) if c.double else next_value(q, mask)
            return bootstrap(batch.reward, batch.discount, value)
        following = take(output, greedy(chooser, mask))
        if c.value == "c51":
            return project(following.softmax(dim=1), batch.reward, batch.discount, self.target.support)
        return bootstrap(batch.reward, batch.discount, following)

    def loss(self, batch: Transitions, taus: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(mean loss [], mean Q of the actions taken [], priorities [B]); the target carries no gradient.

        Of expectations: Huber with threshold 1 of the temporal-difference error, Mnih et al.'s "error clipping", and
        the error's size as priority. Of distributions: their distance, which is the priority, too.

        Args:
            batch: B transitions.
            taus: [2, B, K], fractions for prediction and target (iqn).
        """
        c = self.config
        features = forward_batch(self.online, self.target, batch, c.double, c.munchausen)
        with torch.no_grad():
            target = self.target_of(batch, None if taus is None else taus[1], features)
        output = self.online.head_outputs(features.online, None if taus is None else taus[0])
        if self.config.value == "expected":
            q = output.gather(1, batch.action.unsqueeze(1)).squeeze(1)
            losses = F.smooth_l1_loss(q, target, reduction="none")
            priority = (q.detach() - target).abs()
        else:
            predicted = take(output, batch.action)
            q = take(self.online.q_values(output), batch.action)
            if self.config.value == "c51":
                losses = categorical_loss(predicted, target)
            else:
                losses = quantile_huber_loss(predicted, self.fractions if taus is None else taus[0], target)
            priority = losses.detach()
        if batch.weight is not None:
            losses = losses * batch.weight
        return losses.mean(), q.detach().mean(), priority

    def draw_taus(self, size: int) -> Tensor | None:
        """Fractions for a batch, uniform in 0..1 (iqn): [2, size, K]; None for other values."""
        if self.config.value != "iqn":
            return None
        return torch.rand(2, size, self.config.taus, generator=self.generator).to(self.device)

    def update(self, batch: Transitions) -> dict[str, float]:
        """One gradient step.

        Raises:
            NonFinite: the loss or the gradient is NaN or Inf.
        """
        c = self.config
        rate = linear(c.learning_rate, c.final_learning_rate, self.context.place(self.steps), self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.online.iterate()
        self.online.resample(self.generator)
        self.target.resample(self.generator)
        taus = self.draw_taus(len(batch.action))
        with drawing_for(self.online.modes, self.device, self.seed, "update", self.updates):
            loss, q_mean, priority = self._loss(batch) if taus is None else self._loss(batch, taus)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), c.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        measured = torch.stack([loss.detach(), norm, q_mean])
        if self.memory.priorities is not None:
            measured = torch.cat([measured, priority])
        numbers = measured.cpu().numpy()  # one transfer
        metrics = dict(zip(("loss", "grad_norm", "q_mean"), numbers[:3].tolist(), strict=True))
        for quantity, value in (("loss", metrics["loss"]), ("gradient", metrics["grad_norm"])):
            if not np.isfinite(value):
                raise NonFinite(quantity, value, f"step {self.steps:,} (update {self.updates:,})")
        if self.memory.priorities is not None:
            self.memory.prioritise(batch.index, numbers[3:])
        return metrics

    def diagnostics(self) -> dict[str, float]:
        """What training health reads: see `value_diagnostics`; of terminals, their share in the whole replay."""
        c = self.config
        batch = self.memory.sample(np.random.default_rng(self.updates), ROWS, c.n_step, c.gamma)
        bonus = 0.0
        if c.munchausen:  # at the most: of log-probability, and of the soft policy's entropy
            entropy = c.munchausen_temperature * math.log(self.num_actions)
            bonus = c.munchausen_alpha * -c.munchausen_clip + entropy

        def values() -> np.ndarray:
            if batch.windows is None:
                return self.online.predict(batch.obs.cpu().numpy())
            with torch.inference_mode():
                features = forward_batch(self.online, self.target, batch, False, False).online
                return self.online.q_values(self.online.head_outputs(features)).cpu().numpy()

        diagnostics = value_diagnostics(self.online, values, len(batch.action), batch.mask, c.gamma, bonus)
        return diagnostics | {"terminals": self.ring.terminals()}

    def needs(self) -> Needs:
        """Replay, networks, optimiser, and the activations of a batch (estimated)."""
        memory, device_memory = self.memory.bytes_needed()
        weights = sum(p.numel() * p.element_size() for p in self.online.parameters())
        obs_bytes = int(np.prod(self.ring.frame_shape)) * self.ring.frame_stack
        working = 5 * weights + self.config.batch_size * 40 * max(obs_bytes, 1_000)
        if self.device.type == "cpu":
            memory += working
        else:
            device_memory += working
        entries = self.ring.length * self.ring.num_envs
        checkpoint = 4 * weights + (0 if self.memory.priorities is None else 8 * self.memory.priorities.places)
        return Needs(memory, device_memory, checkpoint, entries, *counts(self.online))

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next."""
        state: dict[str, Any] = {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": state_of(self.optimizer),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "updates": self.updates,
            "memory": self.memory.state(),
        }
        if self._draws:
            state["generator"] = self.generator.get_state()
        if self.config.recurrent:
            state["carry"] = {"now": self.recurrent_state.state, "before": list(self._before)}
        return state

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes; polls `stop` (raises `Stopped`)."""
        self.restore_policy(state)
        self.target.load_state_dict(state["target"])
        restore(self.optimizer, state.get("optimizer") or memories_alone(self.optimizer, state["adam"]))
        self.rng.bit_generator.state = state["rng"]
        if self._draws:
            self.generator.set_state(state["generator"])
        if self.config.recurrent:
            self.recurrent_state.state, self._before = state["carry"]["now"], list(state["carry"]["before"])
        self.steps, self.updates = state["steps"], state["updates"]
        self.memory.restore(state["memory"], stop)

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs, and what a new run starts from."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(self.make_target().state_dict())
