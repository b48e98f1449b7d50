"""Mixed images with mixed labels, where some labels are wrong: what is learned by heart, and what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 8


@dataclass(frozen=True)
class Settings:
    """A part of the training labels is drawn anew; the network is large enough to learn them by heart."""

    data: str = "mnist"
    train: int = 1_000
    test: int = 5_000
    wrong: float = 0.4
    """Part of the labels that is drawn from the other classes."""
    hidden: int = 512
    steps: int = 4_000
    """Updates of 50 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy and the part (%) of the wrong labels that are learned by heart, over the training."""
    import torch
    from torch.optim import Adam

    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    dice = torch.Generator().manual_seed(derive(seed, "labels"))
    wrong = torch.rand(len(data.y), generator=dice) < settings.wrong
    other = (data.y + torch.randint(1, 10, data.y.shape, generator=dice)) % 10
    labels = torch.where(wrong, other, data.y)
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    way = fit(
        model,
        data.x,
        labels,
        Adam(model.parameters(), 2e-3),
        steps=settings.steps,
        batch_size=50,
        seed=seed,
        augmented=variant,
        look=lambda: [
            100 * accuracy(model, data.x_test, data.y_test),
            100 * accuracy(model, data.x[wrong], labels[wrong]),
        ],
        points=POINTS,
    )
    tests, learned = (list(numbers) for numbers in zip(*way, strict=True))
    return {"tests": tests, "learned": learned, "test": tests[-1], "by_heart": learned[-1]}


def draw(figure: Any, results: Results) -> None:
    """Both over the training."""
    axes = figure.subplots(1, 2)
    parts = (np.arange(POINTS) + 1) / POINTS
    for panel, name, label in (
        (axes[0], "tests", "test accuracy (%)"),
        (axes[1], "learned", "wrong labels learned by heart (%)"),
    ):
        ways = columns(results, name)
        curves(panel, parts, ways, ("part of the training", label))


STUDIES.register("mixup-corrupt-labels")(
    Study(
        claim="Where labels are partly wrong, mixing images with their labels keeps a network from learning them by "
        "heart and raises its accuracy.",
        claim_ja="ラベルの一部が誤っているとき、画像をラベルとともに混ぜ合わせると（mixup）、"
        "ネットワークは誤ったラベルを暗記しなくなり、精度が上がる。",
        correction="This lasts as long as wrong labels are not all learned by heart: in 200 passes over 1,000 images "
        "a dense network learns all of them with mixing, too, and is then less accurate than without.",
        correction_ja="誤ったラベルがまだすべて暗記されていない間に限られる。1,000 枚の画像を 200 回繰り返すと、"
        "全結合ネットワークは mixup を使ってもすべて暗記し、使わない場合より精度が低くなる。",
        source="items 106, 123; Zhang et al. 2018, section 3.4",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 16},
        small={"data": "digits", "train": 300, "hidden": 128, "steps": 600},
        small_seeds=6,
        variants={"as they are": "", "mixup 0.4": "mixup:0.4", "mixup 4": "mixup:4"},
        measure=measure,
        contrasts=(
            Contrast(
                "fewer wrong labels are learned by heart (points)",
                {"as they are/by_heart": 1, "mixup 4/by_heart": -1},
                trials=120,  # wrong labels at the least
                span=(0, 100),
            ),
            Contrast("test accuracy is higher (points)", {"mixup 4/test": 1, "as they are/test": -1}),
            Contrast("strong mixing helps more than weak (points)", {"mixup 4/test": 1, "mixup 0.4/test": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
