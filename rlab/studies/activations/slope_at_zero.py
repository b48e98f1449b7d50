"""Which slope ReLU is given at 0, where it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Two nets that differ in nothing but the slope at 0, trained side by side on digits."""

    width: int = 64
    """Units of each of two hidden layers."""
    steps: int = 3_000
    """Updates of 64 examples, by Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How often a ReLU was given exactly 0, the nets' accuracies, and whether they say the same."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples("digits", seed, preprocess="standard")
    met = [0, 0]

    class ReLU(nn.Module):
        """max(0, x) with a slope at 0 of choice."""

        def __init__(self, slope: float) -> None:
            super().__init__()
            self.slope = slope

        def forward(self, x: Tensor) -> Tensor:
            """x -> the same shape."""
            met[0] += int((x == 0).sum())
            met[1] += x.numel()
            return torch.relu(x) + self.slope * (x == 0) * x  # the product is 0 and has that slope

    nets, right = [], []
    for slope in (0.0, 1.0):
        model: Any = network((64, settings.width, settings.width, 10), seed=seed, init="he-normal")
        model = nn.Sequential(*[ReLU(slope) if isinstance(part, nn.ReLU) else part for part in model])
        if variant["zero"]:
            model[1].weight.data.zero_()
        optimiser = make_optimiser("adam", model.parameters(), lr=1e-3)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
        right.append(accuracy(model, data.x_test, data.y_test))
        nets.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return {
        "zeros_in_a_million": 1e6 * met[0] / met[1],
        "differing_weights": float((nets[0] != nets[1]).float().mean()),
        "slope_0": right[0],
        "slope_1": right[1],
    }


def draw(figure: Any, results: Results) -> None:
    """The accuracies."""
    rows = {
        f"{name},\nslope {slope}": [100 * value for value in column(seeds, f"slope_{slope}")]
        for name, seeds in results.items()
        for slope in (0, 1)
    }
    dots(figure.subplots(), rows, "test accuracy (%)")


STUDIES.register("slope-at-zero")(
    Study(
        claim="Whether ReLU's slope at 0 is called 0 or 1 changes no weight at all after training from random weights, "
        "but decides everything where a layer of zeros begins.",
        claim_ja="ReLU の 0 での微分を 0 としても 1 としても、乱数の重みから始めれば、"
        "学習後の重みはまったく同じである。しかし、すべて 0 の層から始める場合は、この選び方がすべてを決める。",
        correction="A text gives the derivative as 0 for all x <= 0; at 0 there is none, and programs choose one. The "
        "choice matters only where numbers are exactly 0.",
        correction_ja="教材は、x <= 0 での微分を 0 とする。0 では微分が存在せず、プログラムがどちらかに決める。"
        "その選び方が意味を持つのは、値がちょうど 0 になる場合だけである。",
        source="items 051; Bertoin et al. 2021",
        settings=Settings(),
        smoke={"width": 8, "steps": 5},
        small={"steps": 250},
        small_seeds=3,
        variants={"random weights": {"zero": False}, "first layer zero": {"zero": True}},
        measure=measure,
        contrasts=(
            Contrast(
                "of a million weights not one differs",
                {"random weights/differing_weights": -1},
                above=-1e-6,
                exact=True,
            ),
            Contrast(
                "from zeros, slope 1 learns and slope 0 does not",
                {"first layer zero/slope_1": 1, "first layer zero/slope_0": -1},
                above=0.5,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
