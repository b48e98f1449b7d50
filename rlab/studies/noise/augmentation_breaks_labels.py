"""Changes that make another digit of a digit, and a check that finds them: a teacher's own confusions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

PAIRS = {"69": (6, 9), "25": (2, 5)}


@dataclass(frozen=True)
class Settings:
    """Half of the images of every batch are changed, their labels stay."""

    data: str = "mnist"
    train: int = 3_000
    test: int = 5_000
    hidden: int = 256
    steps: int = 2_000
    """Updates of 50 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy (%) on 6 and 9, on 2 and 5, on the others; and what this network takes changed test images for.

    `swap_..._turn` is the share (%) of one half of a pair that it takes for the other after a half turn.
    """
    import torch
    from torch import Tensor
    from torch.optim import Adam

    from rlab.seeding import derive
    from rlab.studies.supervised import examples, fit, network

    dice = torch.Generator().manual_seed(derive(seed, "changed"))

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.rand(len(x), 1, 1, 1, generator=dice) < 0.5
        return (torch.where(chosen, x.flip(variant), x) if variant else x), y

    data = examples(settings.data, seed, settings.train, settings.test)
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    adam = Adam(model.parameters(), 2e-3)
    fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=50, seed=seed, change=change)

    def confusion(x: Tensor) -> Any:
        with torch.no_grad():
            predicted = model(x).argmax(1)
        table = torch.bincount(data.y_test * 10 + predicted, minlength=100).view(10, 10)
        return (100 * table / table.sum(1, keepdim=True)).numpy()

    upright, turned, mirrored = (confusion(data.x_test.flip(axes)) for axes in ((), (2, 3), (2,)))
    rest = [digit for digit in range(10) if digit not in (6, 9, 2, 5)]
    right = upright.diagonal()
    return {
        "accuracy_69": right[[6, 9]].mean(),
        "accuracy_25": right[[2, 5]].mean(),
        "accuracy_rest": right[rest].mean(),
        "swap_69_turn": (turned[6, 9] + turned[9, 6]) / 2,
        "swap_25_mirror": (mirrored[2, 5] + mirrored[5, 2]) / 2,
        "swap_any_turn": (turned.sum(1) - turned.diagonal())[rest].mean() / 9,
        **({} if variant else {"turned": np.round(turned, 1)}),
    }


def draw(figure: Any, results: Results) -> None:
    """What training with each change costs which digits, and what the unchanged network takes turned digits for."""
    axes = figure.subplots(1, 2)
    plain = results["none"]
    costs = {
        f"{name}: {digits}": [
            a - b for a, b in zip(column(plain, f"accuracy_{key}"), column(seeds, f"accuracy_{key}"), strict=True)
        ]
        for name, seeds in results.items()
        if name != "none"
        for key, digits in (("69", "6, 9"), ("25", "2, 5"), ("rest", "rest"))
    }
    dots(axes[0], costs, "accuracy lost (points)")
    axes[0].tick_params(axis="x", labelsize=7, rotation=90)
    axes[0].axhline(0, color="black", lw=1, ls=":")
    axes[1].imshow(np.mean(column(plain, "turned"), axis=0), cmap="Blues", vmin=0, vmax=100)
    axes[1].set(xticks=range(10), yticks=range(10))
    axes[1].set_xlabel("taken for (network trained upright)", fontsize=8)
    axes[1].set_ylabel("digit after a half turn", fontsize=8)


STUDIES.register("augmentation-breaks-labels")(
    Study(
        claim="Copies that are no longer what their label says do harm: half turns cost 6 and 9 more than other "
        "digits, and the confusions of a network trained upright tell so beforehand.",
        claim_ja="ラベルと合わなくなる水増しは、害になる。180 度の回転は、"
        "ほかの数字より 6 と 9 の精度を大きく下げる。それは、正立画像で学習したネットワークの混同行列から、"
        "事前に分かる。",
        source="item 119; LeCun et al. 1998; Shorten & Khoshgoftaar 2019",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "hidden": 16, "steps": 30},
        small={"data": "digits", "train": 1_000, "hidden": 64, "steps": 400},
        small_seeds=10,
        variants={"none": [], "half turn": [2, 3], "upside down": [2], "mirror": [3]},
        measure=measure,
        contrasts=(
            Contrast(
                "half turns cost 6 and 9 more than the rest (points)",
                {
                    "none/accuracy_69": 1,
                    "half turn/accuracy_69": -1,
                    "none/accuracy_rest": -1,
                    "half turn/accuracy_rest": 1,
                },
            ),
            Contrast(
                "copies upside down cost 2 and 5 more than the rest (points)",
                {
                    "none/accuracy_25": 1,
                    "upside down/accuracy_25": -1,
                    "none/accuracy_rest": -1,
                    "upside down/accuracy_rest": 1,
                },
            ),
            Contrast("a network trained upright takes a turned 6 for a 9, or back (%)", {"none/swap_69_turn": 1}, 30.0),
            Contrast(
                "and for one certain other digit far more often than the rest are (%)",
                {"none/swap_69_turn": 1, "none/swap_any_turn": -1},
                15.0,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
