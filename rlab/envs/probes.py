"""Environments so small that their values are known: a learner that misses one has a bug one can name.

The five probes are Andy Jones's ("Debugging RL, Without the Agonizing Pain",
https://andyljones.com/posts/rl-debugging.html); the last two do the same for truncation and for illegal
actions. Their ids are ``rlab/Probe1-v0`` .. ``rlab/Probe5-v0``, ``rlab/ProbeTruncation-v0`` and
``rlab/ProbeMask-v0``. Observations are float32 [1].
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

Obs = NDArray[np.float32]
Solution = list[tuple[Obs, NDArray[np.float64]]]


def _obs(x: float) -> Obs:
    return np.array([x], np.float32)


class _Probe(gym.Env):
    """One number as the observation, drawn from `starts`; one step, which pays `pay`."""

    actions = 1
    starts: tuple[float, ...] = (0.0,)
    observation_space: Box
    action_space: Discrete

    def __init__(self) -> None:
        self.observation_space = Box(-1, 1, (1,), np.float32)
        self.action_space = Discrete(self.actions)
        self.now = 0.0

    @staticmethod
    def pay(obs: float, action: int) -> float:
        """Return the reward."""
        raise NotImplementedError

    @classmethod
    def solution(cls, gamma: float) -> Solution:
        """Return each observation [1] with its optimal action values Q* [A] under the discount gamma."""
        return [(_obs(x), np.array([cls.pay(x, a) for a in range(cls.actions)])) for x in cls.starts]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Draw an observation [1]."""
        super().reset(seed=seed)
        self.now = float(self.np_random.choice(self.starts))
        return _obs(self.now), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Pay and terminate."""
        return _obs(self.now), self.pay(self.now, int(action)), True, False, {}


class Probe1(_Probe):
    """A reward of 1 after one step: can the value head learn a constant? Q = 1."""

    @staticmethod
    def pay(obs: float, action: int) -> float:
        """Return 1."""
        return 1.0


class Probe2(_Probe):
    """The reward is the observation, -1 or +1: does the observation reach the value?"""

    starts = (-1.0, 1.0)

    @staticmethod
    def pay(obs: float, action: int) -> float:
        """Return the observation."""
        return obs


class Probe3(_Probe):
    """Two steps, observation 0 then 1, a reward of 1 at the end: is the discount right? Q = gamma, then 1."""

    @classmethod
    def solution(cls, gamma: float) -> Solution:
        """Return each observation [1] with its action values Q* [1]."""
        return [(_obs(0), np.array([gamma])), (_obs(1), np.array([1.0]))]

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Go from 0 to 1, then pay 1 and terminate."""
        over = self.now == 1.0
        self.now = 1.0
        return _obs(self.now), float(over), over, False, {}


class Probe4(_Probe):
    """Two actions that pay -1 and +1: does the better action win?"""

    actions = 2

    @staticmethod
    def pay(obs: float, action: int) -> float:
        """Return +1 for action 1, else -1."""
        return 1.0 if action == 1 else -1.0


class Probe5(_Probe):
    """+1 for action 1 when shown +1 and action 0 when shown -1, else -1: does the policy see it?"""

    actions = 2
    starts = (-1.0, 1.0)

    @staticmethod
    def pay(obs: float, action: int) -> float:
        """Return +1 where the action matches the observation, else -1."""
        return 1.0 if (action == 1) == (obs > 0) else -1.0


class ProbeTruncation(_Probe):
    """A reward of 1 each step, cut after 10 but never over: bootstrapping goes on, Q = 1 / (1 - gamma)."""

    length = 10

    @classmethod
    def solution(cls, gamma: float) -> Solution:
        """Return the one observation [1] with its action value Q* [1]; gamma below 1."""
        return [(_obs(0), np.array([1 / (1 - gamma)]))]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start counting, obs [1]."""
        self.steps = 0
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Pay 1; truncate at the tenth step."""
        self.steps += 1
        return _obs(0), 1.0, False, self.steps == self.length, {}


class ProbeMask(Probe3):
    """Two steps that pay 1 each by action 0; action 1 would pay 10 but is illegal, so no value may see it."""

    actions = 2

    @classmethod
    def solution(cls, gamma: float) -> Solution:
        """Return each observation [1] with its action values Q* [2]; NaN for the illegal one."""
        return [(_obs(0), np.array([1 + gamma, np.nan])), (_obs(1), np.array([1.0, np.nan]))]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start at 0, obs [1], with the mask."""
        return super().reset(seed=seed)[0], self._legal()

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Pay 1, or refuse the illegal action with a ValueError."""
        if action != 0:
            raise ValueError("ProbeMask: action 1 is illegal, as info['action_mask'] said")
        obs, _, over, _, _ = super().step(action)
        return obs, 1.0, over, False, self._legal()

    @staticmethod
    def _legal() -> dict[str, Any]:
        return {"action_mask": np.array([1, 0], np.int8)}


PROBES: dict[str, type[_Probe]] = {
    f"rlab/{cls.__name__}-v0": cls for cls in (Probe1, Probe2, Probe3, Probe4, Probe5, ProbeTruncation, ProbeMask)
}
