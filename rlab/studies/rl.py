"""Train the lab's agents inside a study: the same recipes and Learners as `rlab train`, without a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.journal import Journal
from rlab.seeding import derive


class Forgetful(Journal):
    """A journal that only counts: what a study trains is never resumed half-way."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._ends: dict[str, int] = {}

    def append(self, log: str, rows: Mapping[str, np.ndarray]) -> int:
        """Count the rows."""
        first = self._ends.get(log, 0)
        self._ends[log] = first + len(next(iter(rows.values())))
        return first


@contextmanager
def learner(recipe: str, env: str, seed: int, **changes: Any) -> Iterator[Any]:
    """Build a recipe's Learner, on the CPU.

    Args:
        recipe: as after `rlab train`.
        env: as after `--env`.
        seed: of everything random.
        changes: settings by name, wherever they stand in the configuration.

    Raises:
        RlabError: a name or value is wrong.
    """
    from rlab.recipes import load_recipes

    load_recipes()
    from rlab.run.lifecycle import BuildContext

    entry = RECIPES.get(recipe)
    config = changed(entry.default(env), {"seed": seed, **changes})
    with closing(entry.build(config, BuildContext("cpu", Forgetful()))) as built:
        yield built


def run(built: Any, points: int = 1, look: Callable[[Any], Any] = lambda built: None) -> list[Any]:
    """Train to the end; `look(learner)` is called each time another of `points` equal parts is done, and collected."""
    results: list[Any] = []
    while len(results) < points:
        progress = built.progress()
        if progress.done >= progress.total * (len(results) + 1) / points:
            results.append(look(built))
        else:
            built.step()
    return results


def score(built: Any, episodes: int, seed: int) -> float:
    """The mean return of whole games, played as evaluations are."""
    played = built.evaluate_games(episodes, derive(seed, "study", built.progress().done), Stop())
    return float(played["mean"])
