"""How to bring your own environment, encoder and agent: this one file is all of it, and a test runs it.

Put a copy where you work (or install it) and name things as ``module:name``::

    rlab train dqn --env my_lab:Corridor-v0 --encoder my_lab:tanh --steps 5000
    rlab train my_lab:short-sighted --env my_lab:Corridor-v0 --steps 5000
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from torch import nn

from rlab.agents.recipes import build, default_variant, warm_start
from rlab.agents.value.config import QConfig
from rlab.agents.value.dqn import DQN
from rlab.nn import ENCODERS
from rlab.registry import RECIPES, Recipe


class Corridor(gym.Env[np.ndarray, int]):
    """An environment is an ordinary Gymnasium one: five cells, +1 at the right end."""

    observation_space = gym.spaces.Box(0, 1, (5,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start in the left half; draw chance from ``self.np_random`` only, so that runs resume exactly."""
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(0, 2))
        return np.eye(5, dtype=np.float32)[self.cell], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """0 goes left, 1 goes right."""
        self.cell = min(4, max(0, self.cell + 2 * action - 1))
        there = self.cell == 4
        return np.eye(5, dtype=np.float32)[self.cell], float(there), there, False, {}


gym.register("Corridor-v0", entry_point=Corridor, max_episode_steps=50)


@ENCODERS.register("tanh")
def tanh(shape: tuple[int, ...]) -> nn.Module:
    """An encoder is a factory: input shape -> torch module with `out_dim`."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 32), nn.Tanh())
    encoder.out_dim = 32  # type: ignore[assignment]
    return encoder


# An agent is a recipe: its settings, and what builds it. This one is DQN with other settings; docs/agents.md has one
# with a loss of its own. Your own Learner goes where `build` stands.
settings = partial(default_variant, QConfig, gamma=0.5)
RECIPES.register("short-sighted")(
    Recipe("DQN that looks two steps ahead", settings, partial(build, DQN), warm_start=warm_start)
)
