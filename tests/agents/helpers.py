"""Small learners for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import agents.recipes  # noqa: F401 - registers the recipes
from agents.interaction import Interaction
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.journal import Journal
from rlab.run.life import Workshop

SMALL = {
    "learning_starts": 64,
    "memory_size": 2_000,
    "batch_size": 16,
    "n_epochs": 2,
    "train_every": 4,
    "target_every": 64,
    "final_episodes": 4,
    "evaluate_episodes": 2,
}


def learner(journal: Journal, recipe: str = "dqn", env: str = "CartPole-v1", **settings: Any) -> Interaction:
    entry = RECIPES.get(recipe)
    default = entry.default(env)
    known = {name for part in vars(default).values() for name in vars(part)}
    config = changed(default, {name: value for name, value in SMALL.items() if name in known} | settings)
    return entry.build(replace(config, env=replace(config.env, env=env)), Workshop("cpu", journal))
