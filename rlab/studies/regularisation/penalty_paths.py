"""Weights over the strength of L1, L2 and elastic-net penalties, beside scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Factors of the penalty, beside half the mean squared error of standardised targets."""


@dataclass(frozen=True)
class Settings:
    """The diabetes table: ten standardised inputs, one standardised target."""

    train: int = 300
    """Patients that are fitted to, drawn by the seed."""
    steps: int = 5_000
    """Proximal gradient steps with momentum (FISTA: Beck & Teboulle 2009)."""


def descend(x: Any, y: Any, ratio: float, steps: int) -> Any:
    """Weights [P, D] of 1/2 mean (y - xw)^2 + strength (ratio |w| + (1 - ratio)/2 w^2), for all strengths at once."""
    gram, moment, strengths = x.T @ x / len(x), x.T @ y / len(x), np.array(STRENGTHS)[:, None]
    rate = 1 / (np.linalg.eigvalsh(gram)[-1] + strengths * (1 - ratio))
    w = ahead = np.zeros((len(STRENGTHS), x.shape[1]))
    t = 1.0
    for _ in range(steps):
        step = ahead - rate * (ahead @ gram - moment + strengths * (1 - ratio) * ahead)
        new = np.sign(step) * np.maximum(np.abs(step) - rate * strengths * ratio, 0)
        if ((ahead - new) * (new - w)).sum() > 0:  # momentum that points uphill is dropped (O'Donoghue & Candes 2015)
            t = 1.0
        t, before = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        ahead, w = new + (before - 1) / t * (new - w), new
    return w


def peers(x: Any, y: Any, ratio: float) -> Any:
    """The same by scikit-learn: coordinate descent, or a closed form where there is no L1."""
    from sklearn.linear_model import ElasticNet, Ridge

    if ratio == 0:
        models = [Ridge(len(x) * strength) for strength in STRENGTHS]
    else:
        models = [ElasticNet(strength, l1_ratio=ratio, tol=1e-12, max_iter=100_000) for strength in STRENGTHS]
    return np.array([model.fit(x, y).coef_ for model in models])


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The path, how far it is from scikit-learn's, its exact zeros and its norms; and the mean that is predicted."""
    from rlab.studies.supervised import examples

    data = examples("diabetes", seed, settings.train)
    x, y = data.x.double().numpy(), data.y.double().numpy()
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    ratio = variant["ratio"]
    path = descend(x, y, ratio, settings.steps)
    kind = "l2" if ratio == 0 else "l1"
    norms = np.linalg.norm(path, axis=1) if kind == "l2" else np.abs(path).sum(axis=1)
    return {
        "path": np.round(path, 4),
        "log_gap": float(np.log10(max(1e-16, np.abs(path - peers(x, y, ratio)).max()))),
        "zeros": (path == 0).sum(axis=1),
        "left": int((path != 0)[-1].sum()),
        "smallest_fall": float(-np.diff(norms[norms > 0]).max()),
    }


def draw(figure: Any, results: Results) -> None:
    """The weights of the first seed over the strength, and how many of them are exactly 0 in the mean over seeds."""
    panels = figure.subplots(2, 2).ravel()
    for axes, (name, seeds) in zip(panels, results.items(), strict=False):
        axes.semilogx(STRENGTHS, np.array(column(seeds, "path")[0]), lw=1, antialiased=False)
        axes.axhline(0, color="black", lw=0.5)
        axes.set_title(name, fontsize=9)
        axes.set_ylabel("the ten weights", fontsize=8)
        panels[3].semilogx(STRENGTHS, np.mean(column(seeds, "zeros"), axis=0), "o-", ms=3, lw=1, label=name)
    panels[3].set_ylabel("weights at exactly 0", fontsize=8)
    panels[3].legend(fontsize=7)
    for axes in panels:
        axes.set_xlabel("strength λ", fontsize=8)
        axes.tick_params(labelsize=7)


VARIANTS = {"l1": {"ratio": 1.0}, "elastic": {"ratio": 0.5}, "l2": {"ratio": 0.0}}

STUDIES.register("penalty-paths")(
    Study(
        claim="A larger factor of an L1, L2 or elastic-net penalty shrinks the weights further, and the one minimum of "
        "each is found alike by proximal gradient steps and by scikit-learn; only with L1 are weights exactly 0.",
        source="items 096-100; Tibshirani 1996; Hoerl & Kennard 1970; Zou & Hastie 2005",
        settings=Settings(),
        smoke={"train": 60, "steps": 300},
        small={},
        small_seeds=5,
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            *(Contrast(f"{name}: within 1e-6 of scikit-learn", {f"{name}/log_gap": -1}, above=6) for name in VARIANTS),
            *(Contrast(f"{name}: the norm falls at each step", {f"{name}/smallest_fall": 1}) for name in VARIANTS),
            Contrast(
                "the largest λ leaves L1 no weight, and L2 all ten",
                {"l2/left": 1, "l1/left": -1},
                above=9.5,
                exact=True,
            ),
        ),
        draw=draw,
        claim_ja="L1、L2、Elastic Net のどの正則化でも、係数 λ を大きくするほど重みは小さくなる。"
        "それぞれの最小解は一つで、近接勾配法でも scikit-learn でも同じ解が得られる。ちょうど 0 の重みは、"
        "L1 を含むときだけ現れる。",
    )
)
