"""Images that are moved or turned after training: what convolution does, and what only pooling does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ANGLES = (0, 15, 30, 45, 60, 90)


@dataclass(frozen=True)
class Settings(Images):
    """Learned in the middle of an empty frame, judged elsewhere."""

    margin: int = 6
    """Width of the frame, in pixels; how far images are moved at the most."""


def make(kind: str, side: int) -> Any:
    """A network for images [1, side, side]."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import unit

    def conv(inside: int, out: int) -> list[Any]:
        return [unit(inside, out, 3, 1, 1, nn.ReLU)]

    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 64), nn.ReLU(), nn.Linear(64, 10))
    if kind == "conv + dense":
        return nn.Sequential(*conv(1, 8), *conv(8, 8), nn.Flatten(), nn.Linear(8 * side * side, 10))
    halved = [*conv(1, 8), nn.MaxPool2d(2), *conv(8, 16)]
    if kind == "conv + pool + dense":
        return nn.Sequential(*halved, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * (side // 4) ** 2, 10))
    return nn.Sequential(*halved, *conv(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def turned(x: Any, degrees: float) -> Any:
    """Images turned around their middle."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    maps = torch.tensor([[c, -s, 0], [s, c, 0]], dtype=torch.float32).expand(len(x), 2, 3)
    return grid_sample(x, affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy by how far test images are moved (the mean of four directions), and by how far they are turned."""
    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed, settings.margin)
    network = built(lambda: make(variant, data.x.shape[2]), seed)
    trained(network, data.x, data.y, settings, seed)

    def right_on(x: Any) -> float:
        return accuracy(network, x, data.y_test)

    moved = [right_on(data.x_test)]
    for far in range(1, settings.margin + 1):
        ways = [(far, 0), (-far, 0), (0, far), (0, -far)]
        moved.append(float(np.mean([right_on(data.x_test.roll(way, (2, 3))) for way in ways])))
    spun = [right_on(turned(data.x_test, angle)) for angle in ANGLES]
    return {"moved": moved, "turned": spun, "centre": moved[0], "one": moved[1], "two": moved[2], "quarter": spun[-1]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by distance and by angle."""
    left, right = figure.subplots(1, 2, sharey=True)
    moved = columns(results, "moved")
    curves(left, np.arange(len(moved["mlp"][0])), moved, ("moved by, in pixels", "accuracy"))
    curves(right, ANGLES, columns(results, "turned"), ("turned by, in degrees", ""))
    right.legend().remove()


STUDIES.register("shift-tolerance")(
    Study(
        claim="Convolution moves its maps with the image and by itself bears no shift; pooling, above all over the "
        "whole map, makes a network bear shifts, and nothing of it helps against rotation.",
        claim_ja="畳み込みでは、画像がずれると特徴マップも同じだけずれるので、それだけではずれに強くならない。"
        "プーリング、とりわけマップ全体でのプーリングが、ネットワークをずれに強くする。回転にはどれも効かない。",
        correction="The texts say that convolution makes a network invariant to shifts. It is equivariant (the maps "
        "move along, exactly); with a dense layer on top the shift matters as before. Pooling gives the invariance.",
        correction_ja="教材は、畳み込みによってネットワークがずれに対して不変になるとする。畳み込みは、"
        "不変ではなく同変である（マップが正確に同じだけずれる）。後に全結合層を置けば、"
        "ずれは以前と同じように影響する。不変性を与えるのは、プーリングである。",
        source="items 177, 178, 180, 181; LeCun et al. 1998; Lin et al. 2014",
        settings=Settings(steps=500),
        smoke={**SMOKE, "margin": 2},
        small={**SMALL, "margin": 4, "steps": 200},
        small_seeds=4,
        variants={kind: kind for kind in ("mlp", "conv + dense", "conv + pool + dense", "conv + mean")},
        measure=measure,
        contrasts=(
            Contrast("one pixel costs the dense network", {"mlp/centre": 1, "mlp/one": -1}, 0.05),
            Contrast(
                "two pixels cost convolution before a dense layer, too",
                {"conv + dense/centre": 1, "conv + dense/two": -1},
                0.2,
            ),
            Contrast("pooling bears them better", {"conv + pool + dense/two": 1, "conv + dense/two": -1}),
            Contrast("and a mean over maps much better", {"conv + mean/two": 1, "conv + dense/two": -1}, 0.2),
            Contrast("a quarter turn it does not bear", {"conv + mean/centre": 1, "conv + mean/quarter": -1}, 0.3),
        ),
        draw=draw,
        seeds=5,
    )
)
