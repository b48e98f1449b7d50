"""Policy gradients that remember: what was seen goes on from step to step in a recurrent state.

A rollout begins with the state that acting had there, of the weights before the last update, and its gradient goes
back to its start (truncated backpropagation through time, as in Mnih et al. 2016, section 5.1, A3C with an LSTM).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.agents.policy.config import PolicyConfig
from rlab.agents.policy.policy_gradient import PolicyGradient, Rollout
from rlab.agents.types import AgentContext
from rlab.agents.value.q_network import CarriedState
from rlab.nn.heads.policy import Policy
from rlab.nn.modes import drawing_for
from rlab.run.contract import Stop


def make_policy_gradient(config: PolicyConfig, context: AgentContext) -> PolicyGradient:
    """Make the agent, with or without a memory."""
    return (RecurrentPolicyGradient if config.recurrent else PolicyGradient)(config, context)


class RecurrentPlayer:
    """Plays a policy that remembers, with random numbers and a state of its own; leaves the agent untouched."""

    def __init__(self, agent: RecurrentPolicyGradient, seed: int):
        self._agent = agent
        self._state = CarriedState(agent.network)
        self._rng = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N], or floats within the Box."""
        rng = self._rng if self._agent.config.evaluate == "sample" else None
        return self._agent.executed(self._agent.choose_step(obs, first, mask, rng, self._state))


class RecurrentPolicyGradient(PolicyGradient):
    """The agent with a memory between encoder and heads.

    Args:
        config: hyperparameters, with a memory.
        context: what it is built for; actions are Discrete, or Box of floats.
    """

    def __init__(self, config: PolicyConfig, context: AgentContext):
        super().__init__(config, context)
        self.recurrent_state = CarriedState(self.network)
        self._start = np.zeros((0, 0), np.float32)  # the state before the rollout's first step
        self._first: list[np.ndarray] = []  # where episodes start, for every step acted since then

    def choose_step(
        self,
        obs: np.ndarray,
        first: np.ndarray,
        mask: np.ndarray | None,
        rng: np.random.Generator | None,
        carried: CarriedState,
    ) -> np.ndarray:
        """`choose`, one step on from a state, which is carried along; first bool[N]: an episode starts."""
        before = carried.before(len(obs), first)
        with torch.inference_mode():
            given = (self._tensor(obs[None]), self._tensor(before), self._tensor(first[None]))
            features, _, after = self.network.unroll(*given)
            carried.state = after.cpu().numpy()
            policy = self.network.head(features[0], None if mask is None else self._tensor(mask))
            return self.draw(policy, rng)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N], or floats within the Box."""
        if not self._gathered:
            self._start, self._first = self.recurrent_state.before(len(obs), first), []
        self._first.append(first.copy())
        self._chosen = self.choose_step(obs, first, mask, self.rng, self.recurrent_state)
        return self.executed(self._chosen)

    def policy(self, seed: int) -> Any:
        """What evaluations play: random numbers and a state of its own, the agent untouched."""
        return RecurrentPlayer(self, seed)

    def values(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """(values [T, N] of a rollout's observations, values [M] of what was reached where it is cut), on the CPU."""
        _, features, at, reached = self._unrolled(rollout)
        head = self.network.value_head
        assert head is not None
        return head(features[at].flatten(0, 1)).cpu().reshape(rollout.reward.shape), head(features[reached]).cpu()

    def outputs(self, rollout: Rollout) -> Iterator[tuple[slice, Policy, Tensor | None]]:
        """Policy and value of all T N observations, with gradients, in one part."""
        with drawing_for(self.network.encoder.modes, self.device, self.seed, "update", self.updates, 0):
            features, others, at, _ = self._unrolled(rollout)
        mask = None if rollout.mask is None else self._tensor(rollout.mask).flatten(0, 1)
        value = None if self.network.value_head is None else self.network.value_head(others[at].flatten(0, 1))
        yield slice(None), self.network.head(features[at].flatten(0, 1), mask), value

    def _unrolled(self, rollout: Rollout) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features of policy and value [L, N, D]; the places of the observations [T, N], and of what was reached [M].

        Where a stream is cut, what was reached stands in it as one entry more, as in the replay. So it is seen with the
        state after the steps before it, and the next entry, an episode's start, forgets both.
        """
        steps, streams = rollout.last.shape
        place = np.arange(steps)[:, None] + np.cumsum(rollout.last, axis=0) - rollout.last
        stream = np.broadcast_to(np.arange(streams), place.shape)
        beyond, whose = place[rollout.cut] + 1, stream[rollout.cut]
        length = int(place.max()) + 2
        obs = np.zeros((length, streams, *rollout.obs.shape[2:]), rollout.obs.dtype)
        first = np.zeros((length, streams), bool)
        obs[place, stream], obs[beyond, whose] = rollout.obs, rollout.final_obs
        first[place, stream] = np.stack(self._first[:steps])
        given = (self._tensor(obs), self._tensor(self._start), self._tensor(first))
        features, others, _ = self.network.unroll(*given)
        at, reached = ((self._tensor(p), self._tensor(s)) for p, s in ((place, stream), (beyond, whose)))
        return features, others, at, reached

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next, the recurrent state included."""
        memory = {"now": self.recurrent_state.state, "start": self._start, "first": list(self._first)}
        return super().state() | {"memory": memory}

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes."""
        super().restore(state, stop)
        memory = state["memory"]
        self.recurrent_state.state, self._start = memory["now"], memory["start"]
        self._first = list(memory["first"])
