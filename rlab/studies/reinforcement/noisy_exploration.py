"""Noise in the weights against random actions, where the reward lies at the end of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 20


@dataclass(frozen=True)
class Settings:
    """A chain whose far end pays 1 a step and whose near end, where it starts, 0.001."""

    length: int = 15
    """States of the chain: 10, 15, 20 or 30; an episode has 9 steps more."""
    steps: int = 10_000
    """Environment steps."""
    learning_starts: int = 200
    """Steps at random before the first update, of all variants."""
    hidden: int = 128
    """Units of a hidden layer in the head, of all variants, so that the noise is in two layers as in the paper."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The greedy policy's return, as a part of the best one, and the farthest state that was ever seen in training."""
    from rlab.studies.rl import learner, run, score

    best = 0.001 + (settings.length + 9) - (settings.length - 2)  # steps that are left once the far end is reached
    changes = {"steps": settings.steps, "learning_starts": settings.learning_starts, "train_every": 8}
    changes |= {"hidden": settings.hidden} | variant
    with learner("dqn", f"rlab/Chain{settings.length}-v0", seed, **changes) as built:
        act, farthest = built.agent.act, 0

        def watch(obs: Any, first: Any, mask: Any) -> Any:
            nonlocal farthest
            farthest = max(farthest, int(obs.max()))
            return act(obs, first, mask)

        built.agent.act = watch
        way = run(built, POINTS, lambda it: score(it, 1, seed) / best)
    return {
        "curve": np.round(way, 5),
        "reached": float(np.mean(way[POINTS // 2 :])),
        "farthest": farthest / (settings.length - 1),
    }


def draw(figure: Any, results: Results) -> None:
    """The greedy policy's return over the run, and how far along the chain training came."""
    left, right = figure.subplots(1, 2)
    ways = columns(results, "curve")
    curves(left, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "part of the best return"))
    dots(right, columns(results, "farthest"), "farthest part of the chain")


STUDIES.register("noisy-exploration")(
    Study(
        claim="Learned noise in a network's weights takes it farther along a chain than random actions do, so that it "
        "finds the reward at the end where they do not.",
        source="item 274; Fortunato et al. 2018; the chain of Osband et al. 2016, section 5.1",
        settings=Settings(),
        smoke={"length": 10, "steps": 120, "learning_starts": 40, "hidden": 16},
        variants={
            "noisy": {"explore": "noisy", "epsilon_start": 0.0, "epsilon_end": 0.0},
            "lowered": {"epsilon_start": 1.0, "epsilon_end": 0.01, "epsilon_fraction": 0.2},
            "constant": {"epsilon_start": 0.1, "epsilon_end": 0.1},
        },
        measure=measure,
        contrasts=(
            Contrast("noise comes farther than a lowered epsilon", {"noisy/farthest": 1, "lowered/farthest": -1}),
            Contrast("noise comes farther than epsilon 0.1", {"noisy/farthest": 1, "constant/farthest": -1}),
            Contrast("it earns more than a lowered epsilon", {"noisy/reached": 1, "lowered/reached": -1}),
            Contrast("it earns more than epsilon 0.1", {"noisy/reached": 1, "constant/reached": -1}),
        ),
        draw=draw,
        seeds=24,
        small={"steps": 2_500},
        small_seeds=4,
        claim_ja="重みに加えるノイズの大きさを学習するネットワークは、鎖状に並んだ状態を、"
        "ランダムな行動より先まで進む。そのため、ランダムな行動では見つけられない、端にある報酬を見つける。",
    )
)
