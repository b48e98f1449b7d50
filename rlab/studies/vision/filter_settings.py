"""How many filters, how large, how far apart: one layer of pattern detectors, read by where each responds most."""

from __future__ import annotations

from typing import Any

from rlab.seeding import derive
from rlab.studies.images import SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

CELLS = 3
"""Of what a filter says, the largest value in each of 3x3 parts is kept, whatever the filter's size and stride: a
classifier that was given one number a filter could tell next to nothing of a single one, nor of single pixels."""

BASE = {"filters": 32, "kernel": 5, "stride": 1, "mixed": False}


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy on images that lie anywhere in a frame, and millions of multiply-adds of one."""
    import torch
    from torch import nn
    from torch.nn.functional import pad

    from rlab.nn.models import multiply_adds
    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    side, room = data.x.shape[2], data.x.shape[2] // 4
    generator = torch.Generator().manual_seed(derive(seed, "places"))

    def strewn(x: Any) -> Any:
        rows, columns = torch.randint(0, 2 * room + 1, (2, len(x)), generator=generator).tolist()
        moved = [pad(one, (c, 2 * room - c, r, 2 * room - r)) for one, r, c in zip(x, rows, columns, strict=True)]
        return torch.stack(moved)

    def whole() -> nn.Sequential:
        filters = variant["filters"]
        layers = [nn.Conv2d(1, filters, variant["kernel"] or side, variant["stride"]), nn.ReLU()]
        if variant["mixed"]:
            layers += [nn.Conv2d(filters, filters, 1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(CELLS), nn.Flatten(), nn.Linear(filters * CELLS**2, 10))

    network = trained(built(whole, seed), strewn(data.x), data.y, settings, seed)
    products = multiply_adds(network, (1, side + 2 * room, side + 2 * room)) / 1e6
    return {"accuracy": accuracy(network, strewn(data.x_test), data.y_test), "products": products}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, with what each costs."""
    groups = {}
    for name, seeds in results.items():
        groups[f"{name}\n{seeds[0]['products']:.2g}".replace(" ", "\n")] = column(seeds, "accuracy")
    axes = figure.subplots()
    dots(axes, groups, "accuracy")
    axes.set_xlabel("changed in 32 filters of 5x5; millions of multiply-adds", fontsize=9)


def against(better: str, worse: str, says: str, above: float) -> Contrast:
    """One accuracy less another."""
    return Contrast(says, {f"{better}/accuracy": 1, f"{worse}/accuracy": -1}, above)


STUDIES.register("filter-settings")(
    Study(
        claim="One filter is too few, single pixels are too small and the whole image is too large a filter; a stride "
        "of 2 costs little, one as large as the filter much; and as a second layer 1x1 is useful.",
        claim_ja="フィルタ 1 枚では少なすぎ、1x1 では小さすぎ、画像全体では大きすぎる。"
        "ストライド 2 による損失は小さいが、フィルタと同じ幅のストライドでは大きい。2 層目の 1x1 は役に立つ。",
        correction="The slide finds 1x1 filters useless, large ones blind and strides fine up to the filter's size. On "
        "top of other maps 1x1 mixes channels, as in GoogLeNet and ResNet; a filter of the image's size is a template, "
        "which responds where it fits; and a stride of the filter's size loses accuracy.",
        correction_ja="教材のスライドは、1x1 のフィルタは無用で、大きなフィルタは何にも反応せず、"
        "ストライドはフィルタの大きさまでよいとする。GoogLeNet や ResNet のように、ほかのマップの上の 1x1 は、"
        "チャネルを混ぜ合わせる。画像大のフィルタはテンプレートとして働き、合う所で反応する。"
        "フィルタと同じ幅のストライドは、精度を下げる。",
        source="items 188, 300; Lin et al. 2014; Szegedy et al. 2015",
        settings=Images(steps=800),
        smoke=SMOKE,
        small={"train": 1_000, "test": 1_000, "steps": 200, "batch_size": 32},
        small_seeds=3,
        variants={
            "32 of 5x5": BASE,
            "1 filter": {**BASE, "filters": 1},
            "of 1x1": {**BASE, "kernel": 1},
            "whole image": {**BASE, "kernel": 0},
            "stride 2": {**BASE, "stride": 2},
            "stride 5": {**BASE, "stride": 5},
            "then 1x1": {**BASE, "mixed": True},
        },
        measure=measure,
        contrasts=(
            against("32 of 5x5", "1 filter", "32 filters beat one", 0.1),
            against("32 of 5x5", "of 1x1", "5x5 beats 1x1", 0.1),
            against("32 of 5x5", "whole image", "5x5 beats the whole image", 0.0),
            against("stride 2", "32 of 5x5", "stride 2 costs less than 5 points", -0.05),
            against("32 of 5x5", "stride 5", "stride 5 costs more than 5 points", 0.05),
            against("then 1x1", "32 of 5x5", "1x1 after it helps", 0.0),
        ),
        draw=draw,
        seeds=6,
    )
)
