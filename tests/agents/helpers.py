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
    "final_episodes": 4,
    "evaluate_episodes": 2,
}


def learner(journal: Journal, recipe: str = "dqn", env: str = "CartPole-v1", **settings: Any) -> Interaction:
    entry = RECIPES.get(recipe)
    config = changed(entry.default(env), SMALL | settings)
    return entry.build(replace(config, env=replace(config.env, env=env)), Workshop("cpu", journal))
