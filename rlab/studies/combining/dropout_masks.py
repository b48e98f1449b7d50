"""A new dropout mask for every example, for every batch, or for a whole epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Digits of 8x8 pixels; a network of two hidden layers learns them by heart, wrong labels and all."""

    train: int = 500
    """Training examples; all others are tested on, with right labels."""
    wrong: float = 0.2
    """Share of the training labels that are drawn anew."""
    hidden: int = 256
    """Units of each of two hidden layers."""
    p: float = 0.5
    """Probability to drop a unit."""
    epochs: int = 100
    batch_size: int = 25
    learning_rate: float = 0.02
    """Of SGD with a momentum of 0.9."""


def held_mask(p: float, calls: int) -> Any:
    """A layer like dropout, but with one mask for all examples, which it keeps for `calls` batches."""
    from torch import Tensor, nn

    from rlab.nn.layers import dropout_mask

    class Held(nn.Module):
        """Counts the batches that it has seen in training."""

        calls_made = 0

        def forward(self, x: Tensor) -> Tensor:
            """x[B, D] -> [B, D]."""
            if not self.training:
                return x
            if self.calls_made % calls == 0:
                self.mask = dropout_mask(x[:1], p)
            self.calls_made += 1
            return x * self.mask

    return Held()


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Errors at the end, in %."""
    import torch
    from torch import nn

    from rlab.studies.supervised import accuracy, fit, mislabelled, network, parts

    (x, y), test = parts("digits", seed, settings.train, 0)
    y = mislabelled(y, settings.wrong, seed)
    a_epoch = settings.train // settings.batch_size
    calls = {"batch": 1, "epoch": a_epoch}.get(variant, 0)
    p = 0 if variant == "none" else settings.p
    model = network([64, settings.hidden, settings.hidden, 10], seed=seed, dropout=p)
    for place, layer in enumerate(model):
        if calls and isinstance(layer, nn.Dropout):
            model[place] = held_mask(settings.p, calls)
    optimiser = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
    fit(model, x, y, optimiser, steps=settings.epochs * a_epoch, batch_size=settings.batch_size, seed=seed)
    return {"error": 100 * (1 - accuracy(model, *test)), "training": 100 * (1 - accuracy(model, x, y))}


def draw(figure: Any, results: Results) -> None:
    """Test errors."""
    axes = figure.subplots()
    dots(axes, columns(results, "error"), "test error in %")
    axes.set_xlabel("a new mask for every ...", fontsize=9)


STUDIES.register("dropout-masks")(
    Study(
        claim="Dropout draws new masks for every batch, one for each example; a mask that is kept for a whole epoch "
        "leaves a higher test error.",
        claim_ja="ドロップアウトのマスクは、ミニバッチごとに、データ一つ一つについてサンプリングし直す。"
        "1 エポックの間マスクを固定すると、テスト誤差は大きくなる。",
        correction="A text says that units are removed anew for every epoch; they are for every mini-batch, and for "
        "each example in it.",
        correction_ja="教材は、エポックごとにユニットを除くとする。正しくは、ミニバッチごと、"
        "しかもその中のデータごとである。",
        source="items 129, 130; Srivastava et al. 2014, section 4",
        settings=Settings(),
        smoke={"epochs": 2, "train": 200, "hidden": 64},
        small={"epochs": 40, "hidden": 128},
        small_seeds=6,
        variants={"none": "none", "example": "example", "batch": "batch", "epoch": "epoch"},
        measure=measure,
        contrasts=(
            Contrast("new masks for every example err less than no dropout", {"none/error": 1, "example/error": -1}),
            Contrast("a mask for an epoch errs more than that", {"epoch/error": 1, "example/error": -1}),
        ),
        draw=draw,
        seeds=10,
    )
)
