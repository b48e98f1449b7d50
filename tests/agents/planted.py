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


for cls in (EndsAsCuts, NoReward):
    gym.register(f"planted/{cls.__name__}-v0", entry_point=f"{__name__}:{cls.__name__}", max_episode_steps=500)
