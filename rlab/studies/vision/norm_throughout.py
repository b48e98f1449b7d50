"""Batch normalisation only at the start, and all the way."""

from __future__ import annotations

from typing import Any

from rlab.studies.images import Images, pictures
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Of plain descent."""

SIZES = (48, 48, 48, 48, 48, 48)
"""Units of the hidden layers."""


def fold(network: Any, x: Any) -> None:
    """Put what batch normalisation does to one batch into the weights, and take the norms out."""
    import torch
    from torch import nn

    with torch.no_grad():
        for place, layer in enumerate(network):
            if isinstance(layer, nn.Sequential):
                linear: Any
                linear, norm = layer
                z = linear(x)
                spread = (z.var(0, correction=0) + norm.eps).sqrt()
                linear.bias[:] = (linear.bias - z.mean(0)) / spread
                linear.weight /= spread[:, None]
                network[place] = linear
            x = network[place](x)


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy on the training images by learning rate; before training, the spread of what enters the last ReLU."""
    import torch

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, fit, network

    data = pictures(settings, seed)
    way = []
    for rate in RATES:
        sizes = (data.x[0].numel(), *SIZES, 10)
        dense = network(sizes, seed=seed, init="normal", norm="none" if variant == "never" else "batch")
        if variant == "start":
            fold(dense, data.x)
        with torch.no_grad():
            spread = float(dense[:-2](data.x).std())
        optimiser = make_optimiser("sgd", dense.parameters(), lr=rate)
        fit(dense, data.x, data.y, optimiser, steps=settings.steps, batch_size=settings.batch_size, seed=seed)
        way.append(accuracy(dense, data.x, data.y))
    return {"way": way, "spread": spread, "best": max(way), "large": way[-1]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by learning rate."""
    axes = figure.subplots()
    ways = columns(results, "way")
    curves(axes, RATES, ways, ("learning rate", "accuracy on the training images"))
    axes.set_xscale("log")
    axes.legend(title="normalised", fontsize=8, title_fontsize=8)


STUDIES.register("norm-throughout")(
    Study(
        claim="Normalising once, before training, heals a start with far too small weights; batch normalisation does "
        "that and acts throughout, so that it also bears learning rates at which the other breaks down.",
        claim_ja="学習前の 1 回の正規化は、小さすぎる重みの初期値の問題を解消する。バッチ正規化は、"
        "それに加えて学習中も働くので、前者では学習できない大きな学習率にも耐える。",
        correction="The text counts batch normalisation, with scaling and initialisation, among what improves the "
        "start of learning, and activations, Adam, dropout and early stopping among what improves its course. "
        "It does both.",
        correction_ja="教材は、バッチ正規化を、スケーリングや重みの初期化とともに、"
        "学習の「開始」を改善するものに数え、活性化関数、Adam、ドロップアウト、"
        "早期終了を「過程」を改善するものに数える。バッチ正規化は、両方を改善する。",
        source="item 296; Ioffe & Szegedy 2015; Mishkin & Matas 2016",
        settings=Images(train=2_000, steps=400),
        smoke={"data": "digits", "train": 80, "test": 60, "steps": 2, "batch_size": 32},
        small={"data": "digits", "train": 600, "test": 0, "steps": 80},
        small_seeds=4,
        variants={"never": "never", "at the start": "start", "throughout": "throughout"},
        measure=measure,
        contrasts=(
            Contrast("never: signals have died out", {"never/spread": -1}, -0.01),
            Contrast("once heals it", {"at the start/best": 1, "never/best": -1}, 0.3),
            Contrast(
                "at the largest rate only batch norm learns", {"throughout/large": 1, "at the start/large": -1}, 0.3
            ),
        ),
        draw=draw,
        seeds=6,
    )
)
