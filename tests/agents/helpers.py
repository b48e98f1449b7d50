"""Small learners for tests."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

import rlab.agents.recipes  # noqa: F401 - registers the recipes
from rlab.agents.interaction import Interaction
from rlab.agents.types import AgentContext
from rlab.agents.value.config import PARTS
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext

SMALL = {
    "learning_starts": 64,
    "memory_size": 2_000,
    "batch_size": 16,
    "n_epochs": 2,
    "train_every": 4,
    "target_every": 64,
    "burn_in": 3,
    "sequence": 5,
    "final_episodes": 4,
    "evaluate_episodes": 2,
}


SELF_PLAY = {
    "encoder": "go-resnet-2x32", "num_envs": 4, "visits": 6, "cap": 9, "learning_starts": 20, "batch_size": 8,
    "window": 150, "steps": 4_000,
}  # fmt: skip


def learner(
    journal: Journal, recipe: str = "dqn", env: str = "CartPole-v1", small: bool = True, **settings: Any
) -> Interaction:
    """A learner with the recipe's own settings, or with those of `SMALL` in their place, changed by `settings`."""
    entry = RECIPES.get(recipe)
    default = entry.default(env)
    config = changed(default, (known(default, SMALL) if small else {}) | settings)
    return entry.build(replace(config, env=replace(config.env, env=env)), BuildContext("cpu", journal))


def agent_context(
    journal: Journal | None = None,
    space: gym.Space[Any] | None = None,
    actions: gym.Space[Any] | int = 4,
    frame_stack: int = 1,
    has_masks: bool = False,
    total_steps: int = 1_000,
) -> AgentContext:
    """What an agent is built for: by default three numbers in, four actions out, 1,000 steps on a CPU."""
    return AgentContext(
        observation_space=space or gym.spaces.Box(-1, 1, (3,), np.float32),
        action_space=Discrete(actions) if isinstance(actions, int) else actions,
        frame_stack=frame_stack,
        has_masks=has_masks,
        longest_episode=100,
        total_steps=total_steps,
        seed=0,
        device="cpu",
        journal=journal or Journal(Path()),
    )


def known(config: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that a configuration has."""
    names = {f.name for part in fields(config) for f in fields(getattr(config, part.name))}
    return {name: value for name, value in settings.items() if name in names}


ALONE = ("rainbow", "drqn", "btr")
"""Variants of DQN that, as DQN itself, are tried on all environments: together they have every part of the others."""

PLAIN = ("CartPole-v1", "rlab/ProbeMask-v0", "Pendulum-v1")
"""What the others are tried on: how images and boards are stored does not know which loss is taken."""


def contract_cases(envs: list[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """(recipe, environment, settings) for every registered recipe, on environments that it can play."""
    cases = []
    for recipe in sorted(RECIPES):
        default = RECIPES.get(recipe).default("")
        if not hasattr(default, "env") or not hasattr(default, "agent"):  # a fake of other tests
            continue
        if RECIPES.get(recipe).family == "imitation":  # needs another run: see test_imitation
            continue
        if hasattr(default, "net"):  # plays Go with itself
            cases.append((recipe, "Go5", known(default, SELF_PLAY)))
            continue
        tables = ["FrozenLake-v1", "Blackjack-v1", "rlab/CampaignMail-v0"]
        if hasattr(default.agent, "sweeps"):  # plans: a sweep a step
            cases += [(recipe, env, {"steps": 30}) for env in tables]
        elif hasattr(default.env, "exploring_starts"):  # a table: small environments, a large block of steps
            cases += [(recipe, env, {"num_envs": 3, "steps": 1_000_000}) for env in tables]
        else:
            small = {"num_envs": 2, "steps": 4_000, "learning_starts": 20, "reset_steps": 30}
            if getattr(default.agent, "rollout_unit", "") == "episodes":
                del small["num_envs"]  # whole episodes are of one environment
            # Variants of DQN share its schedule: on images a few small updates of each are enough.
            # A restart costs a seventh of a second a game: some in ten units are enough.
            few: dict[str, Any] = {"reset_steps": 90}
            if recipe in (*PARTS, "dqn", "averaged-dqn"):
                few = {"train_every": 4, "batch_size": 4}
            if recipe == "sb3-dqn":  # whose replay goes into every checkpoint, and whose unit is then one update, not 8
                few = {"memory_size": 100, "train_every": 32, "batch_size": 4, "reset_steps": 400}
            cases += [
                (recipe, env, known(default, small | (few if env in ("Breakout", "Go5") else {})))
                for env in envs
                if recipe not in PARTS or recipe in ALONE or env in PLAIN
            ]
    return cases


class Corridor(gym.Env):
    """0 -> 1 -> 2 -> end by action 1, which pays 1, 2, 4; action 0 stays and pays 0."""

    observation_space = Discrete(3)
    action_space = Discrete(2)

    def __init__(self) -> None:
        self.P = {
            s: {0: [(1.0, s, 0.0, False)], 1: [(1.0, min(s + 1, 2), float(2**s), s == 2)]} for s in range(3)
        }  # fmt: skip
