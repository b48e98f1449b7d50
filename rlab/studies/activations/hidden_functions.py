"""Every activation the lab has, and three functions that should not do, in the hidden layer of one net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

GOOD = (
    "sigmoid", "tanh", "hardtanh", "softsign", "softplus", "relu", "leaky-relu", "prelu", "rrelu", "elu", "selu",
    "gelu", "silu", "mish", "hardswish",
)  # fmt: skip
"""Neither linear nor polynomial, with a slope that is 0 nowhere or on a half only."""

LEARNS = 0.9
"""Test accuracy that a function must reach to have done."""


@dataclass(frozen=True)
class Settings:
    """Two spirals, each once around the other, to be told apart by one wide hidden layer."""

    points: int = 500
    """Of each spiral, for training; as many for tests."""
    width: int = 256
    """Hidden units."""
    steps: int = 3_000
    """Updates of all examples, by Adam."""


def spirals(points: int, rng: np.random.Generator) -> Any:
    """x float[2 * points, 2] within a circle of radius 3, y[2 * points]."""
    import torch

    y = np.arange(2 * points) % 2
    radius = np.sqrt(rng.uniform(0.02, 1, len(y)))
    angle = 2 * np.pi * radius + np.pi * y
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + rng.normal(0, 0.02, (len(y), 2))
    return torch.tensor(3 * x, dtype=torch.float32), torch.tensor(y)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy of each function, and the least of them; how far the last one's hidden weights moved."""
    import torch
    from torch import nn

    from rlab.nn.layers.activations import ACTIVATIONS
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, fit, network

    class Odd(nn.Module):
        """x^2, smooth but a polynomial; or the sign of x, whose slope is 0 wherever it has one."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """x -> the same shape."""
            return x.square() if "square" in variant else x.sign()

    rng = np.random.default_rng(seed)
    (x, y), (x_test, y_test) = spirals(settings.points, rng), spirals(settings.points, rng)
    accuracies = []
    for name in variant:
        model: Any = network((2, settings.width, 2), name if name in ACTIVATIONS else "identity", seed=seed)
        if name not in ACTIVATIONS:
            model[2] = Odd()
        began = model[1].weight.detach().clone()
        optimiser = make_optimiser("adam", model.parameters(), lr=0.01, foreach=True)
        fit(model, x, y, optimiser, steps=settings.steps, seed=seed)
        accuracies.append(accuracy(model, x_test, y_test))
    moved = float((model[1].weight.detach() - began).abs().mean())
    return {"by_function": accuracies, "accuracy": min(accuracies), "moved": moved}


VARIANTS = {"non-linear": GOOD, "ReLU": ("relu",), "identity": ("identity",), "square": ("square",), "step": ("step",)}


def draw(figure: Any, results: Results) -> None:
    """Each function's accuracies."""
    rows = {
        name: [100 * seed["by_function"][place] for seed in results[variant]]
        for variant, functions in VARIANTS.items()
        if variant != "ReLU"
        for place, name in enumerate(functions)
    }
    axes = figure.subplots()
    for row, values in enumerate(rows.values()):
        axes.plot(values, [row] * len(values), ".", color="0.6")
        axes.plot([np.mean(values)], [row], "o", ms=5, color="C0" if row < len(GOOD) else "C3")
    axes.axvline(100 * LEARNS, color="black", lw=1, ls=":")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy on two spirals (%)", fontsize=9)
    axes.grid(alpha=0.3)


STUDIES.register("hidden-functions")(
    Study(
        claim="Hidden layers may use any function that is no polynomial and has a slope to learn by, kinks included: "
        "differentiability is neither needed nor enough.",
        claim_ja="隠れ層には、多項式ではなく、学習に使える傾きを持つ関数なら、微分できない点があっても使える。"
        "微分可能であることは、必要でも十分でもない。",
        correction="The text asks for any differentiable non-linear function. ReLU has no derivative at 0 and works; "
        "the square is smooth and one hidden layer of it cannot; the step has a derivative almost everywhere, which "
        "is 0, so its layer stays as it was drawn (a wide one will do as it is).",
        correction_ja="教材は、微分可能な非線形関数なら何でもよいとする。ReLU は 0 で微分できないが、学習できる。"
        "2 乗は滑らかだが、隠れ層一つでは足りない。ステップ関数は、ほとんど至るところで微分できるが、"
        "微分が 0 なので、その層の重みは初期値のまま変わらない（幅が広ければ、乱数のままでも役に立つ）。",
        source="items 049, 061; Leshno et al. 1993; Ramachandran et al. 2017",
        settings=Settings(),
        smoke={"points": 20, "width": 8, "steps": 3},
        small={"points": 100, "width": 64, "steps": 400},
        small_seeds=3,
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("the worst of 15 is right in 9 of 10", {"non-linear/accuracy": 1}, above=LEARNS),
            Contrast("ReLU beats the linear function", {"ReLU/accuracy": 1, "identity/accuracy": -1}, above=0.1),
            Contrast("ReLU beats the square", {"ReLU/accuracy": 1, "square/accuracy": -1}, above=0.1),
            Contrast(
                "hidden weights of a step do not move by a millionth", {"step/moved": -1}, above=-1e-6, exact=True
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
