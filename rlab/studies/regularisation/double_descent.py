"""Wider and wider networks on labels of which some are wrong: worst where they just fit, better again beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

RATIOS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Hidden units for each training example."""


@dataclass(frozen=True)
class Settings:
    """One hidden layer of random ReLU units; the output layer is fitted by least squares (Belkin et al. 2019)."""

    data: str = "mnist"
    """Pictures of digits."""
    train: int = 500
    """Training examples."""
    test: int = 2_000
    """Test examples, whose labels are right."""
    wrong: float = 0.2
    """Share of training labels that are drawn at random."""
    penalty: float = 0.1
    """L2 penalty of the penalised variant, for a feature of mean square 1, per example."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test error in percent over the width; what it is at width = examples, best below half of it, and at the end."""
    from rlab.seeding import derive
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.train, settings.test)
    rng = np.random.default_rng(derive(seed, "labels"))
    x, x_test = (part.flatten(1).double().numpy() for part in (data.x, data.x_test))
    scale = np.sqrt(np.square(x).sum(axis=1).mean())
    y, n = data.y.numpy().copy(), len(data.y)
    again = rng.random(n) < settings.wrong
    y[again] = rng.integers(10, size=int(again.sum()))
    weights = rng.standard_normal((x.shape[1], int(max(RATIOS) * n))) * np.sqrt(2) / scale
    hidden, hidden_test = np.maximum(x @ weights, 0), np.maximum(x_test @ weights, 0)
    way, fits = [], []
    for ratio in RATIOS:
        width = max(1, int(ratio * n))
        out = least_squares(hidden[:, :width], np.eye(10)[y] - 0.1, settings.penalty * n if variant["penalty"] else 0)
        way.append(100 * float(((hidden_test[:, :width] @ out).argmax(axis=1) != data.y_test.numpy()).mean()))
        fits.append(100 * float(((hidden[:, :width] @ out).argmax(axis=1) != y).mean()))
    narrow = [error for ratio, error in zip(RATIOS, way, strict=True) if ratio <= 0.5]
    return {
        "curve": np.round(way, 3),
        "train": np.round(fits, 3),
        "narrow": min(narrow),
        "fitting": way[RATIOS.index(1.0)],
        "wide": way[-1],
        "wide_train": fits[-1],
    }


def least_squares(hidden: Any, targets: Any, penalty: float) -> Any:
    """The weights [W, K] of least norm among those of least squared error; or of least error + penalty * norm^2."""
    if penalty == 0:
        return np.linalg.lstsq(hidden, targets, rcond=None)[0]
    n, width = hidden.shape
    if width > n:
        return hidden.T @ np.linalg.solve(hidden @ hidden.T + penalty * np.eye(n), targets)
    return np.linalg.solve(hidden.T @ hidden + penalty * np.eye(width), hidden.T @ targets)


def draw(figure: Any, results: Results) -> None:
    """Test error over the width, and the training error that falls to 0 where the peak is."""
    axes = figure.subplots()
    ways = {f"{name}: test": column(seeds, "curve") for name, seeds in results.items()}
    ways["no penalty: training"] = column(results["no penalty"], "train")
    curves(axes, RATIOS, ways, ("hidden units for each training example", "error in percent"))
    axes.set_xscale("log")
    axes.axvline(1, color="black", lw=1, ls=":")


STUDIES.register("double-descent")(
    Study(
        claim="With wrong labels the test error is worst where a network is just wide enough to fit them all, and "
        "falls again as it grows wider; a penalty takes that peak away.",
        source="item 092; Belkin et al. 2019; Nakkiran et al. 2020",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "test": 100},
        small={"data": "digits", "train": 200, "test": 0},
        small_seeds=5,
        variants={"no penalty": {"penalty": False}, "penalty": {"penalty": True}},
        measure=measure,
        contrasts=(
            Contrast(
                "as wide as there are examples errs more than narrower (points)",
                {"no penalty/fitting": 1, "no penalty/narrow": -1},
                above=5,
            ),
            Contrast(
                "ten times as wide errs less than that (points)",
                {"no penalty/fitting": 1, "no penalty/wide": -1},
                above=5,
            ),
            Contrast(
                "ten times as wide fits every wrong label",
                {"no penalty/wide_train": -1},
                above=-0.5,
                trials="train",
                span=(0, 100),
            ),
            Contrast(
                "and yet errs no more than the best narrow one",
                {"no penalty/narrow": 1, "no penalty/wide": -1},
            ),
            Contrast(
                "with a penalty the peak is lower (points)",
                {"no penalty/fitting": 1, "penalty/fitting": -1},
                above=5,
            ),
        ),
        draw=draw,
        seeds=5,
        claim_ja="誤ったラベルが混じると、テスト誤差は、ネットワークがすべてのラベルにちょうど適合できる幅のときに最"
        "も大きく、さらに幅を広げると再び下がる。正則化を加えると、その山は消える。",
        correction="That complex deep models overfit easily is half of it: error rises with width only up to where the "
        "training labels are just fitted. Far beyond, of all solutions the least-norm one is found, which is smooth.",
        correction_ja="複雑な深層モデルは過学習しやすい、というのは半分だけ正しい。誤差が幅とともに増えるのは、"
        "訓練ラベルにちょうど適合するところまでである。それをはるかに超えると、無数の解のうち、"
        "ノルムが最小の滑らかな解が得られる（二重降下）。",
    )
)
