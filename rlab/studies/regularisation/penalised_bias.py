"""Penalties with and without the biases, in a regression and in a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SHIFTS = (0.0, 1.0, 2.0, 5.0, 10.0)
"""What is added to standardised targets: where their zero lies. The table's own is 2 standard deviations below."""


@dataclass(frozen=True)
class Settings:
    """Ridge regression of the diabetes table, and a network of one hidden layer on digits."""

    strength: float = 0.3
    """Of the regression's penalty, beside half the mean squared error."""
    steps: int = 3_000
    """Steps of the network."""
    decay: float = 0.003
    """Of the network's penalty."""


def ridge(x: Any, y: Any, strength: float, bias_too: bool) -> Any:
    """The minimum of 1/2 mean (y - w0 - xw)^2 + strength/2 (|w|^2, + w0^2 if `bias_too`): [w0, w...]."""
    inputs = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    penalty = strength * np.eye(inputs.shape[1])
    penalty[0, 0] *= bias_too
    return np.linalg.solve(inputs.T @ inputs / len(x) + penalty, inputs.T @ y / len(x))


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The regression's R^2 on test examples over the targets' shift, and the network's accuracy in percent."""
    from rlab.nn.optim import decayed, make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    table = examples("diabetes", seed, preprocess="standard")
    x, y, x_test, y_test = (part.double().numpy() for part in table)
    y, y_test = (y - y.mean()) / y.std(), (y_test - y.mean()) / y.std()
    explained = []
    for shift in SHIFTS:
        w = ridge(x, y + shift, settings.strength, variant["bias_too"])
        errors = np.square(w[0] + x_test @ w[1:] - shift - y_test).mean()
        explained.append(float(1 - errors / y_test.var()))
    digits = examples("digits", seed, 300)
    model = network((64, 32, 10), seed=seed)
    groups: Any = decayed(model, settings.decay)
    groups[1]["weight_decay"] = settings.decay * variant["bias_too"]
    fit(
        model, digits.x, digits.y, make_optimiser("momentum", groups, lr=0.1),
        steps=settings.steps, batch_size=50, seed=seed,
    )  # fmt: skip
    return {
        "curve": np.round(explained, 4),
        "centred": explained[0],
        "own": explained[SHIFTS.index(2.0)],
        "change": float(max(explained) - min(explained)),
        "accuracy": 100 * accuracy(model, digits.x_test, digits.y_test),
    }


def draw(figure: Any, results: Results) -> None:
    """R^2 over the targets' shift."""
    ways = columns(results, "curve")
    curves(
        figure.subplots(), SHIFTS, ways, ("mean of the targets, in standard deviations", "test R² of the regression")
    )


STUDIES.register("penalised-bias")(
    Study(
        claim="Penalties are for weights: where the bias is penalised, too, a regression depends on where its target "
        "has its zero; a network on digits loses less than a point.",
        source="items 095, 100; Hastie et al. 2009, section 3.4.1; Goodfellow et al. 2016, section 7.1",
        settings=Settings(),
        smoke={"steps": 30},
        small={"steps": 500},
        small_seeds=8,
        variants={"weights alone": {"bias_too": False}, "biases too": {"bias_too": True}},
        measure=measure,
        contrasts=(
            Contrast("weights alone: no shift of the target changes R²", {"weights alone/change": -1}, above=-1e-9),
            Contrast(
                "biases too: the table's own zero costs over 0.1 of R²",
                {"biases too/centred": 1, "biases too/own": -1},
                above=0.1,
            ),
            Contrast(
                "network: with biases less than a point worse",
                {"biases too/accuracy": 1, "weights alone/accuracy": -1},
                above=-1,
            ),
        ),
        draw=draw,
        seeds=20,
        claim_ja="正則化は重みにだけ課す。バイアスにも課すと、回帰の結果が目標値の原点の取り方に左右される。一方、"
        "数字認識のネットワークでは、正解率の低下は 1 ポイントに満たない。",
    )
)
