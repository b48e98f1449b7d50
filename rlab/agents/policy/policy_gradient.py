"""Policy gradients: REINFORCE, with a baseline, one-step actor-critic and A2C are values of one `PolicyConfig`.

The gradient is that of the mean over a rollout of log pi(a_t|s_t) A_t (Williams 1992; Sutton et al. 2000, theorem 1;
Mnih et al. 2016, section 4, "advantage actor-critic"). As everywhere in deep RL, the factor gamma^t of the discounted
theorem is left out (Sutton & Barto 2018, 13.3, keep it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlab.agents.diagnostics import ROWS, due, policy_spread, value_diagnostics
from rlab.agents.graph import LOGITS, policy_graph
from rlab.agents.policy.config import PolicyConfig
from rlab.agents.types import AgentContext, Needs, Step
from rlab.agents.value.exploration import linear
from rlab.agents.value.returns import discounted_returns, gae
from rlab.nn.graph import Graph
from rlab.nn.heads.policy import CategoricalHead, GaussianHead, Policy, ValueHead
from rlab.nn.inputs import ObservationEncoder
from rlab.nn.modes import drawing_for
from rlab.nn.optim import make_optimiser, memories_alone, restore, state_of
from rlab.run.contract import NonFinite, Stop
from rlab.seeding import derive
from rlab.tasks.transfer import counts, freeze, trainable

CHUNK = 1_024
"""Steps of a rollout that go through the network at once; gradients add up to the same."""


class ActorCritic(nn.Module):
    """Observations -> policy and value, on one encoder or on two.

    Args:
        space: of one observation.
        actions: of one environment: Discrete or Box.
        config: encoder, share_encoder, value_coef (0: no value) and initial_log_std are read.
    """

    def __init__(self, space: gym.Space[Any], actions: gym.Space[Any], config: PolicyConfig):
        super().__init__()
        memory = config.memory if config.recurrent else ""
        self.encoder = ObservationEncoder(space, config.encoder, memory)
        width = self.encoder.out_dim
        self.head: CategoricalHead | GaussianHead
        if isinstance(actions, Box):
            self.head = GaussianHead(width, int(np.prod(actions.shape)), config.initial_log_std)
        else:
            assert isinstance(actions, gym.spaces.Discrete)
            self.head = CategoricalHead(width, int(actions.n))
        self.value_head = ValueHead(width) if config.value_coef else None
        separate = config.value_coef and not config.share_encoder
        self.value_encoder = ObservationEncoder(space, config.encoder, memory) if separate else None
        if config.freeze:
            freeze(self.encoders)

    @property
    def encoders(self) -> list[nn.Module]:
        """The registered encoders, without scaling."""
        return [e.encoder for e in (self.encoder, self.value_encoder) if e is not None]

    def policy(self, obs: Tensor, mask: Tensor | None) -> Policy:
        """obs[B, *shape], mask bool[B, A] or None -> a distribution for each."""
        return self.head(self.encoder(obs), mask)

    def value(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> V[B]; 0 without a value function."""
        if self.value_head is None:
            return torch.zeros(len(obs), device=obs.device)
        return self.value_head((self.value_encoder or self.encoder)(obs))

    def forward(self, obs: Tensor, mask: Tensor | None) -> tuple[Policy, Tensor | None]:
        """Policy and value [B] (None without one) at once, through a shared encoder only once."""
        features = self.encoder(obs)
        if self.value_head is None:
            return self.head(features, mask), None
        other = features if self.value_encoder is None else self.value_encoder(obs)
        return self.head(features, mask), self.value_head(other)

    def unroll(self, obs: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unroll what remembers: obs[T, B, *shape], state[B, S], first bool[T, B] -> features [T, B, D] for the policy
        and for the value, and the state after them."""
        own = self.encoder.state_dim
        features, after = self.encoder.unroll(obs, state[:, :own], first)
        if self.value_encoder is None:
            return features, features, after
        other, more = self.value_encoder.unroll(obs, state[:, own:], first)
        return features, other, torch.cat([after, more], dim=1)

    def graph(self, observations: gym.Space[Any]) -> Graph:
        """Return the policy for an export; see `rlab.agents.graph.ExportsPolicy`."""

        def call(network: ActorCritic, obs: Tensor, state: Tensor | None = None) -> Any:
            if state is None:
                return network.policy(obs, None)[0]
            going_on = torch.zeros(1, obs.shape[0], dtype=torch.bool)
            features, after = network.encoder.unroll(obs.unsqueeze(0), state, going_on)
            return network.head(features.squeeze(0))[0], after

        return policy_graph(self, observations, call, LOGITS, self.encoder.state_dim)

    def initial_state(self, streams: int) -> Tensor:
        """The state before anything was seen: zeros [streams, S]."""
        width = self.encoder.state_dim * (1 if self.value_encoder is None else 2)
        return torch.zeros(streams, width, device=next(self.parameters()).device)


class Rollout(NamedTuple):
    """T steps of N environments, as the loss sees them; `action` is the one drawn, before any bound."""

    obs: np.ndarray  # [T, N, *shape]
    action: np.ndarray  # int64[T, N] or float32[T, N, K]
    reward: np.ndarray  # float32[T, N]
    discount: np.ndarray  # float32[T, N], 0 where bootstrapping stops
    last: np.ndarray  # bool[T, N]
    final_obs: np.ndarray  # [M, *shape], what was reached where `cut`
    mask: np.ndarray | None  # bool[T, N, A]

    @property
    def cut(self) -> np.ndarray:
        """bool[T, N], M of them true: the next row is not what followed (a stream's break, the rollout's end)."""
        cut = self.last.copy()
        cut[-1] = True
        return cut


class PolicyPlayer:
    """Plays a policy with random numbers of its own; leaves the agent untouched."""

    def __init__(self, agent: PolicyGradient, seed: int):
        self._agent = agent
        self._rng = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N], or floats within the Box."""
        rng = self._rng if self._agent.config.evaluate == "sample" else None
        return self._agent.executed(self._agent.choose(obs, mask, rng))


class PolicyGradient:
    """The agent: acts by its policy, gathers a rollout, learns from it once and forgets it.

    Args:
        config: hyperparameters.
        context: what it is built for; actions are Discrete, or Box of floats.
    """

    on_policy = True  # the gradient is that of the policy which acted

    epsilon = None

    def __init__(self, config: PolicyConfig, context: AgentContext):
        self.config = config
        self.context = context
        self.action_space = context.action_space
        self.total_steps = context.total_steps
        self.seed = seed = context.seed
        self.device = torch.device(context.device)
        with torch.random.fork_rng(devices=[]):  # initialised on the CPU, alike on every device
            torch.manual_seed(derive(seed, "network"))
            network = self.make_network()
        self.network = network.to(self.device)
        self.optimizer = make_optimiser(
            "adam", trainable(self.network), lr=config.learning_rate, eps=config.adam_epsilon, fused=True
        )
        self.rng = np.random.default_rng(derive(seed, "agent"))
        self.steps = 0
        self.updates = 0
        self._chosen = np.empty(0)  # what was drawn at the last `act`
        self._gathered: list[Step] = []
        self._episodes = 0  # whole ones in the rollout so far

    def make_network(self) -> ActorCritic:
        """Policy and value, on the CPU; torch's global generator is seeded for it."""
        return ActorCritic(self.context.observation_space, self.context.action_space, self.config)

    @property
    def encoders(self) -> list[nn.Module]:
        """Where the weights of another run's encoder go."""
        return self.network.encoders

    def choose(self, obs: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator | None) -> np.ndarray:
        """Draw actions, or take the most probable ones without `rng`: int64[N], or float32[N, K] without bounds."""
        with torch.inference_mode():
            policy = self.network.policy(self._tensor(obs), None if mask is None else self._tensor(mask))
            return self.draw(policy, rng)

    def draw(self, policy: Policy, rng: np.random.Generator | None) -> np.ndarray:
        """The actions of a policy over N states, drawn as in `choose`."""
        if rng is None:
            return policy.mode().cpu().numpy()
        if isinstance(self.action_space, Box):
            noise = rng.standard_normal(policy[0].shape, np.float32)
        else:
            noise = rng.random(policy[0].shape, np.float32)
        return policy.sample(torch.from_numpy(noise).to(self.device)).cpu().numpy()

    def executed(self, action: np.ndarray) -> np.ndarray:
        """What an environment is given: int64[N], or [N, *shape] clipped to the bounds of the Box."""
        space = self.action_space
        if not isinstance(space, Box):
            return action
        return np.clip(action.reshape(-1, *space.shape).astype(space.dtype), space.low, space.high)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N], or floats within the Box."""
        self._chosen = self.choose(obs, mask, self.rng)
        return self.executed(self._chosen)

    def learn(self, step: Step) -> dict[str, float] | None:
        """Take in one step of N environments; update at the end of a rollout.

        What counts is the action drawn, not the one executed: log pi belongs to it, and a bound or a forced FIRE is
        the environment's doing.
        """
        self._gathered.append(step._replace(action=self._chosen))
        self.steps += len(step.reward)
        self._episodes += int(step.last.sum())
        whole = self.config.rollout_unit == "episodes"
        if (self._episodes if whole else len(self._gathered)) < self.config.rollout:
            return None
        metrics = self.update(self.rollout())
        self._gathered, self._episodes = [], 0
        return metrics

    def rollout(self) -> Rollout:
        """What has been gathered so far, T >= 1 steps."""
        steps = self._gathered
        obs, action, reward, discount, last = (np.stack([np.asarray(s[i]) for s in steps]) for i in range(5))
        mask = None if steps[0].mask is None else np.stack([m for s in steps if (m := s.mask) is not None])
        ends = [s.next_obs[s.last] for s in steps[:-1]] + [steps[-1].next_obs]
        return Rollout(obs, action, reward, discount, last, np.concatenate(ends), mask)

    def advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """(advantages, targets of the value) of a rollout, float32[T, N] each, on the CPU; before normalising."""
        c = self.config
        reward, last = torch.from_numpy(rollout.reward), torch.from_numpy(rollout.last)
        discount = c.gamma * torch.from_numpy(rollout.discount)
        if not c.value_coef:
            returns = discounted_returns(reward, discount, last)  # a truncation is taken for the end: nothing stands in
            return returns, returns
        with torch.no_grad():
            value, final = self.values(rollout)
        next_value = torch.cat([value[1:], value[-1:]])
        next_value[torch.from_numpy(rollout.cut)] = final
        advantage = gae(reward, discount, last, value, next_value, c.gae_lambda)
        return advantage, advantage + value

    def values(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """(values [T, N] of a rollout's observations, values [M] of what was reached where it is cut), on the CPU."""
        flat = rollout.obs.reshape(-1, *rollout.obs.shape[2:])
        value = torch.cat([self.network.value(self._tensor(part)) for part in _parts(flat)]).cpu()
        final = torch.cat([self.network.value(self._tensor(part)) for part in _parts(rollout.final_obs)]).cpu()
        return value.reshape(rollout.reward.shape), final

    def outputs(self, rollout: Rollout) -> Iterator[tuple[slice, Policy, Tensor | None]]:
        """Policy and value of all T N observations, with gradients, one part of them after the other."""
        rows = rollout.reward.size
        obs = rollout.obs.reshape(rows, *rollout.obs.shape[2:])
        mask = None if rollout.mask is None else rollout.mask.reshape(rows, -1)
        for i in range(0, rows, CHUNK):
            part = slice(i, i + CHUNK)
            masked = None if mask is None else self._tensor(mask[part])
            with drawing_for(self.network.encoder.modes, self.device, self.seed, "update", self.updates, i):
                policy, value = self.network(self._tensor(obs[part]), masked)
            yield part, policy, value

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One gradient step on a rollout.

        Raises:
            NonFinite: the loss or the gradient is NaN or Inf; the weights stay as they were.
        """
        c = self.config
        rate = linear(c.learning_rate, c.final_learning_rate, self.context.place(self.steps), self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        advantage, target = (x.reshape(-1).to(self.device) for x in self.advantages(rollout))
        if c.normalise_advantages and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        rows = len(advantage)
        obs = rollout.obs.reshape(rows, *rollout.obs.shape[2:])
        action = rollout.action.reshape(rows, *rollout.action.shape[2:])
        self.optimizer.zero_grad()
        sums = torch.zeros(4, device=self.device)
        for part, policy, value in self.outputs(rollout):
            gain = (policy.log_prob(self._tensor(action[part])) * advantage[part]).sum() / rows
            entropy = policy.entropy().sum() / rows
            error = torch.zeros_like(gain) if value is None else (value - target[part]).square().sum() / rows
            loss = -gain - c.entropy_coef * entropy + c.value_coef * error
            loss.backward()
            sums += torch.stack([loss, -gain, error, entropy]).detach()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), c.max_grad_norm)
        numbers = [*sums.tolist(), norm.item()]
        for quantity, number in (("loss", numbers[0]), ("gradient", numbers[4])):
            if not np.isfinite(number):
                raise NonFinite(quantity, number, f"step {self.steps:,} (update {self.updates + 1:,})")
        self.optimizer.step()
        self.updates += 1
        metrics = dict(zip(("loss", "policy_loss", "value_loss", "entropy", "grad_norm"), numbers, strict=True))
        if not c.value_coef:
            del metrics["value_loss"]
        metrics["terminals"] = float((rollout.discount == 0).mean())
        if isinstance(self.action_space, Box):
            metrics["policy_spread"] = policy_spread(metrics["entropy"], int(np.prod(self.action_space.shape)))
        elif self.action_space.n > 1:  # type: ignore[attr-defined]
            metrics["policy_spread"] = policy_spread(metrics["entropy"], 0)
        return metrics | (self.diagnostics(obs) if due(self.updates - 1, self.updates, 32) else {})

    def diagnostics(self, obs: np.ndarray) -> dict[str, float]:
        """What training health reads of the network, at obs[B, *shape]; see `value_diagnostics`."""

        sample = obs[:ROWS]

        def values() -> np.ndarray:  # [B, 1], through both encoders
            with torch.inference_mode():
                _, value = self.network(self._tensor(sample), None)
            return np.zeros((0, 1)) if value is None else value.unsqueeze(1).cpu().numpy()

        return value_diagnostics(self.network, values, len(sample), None, self.config.gamma)

    def policy(self, seed: int) -> PolicyPlayer:
        """What evaluations play: random numbers of its own, the agent untouched."""
        return PolicyPlayer(self, seed)

    def needs(self) -> Needs:
        """Rollout, network, optimiser, and the activations of a chunk (estimated)."""
        c = self.config
        dtype, shape = self.context.observation_space.dtype, self.context.observation_space.shape
        assert dtype is not None
        assert shape is not None
        obs_bytes = max(1, int(np.prod(shape))) * dtype.itemsize
        steps = self.context.longest_episode * c.rollout if c.rollout_unit == "episodes" else c.rollout * c.num_envs
        weights = sum(p.numel() * p.element_size() for p in self.network.parameters())
        gathered = steps * (2 * obs_bytes + 64)
        working = 4 * weights + min(steps, CHUNK) * 40 * max(obs_bytes, 1_000)
        if self.device.type == "cpu":
            return Needs(gathered + working, 0, 3 * weights + gathered, 0, *counts(self.network))
        return Needs(gathered, working, 3 * weights + gathered, 0, *counts(self.network))

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next, the unfinished rollout included."""
        rollout = self.rollout()._asdict() if self._gathered else None
        return {
            "network": self.network.state_dict(),
            "optimizer": state_of(self.optimizer),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "updates": self.updates,
            "chosen": self._chosen,
            "rollout": rollout,
            "episodes": self._episodes,
        }

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes."""
        self.restore_policy(state)
        restore(self.optimizer, state.get("optimizer") or memories_alone(self.optimizer, state["adam"]))
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.updates, self._episodes = state["steps"], state["updates"], state["episodes"]
        self._chosen = state["chosen"]
        self._gathered = [] if state["rollout"] is None else _steps_of(Rollout(**state["rollout"]))

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs."""
        self.network.load_state_dict(state["network"])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]


def _steps_of(rollout: Rollout) -> list[Step]:
    """Undo `PolicyGradient.rollout`: within a stream the next row is what followed."""
    next_obs = np.concatenate([rollout.obs[1:], rollout.obs[-1:]])
    next_obs[rollout.cut] = rollout.final_obs
    r = rollout
    return [
        Step(
            obs=r.obs[t],
            action=r.action[t],
            reward=r.reward[t],
            discount=r.discount[t],
            last=r.last[t],
            next_obs=next_obs[t],
            mask=None if r.mask is None else r.mask[t],
            next_mask=None,
        )
        for t in range(len(r.obs))
    ]
