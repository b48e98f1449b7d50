"""The end of a convolutional network: dense layers, or the mean over one map of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, size, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


def make(kind: str, pixels: int) -> Any:
    """A network for images [1, h, w] of so many pixels; that of means takes any height and width."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import unit

    units = [unit(1, 16, 3, 1, 1, nn.ReLU), nn.MaxPool2d(2), unit(16, 32, 3, 1, 1, nn.ReLU)]
    if kind == "mean":
        maps = nn.Sequential(*units, nn.Conv2d(32, 10, 3, padding=1))
        return nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    places = 32 * pixels // 4
    dense = [nn.Linear(places, 64), nn.ReLU(), nn.Linear(64, 10)] if kind == "dense" else [nn.Linear(places, 10)]
    return nn.Sequential(*units, nn.Flatten(), *dense)


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy and weights; of means also how often a class's map has its peak on the image of that class, when that
    and one of another class lie in opposite corners of a canvas.
    """
    import torch
    from torch.nn.functional import pad

    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    side = data.x.shape[2]
    network = built(lambda: make(variant, side * side), seed)
    trained(network, data.x, data.y, settings, seed)
    numbers: dict[str, Any] = {"accuracy": accuracy(network, data.x_test, data.y_test), "weights": size(network)}
    if variant == "mean":
        other = data.y_test.roll(1) != data.y_test
        own, stranger = data.x_test[other], data.x_test.roll(1, 0)[other]
        canvas = pad(own, (side, 0, 0, side)) + pad(stranger, (0, side, side, 0))
        with torch.no_grad():
            heat = network[0](canvas)[torch.arange(len(canvas)), data.y_test[other]]
        half, (rows, columns) = heat.shape[1] // 2, np.divmod(heat.flatten(1).argmax(1).numpy(), heat.shape[2])
        numbers["pointing"] = float(((rows < half) & (columns >= half)).mean())
        numbers |= {"shown": canvas[0, 0].numpy().round(2), "heat": heat[0].numpy().round(2)}
    return numbers


def draw(figure: Any, results: Results) -> None:
    """Accuracies with weights, and one heat map."""
    above, below = figure.subfigures(2, 1)
    groups = {f"{name}\n{seeds[0]['weights']:,} weights": column(seeds, "accuracy") for name, seeds in results.items()}
    dots(above.subplots(), groups, "accuracy")
    first = results["mean"][0]
    panels = below.subplots(1, 2)
    for panel, key, title in zip(
        panels, ("shown", "heat"), ("two classes on a canvas", "map of the upper one's"), strict=True
    ):
        panel.imshow(first[key], cmap="gray_r" if key == "shown" else "inferno")
        panel.set(xticks=[], yticks=[])
        panel.set_title(title, fontsize=9)


STUDIES.register("gap-against-dense")(
    Study(
        claim="A convolutional network needs no dense layer: with the mean over one map of each class it recognises "
        "images about as well, with far fewer weights, and its maps show where the class is.",
        claim_ja="CNN に全結合層は必須ではない。クラスごとに 1 枚のマップの平均を取れば（Global Average Pooling）、"
        "はるかに少ない重みで同じくらいよく認識でき、そのマップはクラスがどこにあるかも示す。",
        correction="One text says that convolution and pooling cannot do the whole and need dense layers; the other "
        "that global average pooling is used instead. The second is right.",
        correction_ja="一方の教材は、畳み込みとプーリングだけでは足りず、全結合層が必要だとする。もう一方の教材は、"
        "代わりに Global Average Pooling を使うとする。後者が正しい。",
        source="items 185, 186, 299; Lin et al. 2014; Zhou et al. 2016",
        settings=Images(steps=600),
        smoke=SMOKE,
        small={**SMALL, "steps": 200},
        small_seeds=6,
        variants={kind: kind for kind in ("dense", "one dense", "mean")},
        measure=measure,
        contrasts=(
            Contrast("without a dense layer most are recognised", {"mean/accuracy": 1}, 0.7),
            Contrast("less than 4 points below dense layers", {"mean/accuracy": 1, "dense/accuracy": -1}, -0.04),
            Contrast("less than a third of the weights", {"dense/weights": 1, "mean/weights": -3}, exact=True),
            Contrast("a class's map peaks on its image, not on another (chance 0.5)", {"mean/pointing": 1}, 0.6),
        ),
        draw=draw,
        seeds=6,
    )
)
