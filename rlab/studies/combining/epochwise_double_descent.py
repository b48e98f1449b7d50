"""An error that falls, rises, and falls further: where the first rise is not the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

TIMES = np.unique(np.geomspace(1, 1e6, 121).astype(int))
"""Numbers of updates that are looked at."""


@dataclass(frozen=True)
class Settings:
    """A linear model by gradient descent; its features differ in size, and so in how fast they are learned."""

    examples: int = 80
    """To train on."""
    fast: int = 5
    """Features of size 1 that the target depends on."""
    noise: int = 40
    """Features of size 0.2 that it does not depend on."""
    slow: int = 5
    """Features of size 0.01 that it depends on, too; none of them in the control."""
    spread: float = 1.0
    """Standard deviation of the targets' noise; the two parts that can be learned have 1 and 2."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Excess of the mean square over the noise: in the first valley, on the hill behind it, in the valley after it."""
    from rlab.seeding import derive

    generator = np.random.default_rng(derive(seed, "descent"))
    groups = (settings.fast, settings.noise, settings.slow)
    size = np.repeat([1.0, 0.2, 0.01], groups)
    use = np.repeat([settings.fast**-0.5, 0.0, 2 * variant * settings.slow**-0.5], groups)
    truth = use * generator.choice([-1.0, 1.0], len(use)) / size
    x = generator.normal(size=(settings.examples, len(size))) * size
    y = x @ truth + settings.spread * generator.normal(size=settings.examples)
    values, vectors = np.linalg.eigh(x.T @ x / settings.examples)
    solution = vectors.T @ (x.T @ y / settings.examples) / values
    rate = 0.5 / values[-1]
    # gradient descent from 0, t steps at once: the error along an eigenvector shrinks by 1 - rate * value a step
    weights = vectors @ ((1 - (1 - rate * values[:, None]) ** TIMES) * solution[:, None])
    errors = (((weights - truth[:, None]) * size[:, None]) ** 2).sum(0)
    first, second = np.searchsorted(TIMES, [100, 20_000])
    valley, hill, later = errors[:first].min(), errors[first:second].max(), errors[second:].min()
    return {"rise": hill - valley, "valley": valley, "later": later, "curve": np.round(errors, 4)}


def draw(figure: Any, results: Results) -> None:
    """The error over the updates."""
    axes = figure.subplots()
    shown = {f"{name} features": column(seeds, "curve") for name, seeds in results.items()}
    curves(axes, TIMES, shown, ("updates", "excess of the mean square error"))
    axes.set_xscale("log")


STUDIES.register("epochwise-double-descent")(
    Study(
        claim="The error on new examples can rise and later fall below its first minimum, where a part of the problem "
        "is learned slowly; a rule that stops at the first rise misses that.",
        claim_ja="問題の一部がゆっくり学習されるとき、未知のデータに対する誤差は、いったん上がった後、"
        "最初の極小よりも下がることがある（エポック方向の二重降下）。最初の上昇で止める規則では、これを逃す。",
        correction="The text has the rise of the test error as the optimum to stop at; it need be neither the lowest "
        "nor the last minimum.",
        correction_ja="教材は、テスト誤差が上がり始める点で止めるのが最適とする。しかし、それが最小とも、"
        "最後の極小とも限らない。",
        source="item 141; Nakkiran et al. 2020; Heckel & Yilmaz 2021",
        settings=Settings(),
        smoke={"examples": 70},
        variants={"with slow": 1.0, "without slow": 0.0},
        measure=measure,
        contrasts=(
            Contrast("the error rises after the first valley", {"with slow/rise": 1}),
            Contrast("it falls below that valley later", {"with slow/valley": 1, "with slow/later": -1}),
            Contrast("not so without slow features", {"without slow/later": 1, "without slow/valley": -1}),
        ),
        draw=draw,
        seeds=20,
    )
)
