"""What dropout saves with few and with many examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Handwritten digits and a network of two hidden layers; each size gets as many updates as the others."""

    data: str = "mnist"
    """`digits` needs no files."""
    sizes: tuple[int, ...] = (50, 150, 500, 1_500, 5_000)
    """Training examples; the smaller sets are parts of the larger ones."""
    test: int = 10_000
    """Examples; 0: all that are not trained on."""
    hidden: int = 256
    """Units of each of two hidden layers."""
    updates: int = 3_000
    learning_rate: float = 0.02
    """Of SGD with a momentum of 0.9."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in %: of the smallest, of the largest size, of all; and the logarithm of the first two."""
    import torch

    from rlab.studies.supervised import accuracy, fit, network, parts

    (x, y), test = parts(settings.data, seed, settings.sizes[-1], settings.test)
    errors = []
    for n in settings.sizes:
        sizes = [x[0].numel(), settings.hidden, settings.hidden, 10]
        model = network(sizes, seed=seed, dropout=variant)
        optimiser = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9)
        fit(model, x[:n], y[:n], optimiser, steps=settings.updates, batch_size=25, seed=seed)
        errors.append(100 * (1 - accuracy(model, *test)))
    few, many = 100 * np.log(np.array(errors)[[0, -1]].clip(0.01))
    return {
        "few": errors[0],
        "many": errors[-1],
        "few_log": few,
        "many_log": many,
        "errors": errors,
        "sizes": settings.sizes,
    }


def draw(figure: Any, results: Results) -> None:
    """Errors by the number of examples."""
    axes = figure.subplots()
    sizes = results["off"][0]["sizes"]
    shown = {f"dropout {name}": column(seeds, "errors") for name, seeds in results.items()}
    curves(axes, sizes, shown, ("training examples", "test error in %"))
    count_ticks(axes, sizes)
    axes.set_ylim(0, None)


STUDIES.register("dropout-small-data")(
    Study(
        claim="Dropout saves a network from over-fitting a set of moderate size, and with very few examples it saves a "
        "smaller part of the errors.",
        claim_ja="ドロップアウトは、中程度の量のデータへの過学習を防ぐ。データがごく少ないときは、"
        "減らせる誤りの割合が小さくなる。",
        source="items 132, 137; Srivastava et al. 2014, sections 6.1 and 7.4",
        settings=Settings(),
        smoke={"data": "digits", "sizes": (50, 200), "test": 0, "updates": 15, "hidden": 64},
        small={"data": "digits", "sizes": (50, 1_000), "test": 0, "updates": 1_200, "hidden": 128},
        small_seeds=5,
        variants={"off": 0.0, "on": 0.5},
        measure=measure,
        contrasts=(
            Contrast("with most examples it lowers the test error", {"off/many": 1, "on/many": -1}),
            Contrast(
                "it saves a larger part of the errors than with fewest (in % of a logarithm)",
                {"off/many_log": 1, "on/many_log": -1, "off/few_log": -1, "on/few_log": 1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
