"""What a dense layer and a convolution cost on large photographs."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Any

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Settings:
    """A colour photograph [3, height, width]; layers are counted, not run."""

    height: int = 3_000
    width: int = 4_000
    units: int = 100
    """Of the dense layer."""
    filters: int = 16
    """Of the convolution, 3x3."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Powers of ten: weights, bytes and multiply-adds of one image, for the photograph and for squares."""
    import torch
    from torch import nn

    from rlab.nn.models import multiply_adds
    from rlab.studies.images import size

    def counts(height: int, width: int) -> tuple[float, float]:
        if variant == "the same maps":  # as many outputs as the convolution has; too many for torch to say
            pairs = 3 * height * width * settings.filters * height * width
            return log10(pairs + settings.filters * height * width), log10(pairs)
        with torch.device("meta"):
            flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, settings.units))
            layer = flat if variant == "dense" else nn.Conv2d(3, settings.filters, 3, padding=1)
        return log10(size(layer)), log10(multiply_adds(layer, (3, height, width)))

    weights, products = counts(settings.height, settings.width)
    squares = [counts(side, side) for side in SIDES]
    return {"weights": weights, "products": products, "bytes": weights + log10(4), "squares": squares}


def draw(figure: Any, results: Results) -> None:
    """Weights and products by the side of the image."""
    axes = figure.subplots(1, 2, sharey=True)
    for k, (panel, what) in enumerate(zip(axes, ("weights", "multiply-adds of an image"), strict=True)):
        ways = {n: [[10 ** side[k] for side in s] for s in column(seeds, "squares")] for n, seeds in results.items()}
        curves(panel, SIDES, ways, ("height and width, in pixels", ""))
        panel.set(xscale="log", yscale="log")
        panel.set_title(what, fontsize=9)


STUDIES.register("weights-of-flattening")(
    Study(
        claim="On a photograph of 36 million numbers a dense layer of 100 units has 3.6 thousand million weights and "
        "a convolution 448; what convolution spares is weights: multiplications it makes even more.",
        claim_ja="3600 万個の数値からなる写真に対して、100 ユニットの全結合層の重みは 36 億個、"
        "畳み込み層の重みは 448 個である。畳み込みが節約するのは重みで、乗算の回数はかえって多い。",
        correction="The slide says that flattening such a photograph is too slow. A convolution of 16 filters makes "
        "more multiplications than those 100 units; only against a dense layer with the same outputs it makes fewer.",
        correction_ja="教材のスライドは、このような写真を 1 次元に並べると遅すぎるとする。"
        "16 枚のフィルタの畳み込みは、100 ユニットの全結合層より乗算が多い。少なくなるのは、"
        "同じ出力数の全結合層と比べたときだけである。",
        source="item 184; LeCun et al. 1998, section II",
        settings=Settings(),
        smoke={"height": 300, "width": 400},
        small_seeds=3,
        variants={kind: kind for kind in ("dense", "convolution", "the same maps")},
        measure=measure,
        contrasts=(
            Contrast(
                "a million times fewer weights, in powers of ten",
                {"dense/weights": 1, "convolution/weights": -1},
                6,
                exact=True,
            ),
            Contrast("more than 10 GB for the dense layer", {"dense/bytes": 1}, 10, exact=True),
            Contrast(
                "the convolution makes more products", {"convolution/products": 1, "dense/products": -1}, exact=True
            ),
            Contrast(
                "a dense layer with the same maps a million times more",
                {"the same maps/products": 1, "convolution/products": -1},
                6,
                exact=True,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
