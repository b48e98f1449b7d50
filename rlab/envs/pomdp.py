"""Environments that only a memory solves: a maze whose cue is seen once, and observations that flicker.

They are ``rlab/TMaze-v0`` (a corridor of 10) and ``rlab/FlickerCartPole-v0`` (every other observation is missing). Of
any environment of your own, `Flicker` makes a flickering one::

    gym.register("Mine-v0", entry_point=lambda: Flicker(MyEnv(), p=0.5))
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlab.errors import RlabError

Obs = NDArray[np.float32]

NORTH, EAST, SOUTH, WEST = range(4)


class TMaze(gym.Env[Obs, int]):
    """Walk a corridor and turn at its end to the side that a cue at the start has shown (Bakker 2002, section 4.1).

    Three numbers are seen: 011 or 110 at the start (turn north, turn south), 101 in the corridor, 010 at the junction.
    The right turn pays 4, the wrong one -0.1, both end the episode; a step against a wall pays -0.1, any other 0. So
    the best return is 4, and 1.95 is the mean of who has forgotten the cue. An episode is cut after 5 (N + 10) steps.

    Args:
        length: N, steps from the start to the junction.
        passive: whatever it does, the agent goes on to the junction, and no step on the way pays: so that a long
            corridor is hard to remember over, and not to explore (Ni et al. 2023, section 5.1).
    """

    best = 4.0
    chance = 1.95

    def __init__(self, length: int = 10, passive: bool = False):
        if length < 1:
            raise RlabError(f"a T-maze has a corridor of at least 1 step, not {length}")
        self.length = length
        self.passive = passive
        self.limit = 5 * (length + 10)
        self.steps = 0
        self.observation_space = Box(0, 1, (3,), np.float32)
        self.action_space = Discrete(4)  # type: ignore[assignment]
        self.place = 0
        self.goal = NORTH

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start at the cue, obs [3]."""
        super().reset(seed=seed)
        self.place = self.steps = 0
        self.goal = int(self.np_random.choice([NORTH, SOUTH]))
        return self._see(), {}

    def step(self, action: int) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Walk north (0), east (1), south (2) or west (3); obs [3]."""
        self.steps += 1
        if self.place == self.length and action in (NORTH, SOUTH):
            return self._see(), self.best if action == self.goal else -0.1, True, False, {}
        before = self.place
        way = 1 if self.passive and before < self.length else int(action == EAST) - int(action == WEST)
        self.place = min(self.length, max(0, before + way))
        if self.passive:
            self.place = max(self.place, before)
        return self._see(), -0.1 if self.place == before else 0.0, False, self.steps >= self.limit, {}

    def _see(self) -> Obs:
        if self.place == self.length:
            return np.array([0, 1, 0], np.float32)
        if self.place == 0:
            return np.array([0, 1, 1] if self.goal == NORTH else [1, 1, 0], np.float32)
        return np.array([1, 0, 1], np.float32)


class Flicker(gym.ObservationWrapper[Any, Any, Any]):
    """Each observation is replaced by zeros with probability p, by itself (Hausknecht & Stone 2015, section 5).

    Args:
        env: has a Box of observations in which zeros lie.
        p: of missing one, 0 to 1.
    """

    def __init__(self, env: gym.Env[Any, Any], p: float = 0.5):
        super().__init__(env)
        if not 0 <= p <= 1:
            raise RlabError(f"an observation flickers with a probability from 0 to 1, not {p}")
        space = env.observation_space
        if not isinstance(space, Box) or not ((space.low <= 0) & (space.high >= 0)).all():
            raise RlabError(f"only a Box of observations in which zeros lie can flicker, not {space}")
        self.p = p
        self._coins = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; a seed decides which observations will be missing, too."""
        if seed is not None:
            self._coins = np.random.default_rng([seed, 1])
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        """The observation, or zeros like it."""
        return np.zeros_like(observation) if self._coins.random() < self.p else observation
