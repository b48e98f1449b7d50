"""Rainbow with one of its parts taken out at a time, on a game of MinAtar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10


@dataclass(frozen=True)
class Settings:
    """Rainbow's preset for MinAtar; a removal puts DQN's way in a part's place."""

    env: str = "MinAtar/Breakout"
    """The game."""
    steps: int = 200_000
    """Environment steps of each of the seven trainings of a seed."""
    learning_starts: int = 5_000
    """Steps at random before the first update."""
    episodes: int = 30
    """Games of each of the 10 evaluations."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The mean score on the way, and its mean over the last fifth."""
    from rlab.studies.rl import learner, run, score

    changes = {"steps": settings.steps, "learning_starts": settings.learning_starts}
    # Results are filed under the variants' first words, where the replay's drawing was called memory.
    changes |= {"replay" if name == "memory" else name: value for name, value in variant.items()}
    with learner("rainbow", settings.env, seed, **changes) as built:
        way = run(built, POINTS, lambda it: score(it, settings.episodes, seed))
    return {"curve": np.round(way, 3), "score": float(np.mean(way[-POINTS // 5 :]))}


def draw(figure: Any, results: Results) -> None:
    """Evaluations over the run."""
    ways = columns(results, "curve")
    curves(figure.subplots(), (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "score of a game"))


REMOVALS: dict[str, dict[str, Any]] = {
    "double": {"double": False},
    "dueling": {"dueling": False},
    "3 steps": {"n_step": 1},
    "distribution": {"value": "expected"},
    "priorities": {"memory": "uniform"},
    "noise": {"explore": "epsilon", "epsilon_start": 1.0, "epsilon_end": 0.01, "epsilon_fraction": 0.1},
}
"""Part -> what takes it out."""

STUDIES.register("rainbow-removals")(
    Study(
        claim="Each of Rainbow's six parts contributes: taking any one out lowers the score.",
        source="item 274; Hessel et al. 2018, figures 3 and 4",
        settings=Settings(),
        smoke={"steps": 96, "learning_starts": 64, "episodes": 1},
        variants={"rainbow": {}} | {f"without {part}": changes for part, changes in REMOVALS.items()},
        measure=measure,
        contrasts=tuple(
            Contrast(f"{part}: rainbow scores more than without", {"rainbow/score": 1, f"without {part}/score": -1})
            for part in REMOVALS
        ),
        draw=draw,
        seeds=5,
        small={"steps": 400, "learning_starts": 128, "episodes": 1},
        small_seeds=3,
        claim_ja="Rainbow の六つの要素は、どれも役に立っている。どれか一つを外すと、得点が下がる。",
    )
)
