"""How much of an image is left when blocks of pixels are averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlab.studies.images import SMOKE, Images, built, pictures, trained
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

MARGIN = 4
"""Width of the frame in which images are moved; a multiple of all factors."""


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy of a dense network that sees averages over blocks, and of the same for images moved by one pixel."""
    from torch import nn

    from rlab.studies.supervised import accuracy, network

    data = pictures(settings, seed, MARGIN)
    pool = nn.AvgPool2d(variant)
    pooled = pool(data.x)
    dense = built(lambda: network((pooled[0].numel(), 64, 10), seed=seed), seed)
    trained(dense, pooled, data.y, settings, seed)

    def right_on(x: Any) -> float:
        return accuracy(dense, pool(x), data.y_test)

    still = right_on(data.x_test)
    moved = float(np.mean([right_on(data.x_test.roll(by, axis)) for by in (1, -1) for axis in (2, 3)]))
    return {"still": still, "lost": still - moved, "seen": pooled[0, 0].numpy().round(2)}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, losses by a shift, and the first image at every factor."""
    above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
    left, right = above.subplots(1, 2)
    dots(left, columns(results, "still"), "accuracy")
    dots(right, columns(results, "lost"), "lost by a shift of one pixel")
    for panel, (name, seeds) in zip(below.subplots(1, len(results)), results.items(), strict=True):
        panel.imshow(seeds[0]["seen"], cmap="gray_r", vmin=0)
        panel.set(xticks=[], yticks=[])
        panel.set_title(name, fontsize=8)


STUDIES.register("pooling-factor")(
    Study(
        claim="Averages over blocks of 2x2 pixels keep nearly all that tells classes apart, and bear small shifts "
        "better; blocks of 4x4 lose more, and still leave far more than chance.",
        claim_ja="2x2 画素の平均は、クラスを見分ける情報をほぼすべて残し、小さなずれにも強くなる。"
        "4x4 画素の平均ではより多くの情報が失われるが、それでも偶然よりはるかによく分類できる。",
        source="item 182; LeCun et al. 1998, section II.A",
        settings=Images(),
        smoke=SMOKE,
        small={"train": 1_000, "test": 2_000, "steps": 250},
        small_seeds=6,
        variants={"1x1": 1, "2x2": 2, "4x4": 4},
        measure=measure,
        contrasts=(
            Contrast("2x2 costs less than 5 points", {"2x2/still": 1, "1x1/still": -1}, -0.05),
            Contrast("4x4 costs more than 2x2", {"2x2/still": 1, "4x4/still": -1}),
            Contrast("with 4x4 three times chance remains", {"4x4/still": 1}, 0.3),
            Contrast("a shift costs less with 2x2 than without", {"1x1/lost": 1, "2x2/lost": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
