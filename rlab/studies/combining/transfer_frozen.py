"""A network that knows a related task, trained on: from scratch, with frozen layers, or as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.combining.transfer_matrix import task, trained
from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Handwritten digits: which digit is known, whether it is even is to be learned."""

    data: str = "mnist"
    """`digits` needs no files."""
    source: int = 5_000
    """Examples of the task that is known."""
    sizes: tuple[int, ...] = (20, 100, 500, 2_000)
    """Examples of the other task; the smaller sets are parts of the larger ones."""
    test: int = 5_000
    """Examples; 0: all others."""
    hidden: int = 128
    """Units of each of two hidden layers, which travel."""
    source_updates: int = 2_000
    updates: int = 1_500
    """On the new task."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in %: with fewest examples, with most, with each number of them."""
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, parts

    source, new, test = parts(settings.data, seed, settings.source, settings.sizes[-1], settings.test)
    start = None
    if variant != "scratch":
        start = trained(settings, *source, settings.source_updates, derive(seed, "source"))
    x, y = task("parity", *new, seed)
    errors = []
    for n in settings.sizes:
        model = trained(settings, x[:n], y[:n], settings.updates, seed, start, frozen=variant == "frozen")
        errors.append(100 * (1 - accuracy(model, *task("parity", *test, seed))))
    return {"few": errors[0], "many": errors[-1], "errors": np.round(errors, 3), "sizes": settings.sizes}


def draw(figure: Any, results: Results) -> None:
    """Errors by the number of examples."""
    axes = figure.subplots()
    sizes = results["scratch"][0]["sizes"]
    shown = columns(results, "errors")
    curves(axes, sizes, shown, ("examples of the new task", "even or odd: test error in %"))
    count_ticks(axes, sizes)
    axes.set_ylim(0, None)


STUDIES.register("transfer-frozen")(
    Study(
        claim="A network that knows digits learns even or odd from few examples with fewer errors than one from "
        "scratch, frozen or not; with many examples that gain is smaller, and frozen layers cost.",
        claim_ja="数字を学習済みのネットワークは、層を凍結してもしなくても、ゼロから学習するより少ない誤りで、"
        "少数のデータから偶奇を学習できる。データが多いと利得は小さくなり、層の凍結は不利になる。",
        correction="A text remarks that fine-tuning a published network is not pre-training; its weights are "
        "pre-trained, only not layer by layer as autoencoders were.",
        correction_ja="教材は、公開済みのネットワークのファインチューニングは事前学習ではないとする。"
        "その重みは事前学習されたもので、自己符号化器のような層ごとの事前学習ではないだけである。",
        source="item 150; Yosinski et al. 2014",
        settings=Settings(),
        smoke={"data": "digits", "source": 300, "sizes": (20, 60), "test": 0, "source_updates": 15, "updates": 8},
        small={"data": "digits", "source": 700, "sizes": (20, 500), "test": 0, "source_updates": 300, "updates": 300},
        small_seeds=8,
        variants={"scratch": "scratch", "frozen": "frozen", "whole": "whole"},
        measure=measure,
        contrasts=(
            Contrast("with fewest examples, whole, it beats scratch (points)", {"scratch/few": 1, "whole/few": -1}),
            Contrast("frozen, too (points)", {"scratch/few": 1, "frozen/few": -1}),
            Contrast(
                "with most the gain is smaller (points)",
                {"scratch/few": 1, "whole/few": -1, "scratch/many": -1, "whole/many": 1},
            ),
            Contrast("with most, frozen layers err more (points)", {"frozen/many": 1, "whole/many": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
