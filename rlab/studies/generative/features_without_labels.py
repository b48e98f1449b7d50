"""A classifier that starts from an autoencoder of examples without labels, by how many have one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Two hidden layers below a softmax, on pictures of which few have labels."""

    data: str = "mnist"
    """The pictures."""
    train: int = 20_000
    """Examples without labels."""
    labels: tuple[int, ...] = (50, 200, 2_000)
    """Of them have a label; the smaller sets are parts of the larger ones."""
    test: int = 0
    """Test examples; 0: all."""
    widths: tuple[int, ...] = (500, 200)
    """Units of the hidden layers."""
    steps: int = 8_000
    """Updates of the autoencoder, of 64 examples."""
    updates: int = 1_000
    """Of the classifier."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of the test examples that are right: with fewest labels, with most, with each number of them."""
    import torch
    from torch import nn

    from rlab.seeding import derive
    from rlab.studies.autoencoders import autoencoder, train
    from rlab.studies.supervised import accuracy, examples, fit

    data = examples(settings.data, seed, settings.train, settings.test, "")
    name = "-".join(map(str, ("mlp", *settings.widths)))
    stacked: Any = autoencoder(name, data.x.shape[1:], 0, seed)
    if variant["learned"]:
        train(stacked, data.x, settings.steps, seed, rate=1e-3, noise=0.3)
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(derive(seed, "labels")))
    right = []
    for count in settings.labels:
        encoder = copy.deepcopy(stacked.encoder)
        encoder.requires_grad_(not variant["frozen"])
        head = nn.Linear(settings.widths[-1], 10)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        model = nn.Sequential(encoder, head)
        learning = [p for p in model.parameters() if p.requires_grad]
        few = order[:count]
        adam = torch.optim.Adam(learning, 1e-3)
        size = min(64, count)
        fit(model, data.x[few], data.y[few], adam, steps=settings.updates, batch_size=size, seed=seed)
        right.append(100 * accuracy(model, data.x_test, data.y_test))
    return {"right": np.round(right, 3), "few": right[0], "many": right[-1], "labels": settings.labels}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by the number of labels."""
    axes = figure.subplots()
    counts = results["scratch"][0]["labels"]
    curves(axes, counts, columns(results, "right"), ("labels", "test accuracy in percent"))
    count_ticks(axes, counts)


STUDIES.register("features-without-labels")(
    Study(
        claim="The encoder of an autoencoder, learned without labels, makes a classifier better that has few labels, "
        "frozen against a random one and trained on against one from scratch; with many labels the gain is smaller.",
        claim_ja="ラベルなしで学習した自己符号化器のエンコーダは、ラベルの少ない分類器を改善する。"
        "凍結すればランダムなエンコーダより、ファインチューニングすればゼロからの学習よりよい。ラベルが多いと、"
        "利得は小さくなる。",
        source="items 160, 162, 164; Bengio et al. 2007; Erhan et al. 2010",
        settings=Settings(),
        smoke={
            "data": "digits",
            "train": 100,
            "labels": (20, 40),
            "test": 50,
            "widths": (12, 8),
            "steps": 6,
            "updates": 5,
        },
        small={
            "data": "digits",
            "train": 0,
            "labels": (30, 1_000),
            "widths": (100, 40),
            "steps": 1_500,
            "updates": 300,
        },
        small_seeds=8,
        variants={
            "scratch": {"learned": False, "frozen": False},
            "random, frozen": {"learned": False, "frozen": True},
            "learned, frozen": {"learned": True, "frozen": True},
            "learned, trained on": {"learned": True, "frozen": False},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "few labels, trained on: better than scratch (points)",
                {"learned, trained on/few": 1, "scratch/few": -1},
            ),
            Contrast(
                "few labels, frozen: better than random (points)", {"learned, frozen/few": 1, "random, frozen/few": -1}
            ),
            Contrast(
                "with many the gain is smaller (points)",
                {
                    "learned, trained on/few": 1,
                    "scratch/few": -1,
                    "learned, trained on/many": -1,
                    "scratch/many": 1,
                },
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
