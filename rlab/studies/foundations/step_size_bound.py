"""Gradient descent on a convex cost, by the size of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.foundations.convex_cost import cost
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

FACTORS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.03, 1.1, 1.3, 1.6, 2.0)
"""Step sizes as parts of 2 / lambda, lambda being the largest eigenvalue of the Hessian at the optimum."""

DECAY = 1e-2


@dataclass(frozen=True)
class Settings:
    """Logistic and linear regression with a small L2 penalty, from weights of 0."""

    steps: int = 20_000
    """Of gradient descent."""
    examples: int = 200
    features: int = 5
    """Of different scales, so that the cost is a narrow valley."""


def optimum(x: Any, y: Any) -> Any:
    """Of logistic regression, by Newton's method: w[1, d]."""
    w = np.zeros((1, x.shape[1]))
    for _ in range(50):
        _, slope, hessian = cost(w, x, y, False, DECAY)
        w = w - np.linalg.solve(hessian[0], slope[0])
    return w


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of the distance to the optimum after all steps, by size of step; 0.001 is added, and 1,000 the most."""
    rng = np.random.default_rng(derive(seed, "examples"))
    scales = np.geomspace(0.5, 2, settings.features)
    x = rng.normal(size=(settings.examples, settings.features)) * scales
    z = x @ (rng.normal(size=settings.features) / scales)
    if variant["model"] == "logistic":
        y = (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
        best = optimum(x, y)
        hessian = cost(best, x, y, False, DECAY)[2][0]
    else:
        y = z + rng.normal(size=len(z))
        hessian = x.T @ x / len(x) + DECAY * np.eye(settings.features)
        best = np.linalg.solve(hessian, x.T @ y / len(x))[None]
    rates = 2 / np.linalg.eigvalsh(hessian)[-1] * np.array(FACTORS)[:, None]
    w = np.zeros((len(FACTORS), settings.features))
    for _ in range(settings.steps):
        outputs = w @ x.T
        if variant["model"] == "logistic":
            outputs = 0.5 * (1 + np.tanh(outputs / 2))
        w = np.clip(w - rates * ((outputs - y) @ x / len(x) + DECAY * w), -1e3, 1e3)
    distances = np.log10(np.minimum(np.linalg.norm(w - best, axis=1) + 1e-3, 1e3))
    return {"way": distances, "below": distances[FACTORS.index(0.97)], "above": distances[FACTORS.index(1.03)]}


def draw(figure: Any, results: Results) -> None:
    """The distance by size of step."""
    axes = figure.subplots()
    ways = columns(results, "way")
    curves(axes, FACTORS, ways, ("size of the steps / (2 / largest eigenvalue)", "log10 of (distance to the optimum)"))
    axes.axvline(1, color="black", lw=1, ls=":")


STUDIES.register("step-size-bound")(
    Study(
        claim="Gradient descent reaches the optimum of a convex cost only with steps below 2 / lambda, lambda being "
        "the largest eigenvalue of the Hessian there.",
        claim_ja="凸な損失でも、勾配降下法が最適点に収束するのは、学習率が 2/λ 未満のときだけである。λ は、"
        "最適点でのヘッセ行列の最大固有値である。",
        source="item 021; Nesterov 2004, section 2.1; LeCun et al. 1998 (Efficient BackProp)",
        settings=Settings(),
        smoke={"steps": 2_000},
        small={"steps": 3_000},
        small_seeds=6,
        variants={"linear": {"model": "linear"}, "logistic": {"model": "logistic"}},
        measure=measure,
        contrasts=tuple(
            contrast
            for model in ("linear", "logistic")
            for contrast in (
                Contrast(
                    f"{model}: 3 % below the bound it comes within 0.01", {f"{model}/below": -1}, above=2.0, exact=True
                ),
                Contrast(
                    f"{model}: 3 % above it stays 0.1 away or further", {f"{model}/above": 1}, above=-1.0, exact=True
                ),
            )
        ),
        draw=draw,
        correction="The text says that gradient descent reaches the optimum because the cost is convex; with steps "
        "that are too large it does not, and without a penalty separable classes have no optimum at all.",
        correction_ja="教材は、損失が凸だから勾配降下法は最適点に着くとしているが、学習率が大きすぎれば着かない。"
        "また、正則化がなければ、線形分離可能なデータには最適点そのものがない。",
    )
)
