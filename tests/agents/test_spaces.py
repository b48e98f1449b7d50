"""Every pair of a space and an agent works or is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple

from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from tests.agents.helpers import known, learner

TWO, NUMBERS = Discrete(2), Box(-1, 1, (2,), np.float32)


class Spaces(gym.Env[Any, Any]):
    """Shows what its space draws, and accepts only what its other space holds; 4 steps an episode."""

    observation_space: Space[Any] = NUMBERS
    action_space: Space[Any] = TWO

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(int(action) if isinstance(self.action_space, Discrete) else action)
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 4, False, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gym.register("Spaces-v0", entry_point=Spaces)
    yield
    del gym.registry["Spaces-v0"]


def box(*shape: int, dtype: Any = np.float32, low: float = 0, high: float = 1) -> Box:
    return Box(low, high, shape, dtype)


OBSERVATIONS = {
    "a number": box(),
    "one number": box(1),
    "a table": box(2, 3),
    "four axes": box(2, 1, 2, 2),
    "without bounds": box(3, low=-np.inf, high=np.inf),
    **{t: box(3, dtype=t, high=100) for t in ("uint8", "int8", "uint16", "uint32", "uint64", "float16", "float64")},
    "bool": box(3, dtype=bool),
    "picture": box(12, 12, 3, dtype=np.uint8, high=255),
    "channels first": box(3, 12, 12, dtype=np.uint8, high=255),
    "grey": box(9, 9, dtype=np.uint8, high=255),
    "board": MultiBinary([3, 6, 6]),
    "classes from -2": Discrete(3, start=-2),
    "one class": Discrete(1),
    "classes": MultiDiscrete([3, 4], start=[1, -2]),
    "a table of classes": MultiDiscrete([[3, 4], [2, 2]]),
    "bits": MultiBinary(3),
    "a table of bits": MultiBinary([2, 2]),
    "cards": Tuple([Discrete(3), Discrete(2, start=1)]),
}
NO_OBSERVATIONS: dict[str, Space[Any]] = {
    "none": box(0),
    "no rows": box(3, 0),
    "dict": Dict(a=NUMBERS),
    "tuple": Tuple([NUMBERS]),
    "empty tuple": Tuple([]),
    "text": Text(3),
}
ACTIONS: dict[str, tuple[Space[Any], str]] = {
    "from 5": (Discrete(3, start=5), "dqn a2c ppo sb3-dqn"),
    "one": (Discrete(1), "dqn pqn a2c ppo"),
    "a number": (box(), "a2c ppo sac td3"),
    "a table": (box(2, 2), "a2c ppo sac td3"),
    "float64": (box(2, dtype=np.float64), "a2c ppo sac td3"),
    "float16": (box(2, dtype=np.float16), "a2c sac td3 ppo"),
    "without bounds": (box(2, low=-np.inf, high=np.inf), "a2c"),
    "below unbounded": (box(2, low=-np.inf), "a2c"),
    "no room in one place": (Box(np.float32([-1, 0]), np.float32([1, 0])), "a2c ppo"),
}
NO_ACTIONS: dict[str, Space[Any]] = {
    "none": box(0),
    "whole numbers": box(2, dtype=np.int32, high=5),
    "flags": box(2, dtype=bool),
    "classes": MultiDiscrete([2, 3]),
    "bits": MultiBinary(2),
    "dict": Dict(a=TWO),
    "tuple": Tuple([TWO]),
}
SMALL: dict[str, Any] = {
    "num_envs": 2,
    "learning_starts": 12,
    "batch_size": 4,
    "memory_size": 200,
    "train_every": 2,
    "rollout": 3,
    "n_steps": 4,
    "n_epochs": 1,
    "steps": 30,
    "encoder": "auto",
}


def play(agent: str, path: Path) -> None:
    journal = Journal(path)
    settings = known(RECIPES.get(agent).default("Spaces-v0"), SMALL)
    run = learner(journal, agent, "Spaces-v0", small=False, **settings)
    try:
        while not run.progress().finished:
            run.step()
        assert run.evaluate_games(2, 0, Stop())["mean"] == 4
        run.state()
    finally:
        run.close()
        journal.close()


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_that_agents_take(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spaces, "observation_space", OBSERVATIONS[name])
    more = {"a table of classes": ["pqn", "drqn", "sb3-dqn"], "a number": ["pqn", "a2c"], "picture": ["a2c"]}
    for agent in ["dqn", "ppo", *more.get(name, [])]:
        play(agent, tmp_path / agent)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_that_agents_take(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, takers = ACTIONS[name]
    monkeypatch.setattr(Spaces, "action_space", space)
    for agent in ("dqn", "pqn", "a2c", "ppo", "sb3-dqn", "sac", "td3", "q-learning", "alphazero"):
        if agent in takers.split():
            play(agent, tmp_path / agent)
        elif isinstance(space, Box) or agent in ("sac", "td3", "q-learning", "alphazero"):
            with pytest.raises(RlabError):
                learner(Journal(tmp_path), agent, "Spaces-v0", small=False)


LAB = {name: RECIPES.get(name) for name in RECIPES if RECIPES.get(name).family != "others"}  # not those of other tests
OF_RUNS = ("imitation", "policies from trajectories")
"""Families that need another run before they look at an environment."""
AGENTS = sorted(name for name, recipe in LAB.items() if "env" in recipe.subject and recipe.family not in OF_RUNS)


@pytest.mark.parametrize(("part", "spaces"), [("observation", NO_OBSERVATIONS), ("action", NO_ACTIONS)])
def test_spaces_that_every_agent_refuses(
    part: str, spaces: dict[str, Space[Any]], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, space in spaces.items():
        monkeypatch.setattr(Spaces, f"{part}_space", space)
        for agent in AGENTS if name == "dict" else ("dqn", "a2c", "ppo"):
            with pytest.raises(RlabError, match="'Spaces-v0'"):
                learner(journal, agent, "Spaces-v0", small=False)
