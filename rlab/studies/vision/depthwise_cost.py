"""A convolution in each channel and one across them, in place of one that does both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, size, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

CHANNELS, PLACES = 128, (128, 14, 14)
"""The layer that is counted and timed: 3x3, from 128 channels to 128, on maps of 14x14."""


@dataclass(frozen=True)
class Settings(Images):
    """Networks of one convolution and three blocks."""

    repeats: int = 15
    """Of each timing; the median counts."""


def layer(kind: str, channels: int, out: int) -> Any:
    """conv3x3 - norm - ReLU, or MobileNet's block."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import Separable, unit

    return Separable(channels, out, 1, 1) if kind == "separable" else unit(channels, out, 3, 1, 1, nn.ReLU)


def products(kind: str) -> float:
    """Millions of multiply-adds of the layer."""
    from rlab.nn.models import multiply_adds

    return multiply_adds(layer(kind, CHANNELS, CHANNELS), PLACES) / 1e6


def timed(settings: Settings) -> dict[str, float]:
    """By how much the block is faster on this machine (processor time of one thread, without gradients), and by how
    much it would be if every multiplication took the same time.
    """
    import torch

    images = torch.rand(8, *PLACES)
    took: dict[str, list[float]] = {"standard": [], "separable": []}
    with torch.no_grad():
        layers = {kind: layer(kind, CHANNELS, CHANNELS).eval() for kind in took}
        for _ in range(settings.repeats):
            for kind, seconds in took.items():
                began = time.process_time()
                layers[kind](images)
                seconds.append(time.process_time() - began)
    faster = float(np.median(took["standard"]) / max(np.median(took["separable"]), 1e-6))
    return {"faster": faster, "hoped": products("standard") / products("separable")}


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy and weights of a network; millions of multiply-adds of the layer's convolutions; or a timing, which is
    the one thing here that does not repeat.
    """
    from torch import nn

    from rlab.studies.supervised import accuracy

    if variant == "timed":
        return timed(settings)
    data = pictures(settings, seed)

    def whole() -> nn.Sequential:
        units = [layer("standard", 1, 16), nn.MaxPool2d(2), *(layer(variant, a, b) for a, b in ((16, 32), (32, 32)))]
        return nn.Sequential(*units, nn.Flatten(), nn.Linear(8 * data.x[0].numel(), 10))

    network = trained(built(whole, seed), data.x, data.y, settings, seed)
    weights = size(nn.ModuleList([network[2], network[3]]))
    score = accuracy(network, data.x_test, data.y_test)
    return {"accuracy": score, "products": products(variant), "weights": weights}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and how much less work and time it is."""
    left, right = figure.subplots(1, 2)
    kinds = ("standard", "separable")
    groups = {f"{k}\n{results[k][0]['weights']:,} weights": column(results[k], "accuracy") for k in kinds}
    dots(left, groups, "accuracy")
    fewer = [a["products"] / b["products"] for a, b in zip(*(results[k] for k in kinds), strict=True)]
    dots(right, {"fewer\nmultiply-adds": fewer, "less time": column(results["timed"], "faster")}, "times")
    right.set_ylim(bottom=0)


STUDIES.register("depthwise-cost")(
    Study(
        claim="A convolution in each channel and one of 1x1 across them make 8.4 times fewer multiplications than one "
        "of 3x3 on 128 channels and recognise images about as well; they are faster, but not 8.4 times.",
        claim_ja="チャネルごとの畳み込みと 1x1 畳み込みの組（depthwise separable convolution）は、"
        "128 チャネルの 3x3 畳み込みと比べて乗算が 8.4 分の 1 で、同じくらいよく認識できる。速くはなるが、"
        "8.4 倍にはならない。",
        source="item 204; Howard et al. 2017, section 3.1",
        settings=Settings(),
        smoke={**SMOKE, "repeats": 3},
        small=SMALL,
        small_seeds=5,
        variants={kind: kind for kind in ("standard", "separable", "timed")},
        measure=measure,
        contrasts=(
            Contrast(
                "more than 8.4 times fewer products", {"standard/products": 1, "separable/products": -8.4}, exact=True
            ),
            Contrast("less than 4 points below", {"separable/accuracy": 1, "standard/accuracy": -1}, -0.04),
            Contrast("it is faster", {"timed/faster": 1}, 1),
            Contrast("but less than the products say", {"timed/hoped": 1, "timed/faster": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
