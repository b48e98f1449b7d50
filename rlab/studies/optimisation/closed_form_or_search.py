"""When the best weights can be written down, and when they must be searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Least squares: a linear function of few or many inputs, and a network with few weights."""

    many: int = 1_000
    """Inputs of the large linear problem, from three times as many examples."""
    steps: int = 400
    """Of gradient descent on the linear ones."""
    search: int = 400
    """Iterations of L-BFGS on the network."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """What is left of the error by formula and by search, and how far two searches end apart."""
    if variant == "network":
        return _network(settings, seed)
    inputs = settings.many if variant == "many" else 5
    rng = np.random.default_rng(derive(seed, "linear"))
    x = rng.normal(size=(3 * inputs, inputs))
    y = x @ rng.normal(size=inputs) + rng.normal(size=3 * inputs)
    square, right = x.T @ x / len(x), x.T @ y / len(x)
    formula = np.linalg.solve(square, right)
    low, *_, high = np.linalg.eigvalsh(square)
    ends = rng.normal(size=(2, inputs))
    for _ in range(settings.steps):
        ends -= 2 / (low + high) * (ends @ square - right)
    return {
        "distance": float(np.linalg.norm(ends - formula, axis=1).max() / np.linalg.norm(formula)),
        "apart": _powers(np.std(x @ (ends[0] - ends[1])) / np.std(y)),
        "excess": float(np.log10(np.mean((x @ formula - y) ** 2) / np.mean((x @ ends[0] - y) ** 2))),
    }


def _network(settings: Settings, seed: int) -> Numbers:
    """Its formula: the network made linear in its weights at the start, and that solved (one Gauss-Newton step)."""
    import torch
    from torch.nn.functional import mse_loss
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import fit, network

    generator = torch.Generator().manual_seed(derive(seed, "data"))
    x = torch.rand(100, 1, generator=generator).double() * 6 - 3
    y = torch.sin(2 * x)
    outputs, errors = [], []
    for start in range(2):
        model = network((1, 8, 1), "tanh", seed=derive(seed, "start", start)).double()
        weights = list(model.parameters())
        here = model(x)
        slopes = torch.stack(
            [torch.cat([g.flatten() for g in torch.autograd.grad(v, weights, retain_graph=True)]) for v in here[:, 0]]
        )
        step = torch.linalg.lstsq(slopes, (y - here).detach(), driver="gelsd").solution[:, 0]
        first = parameters_to_vector(weights).detach().clone()
        vector_to_parameters(first + step, weights)
        with torch.no_grad():
            by_formula = mse_loss(model(x), y)
        vector_to_parameters(first, weights)
        optimiser = make_optimiser("lbfgs", weights, max_iter=settings.search, tolerance_grad=0, tolerance_change=0)
        fit(model, x, y, optimiser, steps=1, loss=mse_loss)
        with torch.no_grad():
            outputs.append(model(x))
            errors.append(float(by_formula.log10() - mse_loss(outputs[-1], y).clamp_min(1e-32).log10()))
    return {"apart": _powers((outputs[0] - outputs[1]).std() / y.std()), "excess": float(np.mean(errors))}


def _powers(part: Any) -> float:
    return float(np.log10(max(float(part), 1e-16)))


def draw(figure: Any, results: Results) -> None:
    """The formula's error against the search's, and how far two searches end apart."""
    left, right = figure.subplots(1, 2)
    labels = {"few": "linear, 5", "many": "linear, many", "network": "network, 25"}
    excess = {labels[name]: column(seeds, "excess") for name, seeds in results.items()}
    apart = {labels[name]: column(seeds, "apart") for name, seeds in results.items()}
    dots(left, excess, "error by formula / by search, powers of 10")
    dots(right, apart, "two searches apart, powers of 10 of y's spread")


STUDIES.register("closed-form-or-search")(
    Study(
        claim="It is not the number of weights that calls for a search but that outputs are not linear in them: least "
        "squares has a formula in 1,000 dimensions, where descent finds the same; a network of 25 weights has none.",
        claim_ja="反復的な探索が必要になるのは、重みの数が多いからではなく、出力が重みについて線形でないからである。"
        "最小二乗法は 1000 次元でも公式で解け、勾配降下法も同じ解に達する。重みが 25 個のネットワークには、"
        "そのような公式がない。",
        source="item 065; Gauss 1809; Goodfellow, Bengio & Courville 2016, sections 4.3 and 5.1.4",
        correction="The text says that problems of high dimension cannot be solved analytically. The dimension is not "
        "the reason: linear least squares is solved by a formula in any, non-linear models are not even in few.",
        correction_ja="教材は、次元が高い問題は解析的に解けないとする。理由は次元ではない。"
        "線形の最小二乗法は何次元でも公式で解け、非線形のモデルは低次元でも解けない。",
        settings=Settings(),
        smoke={"many": 30, "steps": 100, "search": 10},
        small={"many": 400, "search": 200},
        small_seeds=5,
        variants={"few": "few", "many": "many", "network": "network"},
        measure=measure,
        contrasts=(
            Contrast("many dimensions: descent ends at the formula's weights", {"many/distance": -1}, -1e-6),
            Contrast("few dimensions: so it does", {"few/distance": -1}, -1e-6),
            Contrast(
                "a network solved as if it were linear errs ten times as much as one searched for",
                {"network/excess": 1, "many/excess": -1},
                1.0,
            ),
            Contrast(
                "two searches of the network end a million times as far apart as linear ones",
                {"network/apart": 1, "many/apart": -1},
                6.0,
            ),
        ),
        draw=draw,
    )
)
