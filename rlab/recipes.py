"""All that `rlab train` can be given as its first word: agents and supervised jobs. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rlab.registry import RECIPES, Recipe, Registry


def load_recipes() -> Registry[Recipe[Any]]:
    """The registry, with everything of the lab in it."""
    for module in ("rlab.agents.recipes", "rlab.tasks.recipes"):
        import_module(module)  # they register themselves
    return RECIPES
