"""How numbers spread, layer by layer, in a deep net at its start: by activation and size of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Standardised digits through equal layers."""

    depth: int = 30
    """Hidden layers."""
    width: int = 512
    """Units of each."""
    examples: int = 512
    """Digits."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Deviation over examples of each layer's outputs (power of ten, in the mean over units), and how many of the
    last layer's are within a twentieth of an end of the activation's range."""
    import torch
    from torch import nn

    from rlab.studies.supervised import examples, network

    data = examples("digits", seed, train=settings.examples, preprocess="standard")
    model = network(
        (64, *[settings.width] * settings.depth, 10), variant["activation"], seed=seed, init=variant["init"]
    )
    out, way = data.x, list[float]()
    with torch.no_grad():
        for layer in list(model)[:-1]:
            if isinstance(layer, nn.Linear):
                layer.weight *= variant["gain"]
                if variant["centred"] and way:  # what a mean of 1/2 adds is taken off
                    layer.bias.copy_(-layer.weight.sum(1) / 2)
            out = layer(out)
            if not isinstance(layer, nn.Linear | nn.Flatten):
                way.append(float(np.log10(max(float(out.std(0).square().mean().sqrt()), 1e-30))))
    low, high = (0.05, 0.95) if variant["activation"] == "sigmoid" else (-0.95, 0.95)
    saturated = float(((out < low) | (out > high)).float().mean())
    return {"way": np.round(way, 4), "kept": way[-1] - way[0], "saturated": saturated}


def draw(figure: Any, results: Results) -> None:
    """Deviations over layers, a panel an activation."""
    panels = figure.subplots(2, 2).flatten()
    for axes, activation in zip(panels, ("tanh", "ReLU", "sigmoid"), strict=False):
        ways = {n.split(", ")[1]: column(s, "way") for n, s in results.items() if n.startswith(activation)}
        depth = len(next(iter(ways.values()))[0])
        curves(axes, np.arange(1, depth + 1), ways, ("hidden layer", "deviation (power of ten)"))
        axes.set_title(activation, fontsize=9)
        axes.set_ylim(-6, 3.5)
        axes.legend(fontsize=6)
    panels[3].axis("off")


def start(activation: str, init: str, gain: float = 1.0, centred: bool = False) -> dict[str, Any]:
    """How a variant begins; "normal" is 0.01 N."""
    return {"activation": activation, "init": init, "gain": gain, "centred": centred}


STUDIES.register("signals-over-depth")(
    Study(
        claim="Weights scaled to the layer's size keep signals alive through depth: Xavier's for tanh, He's for ReLU; "
        "sigmoids take four times Xavier's and biases that centre them.",
        claim_ja="層の大きさに合わせた初期値は、深い層まで信号を保つ。tanh には Xavier の初期値、"
        "ReLU には He の初期値が合う。シグモイド関数には、Xavier の 4 倍の重みと、平均を打ち消すバイアスが要る。",
        correction="The text gives Xavier's weights to sigmoids. They are derived for units of mean 0 and slope 1; a "
        "sigmoid's slope is 1/4 and its mean 1/2, so they let it fade. Four times as large, they keep it only once the "
        "mean's share is taken off the next layer. (And the text's 'smallest value' is a misprint for 'initial "
        "value'.)",
        correction_ja="教材は、シグモイド関数に Xavier の初期値を勧める。これは、平均 0、"
        "傾き 1 のユニットについて導かれたものである。シグモイド関数の傾きは 1/4、平均は 1/2 なので、"
        "信号は減衰する。重みを 4 倍にし、さらに次の層で平均の分を打ち消して、初めて保たれる。"
        "（教材の「最小値」は「初期値」の誤植である。）",
        source="items 085, 086; Glorot & Bengio 2010, section 4.2; He et al. 2015, section 2.2",
        settings=Settings(),
        smoke={"depth": 4, "width": 16, "examples": 32},
        small={"depth": 15, "width": 128, "examples": 256},
        small_seeds=8,
        variants={
            "tanh, 0.01 N": start("tanh", "normal"),
            "tanh, 1 N": start("tanh", "normal", gain=100.0),
            "tanh, Xavier": start("tanh", "xavier-normal"),
            "ReLU, 0.01 N": start("relu", "normal"),
            "ReLU, 1 N": start("relu", "normal", gain=100.0),
            "ReLU, Xavier": start("relu", "xavier-normal"),
            "ReLU, He": start("relu", "he-normal"),
            "sigmoid, 1 N": start("sigmoid", "normal", gain=100.0),
            "sigmoid, Xavier": start("sigmoid", "xavier-normal"),
            "sigmoid, 4 Xavier": start("sigmoid", "xavier-normal", gain=4.0),
            "sigmoid, 4 Xavier centred": start("sigmoid", "xavier-normal", gain=4.0, centred=True),
        },
        measure=measure,
        contrasts=(
            Contrast("tanh, 0.01 N: less than 1/1000 is left", {"tanh, 0.01 N/kept": -1}, above=3.0),
            Contrast("tanh, 1 N: over half is saturated", {"tanh, 1 N/saturated": 1}, above=0.5),
            Contrast("tanh, Xavier: over a tenth is left", {"tanh, Xavier/kept": 1}, above=-1.0),
            Contrast("ReLU, He: over a tenth is left", {"ReLU, He/kept": 1}, above=-1.0),
            Contrast("sigmoid, Xavier: less than 1/1000 is left", {"sigmoid, Xavier/kept": -1}, above=3.0),
            Contrast("sigmoid, 4 Xavier not centred: less than 1/30", {"sigmoid, 4 Xavier/kept": -1}, above=1.5),
            Contrast(
                "sigmoid, 4 Xavier: centred, over a tenth is left", {"sigmoid, 4 Xavier centred/kept": 1}, above=-1.0
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
