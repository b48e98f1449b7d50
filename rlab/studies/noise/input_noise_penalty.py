"""Noise on inputs as a penalty on slopes: ridge regression for a line, Tikhonov's penalty for a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Settings:
    """Regression of a known function by half squared errors, inputs of deviation 1."""

    examples: int = 60
    copies: int = 4_000
    """Noisy copies of every example, for the line."""
    steps: int = 3_000
    """Updates of the network, with all examples."""
    hidden: int = 32
    std: float = 0.3
    """Of the noise in training."""
    draws: int = 2_000
    """Of the noise, for its mean effect on the loss."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Of the line, distances between weights; of a network, its slope and what noise does to its loss."""
    return line(settings, seed) if variant == "line" else network_numbers(settings, variant, seed)


def line(settings: Settings, seed: int) -> Numbers:
    """How far least squares with noisy inputs lies from ridge with a penalty of n std^2, in parts of ridge's way."""
    rng = np.random.default_rng(derive(seed, "line"))
    n, dims = settings.examples, 10
    x = rng.normal(size=(n, dims))
    y = x @ rng.normal(size=dims) + rng.normal(size=n)
    gram, copies = x.T @ x, settings.copies
    ridge = np.linalg.solve(gram + n * settings.std**2 * np.eye(dims), x.T @ y)
    noisy_gram, noisy_mixed = np.zeros((dims, dims)), np.zeros(dims)
    for _ in range(copies):
        noisy = x + settings.std * rng.normal(size=x.shape)
        noisy_gram += noisy.T @ noisy
        noisy_mixed += noisy.T @ y
    solution = np.linalg.solve(noisy_gram, noisy_mixed)
    way = np.linalg.norm(ridge - np.linalg.solve(gram, x.T @ y))
    return {"apart": np.linalg.norm(solution - ridge) / way}


def network_numbers(settings: Settings, variant: str, seed: int) -> Numbers:
    """Root mean squared slope after training; the loss's mean rise by noise, over what both terms of 2nd order say.

    Those are std^2 / 2 times the mean of |slope|^2 + (output - target) * (sum of the second derivatives).
    """
    import torch
    from torch import Tensor
    from torch.optim import Adam

    from rlab.nn.layers import drawing_from
    from rlab.nn.losses import squared_error
    from rlab.studies.supervised import fit, network

    dice = torch.Generator().manual_seed(derive(seed, "curve"))
    x = torch.randn(settings.examples, 2, generator=dice)
    y = (torch.sin(2 * x[:, :1]) + x[:, 1:]) + 0.3 * torch.randn(settings.examples, 1, generator=dice)
    model = network((2, settings.hidden, 1), "tanh", seed=seed)

    def slopes(create: bool) -> Tensor:
        """Mean over the examples of the squared slope."""
        at = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(at).sum(), at, create_graph=create)
        return gradient.square().sum(1).mean()

    fit(
        model,
        x,
        y,
        Adam(model.parameters(), 1e-2),
        steps=settings.steps,
        seed=seed,
        loss=squared_error,
        change=lambda a, b: (a + settings.std * torch.randn_like(a) if variant == "noise" else a, b),
        penalty=lambda: settings.std**2 / 2 * slopes(True) if variant == "penalty" else 0.0,
    )
    square = float(slopes(False))
    at = x.clone().requires_grad_()
    output = model(at)
    (gradient,) = torch.autograd.grad(output.sum(), at, create_graph=True)
    second = [torch.autograd.grad(gradient[:, k].sum(), at, retain_graph=True)[0][:, k] for k in range(2)]
    both_terms = square + float(((output - y)[:, 0] * (second[0] + second[1])).detach().mean())
    ratios = []
    with torch.no_grad(), drawing_from(dice):
        noise = torch.randn(settings.draws, *x.shape)
        for std in STRENGTHS:  # with each noise its opposite, so that what is odd in it cancels out
            both = torch.cat([x + std * noise, x - std * noise]).flatten(0, 1)
            rise = squared_error(model(both), y.repeat(2 * settings.draws, 1)) - squared_error(model(x), y)
            ratios.append(float(rise) / (std**2 / 2 * both_terms))
    return {
        "slope": square**0.5,
        "ratios": ratios,
        "small": abs(ratios[0] - 1),
        "large": abs(ratios[-1] - 1),
        "slopes_alone": abs(square / both_terms - 1),
    }


def draw(figure: Any, results: Results) -> None:
    """Slopes by the kind of training, and where the noise is no more a penalty on them."""
    axes = figure.subplots(1, 2)
    networks = {name: seeds for name, seeds in results.items() if name != "line"}
    dots(axes[0], {name: column(seeds, "slope") for name, seeds in networks.items()}, "root mean squared slope")
    ways = {name: column(seeds, "ratios") for name, seeds in networks.items()}
    curves(axes[1], STRENGTHS, ways, ("deviation of the noise", "rise of the loss / both terms"))
    axes[1].axhline(1, color="black", lw=1, ls=":")
    axes[1].set_xscale("log")


STUDIES.register("input-noise-penalty")(
    Study(
        claim="Noise on inputs acts as a penalty: of a line it makes ridge regression, and a network it flattens about "
        "as a penalty on slopes does; small noise adds that penalty and the errors times the curvature.",
        claim_ja="入力に加えるノイズは、正則化として働く。線形モデルではリッジ回帰になり、"
        "ネットワークでは勾配への正則化と同じくらい関数を平らにする。小さなノイズが損失に加えるのは、"
        "この正則化項と、誤差と曲率の積の項である。",
        correction="Noise is often called the same as Tikhonov's penalty on slopes. Bishop's second term, errors times "
        "curvature, is of the same order; it vanishes only where the network gives the mean of the targets.",
        correction_ja="ノイズの付加は、勾配へのチホノフ正則化と同じだとよく言われる。しかし、"
        "Bishop の式の第二項（誤差と曲率の積）も同じ次数である。これが消えるのは、"
        "ネットワークの出力が目標値の平均に一致するときだけである。",
        source="item 122; Bishop 1995",
        settings=Settings(),
        smoke={"copies": 100, "steps": 30, "draws": 50},
        small={"copies": 2_000, "steps": 800, "draws": 300},
        small_seeds=6,
        variants={"line": "line", "clean": "clean", "noise": "noise", "penalty": "penalty"},
        measure=measure,
        contrasts=(
            Contrast("a line by noise lies within a tenth of the way to ridge", {"line/apart": -1}, -0.1),
            Contrast("noise flattens a network", {"clean/slope": 1, "noise/slope": -1}),
            Contrast(
                "the penalty does it too: the slopes are more alike than noise's and none's",
                {"clean/slope": 1, "noise/slope": -2, "penalty/slope": 1},
            ),
            Contrast("little noise adds both terms to within a twentieth", {"penalty/small": -1}, -0.05),
            Contrast("slopes alone are further off than that", {"penalty/slopes_alone": 1}, 0.05),
            Contrast("strong noise adds something else", {"penalty/large": 1, "penalty/small": -1}, 0.05),
        ),
        draw=draw,
        seeds=8,
    )
)
