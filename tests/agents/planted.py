"""CartPole with mistakes that users make, for tests of training health. Importing this registers them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv


class EndsAsCuts(CartPoleEnv):
    """A wrong done flag: a fallen pole is reported as truncated, so values bootstrap beyond it."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, float(reward), False, terminated or truncated, info


class NoReward(CartPoleEnv):
    """Its reward is lost on the way."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 0.0, terminated, truncated, info


class Spoils(CartPoleEnv):
    """Its observation is no number once, at step `late` of its life."""

    late = -1
    lived = 0

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        self.lived += 1
        if self.lived == self.late:
            obs[2] = np.nan
        return obs, float(reward), terminated, truncated, info


for cls in (EndsAsCuts, NoReward, Spoils):
    gym.register(f"planted/{cls.__name__}-v0", entry_point=f"{__name__}:{cls.__name__}", max_episode_steps=500)
