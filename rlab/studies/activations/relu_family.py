"""ReLU and its relatives with a slope on the negative side, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

MATTERS = 1.0
"""Percentage points of accuracy: a difference that would matter."""


@dataclass(frozen=True)
class Settings:
    """A net with three hidden layers; all variants begin with the same weights and see the same batches."""

    data: str = "fashion_mnist"
    """Data set."""
    train: int = 10_000
    """Training examples; 0: all."""
    test: int = 0
    """Test examples; 0: all."""
    width: int = 256
    """Units of each hidden layer."""
    steps: int = 1_500
    """Updates of 64 examples, by Adam."""


@lru_cache(maxsize=32)
def trained(settings: Settings, activation: str, seed: int) -> float:
    """Test accuracy in percent."""
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test, preprocess="standard")
    sizes = (data.x[0].numel(), *[settings.width] * 3, 10)
    model = network(sizes, activation, seed=seed, init="he-normal")
    optimiser = make_optimiser("adam", model.parameters(), lr=1e-3, foreach=True)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
    return 100 * accuracy(model, data.x_test, data.y_test)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By how many percentage points a relative is ahead of the ReLU of the same seed, and behind it."""
    own, relu = trained(settings, variant["activation"], seed), trained(settings, "relu", seed)
    return {"accuracy": own, "ahead": own - relu, "behind": relu - own}


def draw(figure: Any, results: Results) -> None:
    """Differences to ReLU of the same seed."""
    axes = figure.subplots()
    dots(axes, columns(results, "ahead"), "accuracy less ReLU's (points)")
    axes.axhspan(-MATTERS, MATTERS, color="0.5", alpha=0.15)
    axes.axhline(0, color="black", lw=1)


def near(name: str) -> tuple[Contrast, Contrast]:
    """Two contrasts: that a relative is not better by what would matter, and not worse."""
    return (
        Contrast(f"{name} is not better by a point", {f"{name}/ahead": -1}, above=-MATTERS),
        Contrast(f"{name} is not worse by a point", {f"{name}/behind": -1}, above=-MATTERS),
    )


STUDIES.register("relu-family")(
    Study(
        claim="Among ReLU, Leaky ReLU, PReLU and RReLU there is no winner: where ReLU trains well, none differs from "
        "it by a percentage point of accuracy.",
        claim_ja="ReLU、Leaky ReLU、PReLU、RReLU に優劣はない。ReLU で問題なく学習できる場合、"
        "正解率の差はどれも 1 ポイントに満たない。",
        source="items 054, 056; Maas et al. 2013; He et al. 2015; Xu et al. 2015",
        settings=Settings(),
        smoke={"data": "digits", "width": 8, "steps": 4},
        small={"data": "digits", "train": 0, "width": 64, "steps": 250},
        small_seeds=10,
        variants={
            "Leaky": {"activation": "leaky-relu"},
            "PReLU": {"activation": "prelu"},
            "RReLU": {"activation": "rrelu"},
        },
        measure=measure,
        contrasts=(*near("Leaky"), *near("PReLU"), *near("RReLU")),
        draw=draw,
        seeds=10,
    )
)
