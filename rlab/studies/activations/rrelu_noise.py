"""RReLU's random slopes: noise in training that the mean slope replaces in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Few digits, many updates: a net that has learned all its examples by heart."""

    train: int = 200
    """Training examples."""
    width: int = 128
    """Units of each of three hidden layers."""
    steps: int = 3_000
    """Updates of 50 examples, by Adam."""
    low: float = 1 / 8
    """The least slope that is drawn."""
    high: float = 1 / 3
    """The greatest."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Loss on the training examples without noise, test loss and accuracy; both also with the noise left on."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from
    from rlab.nn.optim import make_optimiser
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples("digits", seed, train=settings.train, preprocess="standard")
    model = network((64, *[settings.width] * 3, 10), "rrelu", seed=seed, init="he-normal")
    middle, half = (settings.low + settings.high) / 2, (settings.high - settings.low) / 2 * variant["spread"]
    slopes = [part for part in model if isinstance(part, nn.RReLU)]
    for part in slopes:
        part.lower, part.upper = middle - half, middle + half
    optimiser = make_optimiser("adam", model.parameters(), lr=1e-3, foreach=True)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=50, seed=seed)
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(model(x), y)) for x, y in (data[:2], data[2:])]
        model.train()
        with drawing_from(torch.Generator().manual_seed(derive(seed, "noise"))):
            noisy = float((model(data.x_test).argmax(1) == data.y_test).float().mean())
    right = accuracy(model.eval(), data.x_test, data.y_test)
    numbers = {"train_loss": losses[0], "test_loss": losses[1], "gap": losses[1] - losses[0]}
    return numbers | {"log_train_loss": float(np.log10(losses[0])), "accuracy": right, "noisy_accuracy": noisy}


def draw(figure: Any, results: Results) -> None:
    """Losses of both kinds, and accuracies."""
    panels = figure.subplots(1, 2)
    dots(panels[0], columns(results, "test_loss"), "test loss (nats)")
    rows = columns(results, "accuracy")
    rows |= {"wide, drawn\nin tests": column(results["wide"], "noisy_accuracy")}
    dots(panels[1], {name: [100 * value for value in values] for name, values in rows.items()}, "test accuracy (%)")


STUDIES.register("rrelu-noise")(
    Study(
        claim="RReLU's random slopes act as noise that regularises: of the same mean slope, it fits its training "
        "examples less closely and has the lower test loss.",
        claim_ja="RReLU のランダムな傾きは、ノイズとして正則化の働きをする。平均が同じ固定の傾きと比べて、"
        "訓練データへの当てはまりは緩く、テスト損失は小さい。",
        correction="A slide says that the slope may be anything. Slopes are drawn in training only, from U(1/8, 1/3) "
        "or a range like it, and their mean takes their place in tests.",
        correction_ja="教材のスライドは、傾きは何でもよいとする。正しくは、"
        "訓練時だけ一様分布 U(1/8, 1/3) などから傾きをサンプリングし、テスト時にはその平均を使う。",
        source="items 055, 058; Xu et al. 2015",
        settings=Settings(),
        smoke={"train": 50, "width": 8, "steps": 5},
        small={"steps": 300, "width": 64},
        small_seeds=6,
        variants={"fixed": {"spread": 1e-6}, "RReLU": {"spread": 1.0}, "wide": {"spread": 8.0}},
        measure=measure,
        contrasts=(
            Contrast(
                "training loss is higher with noise (powers of ten)",
                {"RReLU/log_train_loss": 1, "fixed/log_train_loss": -1},
            ),
            Contrast("test loss is lower (nats)", {"fixed/test_loss": 1, "RReLU/test_loss": -1}),
            Contrast("accuracy is not lower by a point", {"RReLU/accuracy": 1, "fixed/accuracy": -1}, above=-0.01),
            Contrast(
                "slopes drawn 8 times as widely, and in tests, cost accuracy",
                {"fixed/accuracy": 1, "wide/noisy_accuracy": -1},
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
