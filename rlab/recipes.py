"""All that `rlab train` can be given as its first word: agents and supervised jobs. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe, Registry
from rlab.run.config import to_plain

MODULES = (
    "agents.recipes",
    "tasks.recipes",
    "tasks.sequence.recipes",
    "tasks.sequence.word_recipes",
    "tasks.generative.recipes",
    "tasks.generative.gan_recipes",
    "tasks.generative.wavenet_recipes",
    "tasks.detection.recipes",
)


def load_recipes() -> Registry[Recipe[Any]]:
    """The registry, with everything of the lab in it."""
    for module in MODULES:
        import_module(f"rlab.{module}")  # they register themselves
    return RECIPES


def verb_of(document: dict[str, Any]) -> str:
    """Return the verb that shows what a run has learned, given the run's config.json; watch where that is not known."""
    try:
        return load_recipes().get(document["recipe"]).shown_by
    except (RlabError, LookupError, TypeError, ImportError):
        return "watch"


def is_drawn(document: dict[str, Any]) -> bool:
    """Return whether `rlab report` draws what a run has learned, given the run's config.json.

    It draws what models do with examples, and tables of values; games are filmed by `rlab watch`.
    """
    try:
        return "data" in document["subject"] or "table" in load_recipes().get(document["recipe"]).plays
    except (RlabError, LookupError, TypeError, ImportError):
        return False


def defaults_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the plain configuration that a run's recipe starts from, given the run's config.json.

    It is empty where that is not known, or where a module would have to be imported that nobody has named.
    """
    try:
        recipe = load_recipes().get(document["recipe"])
        subject = next((document["config"][part][part] for part in recipe.subject), "")
        plain: dict[str, Any] = to_plain(recipe.default(subject))
    except (RlabError, LookupError, TypeError, ImportError):
        return {}
    return plain
