"""What scaling inputs does to gradient descent, where nothing else is in the way: logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 25


@dataclass(frozen=True)
class Settings:
    """Logistic regression by full gradient descent; the rate is the largest that is safe, 1 / largest curvature."""

    steps: int = 2_000
    """Updates."""
    ridge: float = 1e-3
    """L2 penalty, so that the best weights are finite."""


def scaled(name: str, x: Any) -> Any:
    """Inputs x[N, D] by name; "255" undoes the scaling that a byte is given when it is read."""
    from rlab.data.preprocess import fit

    if name in ("raw", "255"):
        return x * (255.0 if name == "255" else 1.0)
    return fit(name, x)(x)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The loss's way and end, and the condition number of the weights' curvature at the start."""
    import torch
    from torch import nn

    from rlab.studies.supervised import examples

    data = examples(variant["data"], seed)
    x = scaled(variant["scaling"], data.x.flatten(1)).double()
    x = x[:, x.std(0) > 0]
    y = data.y
    curvature = torch.linalg.eigvalsh(x.T @ x / len(x))
    inputs = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    classes = int(y.max()) + 1
    rate = 1 / (float(torch.linalg.eigvalsh(inputs.T @ inputs / len(x))[-1]) / 2 + settings.ridge)
    weights = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    way: list[float] = []
    for step in range(1, settings.steps + 1):
        loss = nn.functional.cross_entropy(inputs @ weights, y)
        (gradient,) = torch.autograd.grad(loss + settings.ridge / 2 * weights.square().sum(), weights)
        with torch.no_grad():
            weights -= rate * gradient
        if step * POINTS // settings.steps > len(way):
            way.append(float(loss.detach()))
    kept = curvature[curvature > 1e-12 * curvature[-1]]
    return {"way": np.round(way, 5), "loss": way[-1], "condition": float((kept[-1] / kept[0]).log10())}


def draw(figure: Any, results: Results) -> None:
    """Losses of both sets, and condition numbers."""
    panels = figure.subplots(2, 2)
    for row, data in zip(panels, ("table", "images"), strict=True):
        rows = {name.split(", ")[1]: seeds for name, seeds in results.items() if name.startswith(data)}
        ways = {name: column(seeds, "way") for name, seeds in rows.items()}
        curves(row[0], (np.arange(POINTS) + 1) / POINTS, ways, ("part of training", f"{data}: loss (nats)"))
        dots(row[1], {name: column(seeds, "condition") for name, seeds in rows.items()}, "condition (power of ten)")
        row[0].legend(fontsize=7)


def way(data: str, scaling: str) -> dict[str, str]:
    """What is learned."""
    return {"data": data, "scaling": scaling}


def less(better: str, worse: str, key: str = "loss") -> dict[str, float]:
    """The worse one's number less the better one's."""
    return {f"{worse}/{key}": 1, f"{better}/{key}": -1}


STUDIES.register("input-scaling")(
    Study(
        claim="Scaling inputs to one range or one variance makes gradient descent faster where columns have unlike "
        "units; of images, /255 changes the unit alone, and with it nothing but the rate.",
        claim_ja="列ごとに単位が異なるデータでは、範囲や分散をそろえると勾配降下法が速くなる。"
        "画像を 255 で割ることは単位を変えるだけで、変わるのは適した学習率だけである。",
        correction="The page calls scaling to 0..1 regularisation; it is normalisation (min-max scaling), and nothing "
        "is regularised by it.",
        correction_ja="教材は、0～1 への変換を「正則化」と呼ぶが、これは正規化（min-max スケーリング）で、"
        "正則化の働きはない。",
        source="items 081, 082; LeCun et al. 1998, section 4.3",
        settings=Settings(),
        smoke={"steps": 30},
        small={"steps": 200},
        small_seeds=5,
        variants={
            "table, raw": way("breast_cancer", "raw"),
            "table, 0..1": way("breast_cancer", "minmax"),
            "table, standard": way("breast_cancer", "standard"),
            "images, 0..255": way("digits", "255"),
            "images, 0..1": way("digits", "raw"),
        },
        measure=measure,
        contrasts=(
            Contrast("table: 0..1 is faster than raw (nats)", less("table, 0..1", "table, raw"), above=0.05),
            Contrast(
                "table: standardised is faster than raw (nats)", less("table, standard", "table, raw"), above=0.05
            ),
            Contrast(
                "its condition number is 100 times lower",
                less("table, standard", "table, raw", "condition"),
                above=2.0,
            ),
            Contrast(
                "images: 0..1 is no faster at its own rate, by 0.05 nats",
                {"images, 0..1/loss": 1, "images, 0..255/loss": -1},
                above=-0.05,
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
