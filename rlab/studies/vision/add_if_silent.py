"""The Neocognitron beside a convolutional network of the same layout: two rules of learning, two kinds of cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.seeding import derive
from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SIDE, FRAME = 16, 2
"""Images are brought to 16x16, in a frame of 2 pixels in which they can be moved."""

INHIBITIONS = (2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Settings(Images):
    """A linear layer by Adam reads the features of all."""

    seen: int = 200
    """Images that add cells; they are looked at once, without their classes."""


def features(settings: Settings, kind: str, x: Any, y: Any, seed: int) -> Any:
    """(encoder without gradients, cells in use by the first stage's inhibition), as `kind` learns it."""
    import torch
    from torch import nn

    from rlab.nn.encoders.neocognitron import LAYOUTS, Neocognitron, Stage, bump

    network = Neocognitron(tuple(x.shape[1:]))
    order = torch.Generator().manual_seed(derive(seed, "order"))
    if kind == "add-if-silent":
        network.learn(x[: settings.seen], order)
        cells = []
        for inhibition in INHIBITIONS:
            stage = Stage(1, LAYOUTS[0]._replace(planes=200, inhibition=inhibition), network.windows[0])
            cells.append(sum(stage.learn(one[None]) for one in x[: settings.seen // 4]))
        return network, cells

    def convolutional() -> nn.Sequential:
        layers: list[nn.Module] = []
        channels = 1
        for layout, window in zip(LAYOUTS, network.windows, strict=True):
            planes = layout.planes
            blur = nn.Conv2d(planes, planes, window.kernel, window.stride, window.padding, groups=planes, bias=False)
            blur.weight.data[:] = bump(window.kernel)
            layers += [nn.Conv2d(channels, planes, 5, padding=2, bias=False), nn.ReLU(), blur.requires_grad_(False)]
            channels = planes
        return nn.Sequential(*layers, nn.Flatten())

    same = built(convolutional, seed)
    if kind == "gradient":
        classes = built(lambda: nn.Linear(network.out_dim, 10), seed)
        trained(nn.Sequential(same, classes), x, y, settings, seed)
    return same, []


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy in place and moved by 2 pixels both ways; what is left of the first cells in half the light."""
    import torch
    from torch import nn
    from torch.nn.functional import interpolate, pad

    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)
    x, x_test = (pad(interpolate(images, size=SIDE, mode="bilinear"), (FRAME,) * 4) for images in (data.x, data.x_test))
    numbers: dict[str, Any] = {}
    encoder: nn.Module = nn.Flatten()
    if variant != "pixels":
        encoder, cells = features(settings, variant, x, data.y, seed)
        if cells:
            numbers["cells"] = cells
            numbers["added"] = cells[-1] - cells[0]
    with torch.no_grad():
        train, test, moved = (encoder(images) for images in (x, x_test, x_test.roll((2, 2), (2, 3))))
        if variant != "pixels":
            first = encoder.stages[0].s_cells if variant == "add-if-silent" else encoder[:2]  # type: ignore
            numbers["half light"] = float(first(x_test / 2).norm() / first(x_test).norm())
    readout = built(lambda: nn.Sequential(nn.BatchNorm1d(train.shape[1]), nn.Linear(train.shape[1], 10)), seed)
    trained(readout, train, data.y, settings, seed)
    return numbers | {name: accuracy(readout, z, data.y_test) for name, z in (("still", test), ("moved", moved))}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and cells by inhibition."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    groups = {}
    for number in ("still", "moved"):
        for name, seeds in results.items():
            groups[f"{name}\n{number}".replace("-", "-\n").replace(" ", "\n")] = column(seeds, number)
    dots(left, groups, "accuracy")
    left.tick_params(axis="x", labelsize=6)
    silent = {"first stage": column(results["add-if-silent"], "cells")}
    curves(right, INHIBITIONS, silent, ("inhibition r", "planes of cells that were added"))


STUDIES.register("add-if-silent")(
    Study(
        claim="Cells that are added where all are silent tell digits apart without any gradient and bear shifts, more "
        "of them the more selective they are; the same layout of plain convolutions is another network.",
        claim_ja="すべての細胞が反応しないときに細胞を追加する学習則（add-if-silent）は、勾配なしで数字を見分け、"
        "ずれにも強い。選択性が高いほど、細胞は増える。同じ配置の通常の畳み込みとは、別のネットワークである。",
        correction="The text sees no structural difference between the Neocognitron and LeNet. Its S-cells divide by "
        "inhibition, so that their answer hardly depends on brightness, where a convolution's is proportional to it. "
        "Add-if-silent is of 2013; the network of 1980 learned by competition alone.",
        correction_ja="教材は、ネオコグニトロンと LeNet に構造上の違いはないとする。しかし、"
        "S 細胞は抑制によって割り算をするので、応答は明るさにほとんど依存しない。畳み込みの応答は、"
        "明るさに比例する。add-if-silent は 2013 年のもので、1980 年のネットワークは競合だけで学習した。",
        source="items 192, 194, 195; Fukushima 1980; Fukushima 2013; LeCun et al. 1998",
        settings=Settings(data="mnist", steps=500),
        smoke={**SMOKE, "seen": 8},
        small={**SMALL, "steps": 120, "batch_size": 24, "seen": 60},
        small_seeds=5,
        variants={kind: kind for kind in ("pixels", "add-if-silent", "random kernels", "gradient")},
        measure=measure,
        contrasts=(
            Contrast("without gradients most digits are recognised", {"add-if-silent/still": 1}, 0.8),
            Contrast("moved digits better than by pixels", {"add-if-silent/moved": 1, "pixels/moved": -1}, 0.1),
            Contrast("more inhibition, more cells", {"add-if-silent/added": 1}),
            Contrast("gradients find better features", {"gradient/still": 1, "add-if-silent/still": -1}),
            Contrast(
                "in half the light an S-cell keeps more of its answer",
                {"add-if-silent/half light": 1, "gradient/half light": -1},
                0.2,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
