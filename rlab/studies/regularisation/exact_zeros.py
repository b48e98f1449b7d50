"""Which inputs matter: L1 by subgradients, L1 by soft thresholds, and L2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Linear data of many inputs, of which few count."""

    inputs: int = 100
    """Inputs in all."""
    count: int = 10
    """Of them, those that count: their weights are 1 or -1."""
    train: int = 80
    """Examples, fewer than inputs."""
    noise: float = 0.5
    """Standard deviation of the targets' noise."""
    steps: int = 3_000
    """Steps of gradient descent, on all examples."""
    rate: float = 0.1
    """Its rate."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Of the inputs that do not count, the part with weight exactly 0; of those that do, the part kept; test error."""
    import torch

    from rlab.nn.layers import drawing_from
    from rlab.nn.losses import squared_error
    from rlab.nn.optim import make_optimiser
    from rlab.nn.penalties import l1, l2, shrink
    from rlab.seeding import derive

    with drawing_from(torch.Generator().manual_seed(derive(seed, "data"))):
        truth = torch.zeros(settings.inputs)
        truth[: settings.count] = torch.randint(2, (settings.count,)) * 2.0 - 1
        x = torch.randn(settings.train + 1_000, settings.inputs)
        y = x @ truth + settings.noise * torch.randn(len(x))
        w = torch.nn.Parameter(0.01 * torch.randn(settings.inputs))
    train, test = slice(0, settings.train), slice(settings.train, None)
    optimiser = make_optimiser("sgd", [w], lr=settings.rate)
    strength, kind = variant["strength"], variant["kind"]
    for _ in range(settings.steps):
        optimiser.zero_grad()
        loss = squared_error(x[train] @ w, y[train])
        if kind != "proximal":
            loss = loss + strength * (l2([w]) if kind == "l2" else l1([w]))
        loss.backward()
        optimiser.step()
        if kind == "proximal":
            shrink([w], settings.rate * strength)
    weights = w.detach()
    useless, useful = weights[settings.count :], weights[: settings.count]
    return {
        "weights": np.round(weights.numpy(), 5),
        "zeros": float((useless == 0).float().mean()),
        "kept": float((useful * truth[: settings.count] > 0).float().mean()),
        "error": float((x[test] @ weights - y[test]).square().mean()),
    }


def draw(figure: Any, results: Results) -> None:
    """The first seed's weights by size, and the test error."""
    left, right = figure.subplots(1, 2)
    for name, seeds in results.items():
        left.semilogy(np.maximum(np.sort(np.abs(seeds[0]["weights"]))[::-1], 1e-6), label=name, lw=1)
    left.axhline(1e-6, color="black", lw=0.5, ls=":")
    left.set_xlabel("weights of seed 0, by size", fontsize=8)
    left.set_ylabel("|w|; exact 0 drawn at 1e-6", fontsize=8)
    left.tick_params(labelsize=7)
    left.legend(fontsize=7)
    dots(right, columns(results, "error"), "test mean squared error")
    right.tick_params(axis="x", labelsize=6)


STUDIES.register("exact-zeros")(
    Study(
        claim="An L1 penalty selects the inputs that count, but weights become exactly 0 only if its step is a soft "
        "threshold; its subgradient, like L2, leaves every weight a little off 0.",
        source="item 102; Tibshirani 1996; Daubechies et al. 2004",
        settings=Settings(),
        smoke={"steps": 200},
        small={"steps": 1_500},
        small_seeds=5,
        variants={
            "L1 threshold": {"kind": "proximal", "strength": 0.15},
            "L1 subgradient": {"kind": "subgradient", "strength": 0.15},
            "L2": {"kind": "l2", "strength": 0.15},
            "none": {"kind": "l2", "strength": 0.0},
        },
        measure=measure,
        contrasts=(
            Contrast("thresholds: over 3/4 of the useless weights are 0", {"L1 threshold/zeros": 1}, above=0.75),
            Contrast("and over 9/10 of the useful ones are kept", {"L1 threshold/kept": 1}, above=0.9, trials="count"),
            Contrast("subgradients: under 1/100 are exactly 0", {"L1 subgradient/zeros": -1}, above=-0.01, trials=90),
            Contrast("L2: under 1/100 are exactly 0", {"L2/zeros": -1}, above=-0.01, trials=90),
            Contrast("where few inputs count L1 errs less than L2", {"L2/error": 1, "L1 threshold/error": -1}),
            Contrast(
                "thresholds err no more than subgradients (by 0.05 of the mean square)",
                {"L1 threshold/error": -1, "L1 subgradient/error": 1},
                above=-0.05,
            ),
        ),
        draw=draw,
        claim_ja="L1 正則化は重要な入力を選び出すが、重みがちょうど 0 になるのは、"
        "更新にソフトしきい値処理（近接勾配法）を使うときだけである。劣勾配を使うと、L2 正則化と同じく、"
        "どの重みも 0 から少しずれて残る。",
        correction="The text says that L1 makes some weights 0. Its minimum has zeros, but plain gradient descent on "
        "the penalty steps to and fro over 0 and never stays there; a proximal step (soft threshold) does.",
        correction_ja="教材は、L1 正則化では一部の重みが 0 になるとする。最小解には 0 があるが、"
        "L1 の項をそのまま勾配降下すると、0 をまたいで振動し、0 に止まらない。近接ステップ（ソフトしきい値処理）"
        "なら 0 に止まる。",
    )
)
