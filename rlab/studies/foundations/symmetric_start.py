"""Weights that begin alike stay alike; which of them may begin at 0 all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """One hidden layer of tanh on the digits, gradient descent with momentum."""

    steps: int = 600
    """Updates with 100 examples each."""
    width: int = 32
    examples: int = 1_000


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy, and how many different hidden units there are at the end."""
    import torch

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples("digits", seed, train=settings.examples)
    model = network([64, *([settings.width] if variant["hidden"] else []), 10], "tanh", seed=seed)
    layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, value in zip(layers, variant["weights"], strict=True):
            layer.bias.zero_()
            if value is not None:
                layer.weight.fill_(value)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=100, seed=seed)
    rows = layers[0].weight.detach().numpy()
    rows = rows / max(1e-12, float(abs(rows).max()))
    units = len(np.unique(rows.round(4), axis=0)) if variant["hidden"] else 0
    return {"accuracy": accuracy(model, data.x_test, data.y_test), "units": units}


def draw(figure: Any, results: Results) -> None:
    """Accuracy and units."""
    top, bottom = figure.subplots(2, 1)
    short = {name: name.replace(", ", ",\n") for name in results}
    dots(top, {short[name]: column(seeds, "accuracy") for name, seeds in results.items()}, "test accuracy")
    hidden = {short[name]: column(seeds, "units") for name, seeds in results.items() if "regression" not in name}
    dots(bottom, hidden, "different hidden units")
    for panel in (top, bottom):
        panel.tick_params(axis="x", labelsize=7)


STUDIES.register("symmetric-start")(
    Study(
        claim="Hidden units that begin with equal weights stay equal for ever; biases, the last layer and a logistic "
        "regression may begin at zero without harm.",
        claim_ja="同じ重みから始めた隠れユニットは、いつまでも同じままである。バイアス、最終層、"
        "ロジスティック回帰の重みは、0 から始めても害がない。",
        source="item 039; Rumelhart et al. 1986; Goodfellow et al. 2016, section 8.4",
        settings=Settings(),
        smoke={"steps": 4, "examples": 100},
        small={"steps": 150},
        small_seeds=5,
        variants={
            "all weights 0": {"hidden": True, "weights": [0.0, 0.0]},
            "all weights 0.1": {"hidden": True, "weights": [0.1, 0.1]},
            "random, biases 0": {"hidden": True, "weights": [None, None]},
            "random, last layer 0": {"hidden": True, "weights": [None, 0.0]},
            "regression, random": {"hidden": False, "weights": [None]},
            "regression, weights 0": {"hidden": False, "weights": [0.0]},
        },
        measure=measure,
        contrasts=(
            Contrast("all weights 0: one hidden unit, many times", {"all weights 0/units": -1}, above=-1.5, exact=True),
            Contrast("all weights 0.1: the same", {"all weights 0.1/units": -1}, above=-1.5, exact=True),
            Contrast(
                "random weights: 30 different ones or more",
                {"random, biases 0/units": 1},
                above=30.0,
                trials="width",
                span=(0, 32),
            ),
            Contrast(
                "equal weights cost 20 points of accuracy or more",
                {"random, biases 0/accuracy": 1, "all weights 0.1/accuracy": -1},
                above=0.2,
            ),
            Contrast(
                "a last layer of 0 costs 3 points at the most",
                {"random, last layer 0/accuracy": 1, "random, biases 0/accuracy": -1},
                above=-0.03,
            ),
            Contrast(
                "a regression of 0 costs 3 points at the most",
                {"regression, weights 0/accuracy": 1, "regression, random/accuracy": -1},
                above=-0.03,
            ),
        ),
        draw=draw,
        seeds=5,
        correction="The text forbids equal weights everywhere. It is hidden units side by side that must differ: "
        "zeros are harmless where nothing is symmetric.",
        correction_ja="教材は、どの重みも等しくしてはならないとしている。異なる必要があるのは、"
        "並んだ隠れユニットの重みである。対称性のない所では、0 から始めても害がない。",
    )
)
