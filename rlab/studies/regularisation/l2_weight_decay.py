"""An L2 penalty in the loss against decay of the weights beside the step, by optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 20


@dataclass(frozen=True)
class Settings:
    """A network of one hidden layer on digits, in float64, twice from the same start on the same batches."""

    steps: int = 2_000
    """Updates."""
    strength: float = 0.01
    """Factor of 1/2 sum w^2; the decay a step is the rate times that."""


def train(settings: Settings, variant: Any, way: str, seed: int) -> list[Any]:
    """The weights in one vector at each of the points; way: "penalty", "decay" or "neither"."""
    import torch

    from rlab.nn.optim import make_optimiser
    from rlab.nn.penalties import l2, weights_of
    from rlab.studies.supervised import examples, fit, network

    data = examples("digits", seed, 500)
    model = network((64, 16, 10), "tanh", seed=seed).double()
    weights, rate = weights_of(model), variant["rate"]
    before = [w.detach().clone() for w in weights]

    def decay(step: int) -> None:
        """Take the decay of the weights as they were before the step, whatever the optimiser made of the gradient."""
        with torch.no_grad():
            for w, old in zip(weights, before, strict=True):
                if way == "decay":
                    w.sub_(rate * settings.strength * old)
                old.copy_(w)

    return fit(
        model, data.x.double(), data.y, make_optimiser(variant["optimiser"], model.parameters(), lr=rate),
        steps=settings.steps, batch_size=50, seed=seed, after=decay, points=POINTS,
        penalty=lambda: settings.strength * l2(weights) if way == "penalty" else 0.0,
        look=lambda: torch.cat([w.flatten() for w in weights]),
    )  # fmt: skip


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of how far the two are apart as a part of the weights' norm, and by what decay shrinks that."""
    penalty, decay, neither = (train(settings, variant, way, seed) for way in ("penalty", "decay", "neither"))
    apart = [float((p - d).norm() / d.norm()) for p, d in zip(penalty, decay, strict=True)]
    curve = np.log10(np.maximum(apart, 1e-17))
    return {"curve": np.round(curve, 3), "apart": curve[-1], "shrunk": float(decay[-1].norm() / neither[-1].norm())}


def draw(figure: Any, results: Results) -> None:
    """How far the weights are apart over training."""
    ways = columns(results, "curve")
    labels = ("part of the training", "log10 of ‖w(L2) - w(decay)‖ / ‖w‖")
    curves(figure.subplots(), (np.arange(POINTS) + 1) / POINTS, ways, labels)


STUDIES.register("l2-weight-decay")(
    Study(
        claim="An L2 penalty in the loss and decay of the weights beside the step are the same for plain SGD, to the "
        "last digits, and not the same for SGD with momentum or for Adam.",
        source="item 101; Loshchilov & Hutter 2019, propositions 1 and 2",
        settings=Settings(),
        smoke={"steps": 20},
        small={"steps": 200},
        small_seeds=4,
        variants={
            "sgd": {"optimiser": "sgd", "rate": 0.1},
            "momentum": {"optimiser": "momentum", "rate": 0.02},
            "adam": {"optimiser": "adam", "rate": 0.003},
        },
        measure=measure,
        contrasts=(
            Contrast("SGD: apart by less than 1e-12 of the weights", {"sgd/apart": -1}, above=12),
            Contrast("momentum: apart by more than 1e-3", {"momentum/apart": 1}, above=-3),
            Contrast("Adam: apart by more than 1e-1", {"adam/apart": 1}, above=-1),
            Contrast("SGD: weights are shrunk as a whole (part of the norm)", {"sgd/shrunk": -1}, above=-0.98),
        ),
        draw=draw,
        claim_ja="損失に加える L2 正則化と、更新のときに重みを減らす重み減衰は、"
        "単純な SGD では最後の桁を除いて一致する。モーメンタム付き SGD や Adam では一致しない。",
        correction="The slide makes 'L2 penalty' and 'weight decay' one thing. For plain SGD they are; adaptive "
        "methods divide the penalty's gradient by the size of past gradients, so that they differ (hence AdamW).",
        correction_ja="教材のスライドは、L2 正則化と重み減衰を同じものとしている。単純な SGD ではそのとおりである。"
        "適応的な手法は、正則化項の勾配も過去の勾配の大きさで割るので、"
        "両者は別のものになる（そのために AdamW がある）。",
    )
)
