"""Dropout behind fully connected layers, on the numbers of feature maps, on whole maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels; two convolutions, each pooled, and a fully connected layer."""

    train: int = 300
    """Training examples; all others are tested on, with right labels."""
    wrong: float = 0.2
    """Share of the training labels that are drawn anew."""
    channels: int = 16
    """Of the first convolution; the second has twice as many."""
    hidden: int = 256
    """Units of the fully connected layer."""
    p: float = 0.5
    """Probability to drop."""
    updates: int = 1_500
    learning_rate: float = 0.02
    """Of SGD with a momentum of 0.9."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The test error in %."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, fit, mislabelled, parts

    (x, y), test = parts("digits", seed, settings.train, 0)
    y = mislabelled(y, settings.wrong, seed)
    c, p = settings.channels, settings.p
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        maps = {"elements": nn.Dropout(p), "maps": nn.Dropout2d(p)}.get(variant, nn.Identity())
        dense = nn.Dropout(p) if variant == "dense" else nn.Identity()
        first = [nn.Conv2d(1, c, 3, padding=1), nn.ReLU(), maps, nn.MaxPool2d(2)]
        second = [nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU(), maps, nn.MaxPool2d(2)]
        top = [nn.Flatten(), nn.Linear(8 * c, settings.hidden), nn.ReLU(), dense, nn.Linear(settings.hidden, 10)]
        model = nn.Sequential(*first, *second, *top)
    optimiser = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
    fit(model, x, y, optimiser, steps=settings.updates, batch_size=25, seed=seed)
    return {"error": 100 * (1 - accuracy(model, *test))}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    axes = figure.subplots()
    dots(axes, columns(results, "error"), "test error in %")
    axes.set_xlabel("what is dropped", fontsize=9)


STUDIES.register("dropout-convolution")(
    Study(
        claim="In a convolutional network dropout of half lowers the test error behind the fully connected layer, and "
        "does more there than on the feature maps.",
        claim_ja="CNN では、50 % のドロップアウトは、全結合層の後で使うとテスト誤差を下げ、"
        "特徴マップに使うよりも効果が大きい。",
        source="item 134; Hinton et al. 2012; Tompson et al. 2015 (whole maps)",
        settings=Settings(),
        smoke={"updates": 15, "train": 100},
        small={"updates": 400, "hidden": 128, "channels": 8},
        small_seeds=5,
        variants={"nothing": "nothing", "dense": "dense", "elements": "elements", "maps": "maps"},
        measure=measure,
        contrasts=(
            Contrast("behind the dense layer it errs less than without", {"nothing/error": 1, "dense/error": -1}),
            Contrast("less than with numbers of maps dropped", {"elements/error": 1, "dense/error": -1}),
            Contrast("less than with whole maps dropped", {"maps/error": 1, "dense/error": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
