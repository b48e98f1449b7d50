"""A training error of zero, once on the true labels and once on labels drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 20


@dataclass(frozen=True)
class Settings:
    """One hidden layer, Adam; the same examples and first weights for both variants."""

    data: str = "mnist"
    examples: int = 1_000
    test: int = 2_000
    width: int = 1_024
    steps: int = 2_000
    """Updates with 100 examples each."""
    rate: float = 1e-3
    """Of Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Share of wrong answers on the examples, by the labels that were learned, and on test examples, by the true."""
    import torch

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, train=settings.examples, test=settings.test)
    y = data.y
    if variant["labels"] == "random":
        y = torch.from_numpy(np.random.default_rng(derive(seed, "labels")).integers(0, 10, len(y)))
    model = network([data.x[0].numel(), settings.width, 10], seed=seed)
    way = fit(
        model,
        data.x,
        y,
        torch.optim.Adam(model.parameters(), settings.rate),
        steps=settings.steps,
        batch_size=100,
        seed=seed,
        look=lambda: (1 - accuracy(model, data.x, y), 1 - accuracy(model, data.x_test, data.y_test)),
        points=POINTS,
    )
    train, test = zip(*way, strict=True)
    return {"train way": train, "test way": test, "train": train[-1], "test": test[-1]}


def draw(figure: Any, results: Results) -> None:
    """Errors over the training."""
    axes = figure.subplots(1, 2, sharey=True)
    for panel, (name, seeds) in zip(axes, results.items(), strict=True):
        ways = {"training examples": column(seeds, "train way"), "test examples": column(seeds, "test way")}
        curves(panel, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the training", "share of wrong answers"))
        panel.set(ylim=(-0.03, 1))
        panel.set_title(name, fontsize=9)


STUDIES.register("memorised-labels")(
    Study(
        claim="An error of zero on the training examples says nothing about new ones: a network also learns labels by "
        "heart that were drawn at random.",
        claim_ja="訓練誤差が 0 でも、未知のデータについては何も言えない。ネットワークは、"
        "ランダムに付けたラベルでも暗記できる。",
        source="item 007; Zhang et al. 2017 (Understanding deep learning requires rethinking generalization)",
        settings=Settings(),
        smoke={"data": "digits", "examples": 60, "test": 60, "width": 32, "steps": 20},
        small={"data": "digits", "examples": 200, "test": 0, "width": 256, "steps": 600, "rate": 3e-3},
        small_seeds=4,
        variants={"true labels": {"labels": "true"}, "random labels": {"labels": "random"}},
        measure=measure,
        contrasts=(
            Contrast(
                "random labels: training error below 1 %", {"random labels/train": -1}, above=-0.01, trials="examples"
            ),
            Contrast(
                "true labels: training error below 1 %", {"true labels/train": -1}, above=-0.01, trials="examples"
            ),
            Contrast("random labels: test error of 80 % or more", {"random labels/test": 1}, above=0.8),
            Contrast("true labels: test error below 20 %", {"true labels/test": -1}, above=-0.2),
        ),
        draw=draw,
        seeds=5,
        correction="The text says that every method aims at removing the error on the data. The aim is a low error on "
        "data not seen yet; the training error is what can be lowered, and may be lowered in vain.",
        correction_ja="教材は、どの手法も、データに対する誤差をなくすことが目的だとする。本来の目的は、"
        "未知のデータに対する誤差（汎化誤差）を小さくすることである。下げられるのは訓練誤差だが、"
        "下げても汎化するとは限らない。",
    )
)
