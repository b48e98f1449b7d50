"""Rates that fall by what each weight has seen: good for what is seen rarely, bad for what changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A linear function of 30 features is learned from a stream, 4 examples an update."""

    updates: int = 2_000
    """Each with new examples."""
    streams: int = 20
    """Of each kind in the same run; the mean over them counts."""
    noise: float = 1.0
    """Standard deviation of the targets about the function, whose weights have 1."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """What every optimiser tries on every stream; the best counts."""


STREAMS = ("even", "rare", "drift")
"""Features in half of the examples; from half of them down to one in 200; weights that are drawn anew."""


CHANGES = 8
"""How often, the first weights included."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By stream: the mean square of the weights' errors (1: nothing learned) over the last half of the updates.

    And by how much it is larger between the last two changes than between the first two, with the same rate.
    """
    from rlab.studies.descent import tuned

    def error(stream: str, rate: float) -> float:
        return float(np.mean(_errors(settings, variant, stream, rate, seed)[settings.updates // 2 :]))

    best = {stream: tuned(settings.rates, partial(error, stream), 2.0) for stream in STREAMS}
    parts = np.array_split(_errors(settings, variant, "drift", best["drift"][1], seed), CHANGES)
    return {**{k: value for k, (value, _) in best.items()}, "ageing": float(np.mean(parts[-1]) - np.mean(parts[1]))}


def _errors(settings: Settings, variant: Any, stream: str, rate: float, seed: int) -> list[float]:
    import torch

    from rlab.nn.optim import make_optimiser, scale_rates

    generator = torch.Generator().manual_seed(derive(seed, stream))
    often = torch.logspace(np.log10(0.5), np.log10(0.005), 30) if stream == "rare" else torch.full((30,), 0.5)
    many = settings.streams
    weights, right = torch.zeros(many, 30, requires_grad=True), torch.randn(many, 30, generator=generator)
    optimiser, errors = make_optimiser(variant["optimiser"], [weights], lr=rate), []
    for update in range(settings.updates):
        if stream == "drift" and update % max(1, settings.updates // CHANGES) == 0:
            right = torch.randn(many, 30, generator=generator)
        x = (torch.rand(4, many, 30, generator=generator) < often).float()
        x *= torch.randn(4, many, 30, generator=generator)
        noise = settings.noise * torch.randn(4, many, generator=generator)
        with torch.no_grad():
            wrong = weights - right
            weights.grad = (x * ((x * wrong).sum(-1) - noise)[..., None]).mean(0)
            errors.append(float(wrong.square().mean()))
        if variant["falls"]:
            scale_rates(optimiser, (1 + update) ** -0.5)
        optimiser.step()
    return errors


def draw(figure: Any, results: Results) -> None:
    """Errors by stream and optimiser."""
    titles = ("features alike in number", "some of them rare", "weights that change")
    for axes, stream, title in zip(figure.subplots(3, 1), STREAMS, titles, strict=True):
        dots(axes, columns(results, stream), "error of weights")
        axes.set_title(title, fontsize=9)


STUDIES.register("adagrad-sparse")(
    Study(
        claim="Adagrad lowers the rate of each weight by what it has seen, which serves rare features better than a "
        "rate that falls for all alike; but it is used up, and follows later changes more slowly, as RMSprop does not.",
        claim_ja="AdaGrad は、それまでの勾配に応じて重みごとに学習率を下げる。そのため、一様に学習率を下げるよりも、"
        "まれな特徴をよく学習する。しかし学習率は減る一方なので、後の変化への追従は遅くなる。"
        "RMSprop ではそうならない。",
        source="items 075, 077; Duchi, Hazan & Singer 2011; Tieleman & Hinton 2012",
        settings=Settings(),
        smoke={"updates": 16, "streams": 2, "rates": (0.1,)},
        small={"updates": 400, "rates": (0.03, 0.1, 0.3, 1.0, 3.0)},
        small_seeds=4,
        variants={
            "sgd": {"optimiser": "sgd", "falls": False},
            "sgd-falling": {"optimiser": "sgd", "falls": True},
            "adagrad": {"optimiser": "adagrad", "falls": False},
            "rmsprop": {"optimiser": "rmsprop", "falls": False},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "rare features: Adagrad errs less than a rate that falls for all",
                {"sgd-falling/rare": 1, "adagrad/rare": -1},
            ),
            Contrast(
                "it gains more there than where features are alike",
                {"sgd-falling/rare": 1, "adagrad/rare": -1, "sgd-falling/even": -1, "adagrad/even": 1},
            ),
            Contrast(
                "weights that change: from change to change Adagrad's error grows more than RMSprop's",
                {"adagrad/ageing": 1, "rmsprop/ageing": -1},
            ),
        ),
        draw=draw,
    )
)
