"""Four remedies against vanishing gradients in one factorial: activation, initialisation, normalisation, skips."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

CHANCE = 0.1
"""Accuracy by guessing; a net has begun to learn if it is right twice as often."""


@dataclass(frozen=True)
class Settings:
    """A net of equal layers on digits, trained a little."""

    depth: int = 30
    """Hidden layers."""
    width: int = 64
    """Units of each."""
    steps: int = 400
    """Updates of 64 examples, by momentum."""
    rates: tuple[float, ...] = (0.03, 0.01, 0.003)
    """Learning rates; the best counts."""


def build(settings: Settings, variant: Any, seed: int) -> Any:
    """The net; its weights are drawn by seed, those of a skip variant as those without."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.init import fill
    from rlab.nn.layers import drawing_from
    from rlab.nn.layers.activations import ACTIVATIONS
    from rlab.nn.layers.norm import NORMS
    from rlab.seeding import derive

    class Layer(nn.Module):
        """x -> f(norm(W x + b)), with x added if there is a skip."""

        def __init__(self) -> None:
            super().__init__()
            linear = nn.Linear(settings.width, settings.width)
            self.inside = nn.Sequential(NORMS.get(variant["norm"])(linear), ACTIVATIONS.get(variant["activation"])())

        def forward(self, x: Tensor) -> Tensor:
            """x[B, width] -> the same shape."""
            return x + self.inside(x) if variant["skip"] else self.inside(x)

    gain = {"relu": 2**0.5, "sigmoid": 4.0}[variant["activation"]]  # 1 / slope, in the root of mean squares

    def scaled(weight: Tensor) -> None:
        nn.init.normal_(weight, std=gain / weight.shape[1] ** 0.5)

    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        layers = [Layer() for _ in range(settings.depth)]
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, settings.width), *layers, nn.Linear(settings.width, 10))
        fill(model, scaled if variant["init"] == "scaled" else lambda weight: nn.init.normal_(weight, std=0.01))
        if variant["init"] == "scaled" and variant["activation"] == "sigmoid":
            for layer in list(model)[3:]:  # a sigmoid's mean of 1/2 is taken off, or it drives the next into saturation
                linear = next(part for part in layer.modules() if isinstance(part, nn.Linear))
                linear.bias.data = -linear.weight.data.sum(1) / 2
    return model


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Training accuracy of the best rate."""
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit

    data = examples("digits", seed, train=1_000, preprocess="standard")
    accuracies = []
    for rate in settings.rates:
        model = build(settings, variant, seed)
        optimiser = make_optimiser("momentum", model.parameters(), lr=rate, foreach=True)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
        accuracies.append(accuracy(model, data.x, data.y))
    return {"by_rate": accuracies, "accuracy": max(accuracies)}


def name_of(activation: str, init: str, norm: str, skip: bool) -> str:
    """Of a cell."""
    return " ".join([activation, init, *(["bn"] if norm == "batch" else []), *(["skip"] if skip else [])])


CELLS = {
    name_of(*cell): dict(zip(("activation", "init", "norm", "skip"), cell, strict=True))
    for cell in product(("sigmoid", "relu"), ("small", "scaled"), ("none", "batch"), (False, True))
}


def draw(figure: Any, results: Results) -> None:
    """The mean accuracy of every cell."""
    axes = figure.subplots()
    names = list(results)
    means = np.array([np.mean([seed["accuracy"] for seed in results[name]]) for name in names]).reshape(4, 4)
    axes.imshow(means, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for row, column in np.ndindex(4, 4):
        colour = "black" if means[row, column] > 0.6 else "white"
        axes.text(column, row, f"{100 * means[row, column]:.0f} %", ha="center", va="center", color=colour)
    axes.set_xticks(range(4), ["plain", "skip", "batch norm", "both"], fontsize=9)
    axes.set_yticks(range(4), ["sigmoid\n0.01 N", "sigmoid\nscaled", "ReLU\n0.01 N", "ReLU\nscaled"], fontsize=9)
    axes.set_title("training accuracy, best rate", fontsize=9)


def over(better: str, worse: str = "sigmoid small") -> dict[str, float]:
    """The difference of two cells."""
    return {f"{better}/accuracy": 1, f"{worse}/accuracy": -1}


STUDIES.register("deep-net-remedies")(
    Study(
        claim="Through 30 layers a change of activation alone does not bring a net to learn; scaled weights, batch "
        "normalisation and skips each do, even with sigmoids.",
        claim_ja="30 層のネットワークは、活性化関数を替えるだけでは学習できるようにならない。重みの初期値の調整、"
        "バッチ正規化、スキップ接続は、どれか一つだけで、シグモイド関数のままでも学習を可能にする。",
        correction="The text blames the activation's slope alone, and so has the activation designed. Weights of "
        "0.01 N lose the gradient through ReLU as well; initialisation, normalisation and skips matter as much.",
        correction_ja="教材は、活性化関数の微分だけを原因とし、活性化関数の工夫で対処している。しかし、"
        "重みの標準偏差が 0.01 なら、ReLU でも勾配は消失する。初期値、正規化、スキップ接続も同じくらい重要である。",
        source="items 046, 062; Glorot & Bengio 2010; Ioffe & Szegedy 2015; He et al. 2016",
        settings=Settings(),
        smoke={"depth": 4, "width": 8, "steps": 4, "rates": (0.03,)},
        small={"width": 32, "steps": 70, "rates": (0.01,)},
        small_seeds=4,
        variants=CELLS,
        measure=measure,
        contrasts=(
            Contrast("sigmoids of 0.01 N stay below twice chance", {"sigmoid small/accuracy": -1}, above=-2 * CHANCE),
            Contrast("so do ReLUs of 0.01 N", {"relu small/accuracy": -1}, above=-2 * CHANCE),
            Contrast("scaled weights alone make sigmoids learn", over("sigmoid scaled"), above=CHANCE),
            Contrast("batch normalisation alone does", over("sigmoid small bn"), above=CHANCE),
            Contrast("skips alone do", over("sigmoid small skip"), above=CHANCE),
            Contrast("scaled weights make ReLUs learn", over("relu scaled", "relu small"), above=CHANCE),
        ),
        draw=draw,
        seeds=5,
    )
)
