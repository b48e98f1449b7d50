"""A task with few examples, and the weights of a like task to hold on to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

STRENGTHS = (0.0, 0.001, 0.01, 0.1, 1.0)
"""Factors of the squared distance between both tasks' weights."""
RADII = (2.0, 4.0, 8.0)
"""Largest distances, where it is bounded instead."""


@dataclass(frozen=True)
class Settings:
    """Task A is upright digits with many examples; task B is tilted digits with few."""

    tilt: float = 30.0
    """Degrees by which B's pictures are turned."""
    few: int = 20
    """B's training examples."""
    steps: int = 1_500
    """Updates of A's network, of 50 examples each, and of B's, of all its examples."""


@lru_cache(maxsize=2)
def tasks(settings: Settings, seed: int, kind: str) -> tuple[Any, Any]:
    """(A's network, B's examples). "like": A's classes are B's; "unlike": A names every digit as the next."""
    import torch
    from scipy.ndimage import rotate

    from rlab.nn.optim import make_optimiser
    from rlab.seeding import derive
    from rlab.studies.supervised import Examples, examples, fit, network

    def tilted(x: Any) -> Any:
        return torch.from_numpy(rotate(x.numpy(), settings.tilt, axes=(2, 3), reshape=False, order=1))

    data, few = examples("digits", seed), examples("digits", seed, settings.few)
    labels = data.y if kind == "like" else (data.y + 1) % 10
    a = network((64, 32, 10), seed=derive(seed, "a"))
    optimiser = make_optimiser("momentum", a.parameters(), lr=0.05)
    fit(a, data.x, labels, optimiser, steps=settings.steps, batch_size=50, seed=seed)
    return a, Examples(tilted(few.x), few.y, tilted(data.x_test), data.y_test)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """B's test accuracy in percent: of A's network as it is, over the penalty's factor, and over the bound."""
    from rlab.nn.optim import make_optimiser
    from rlab.nn.penalties import distance, project
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, fit, network

    a, b = tasks(settings, seed, variant["a"])
    anchor = [p.detach() for p in a.parameters()]

    def learn(strength: float, radius: float) -> float:
        model = network((64, 32, 10), seed=derive(seed, "b"))
        mine = list(model.parameters())
        if radius < np.inf:  # a bounded distance begins within the bound
            project(mine, anchor, radius)
        fit(
            model, b.x, b.y, make_optimiser("sgd", mine, lr=0.05), steps=settings.steps,
            penalty=lambda: strength * distance(mine, anchor) if strength else 0.0,
            after=lambda step: project(mine, anchor, radius) if radius < np.inf else None,
        )  # fmt: skip
        return 100 * accuracy(model, b.x_test, b.y_test)

    tied = [learn(strength, np.inf) for strength in STRENGTHS]
    bounded = [learn(0.0, radius) for radius in RADII]
    return {
        "tied": np.round(tied, 2),
        "bounded": np.round(bounded, 2),
        "alone": tied[0],
        "middle": tied[STRENGTHS.index(0.01)],
        "radius": bounded[RADII.index(4.0)],
        "copied": 100 * accuracy(a, b.x_test, b.y_test),
    }


def draw(figure: Any, results: Results) -> None:
    """Accuracy over the penalty's factor and over the bound, beside learning alone and A's network as it is."""
    left, right = figure.subplots(1, 2, sharey=True)
    names = {"like": "A is like B", "unlike": "A has other labels"}
    ways = {names[kind]: column(seeds, "tied") for kind, seeds in results.items()}
    curves(left, range(len(STRENGTHS)), ways, ("factor λ of ‖wA - wB‖²", "B's test accuracy in percent"))
    left.set_xticks(range(len(STRENGTHS)), [f"{strength:g}" for strength in STRENGTHS])
    ways = {names[kind]: column(seeds, "bounded") for kind, seeds in results.items()}
    curves(right, RADII, ways, ("bound c of ‖wA - wB‖", ""))
    for axes in (left, right):
        axes.axhline(np.mean(column(results["like"], "alone")), color="black", lw=1, ls=":", label="B alone")
        axes.axhline(np.mean(column(results["like"], "copied")), color="C0", lw=1, ls=":", label="A's as they are")
    left.legend(fontsize=7)
    right.get_legend().remove()


STUDIES.register("parameter-constraint")(
    Study(
        claim="With 20 examples a network does better when its weights are held near those of a like task, by a "
        "penalty or by a bound on the distance; held near those of an unlike task it does worse.",
        source="item 103; Lasserre et al. 2006; Goodfellow et al. 2016, section 7.9",
        settings=Settings(),
        smoke={"steps": 10},
        small={"steps": 200},
        small_seeds=6,
        variants={"like": {"a": "like"}, "unlike": {"a": "unlike"}},
        measure=measure,
        contrasts=(
            Contrast("λ = 0.01 is over 2 points better than none", {"like/middle": 1, "like/alone": -1}, above=2),
            Contrast("a bound of 4 is over 2 points better than none", {"like/radius": 1, "like/alone": -1}, above=2),
            Contrast("over 2 better than A's weights as they are", {"like/middle": 1, "like/copied": -1}, above=2),
            Contrast("λ = 0.01, unlike task: worse than none", {"unlike/alone": 1, "unlike/middle": -1}),
        ),
        draw=draw,
        claim_ja="訓練データが 20 個のとき、似たタスクで学習した重みから離れすぎないように、"
        "正則化項や距離の上限で制約すると、正解率が上がる。似ていないタスクの重みに近づけると、かえって下がる。",
    )
)
