"""The cost of logistic regression as a surface: with cross-entropy a bowl, with squared error not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 41


@dataclass(frozen=True)
class Settings:
    """Logistic regression by gradient descent from many starts; the same examples for all variants of a seed."""

    starts: int = 60
    """Weights to start from, N(0, 3^2)."""
    steps: int = 20_000
    """Of gradient descent, of size 1."""
    examples: int = 60


def examples(settings: Settings, seed: int, separable: bool = False) -> tuple[Any, Any]:
    """x[m, 3] with a column of ones, y[m]: two classes on either side of 0, and a few of class 1 far on the wrong."""
    rng = np.random.default_rng(derive(seed, "examples"))
    y = (np.arange(settings.examples) % 2).astype(float)
    x = rng.normal(size=(settings.examples, 2)) * [0.5, 1.0] + np.outer(2 * y - 1, [1.5, 0])
    if separable:
        x[:, 0] = np.where(y == 1, 1, -1) * np.maximum(abs(x[:, 0]), 0.2)
    else:
        far = y.nonzero()[0][: settings.examples // 10]
        x[far, 0] = -15 + rng.normal(size=len(far))
    return np.column_stack([x, np.ones(len(x))]), y


def cost(w: Any, x: Any, y: Any, squared: bool, decay: float = 0.0) -> tuple[Any, Any, Any]:
    """Of weights w[S, d]: the mean loss [S], its gradient [S, d], its Hessian [S, d, d]."""
    z = w @ x.T
    p = 0.5 * (1 + np.tanh(z / 2))
    slope = p * (1 - p)
    if squared:
        loss, first = 0.5 * (p - y) ** 2, (p - y) * slope
        second = slope**2 + (p - y) * slope * (1 - 2 * p)
    else:
        loss, first, second = np.logaddexp(0, z) - y * z, p - y, slope
    m, d = x.shape
    hessian = np.einsum("sm,md,me->sde", second, x, x, optimize=True) / m + decay * np.eye(d)
    return loss.mean(1) + decay / 2 * (w**2).sum(1), first @ x / m + decay * w, hessian


def descend(w: Any, x: Any, y: Any, squared: bool, decay: float, steps: int, rate: float) -> Any:
    """Plain gradient descent of all w[S, d] at once."""
    for _ in range(steps):
        p = 0.5 * (1 + np.tanh(w @ x.T / 2))
        w = w - rate * (((p - y) * (p * (1 - p) if squared else 1)) @ x / len(x) + decay * w)
    return w


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The least curvature anywhere, where descents end, how many different minima there are, how weights grow."""
    squared, decay = variant["squared"], variant["decay"]
    x, y = examples(settings, seed, variant["separable"])
    rng = np.random.default_rng(derive(seed, "starts"))
    w = 3 * rng.normal(size=(settings.starts, 3))
    curvature = np.linalg.eigvalsh(cost(w, x, y, squared, decay)[2])[:, 0].min()
    line = np.linspace(-3, 3, POINTS)[:, None] * np.array([1.0, 0, 0])
    rate = 1 / np.linalg.eigvalsh(x.T @ x / len(x) / 4 + decay * np.eye(3))[-1]
    half = descend(w, x, y, squared, decay, settings.steps // 2, rate)
    end = descend(half, x, y, squared, decay, settings.steps - settings.steps // 2, rate)
    costs, slopes, hessians = cost(end, x, y, squared, decay)
    still = (np.linalg.norm(slopes, axis=1) < 1e-4) & (np.linalg.eigvalsh(hessians)[:, 0] > 0)
    return {
        "curvature": curvature,
        "spread": costs.max() - costs.min(),
        "worse": (costs > costs.min() + 0.01).mean(),
        "minima": len(set(np.round(costs[still], 3))),
        "growth": np.log2(np.linalg.norm(end, axis=1) / np.linalg.norm(half, axis=1)).mean(),
        "line": cost(line, x, y, squared, decay)[0].round(4),
        "ends": np.sort(costs).round(4),
    }


def draw(figure: Any, results: Results) -> None:
    """A cut through the surface, and where descents end."""
    cut, ends = figure.subplots(1, 2)
    chosen = {"cross-entropy": "cross-entropy", "squared error": "squared"}
    lines = {label: column(results[name], "line") for label, name in chosen.items()}
    curves(cut, np.linspace(-3, 3, POINTS), lines, ("weight of the first input, others 0", "cost"))
    for label, name in chosen.items():
        costs = np.concatenate([np.asarray(seed["ends"]) for seed in results[name]])
        ends.plot(np.sort(costs), np.linspace(0, 1, len(costs)), label=label)
    ends.set_xlabel("cost where a descent ended", fontsize=9)
    ends.set_ylabel("share of starts with at most that", fontsize=9)
    ends.grid(alpha=0.3)
    ends.tick_params(labelsize=8)
    ends.legend(fontsize=8)


STUDIES.register("convex-cost")(
    Study(
        claim="With cross-entropy the cost of logistic regression is convex and all descents end alike; with squared "
        "error it is not, and many end on plateaus or in poor minima.",
        claim_ja="ロジスティック回帰の損失は、交差エントロピーなら凸で、どこから勾配降下を始めても同じ所に着く。"
        "二乗誤差なら凸ではなく、プラトーや悪い局所解に止まる初期値が多い。",
        source="item 018; Auer et al. 1996; Bishop 2006, section 4.3",
        settings=Settings(),
        smoke={"starts": 6, "steps": 2_000},
        small={"steps": 5_000},
        small_seeds=8,
        variants={
            "cross-entropy": {"squared": False, "decay": 0.0, "separable": False},
            "squared": {"squared": True, "decay": 1e-3, "separable": False},
            "separable": {"squared": False, "decay": 0.0, "separable": True},
            "separable with L2": {"squared": False, "decay": 1e-2, "separable": True},
        },
        measure=measure,
        contrasts=(
            Contrast("cross-entropy: no negative curvature anywhere", {"cross-entropy/curvature": 1}, above=-1e-9),
            Contrast("squared error: there is, below -0.01", {"squared/curvature": -1}, above=0.01),
            Contrast("cross-entropy: ends differ in cost by 0.001 at the most", {"cross-entropy/spread": -1}, -1e-3),
            Contrast("squared error: a tenth of the starts end worse than the best by 0.01", {"squared/worse": 1}, 0.1),
            Contrast(
                "squared error: more than one true minimum is found",
                {"squared/minima": 1},
                above=1.5,
                trials=1,
                span=(1, 2),
            ),
            Contrast(
                "separable classes: weights still grow by 5 % in the second half of the descent",
                {"separable/growth": 1},
                above=0.07,
            ),
            Contrast(
                "with an L2 penalty they do not: by 0.1 % at the most",
                {"separable with L2/growth": -1},
                -0.0014,
                exact=True,
            ),
        ),
        draw=draw,
        correction="Convexity is that of the linear model alone: with a hidden layer cross-entropy has many minima. "
        "And a convex cost need not have a minimum: of separable classes the best weights are infinitely large.",
        correction_ja="凸なのは線形モデルだからで、隠れ層があれば交差エントロピーにも多くの局所解がある。また、"
        "凸であっても最小点があるとは限らない。線形分離可能なデータでは、最適な重みは無限大になる。",
    )
)
