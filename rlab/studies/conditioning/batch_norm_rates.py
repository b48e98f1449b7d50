"""Over which learning rates a net learns, with batch normalisation and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A ReLU net on digits by plain SGD, at rates over several decades."""

    depth: int = 5
    """Hidden layers."""
    width: int = 64
    """Units of each."""
    steps: int = 800
    """Updates of 64 examples."""
    per_decade: int = 4
    """Rates in each power of ten."""
    lowest: float = -3.0
    """Power of ten of the lowest rate; neither it nor the highest should work, or the range is cut off."""
    highest: float = 2.0
    """And of the highest."""
    enough: float = 0.9
    """Test accuracy of a rate that works."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy by rate; decades of rates that work, and the highest of them as a power of ten."""
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples("digits", seed, preprocess="standard")
    count = round((settings.highest - settings.lowest) * settings.per_decade) + 1
    powers = np.linspace(settings.lowest, settings.highest, count)
    right = []
    for power in powers:
        sizes = (64, *[settings.width] * settings.depth, 10)
        model = network(sizes, "relu", seed=seed, init="he-normal", norm=variant["norm"])
        optimiser = make_optimiser("sgd", model.parameters(), lr=float(10**power))
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
        right.append(accuracy(model, data.x_test, data.y_test))
    works = [power for power, value in zip(powers, right, strict=True) if value >= settings.enough]
    return {
        "powers": np.round(powers, 3),
        "curve": right,
        "decades": len(works) / settings.per_decade,
        "highest": max(works, default=settings.lowest),
    }


def draw(figure: Any, results: Results) -> None:
    """Accuracy over rates."""
    powers = next(iter(results.values()))[0]["powers"]
    ways = columns(results, "curve", 100)
    curves(figure.subplots(), powers, ways, ("learning rate (power of ten)", "test accuracy (%)"))


STUDIES.register("batch-norm-rates")(
    Study(
        claim="Batch normalisation widens the range of learning rates that work threefold or more, and raises the "
        "highest of them as much.",
        claim_ja="バッチ正規化は、うまく学習できる学習率の範囲を 3 倍以上に広げ、その上限も 3 倍以上に上げる。",
        source="items 087; Ioffe & Szegedy 2015, section 3.3; Bjorck et al. 2018",
        settings=Settings(),
        smoke={"depth": 2, "width": 8, "steps": 3, "per_decade": 1},
        small={"depth": 4, "width": 32, "steps": 150, "lowest": -2.0, "highest": 1.5},
        small_seeds=6,
        variants={"none": {"norm": "none"}, "batch norm": {"norm": "batch"}, "layer norm": {"norm": "layer"}},
        measure=measure,
        contrasts=(
            Contrast("its range is wider by half a decade", {"batch norm/decades": 1, "none/decades": -1}, above=0.5),
            Contrast(
                "its highest rate is three times as high (powers of ten)",
                {"batch norm/highest": 1, "none/highest": -1},
                above=0.5,
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
