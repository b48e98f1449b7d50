"""What tanh gains by keeping the sign: against itself, shifted so that it is never negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10


@dataclass(frozen=True)
class Settings:
    """Three hidden layers on digits, by plain SGD, whose pace follows the conditioning."""

    width: int = 64
    """Units of each hidden layer."""
    steps: int = 2_000
    """Updates of 64 examples."""
    rates: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    """Learning rates; the one with the least training loss at the end counts."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The loss's way, its logarithm at the end, and how unevenly the first layer's outputs spread in their space."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import examples, fit, network

    class Moved(nn.Module):
        """scale * tanh(x / 2 * stretch) + shift."""

        def forward(self, x: Tensor) -> Tensor:
            """x -> the same shape."""
            return variant["scale"] * torch.tanh(x * variant["stretch"]) + variant["shift"]

    data = examples("digits", seed, preprocess="standard")

    def build() -> nn.Sequential:
        model = network((64, *[settings.width] * 3, 10), seed=seed, init="xavier-normal")
        return nn.Sequential(*[Moved() if isinstance(part, nn.ReLU) else part for part in model])

    ways = []
    for rate in settings.rates:
        model = build()

        def look(model: nn.Module = model) -> float:
            return min(float(nn.functional.cross_entropy(model(data.x), data.y)), 100.0)

        optimiser = make_optimiser("sgd", model.parameters(), lr=rate)
        ways.append(
            fit(
                model,
                data.x,
                data.y,
                optimiser,
                steps=settings.steps,
                batch_size=64,
                seed=seed,
                look=look,
                points=POINTS,
            )
        )
    best = min(ways, key=lambda way: way[-1])
    with torch.no_grad():
        hidden = build()[:3](data.x)
    spread = torch.linalg.eigvalsh(hidden.T @ hidden / len(hidden))
    return {
        "way": np.round(np.log10(best), 4),
        "end": float(np.log10(best[-1])),
        "top": float(spread[-1] / spread.mean()),
    }


def draw(figure: Any, results: Results) -> None:
    """Losses, and the largest eigenvalues."""
    left, right = figure.subplots(1, 2)
    ways = columns(results, "way")
    curves(left, (np.arange(POINTS) + 1) / POINTS, ways, ("part of training", "training loss, power of ten (nats)"))
    dots(right, columns(results, "top"), "largest eigenvalue / mean")
    right.tick_params(axis="x", labelsize=7)


STUDIES.register("sign-keeping")(
    Study(
        claim="Tanh learns faster than the same curve shifted above zero: keeping the sign centres what the next "
        "layer is given, and one long direction of its inputs vanishes.",
        claim_ja="tanh は、同じ曲線を負にならないように持ち上げた関数よりも速く学習する。符号が保たれると、"
        "次の層への入力が 0 を中心に分布し、一方向に長く伸びた分布にならないからである。",
        source="items 060; LeCun et al. 1998, section 4.4",
        settings=Settings(),
        smoke={"width": 8, "steps": 20, "rates": (0.1,)},
        small={"steps": 300, "rates": (0.3, 0.1, 0.03), "width": 32},
        small_seeds=8,
        variants={
            "tanh": {"scale": 1.0, "stretch": 1.0, "shift": 0.0},
            "tanh + 1": {"scale": 1.0, "stretch": 1.0, "shift": 1.0},
            "sigmoid": {"scale": 0.5, "stretch": 0.5, "shift": 0.5},
        },
        measure=measure,
        contrasts=(
            Contrast("tanh ends below tanh + 1 (powers of ten)", {"tanh + 1/end": 1, "tanh/end": -1}),
            Contrast("tanh ends below sigmoid (powers of ten)", {"sigmoid/end": 1, "tanh/end": -1}),
            Contrast(
                "shifted, the largest eigenvalue is above tanh's by 10 means",
                {"tanh + 1/top": 1, "tanh/top": -1},
                above=10.0,
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
