"""How much of a gradient is left, layer by layer, on its way back through a deep net at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A net of equal layers without biases' help, before any training, on standardised digits."""

    depth: int = 50
    """Hidden layers."""
    width: int = 256
    """Units of each."""
    examples: int = 256
    """Digits that the gradient is of."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How many powers of ten the gradient changed by, from the last hidden layer down to each, and a layer's factor."""
    import torch
    from torch import nn

    from rlab.studies.supervised import examples, network

    data = examples("digits", seed, train=settings.examples, preprocess="standard")
    sizes = (64, *[settings.width] * settings.depth, 10)
    model = network(sizes, variant["activation"], seed=seed, init=variant["init"], norm=variant["norm"]).double()
    sums: list[torch.Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data *= variant["gain"]
            layer.register_forward_hook(lambda _, __, out: sums.append(out))
    loss = nn.functional.cross_entropy(model(data.x.double()), data.y)
    norms = np.array([float(g.norm()) for g in torch.autograd.grad(loss, sums[:-1])])
    way = np.log10(norms / norms[-1])
    return {"way": np.round(way, 4), "factor": float(10 ** (way[0] / (len(way) - 1)))}


def draw(figure: Any, results: Results) -> None:
    """The gradient's size over layers."""
    ways = columns(results, "way")
    depth = len(next(iter(ways.values()))[0])
    axes = figure.subplots()
    curves(axes, np.arange(1, depth + 1), ways, ("hidden layer (1: next to the input)", "gradient, power of ten"))
    axes.plot([1, depth], [(depth - 1) * np.log10(0.25), 0], color="black", lw=1, ls=":", label="1/4 a layer")
    axes.legend(fontsize=7)


def start(activation: str, init: str, gain: float = 1.0, norm: str = "none") -> dict[str, Any]:
    """How a variant begins."""
    return {"activation": activation, "init": init, "gain": gain, "norm": norm}


STUDIES.register("vanishing-gradients")(
    Study(
        claim="Sigmoids of ordinary weights shrink a gradient more than fourfold at every layer, tanh and ReLU hardly; "
        "but weights and normalisation decide as much as the slope does.",
        claim_ja="通常の大きさの重みでは、シグモイド関数は 1 層ごとに勾配を 4 分の 1 未満に縮めるが、"
        "tanh と ReLU はほとんど縮めない。ただし、重みと正規化も、"
        "活性化関数の傾きと同じくらい勾配の大きさを左右する。",
        correction="The text gives the slope's maximum of 1/4 as the cause. A layer multiplies a gradient by slope "
        "times weights: 32 times larger weights make it explode through the same sigmoids, batch normalisation "
        "keeps it, and ReLU with Xavier's weights loses it faster than tanh.",
        correction_ja="教材は、微分の最大値が 1/4 であることを原因とする。しかし、1 層が勾配に掛けるのは、"
        "傾きと重みの積である。重みを 32 倍にすると、同じシグモイド関数でも勾配は爆発する。"
        "バッチ正規化を入れれば勾配は保たれ、Xavier の初期値を使った ReLU は tanh より速く勾配を失う。",
        source="items 046, 047, 052; Hochreiter 1991; Glorot & Bengio 2010, section 4; He et al. 2015, section 2.2",
        settings=Settings(),
        smoke={"depth": 6, "width": 16, "examples": 32},
        small={"depth": 20, "width": 64, "examples": 128},
        small_seeds=5,
        variants={
            "sigmoid, Xavier": start("sigmoid", "xavier-normal"),
            "tanh, Xavier": start("tanh", "xavier-normal"),
            "ReLU, Xavier": start("relu", "xavier-normal"),
            "ReLU, He": start("relu", "he-normal"),
            "sigmoid, 32 Xavier": start("sigmoid", "xavier-normal", gain=32.0),
            "sigmoid, batch norm": start("sigmoid", "xavier-normal", norm="batch"),
        },
        measure=measure,
        contrasts=(
            Contrast("a layer of sigmoids leaves less than a quarter", {"sigmoid, Xavier/factor": -1}, above=-0.25),
            Contrast("a layer of tanh leaves more than 4/5", {"tanh, Xavier/factor": 1}, above=0.8),
            Contrast("ReLU of its own weights keeps more than tanh", {"ReLU, He/factor": 1, "tanh, Xavier/factor": -1}),
            Contrast("of tanh's weights it keeps less", {"tanh, Xavier/factor": 1, "ReLU, Xavier/factor": -1}),
            Contrast("large weights: sigmoids enlarge it", {"sigmoid, 32 Xavier/factor": 1}, above=1.0),
            Contrast("normalised sigmoids leave more than 4/5", {"sigmoid, batch norm/factor": 1}, above=0.8),
        ),
        draw=draw,
        seeds=10,
    )
)
