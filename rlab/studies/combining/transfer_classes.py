"""A network that knows other classes, trained on: from scratch, frozen, or as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Handwritten digits: 0 to 4 are known, 5 to 9 are to be learned from few examples."""

    data: str = "mnist"
    """`digits` needs no files."""
    source: int = 5_000
    """Examples of 0 to 9, of which 0 to 4 are learned from first."""
    sizes: tuple[int, ...] = (10, 30, 100, 300, 1_000)
    """Examples of 5 to 9; the smaller sets are parts of the larger ones."""
    test: int = 4_000
    """Examples of 5 to 9; 0: all others."""
    hidden: int = 128
    """Units of each of two hidden layers, which travel."""
    source_updates: int = 2_000
    updates: int = 1_000
    """On the new classes."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in %: with fewest examples, with most, with each number of them."""
    import torch

    from rlab.seeding import derive
    from rlab.studies.fitting import accuracy, fit, network, parts

    def train(model: Any, x: Any, y: Any, updates: int) -> None:
        learned = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(learned, lr=0.02, momentum=0.9)
        fit(model, x, y, optimiser, steps=updates, batch_size=min(25, len(x)), seed=seed)

    (x, y), (x_new, y_new) = parts(settings.data, seed, settings.source, 0)
    layers = [x[0].numel(), settings.hidden, settings.hidden, 5]
    known = network(layers, seed=derive(seed, "source"))
    if variant != "scratch":
        train(known, x[y < 5], y[y < 5], settings.source_updates)
    x_new, y_new = x_new[y_new >= 5], y_new[y_new >= 5] - 5
    most = settings.sizes[-1]
    end = most + settings.test if settings.test else len(y_new)
    errors = []
    for n in settings.sizes:
        model = network(layers, seed=seed)
        if variant != "scratch":
            model[:-1].load_state_dict(known[:-1].state_dict())
            model[:-1].requires_grad_(variant == "whole")
        train(model, x_new[:n], y_new[:n], settings.updates)
        errors.append(100 * (1 - accuracy(model, x_new[most:end], y_new[most:end])))
    return {"few": errors[0], "many": errors[-1], "errors": np.round(errors, 3), "sizes": settings.sizes}


def draw(figure: Any, results: Results) -> None:
    """Errors by the number of examples."""
    axes = figure.subplots()
    sizes = results["scratch"][0]["sizes"]
    shown = {name: column(seeds, "errors") for name, seeds in results.items()}
    curves(axes, sizes, shown, ("examples of 5 to 9", "test error on 5 to 9 in %"))
    axes.set(xscale="log", yscale="log")


STUDIES.register("transfer-classes")(
    Study(
        claim="A network that was trained on the digits 0 to 4 learns 5 to 9 from few examples with fewer errors than "
        "one from scratch; with many examples that gain is small, and frozen layers cost.",
        claim_ja="数字0〜4で学習したネットワークは、5〜9を少数の例から学ぶとき、最初から学習するより誤りが少ない。例が"
        "多いと利得は小さくなり、層を凍結したままでは損になる。",
        correction="A text remarks that fine-tuning a published network is not pre-training; its weights are "
        "pre-trained, only not layer by layer as autoencoders were.",
        correction_ja="テキストは公開済みモデルの転用を「事前学習ではない」というが、その重みは事前学習されたものである"
        "。区別されているのは層ごとの事前学習のことである。",
        source="item 150; Yosinski et al. 2014",
        settings=Settings(),
        smoke={"data": "digits", "source": 300, "sizes": (10, 50), "test": 0, "source_updates": 20, "updates": 10},
        small={
            "data": "digits",
            "source": 900,
            "sizes": (10, 40, 200),
            "test": 0,
            "source_updates": 400,
            "updates": 300,
        },
        small_seeds=6,
        variants={"scratch": "scratch", "frozen": "frozen", "whole": "whole"},
        measure=measure,
        contrasts=(
            Contrast("with fewest examples it beats scratch (points)", {"scratch/few": 1, "whole/few": -1}),
            Contrast(
                "with most the gain is smaller (points)",
                {"scratch/few": 1, "whole/few": -1, "scratch/many": -1, "whole/many": 1},
            ),
            Contrast("with most, frozen layers err more (points)", {"frozen/many": 1, "whole/many": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
