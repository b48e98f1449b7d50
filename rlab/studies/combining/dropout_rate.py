"""How many units to drop: from none to nine of ten, and of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Handwritten digits; a network of two hidden layers learns them by heart, wrong labels and all."""

    data: str = "mnist"
    """`digits` needs no files."""
    train: int = 1_000
    test: int = 10_000
    """Examples; 0: all that are not trained on."""
    wrong: float = 0.2
    """Share of the training labels that are drawn anew."""
    hidden: int = 256
    """Units of each of two hidden layers."""
    updates: int = 3_000
    batch_size: int = 25
    learning_rate: float = 0.02
    """Of SGD with a momentum of 0.9."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The test error in %."""
    import torch
    from torch import nn

    from rlab.studies.supervised import accuracy, fit, mislabelled, network, parts

    (x, y), test = parts(settings.data, seed, settings.train, settings.test)
    y = mislabelled(y, settings.wrong, seed)
    sizes = [x[0].numel(), settings.hidden, settings.hidden, 10]
    model = network(sizes, seed=seed, dropout=variant["hidden"])
    model.insert(0, nn.Dropout(variant["input"]))
    optimiser = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
    fit(model, x, y, optimiser, steps=settings.updates, batch_size=settings.batch_size, seed=seed)
    return {"error": 100 * (1 - accuracy(model, *test))}


def draw(figure: Any, results: Results) -> None:
    """Test errors by rate."""
    axes = figure.subplots()
    shown = {name.replace("input-", "0.5, in "): column(seeds, "error") for name, seeds in results.items()}
    dots(axes, shown, "test error in %")
    axes.set_yscale("log")
    axes.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.set_xlabel("probability to drop a hidden unit (in: an input, too)", fontsize=9)


RATES = {str(p): {"hidden": p, "input": 0.0} for p in (0.0, 0.3, 0.5, 0.7, 0.9)}

STUDIES.register("dropout-rate")(
    Study(
        claim="Dropping half of the hidden units lowers the test error of a network that over-fits, and dropping "
        "three of ten does most of that; nine of ten are too many, and half of the inputs, too.",
        claim_ja="過学習するネットワークでは、隠れユニットの半分をドロップするとテスト誤差が下がり、"
        "3 割でもその効果の大半が得られる。9 割は多すぎる。入力の半分をドロップするのも多すぎる。",
        correction="The text has about 50 % as generally effective; that is for hidden layers, where the rate matters "
        "little around it. For inputs 20 % is usual, in Transformers 10 %.",
        correction_ja="教材は、一般に 50 % 程度が有効とする。それは隠れ層の場合で、その前後では割合の影響は小さい。"
        "入力では 20 %、Transformer では 10 % がよく使われる。",
        source="items 132, 133; Srivastava et al. 2014, section 7.3 and appendix A",
        settings=Settings(),
        smoke={"data": "digits", "train": 200, "test": 0, "updates": 15, "hidden": 64},
        small={"data": "digits", "train": 500, "test": 0, "updates": 700, "hidden": 128},
        small_seeds=5,
        variants=RATES | {"input-0.2": {"hidden": 0.5, "input": 0.2}, "input-0.5": {"hidden": 0.5, "input": 0.5}},
        measure=measure,
        contrasts=(
            Contrast("a half errs less than none", {"0.0/error": 1, "0.5/error": -1}),
            Contrast(
                "0.3 saves more than half of what 0.5 does (points)",
                {"0.0/error": 0.5, "0.5/error": 0.5, "0.3/error": -1},
            ),
            Contrast("0.9 errs more than 0.5", {"0.9/error": 1, "0.5/error": -1}),
            Contrast("half of the inputs, too, errs more than 0.2", {"input-0.5/error": 1, "input-0.2/error": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
