"""A memory where one observation does not tell enough: a cue seen once, and frames that are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 8
ENVS = {"maze": "rlab/TMaze-v0", "flicker": "rlab/FlickerCartPole-v0"}


@dataclass(frozen=True)
class Settings:
    """A T-maze whose cue is seen at the start only, and CartPole with every other observation missing."""

    maze_steps: int = 20_000
    """Environment steps in the maze."""
    flicker_steps: int = 30_000
    """Environment steps of CartPole."""
    episodes: int = 40
    """Games of each of the 8 evaluations."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The greedy policy's mean return on the way, and its mean over the last quarter."""
    from rlab.studies.rl import learner, run, score

    steps = settings.maze_steps if variant["task"] == "maze" else settings.flicker_steps
    with learner(variant["recipe"], ENVS[variant["task"]], seed, steps=steps) as built:
        way = run(built, POINTS, lambda it: score(it, settings.episodes, seed))
    return {"curve": np.round(way, 3), "score": float(np.mean(way[-POINTS // 4 :]))}


def draw(figure: Any, results: Results) -> None:
    """Evaluations over the run, task by task."""
    for axes, task in zip(figure.subplots(1, 2), ENVS, strict=True):
        ways = {recipe: column(results[f"{recipe} {task}"], "curve") for recipe in ("drqn", "dqn")}
        curves(axes, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "return of a game"))
        axes.set_title(ENVS[task], fontsize=9)


STUDIES.register("drqn-memory")(
    Study(
        claim="A network with a memory solves what one observation does not show: a cue that is gone when it counts, "
        "and frames that are missing.",
        source="item 274; Hausknecht & Stone 2015, section 5; Bakker 2002, section 4.1",
        settings=Settings(),
        smoke={"maze_steps": 150, "flicker_steps": 150, "episodes": 1},
        variants={f"{recipe} {task}": {"recipe": recipe, "task": task} for task in ENVS for recipe in ("drqn", "dqn")},
        measure=measure,
        contrasts=(
            Contrast("in the maze memory scores more", {"drqn maze/score": 1, "dqn maze/score": -1}),
            # Who has forgotten the cue gets 1.95 in the mean, who remembers it 4.
            Contrast("with it the maze is solved", {"drqn maze/score": 1}, above=3.0),
            Contrast("with missing frames it scores more", {"drqn flicker/score": 1, "dqn flicker/score": -1}),
        ),
        draw=draw,
        seeds=12,
        small={"maze_steps": 2_000, "flicker_steps": 1_200, "episodes": 5},
        small_seeds=3,
        claim_ja="記憶を持つネットワークは、一度の観測では分からないタスクを解く。"
        "必要なときには消えている手がかりや、欠けたフレームがあっても解ける。",
    )
)
