"""How many hidden units answer at all, by activation and penalty, and what it does to accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10
WISHED = 0.05
"""Mean activation that the KL penalty asks of sigmoids (Ng 2011)."""


@dataclass(frozen=True)
class Settings:
    """A network with one hidden layer on pictures of digits."""

    data: str = "mnist"
    """The pictures."""
    train: int = 1_000
    """Training examples."""
    test: int = 5_000
    """Test examples."""
    hidden: int = 200
    """Hidden units."""
    steps: int = 3_000
    """Updates, of 50 examples each."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of hidden values at 0 (and below 0.1), of weights at 0, and of test answers that are right."""
    import torch

    from rlab.nn.optim import make_optimiser
    from rlab.nn.penalties import activation_kl, activation_l1, shrink
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test, "standard")
    size = data.x[0].numel()
    model: Any = network((size, settings.hidden, 10), variant["activation"], seed=seed, init=variant["init"])
    hidden: dict[str, Any] = {}
    model[-2].register_forward_hook(lambda layer, given, output: hidden.update(h=output))
    strength, kind = variant.get("strength", 0.0), variant.get("penalty")

    def penalty() -> Any:
        if kind == "activation-l1":
            return strength * activation_l1(hidden["h"])
        return strength * activation_kl(hidden["h"], WISHED) if kind == "activation-kl" else 0.0

    def threshold(step: int) -> None:
        if kind == "weights-l1":
            shrink([first.weight], rate * strength)

    rate = 0.05
    first: Any = model[1]
    way = fit(
        model, data.x, data.y, make_optimiser("sgd", model.parameters(), lr=rate), steps=settings.steps, batch_size=50,
        seed=seed, penalty=penalty, after=threshold, points=POINTS,
        look=lambda: 100 * accuracy(model, data.x_test, data.y_test),
    )  # fmt: skip
    with torch.no_grad():
        model(data.x_test)
    h = hidden["h"]
    return {
        "curve": np.round(way, 2),
        "accuracy": way[-1],
        "zeros": 100 * float((h == 0).float().mean()),
        "small": 100 * float((h.abs() < 0.1).float().mean()),
        "mean": float(h.mean()),
        "zero_weights": 100 * float((first.weight == 0).float().mean()),
    }


def draw(figure: Any, results: Results) -> None:
    """How sparse, how right, and how soon."""
    above, below = figure.subplots(2, 1)
    dots(above, columns(results, "small"), "hidden values |h| < 0.1, percent")
    above.tick_params(axis="x", labelsize=6)
    ways = columns(results, "curve")
    curves(below, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the training", "test accuracy in percent"))
    below.legend(fontsize=6, ncols=2)


VARIANTS: dict[str, dict[str, Any]] = {
    "tanh": {"activation": "tanh", "init": "xavier-normal"},
    "relu": {"activation": "relu", "init": "he-normal"},
    "relu, some L1": {"activation": "relu", "init": "he-normal", "penalty": "activation-l1", "strength": 5e-3},
    "relu, much L1": {"activation": "relu", "init": "he-normal", "penalty": "activation-l1", "strength": 0.3},
    "sigmoid": {"activation": "sigmoid", "init": "xavier-normal"},
    "sigmoid, KL": {"activation": "sigmoid", "init": "xavier-normal", "penalty": "activation-kl", "strength": 0.1},
    "relu, weights L1": {"activation": "relu", "init": "he-normal", "penalty": "weights-l1", "strength": 3e-3},
}

STUDIES.register("sparse-representation")(
    Study(
        claim="ReLU makes hidden values exactly 0 where tanh does not, a penalty on them makes more of them 0, L1 on "
        "the weights makes weights 0; some sparsity costs no accuracy, and much of it does.",
        source="item 105; Glorot et al. 2011; Ng 2011, section 3; Goodfellow et al. 2016, section 7.10",
        settings=Settings(),
        smoke={"data": "digits", "train": 200, "test": 0, "hidden": 32, "steps": 30},
        small={"data": "digits", "train": 300, "test": 0, "hidden": 100, "steps": 400},
        small_seeds=5,
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("ReLU: over 30 points more hidden values at 0", {"relu/zeros": 1, "tanh/zeros": -1}, above=30),
            Contrast("some L1: 10 points more than that", {"relu, some L1/zeros": 1, "relu/zeros": -1}, above=10),
            Contrast(
                "and less than a point of accuracy lost", {"relu, some L1/accuracy": 1, "relu/accuracy": -1}, above=-1
            ),
            Contrast("much L1 costs over 5 points", {"relu/accuracy": 1, "relu, much L1/accuracy": -1}, above=5),
            Contrast("KL: sigmoids' mean falls by over 0.2", {"sigmoid/mean": 1, "sigmoid, KL/mean": -1}, above=0.2),
            Contrast("L1 on weights: over 10 % of them are 0", {"relu, weights L1/zero_weights": 1}, above=10),
            Contrast(
                "and less than a point of accuracy lost",
                {"relu, weights L1/accuracy": 1, "relu/accuracy": -1},
                above=-1,
            ),
        ),
        draw=draw,
        seeds=5,
        claim_ja="ReLU は、tanh とは違い、隠れ層の値をちょうど 0 にする。隠れ層の値への正則化は 0 を増やし、"
        "重みへの L1 正則化は重みを 0 にする。ある程度のスパース性なら正解率は下がらないが、過度になると下がる。",
    )
)
