"""Too little and too much freedom: polynomials of every degree through a few noisy points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

DEGREES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17)


@dataclass(frozen=True)
class Settings:
    """Least squares on points of sin(pi x) with noise 0.3; a seed is a mean over draws of points."""

    draws: int = 400
    examples: int = 20


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of the mean squared error by degree, on the points and on new ones, the noise of which is left out."""
    rng = np.random.default_rng(derive(seed, "points"))
    grid = np.linspace(-1, 1, 200)
    ways = np.zeros((2, settings.draws, len(DEGREES)))
    for draw_ in range(settings.draws):
        x = rng.uniform(-1, 1, variant["times"] * settings.examples)
        y = np.sin(np.pi * x) + 0.3 * rng.normal(size=len(x))
        for k, degree in enumerate(DEGREES):
            fitted = legendre.Legendre(np.linalg.lstsq(legendre.legvander(x, degree), y)[0])
            ways[0, draw_, k] = np.log10(np.mean((fitted(x) - y) ** 2))
            ways[1, draw_, k] = np.log10(np.mean((fitted(grid) - np.sin(np.pi * grid)) ** 2))
    train, new = ways.mean(1)
    return {"seen": train, "new": new} | {
        f"{what} {degree}": way[DEGREES.index(degree)]
        for what, way in (("seen", train), ("new", new))
        for degree in (1, 5, 17)
    }


def draw(figure: Any, results: Results) -> None:
    """Errors by degree."""
    axes = figure.subplots(1, 2, sharey=True)
    for panel, (name, seeds) in zip(axes, results.items(), strict=True):
        ways = {"on the points": column(seeds, "seen"), "on new ones": column(seeds, "new")}
        curves(panel, DEGREES, ways, ("degree of the polynomial", "log10 of the mean squared error"))
        panel.set_title(name, fontsize=9)


STUDIES.register("capacity-sweep")(
    Study(
        claim="More freedom always fits the examples better, but new inputs worse from some point on; with too "
        "little, both are badly fitted. More examples move that point.",
        claim_ja="モデルの自由度を上げるほど訓練データにはよく合うが、"
        "ある点を超えると未知のデータには合わなくなる（過学習）。自由度が低すぎると、"
        "どちらにも合わない（学習不足）。データを増やすと、その点は移動する。",
        source="item 013; Bishop 2006, section 1.1; Goodfellow et al. 2016, section 5.2",
        settings=Settings(),
        smoke={"draws": 3},
        small={"draws": 60},
        small_seeds=5,
        variants={"few examples": {"times": 1}, "ten times as many": {"times": 10}},
        measure=measure,
        contrasts=(
            Contrast(
                "degree 17 fits the points better than degree 5 (log10 of errors)",
                {"few examples/seen 5": 1, "few examples/seen 17": -1},
            ),
            Contrast(
                "but new ones worse, ten times at least (over-fitting)",
                {"few examples/new 17": 1, "few examples/new 5": -1},
                above=1.0,
            ),
            Contrast(
                "degree 1 fits new ones worse than degree 5 (under-fitting)",
                {"few examples/new 1": 1, "few examples/new 5": -1},
            ),
            Contrast(
                "and the points, too: twice the error or more",
                {"few examples/seen 1": 1, "few examples/seen 5": -1},
                above=0.301,
            ),
            Contrast(
                "with ten times as many examples degree 17 loses a tenth of that or less",
                {
                    "few examples/new 17": 1,
                    "few examples/new 5": -1,
                    "ten times as many/new 17": -1,
                    "ten times as many/new 5": 1,
                },
                above=1.0,
            ),
        ),
        draw=draw,
    )
)
