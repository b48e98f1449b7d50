"""What the last layer should give, by what is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A net with one hidden layer, told classes of digits or the course of diabetes, by Adam."""

    width: int = 64
    """Hidden units."""
    steps: int = 2_000
    """Updates of 64 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Of classes: accuracy, outputs that are no probability. Of numbers: the part of the variance explained."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import examples, fit, network

    classes = variant["data"] == "digits"
    data = examples(variant["data"], seed, preprocess="standard")
    mean, deviation = (0.0, 1.0) if classes else (data.y.float().mean(), data.y.float().std())

    def target(y: Tensor) -> Tensor:
        return nn.functional.one_hot(y, 10).float() if classes else ((y - mean) / deviation).float()[:, None]

    last = {"linear": nn.Identity(), "sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(1)}[variant["output"]]
    model = network((data.x[0].numel(), settings.width, 10 if classes else 1), seed=seed, init="he-normal")
    model.append(last)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if variant["output"] == "softmax":
            return -(targets * outputs.clamp_min(1e-12).log()).sum(1).mean()
        return nn.functional.mse_loss(outputs, targets)

    optimiser = make_optimiser("adam", model.parameters(), lr=1e-3, foreach=True)
    fit(model, data.x, target(data.y), optimiser, steps=settings.steps, batch_size=64, seed=seed, loss=loss)
    with torch.no_grad():
        outputs = model(data.x_test)
    if classes:
        outside = ((outputs < 0) | (outputs > 1)).any(1) | ((outputs.sum(1) - 1).abs() > 1e-3)
        right = (outputs.argmax(1) == data.y_test).float().mean()
        return {"accuracy": float(right), "no_probability": float(outside.float().mean())}
    error = (outputs - target(data.y_test)).square().mean() / target(data.y_test).var(correction=0)
    return {"explained": float(1 - error), "below_mean": float((outputs < 0).float().mean())}


def draw(figure: Any, results: Results) -> None:
    """Classes on the left, numbers on the right."""
    left, right = figure.subplots(1, 2)
    for axes, kind, key, label in (
        (left, "classes", "no_probability", "digits whose outputs are no probabilities (%)"),
        (right, "numbers", "explained", "variance of diabetes explained (%)"),
    ):
        rows = {name.split(", ")[1]: seeds for name, seeds in results.items() if name.startswith(kind)}
        dots(axes, {name: [100 * value for value in column(seeds, key)] for name, seeds in rows.items()}, label)
        axes.set_title(kind, fontsize=9)


STUDIES.register("output-functions")(
    Study(
        claim="What is predicted decides the output function: softmax for probabilities of classes, none for numbers "
        "of any size, where a sigmoid cannot reach half of them.",
        claim_ja="出力層の関数は、何を予測するかで決まる。クラスの確率にはソフトマックス関数を使い、"
        "任意の大きさの数値には何も使わない。数値の予測にシグモイド関数を使うと、半分の値には決して届かない。",
        correction="The text says that the output layer must be a sigmoid or softmax. That is so of probabilities; a "
        "regression has linear outputs. And the most probable class needs no probabilities: linear outputs trained "
        "by squared errors find it about as often.",
        correction_ja="教材は、出力層は必ずシグモイド関数かソフトマックス関数だとする。それは確率を出力する場合で、"
        "回帰の出力は線形である。また、最も確率の高いクラスを選ぶだけなら確率は要らず、"
        "二乗誤差で学習した線形出力でも同じくらい当たる。",
        source="items 049; Bridle 1990",
        settings=Settings(),
        smoke={"width": 4, "steps": 3},
        small={"steps": 600},
        small_seeds=4,
        variants={
            "classes, softmax": {"data": "digits", "output": "softmax"},
            "classes, linear": {"data": "digits", "output": "linear"},
            "numbers, linear": {"data": "diabetes", "output": "linear"},
            "numbers, sigmoid": {"data": "diabetes", "output": "sigmoid"},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "most linear outputs for classes are no probabilities",
                {"classes, linear/no_probability": 1, "classes, softmax/no_probability": -1},
                above=0.5,
                trials=270,
            ),
            Contrast(
                "their accuracy is not 3 points lower",
                {"classes, linear/accuracy": 1, "classes, softmax/accuracy": -1},
                above=-0.03,
            ),
            Contrast(
                "linear outputs explain more of numbers' variance, by a tenth",
                {"numbers, linear/explained": 1, "numbers, sigmoid/explained": -1},
                above=0.1,
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
