"""The perceptron's rule and the delta rule, on classes that a line separates and on classes that none does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

MARGIN = 0.05
"""Of the classes that can be separated: the least distance to the border."""


@dataclass(frozen=True)
class Settings:
    """Points in the plane; the examples are met one by one."""

    examples: int = 200
    epochs: int = 60
    rate: float = 0.005
    """Of the delta rule; of the perceptron's only the scale of the weights depends on it."""


def points(settings: Settings, kind: str, seed: int) -> tuple[Any, Any]:
    """x[m, 3] with a column of ones, y[m] of -1 and 1.

    "separable": on either side of a line, some far from it. "overlapping": two clouds, a tenth on the wrong side.
    """
    rng = np.random.default_rng(derive(seed, "points"))
    y = np.where(np.arange(settings.examples) % 2, 1.0, -1.0)
    x = rng.normal(size=(settings.examples, 2))
    if kind == "separable":
        x[:, 0] = y * (MARGIN + rng.exponential(0.3, len(y)))
        far = rng.random(len(y)) < 0.2
        x[far & (y > 0), 0] += 8
    else:
        x[:, 0] += 1.3 * y
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([x @ turn, np.ones(len(x))]), y


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Errors on the examples after every epoch, changes of the weights, and how errors vary at the end."""
    x, y = points(settings, variant["points"], seed)
    rng = np.random.default_rng(derive(seed, "order"))
    w, changes, way = np.zeros(3), 0, []
    for _ in range(settings.epochs):
        for i in rng.permutation(len(x)):
            output = w @ x[i]
            if variant["rule"] == "delta":
                w = w + settings.rate * (y[i] - output) * x[i]
                changes += 1
            elif y[i] * output <= 0:
                w = w + y[i] * x[i]
                changes += 1
        way.append(float(np.mean(y * (x @ w) <= 0)))
    late = np.array(way[len(way) // 2 :])
    # Novikoff: changes <= (largest |x| / margin)^2; with the column of ones the margin is that of (direction, 0).
    bound = float((x**2).sum(1).max()) / MARGIN**2
    return {"way": way, "errors": late.mean(), "wobble": late.std(), "changes": changes, "of bound": changes / bound}


def draw(figure: Any, results: Results) -> None:
    """Errors by epoch."""
    axes = figure.subplots(1, 2, sharey=True)
    for panel, kind in zip(axes, ("separable", "overlapping"), strict=True):
        ways = {name.split(",")[0]: column(seeds, "way") for name, seeds in results.items() if name.endswith(kind)}
        epochs = np.arange(len(next(iter(ways.values()))[0])) + 1
        curves(panel, epochs, ways, ("epoch", "share of examples that are wrong"))
        panel.set_title(kind, fontsize=9)


RULES, KINDS = ("perceptron", "delta"), ("separable", "overlapping")

STUDIES.register("perceptron-delta-rule")(
    Study(
        claim="The perceptron's rule changes weights on mistakes only: it separates what can be separated and never "
        "rests otherwise; the delta rule lowers the squared error, comes to rest, and may leave errors in both.",
        claim_ja="パーセプトロンの学習則は、誤ったときだけ重みを変える。線形分離できれば分離し、"
        "できなければ収束しない。二乗誤差を下げるデルタ則は、どちらの場合も収束するが、"
        "どちらの場合にも誤分類を残すことがある。",
        source="item 008; Rosenblatt 1958; Widrow & Hoff 1960; Novikoff 1962",
        settings=Settings(),
        smoke={"epochs": 40},
        small={"epochs": 50},
        small_seeds=8,
        variants={f"{rule}, {kind}": {"rule": rule, "points": kind} for kind in KINDS for rule in RULES},
        measure=measure,
        contrasts=(
            Contrast(
                "separable: the perceptron ends without errors (share below 0.1 %)",
                {"perceptron, separable/errors": -1},
                above=-0.001,
                exact=True,
            ),
            Contrast(
                "having changed its weights no more often than Novikoff's bound (changes / bound)",
                {"perceptron, separable/of bound": -1},
                above=-1.0,
            ),
            Contrast(
                "separable: the delta rule leaves errors, 1 % or more", {"delta, separable/errors": 1}, above=0.01
            ),
            Contrast(
                "overlapping: the perceptron's errors go up and down more (standard deviation over epochs)",
                {"perceptron, overlapping/wobble": 1, "delta, overlapping/wobble": -1},
            ),
            Contrast(
                "overlapping: the delta rule ends with fewer errors",
                {"perceptron, overlapping/errors": 1, "delta, overlapping/errors": -1},
            ),
        ),
        draw=draw,
        correction="The text has the perceptron minimise the difference of output and teacher. That is the delta "
        "rule; what the classical perceptron lowers is the perceptron criterion, in which only mistakes count.",
        correction_ja="教材は、パーセプトロンが出力と教師信号の差を最小にするとしているが、それはデルタ則である。"
        "古典的なパーセプトロンが小さくするのはパーセプトロン規準で、誤分類したデータだけが寄与する。",
    )
)
