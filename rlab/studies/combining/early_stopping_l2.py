"""Gradient descent that is stopped, against a quadratic penalty, along their whole paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

TIMES = np.unique(np.geomspace(1, 20_000, 60).astype(int))
"""Numbers of updates after which descent is stopped."""


@dataclass(frozen=True)
class Settings:
    """Linear regression on scikit-learn's diabetes data, standardised; half to train on, half to test."""

    train: int = 100
    """Examples."""
    rate: float = 0.1
    """Of gradient descent."""


def ridge(a: np.ndarray, b: np.ndarray, strength: float, centre: Any = 0.0) -> np.ndarray:
    """The minimum of 1/2 w A w - b w + strength / 2 |w - centre|^2."""
    return np.linalg.solve(a + strength * np.eye(len(b)), b + strength * centre * np.ones(len(b)))


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How far stopped descent is from ridge, as a part of the solution's length, and the best test errors of both.

    After t updates of rate r the penalty is 1 / (r t).
    """
    from sklearn.datasets import load_diabetes

    from rlab.seeding import derive

    generator = np.random.default_rng(derive(seed, "diabetes"))
    data = load_diabetes()
    order = generator.permutation(len(data.target))
    x, y = ((part - part.mean(0)) / part.std(0) for part in (data.data[order], data.target[order]))
    n = settings.train
    a, b = x[:n].T @ x[:n] / n, x[:n].T @ y[:n] / n
    solution = np.linalg.solve(a, b)
    length = np.linalg.norm(solution)
    start = generator.normal(size=len(b))
    start *= variant * length / np.linalg.norm(start)

    w = start.copy()
    path: list[np.ndarray] = []
    for t in range(1, TIMES[-1] + 1):
        w = w - settings.rate * (a @ w - b)
        if t == TIMES[len(path)]:
            path.append(w)
    ways = {"zero": 0.0, "start": start}
    paths = {way: [ridge(a, b, 1 / (settings.rate * t), centre) for t in TIMES] for way, centre in ways.items()}
    apart = {way: np.linalg.norm(np.array(path) - np.array(one), axis=1) / length for way, one in paths.items()}
    denser = np.array([ridge(a, b, s) for s in np.geomspace(1e-4, 1e4, 400)])
    nearest = np.array([np.linalg.norm(denser - one, axis=1).min() for one in path]) / length

    def best(weights: Any) -> float:
        return float(((np.array(weights) @ x[n:].T - y[n:]) ** 2).mean(1).min())

    stopped, penalised = best(path), best(paths["zero"])
    return {
        "zero": apart["zero"].max(),
        "start": apart["start"].max(),
        "nearest": nearest.max(),
        "errors": 100 * abs(stopped / penalised - 1),
        "curve": np.round(apart["zero"], 4),
        "nearest_curve": np.round(nearest, 4),
    }


def draw(figure: Any, results: Results) -> None:
    """Distances over the updates."""
    axes = figure.subplots()
    shown = {"from 0, penalty 1 / (rate t)": column(results["from zero"], "curve")}
    shown["from 0, nearest penalty"] = column(results["from zero"], "nearest_curve")
    shown["from elsewhere, 1 / (rate t)"] = column(results["from elsewhere"], "curve")
    curves(axes, TIMES, shown, ("updates t", "distance from ridge / solution's length"))
    axes.set_xscale("log")


STUDIES.register("early-stopping-l2")(
    Study(
        claim="Gradient descent on a linear model, begun at zero and stopped after t updates, is near the L2 penalty "
        "1 / (rate t) and predicts as well; it is not the same weights, and begun elsewhere it is another penalty.",
        claim_ja="線形モデルの勾配降下を 0 から始め、t 回の更新で止めた解は、"
        "強さ 1/(学習率 × t) の L2 正則化の解に近く、予測も同じくらいよい。ただし、重みは一致しない。"
        "0 以外から始めると、別の正則化に対応する。",
        correction="The text has early stopping as equivalent to L2; that holds along each eigenvector with a strength "
        "of its own, as a whole nearly, and for a quadratic error from zero.",
        correction_ja="教材は、早期終了を L2 正則化と等価とする。それは固有ベクトルごとに異なる強さで成り立ち、"
        "全体としては近似で、二乗誤差を 0 から学習する場合に限られる。",
        source="item 143; Bishop 1995; Goodfellow et al. 2016, section 7.8; Ali et al. 2019",
        settings=Settings(),
        smoke={"train": 60},
        small_seeds=10,
        variants={"from zero": 0.0, "from elsewhere": 3.0},
        measure=measure,
        contrasts=(
            Contrast("its path is within a quarter of the solution's length", {"from zero/zero": -1}, above=-0.25),
            Contrast("the best test errors differ by less than 2 %", {"from zero/errors": -1}, above=-2),
            Contrast("no penalty gives all of its weights", {"from zero/nearest": 1}, above=0.01),
            Contrast(
                "begun elsewhere it is nearer the penalty around its start",
                {"from elsewhere/zero": 1, "from elsewhere/start": -1},
            ),
        ),
        draw=draw,
        seeds=20,
    )
)
