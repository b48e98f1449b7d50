"""Whether errors on test images must rise in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.images import Images, built, pictures
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 15


@dataclass(frozen=True)
class Settings(Images):
    """A dense network, trained long after it knows its images by heart."""

    noise: float = 0.2
    """Share of the training images with a random class, where there is noise."""
    decay: float = 0.2
    """Of AdamW, where there is weight decay."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The way of test loss and test error, and how far the ends lie above the lowest points."""
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.data.augment import augment, parse
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, fit, network

    data = pictures(settings, seed)
    generator = torch.Generator().manual_seed(derive(seed, "noise"))
    y = data.y.clone()
    if "noise" in variant:
        wrong = torch.rand(len(y), generator=generator) < settings.noise
        y[wrong] = torch.randint(10, (int(wrong.sum()),), generator=generator)
    dense = built(lambda: network((data.x[0].numel(), 128, 10), seed=seed), seed)
    decay = settings.decay if "decay" in variant else 0.0
    optimiser = make_optimiser("adamw", dense.parameters(), lr=settings.learning_rate, weight_decay=decay)
    shifts = parse("crop:1")

    def changed(x: Any, y: Any) -> Any:
        return (augment(x, shifts, generator).images, y) if "shifts" in variant else (x, y)

    def look() -> tuple[float, float]:
        loss = float(cross_entropy(dense(data.x_test), data.y_test))
        return loss, 1 - accuracy(dense, data.x_test, data.y_test)

    curve = fit(
        dense, data.x, y, optimiser, steps=settings.steps, batch_size=settings.batch_size, seed=seed, change=changed,
        look=look, points=POINTS,
    )  # fmt: skip
    loss, error = np.array(curve).T
    return {"loss": loss, "error": error, "loss rise": loss[-1] - loss.min(), "rise": error[-1] - error.min()}


def draw(figure: Any, results: Results) -> None:
    """Both ways."""
    panels = figure.subplots(1, 2)
    for panel, number in zip(panels, ("loss", "error"), strict=True):
        ways = columns(results, number)
        curves(panel, (np.arange(POINTS) + 1) / POINTS, ways, ("part of training", f"test {number}"))
    panels[1].legend().remove()


STUDIES.register("overfitting-not-inevitable")(
    Study(
        claim="Test errors rise in the end where classes are noisy and a network learns them by heart; with true "
        "classes the share of errors does not rise, and shifts and weight decay keep it from rising with noise, too.",
        claim_ja="ラベルにノイズがあり、ネットワークがそれを暗記すると、テスト誤差は最後に上がる。"
        "ラベルが正しければ、誤り率は上がらない。ノイズがあっても、"
        "平行移動によるデータ拡張と重み減衰を使えば上がらない。",
        correction="The text calls the rise of test errors towards the right inevitable. It depends on noise, size and "
        "regularisation; and where the loss rises, the share of errors often does not.",
        correction_ja="教材は、テスト誤差の右上がりを避けられないものとする。それは、ノイズ、規模、正則化による。"
        "また、損失が上がっても、誤り率は上がらないことが多い。",
        source="item 301; Zhang et al. 2017; Nakkiran et al. 2020",
        settings=Settings(train=1_000, steps=2_000),
        smoke={"data": "digits", "train": 80, "test": 60, "steps": 30, "batch_size": 32},
        small={"data": "digits", "train": 400, "test": 0, "steps": 600},
        small_seeds=8,
        variants={
            "true classes": [],
            "noise": ["noise"],
            "noise, shifts, decay": ["noise", "shifts", "decay"],
        },
        measure=measure,
        contrasts=(
            Contrast("with noise errors rise by more than 2 points", {"noise/rise": 1}, 0.02),
            Contrast("with true classes by less than 2 points", {"true classes/rise": -1}, -0.02),
            Contrast("shifts and decay halve the rise with noise", {"noise/rise": 1, "noise, shifts, decay/rise": -2}),
        ),
        draw=draw,
        seeds=8,
    )
)
