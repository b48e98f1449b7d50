"""Normalisations by batch and by example, as batches get small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SIZES = (1, 2, 4, 32)
"""Examples of a batch."""


@dataclass(frozen=True)
class Settings:
    """Two convolutions and a mean over positions, on digits; as many updates for every size."""

    width: int = 32
    """Channels."""
    steps: int = 1_500
    """Updates, by SGD with momentum."""
    rate: float = 0.03
    """Learning rate at 32 examples; of fewer, less by the root of their share."""


def build(settings: Settings, norm: str, seed: int) -> Any:
    """The net; normalisations do not change what is drawn."""
    import torch
    from torch import nn

    from rlab.nn.init import initialise
    from rlab.nn.layers import drawing_from
    from rlab.nn.layers.norm import NORMS
    from rlab.seeding import derive

    make = NORMS.get(norm)
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        model = nn.Sequential(
            make(nn.Conv2d(1, settings.width, 3)), nn.ReLU(),
            make(nn.Conv2d(settings.width, settings.width, 3)), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * settings.width, 10),
        )  # fmt: skip
        initialise(model, "he-normal")
    return model


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy by size of the batch."""
    from rlab.nn.optim import make_optimiser
    from rlab.studies.fitting import accuracy, examples, fit

    data = examples("digits", seed, preprocess="standard")
    found = []
    for size in SIZES:
        model = build(settings, variant["norm"], seed)
        rate = settings.rate * (size / max(SIZES)) ** 0.5
        optimiser = make_optimiser("momentum", model.parameters(), lr=rate)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=size, seed=seed)
        found.append(accuracy(model, data.x_test, data.y_test))
    return {"curve": found} | {f"of_{size}": value for size, value in zip(SIZES, found, strict=True)}


def draw(figure: Any, results: Results) -> None:
    """Accuracy over the size of batches."""
    axes = figure.subplots()
    ways = {name: 100 * np.array(column(seeds, "curve")) for name, seeds in results.items()}
    curves(axes, range(len(SIZES)), ways, ("examples of a batch", "test accuracy (%)"))
    axes.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])


STUDIES.register("small-batch-norms")(
    Study(
        claim="Batch normalisation falls behind layer and group normalisation as batches get as small as one or two "
        "examples; with 32 they are alike.",
        claim_ja="バッチが1〜2例まで小さくなると、バッチ正規化はレイヤー正規化やグループ正規化に後れを取る。"
        "32例あれば、どれも同じようにうまくいく。",
        source="items 087, 089, 090; Ba et al. 2016; Wu & He 2018, section 4.1",
        settings=Settings(),
        smoke={"width": 4, "steps": 2},
        small={"width": 8, "steps": 300},
        small_seeds=5,
        variants={"batch": {"norm": "batch"}, "layer": {"norm": "layer"}, "group": {"norm": "group"}},
        measure=measure,
        contrasts=(
            Contrast("at 1 example layer is ahead by 5 points", {"layer/of_1": 1, "batch/of_1": -1}, above=0.05),
            Contrast("at 2 examples layer is ahead by 5 points", {"layer/of_2": 1, "batch/of_2": -1}, above=0.05),
            Contrast("and so is group", {"group/of_2": 1, "batch/of_2": -1}, above=0.05),
            Contrast("at 32 batch is not 2 points behind layer", {"batch/of_32": 1, "layer/of_32": -1}, above=-0.02),
        ),
        draw=draw,
        seeds=6,
    )
)
