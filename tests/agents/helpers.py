"""Small learners for tests."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import agents.recipes  # noqa: F401 - registers the recipes
from agents.config import QConfig
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
    default = entry.default(env)
    known = {f.name for part in fields(default) for f in fields(getattr(default, part.name))}
    foreign = {f.name for f in fields(QConfig)} - known  # settings of a DQN that this recipe does not have
    config = changed(default, {k: v for k, v in (SMALL | settings).items() if k not in foreign})
    return entry.build(replace(config, env=replace(config.env, env=env)), Workshop("cpu", journal))
