"""The straight line on which Adam goes the wrong way, and what turns it round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 40


@dataclass(frozen=True)
class Settings:
    """x in -1..1; the slope is 10 in one step of five at random, else -1: 1.2 in the mean, so -1 is best."""

    steps: int = 10_000
    """Updates, at rates that fall as 1 / root(t)."""
    lines: int = 10
    """Walks of the same run, each with slopes of its own; the mean over them counts."""
    rate: float = 0.3
    """Of the first step."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Where x goes, and its mean over the last tenth of the run."""
    import torch

    from rlab.nn.optim import make_optimiser, scale_rates

    generator = torch.Generator().manual_seed(derive(seed, "slopes"))
    x = torch.zeros(settings.lines, requires_grad=True)
    options = {k: v for k, v in variant.items() if k != "optimiser"}
    optimiser = make_optimiser(variant["optimiser"], [x], lr=settings.rate, **options)
    way = np.empty((settings.steps, settings.lines))
    for step in range(settings.steps):
        rare = torch.rand(settings.lines, generator=generator) < 0.2
        x.grad = torch.where(rare, 10.0, -1.0)
        scale_rates(optimiser, (1 + step) ** -0.5)
        optimiser.step()
        with torch.no_grad():
            x.clamp_(-1, 1)
        way[step] = x.detach().numpy()
    parts = np.array_split(way.mean(axis=1), POINTS)
    return {"curve": np.round([part.mean() for part in parts], 3), "end": float(way[-settings.steps // 10 :].mean())}


def draw(figure: Any, results: Results) -> None:
    """x over the run."""
    axes = figure.subplots()
    ways = columns(results, "curve")
    curves(axes, (np.arange(POINTS) + 0.5) / POINTS, ways, ("part of the run", "x (-1 is best, 1 is worst)"))


STUDIES.register("amsgrad-counter-example")(
    Study(
        claim="There are convex problems on which Adam goes to the worst point, as its memory of squared gradients is "
        "too short for rare large ones; with their maximum (AMSGrad), or a longer memory, it goes to the best.",
        claim_ja="凸な問題の中にも、Adam が最悪の点に進むものがある。二乗勾配の記憶が、"
        "まれな大きい勾配に対して短すぎるからである。二乗勾配の最大値を使うか（AMSGrad）、記憶を長くすれば、"
        "最良の点に進む。",
        source="item 078; Reddi, Kale & Kumar 2018, section 3; Zhang et al. 2022",
        settings=Settings(),
        smoke={"steps": 100, "lines": 3},
        small={"steps": 3_000},
        small_seeds=4,
        seeds=5,
        variants={
            "adam": {"optimiser": "adam", "betas": [0.0, 0.1]},
            "amsgrad": {"optimiser": "adam", "betas": [0.0, 0.1], "amsgrad": True},
            "adam-long-memory": {"optimiser": "adam", "betas": [0.0, 0.999]},
            "sgd": {"optimiser": "sgd"},
        },
        measure=measure,
        contrasts=(
            Contrast("Adam ends in the worse half", {"adam/end": 1}),
            Contrast("AMSGrad in the better half", {"amsgrad/end": -1}),
            Contrast("so does Adam with a long memory of squares, 0.999 in place of 0.1", {"adam-long-memory/end": -1}),
            Contrast("and gradient descent", {"sgd/end": -1}),
        ),
        draw=draw,
    )
)
