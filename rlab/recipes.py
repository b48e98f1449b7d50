"""All that `rlab train` can be given as its first word: agents and supervised jobs. Imports no torch."""

from __future__ import annotations

from rlab.registry import RECIPES, Recipe, Registry


def load_recipes() -> Registry[Recipe]:
    """The registry, with everything of the lab in it."""
    import rlab.tasks.recipes  # noqa: F401 - both register themselves when imported

    return RECIPES
