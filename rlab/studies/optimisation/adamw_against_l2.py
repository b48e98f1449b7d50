"""Adam with a penalty in the gradient against Adam with decay beside the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Weights that see nothing but noise, quiet or loud; and a network on few pictures of digits."""

    steps: int = 500
    """Updates of the weights in noise."""
    data: str = "mnist"
    """What the network learns."""
    examples: int = 300
    """To learn from."""
    judged: int = 2_000
    """Other examples; half of them choose the decay, the other half are for the score."""
    updates: int = 1_000
    """Of the network, on batches of 32."""
    decays: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    """What both try."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """What decay leaves of weights whose gradients are quiet (0.01) and loud (1); accuracy on new pictures."""
    import torch

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import examples

    generator = torch.Generator().manual_seed(derive(seed, "noise"))
    loudness = torch.cat([torch.full((500,), 0.01), torch.full((500,), 1.0)])
    weights = torch.ones(1_000, requires_grad=True)
    optimiser = make_optimiser(variant, [weights], lr=1e-3, weight_decay=0.1 if variant == "adam" else 1.0)
    for _ in range(settings.steps):
        weights.grad = loudness * torch.randn(1_000, generator=generator)
        optimiser.step()
    quiet, loud = (float(part.mean()) for part in weights.detach().split(500))
    data = examples(settings.data, seed, settings.examples, settings.judged, preprocess="standard")
    scores = [_scores(settings, variant, decay, data, seed) for decay in settings.decays]
    best = int(np.argmax([choosing for choosing, _ in scores]))
    return {"quiet": quiet, "loud": loud, "difference": loud - quiet, "accuracy": scores[best][1]}


def _scores(settings: Settings, name: str, decay: float, data: Any, seed: int) -> tuple[float, float]:
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, fit, network

    model = network((data.x[0].numel(), 64, 10), seed=seed)
    optimiser = make_optimiser(name, model.parameters(), lr=3e-3, weight_decay=decay)
    fit(model, data.x, data.y, optimiser, steps=settings.updates, batch_size=32, seed=seed)
    choosing, judging = (accuracy(model, data.x_test[k::2], data.y_test[k::2]) for k in range(2))
    return choosing, judging


def draw(figure: Any, results: Results) -> None:
    """What is left of the weights, and the accuracy."""
    left, right = figure.subplots(1, 2)
    names = {"adam": "L2 in Adam", "adamw": "AdamW"}
    kinds = {
        f"{label}\n{kind}": column(results[name], kind) for name, label in names.items() for kind in ("quiet", "loud")
    }
    dots(left, kinds, "what decay leaves of the weights (they began with 1)")
    dots(right, {label: column(results[name], "accuracy") for name, label in names.items()}, "accuracy on new pictures")


STUDIES.register("adamw-against-l2")(
    Study(
        claim="In Adam an L2 penalty hardly shrinks weights whose gradients are loud, while decoupled decay (AdamW) "
        "shrinks all alike; with the best decay for each, AdamW classifies new pictures better.",
        claim_ja="Adam に L2 正則化を加えても、勾配の大きい重みはほとんど縮まない。"
        "更新から切り離した重み減衰（AdamW）は、どの重みも同じ割合で縮める。それぞれ最良の強さを選べば、"
        "未知の画像は AdamW のほうがよく分類できる。",
        source="item 078; Loshchilov & Hutter 2019, sections 2 and 4",
        settings=Settings(),
        smoke={"steps": 30, "data": "digits", "examples": 40, "judged": 40, "updates": 5, "decays": (0.1,)},
        small={"data": "digits", "examples": 100, "judged": 0, "updates": 150},
        small_seeds=5,
        variants={"adam": "adam", "adamw": "adamw"},
        measure=measure,
        contrasts=(
            Contrast("L2 in Adam leaves 0.1 more of weights with loud gradients", {"adam/difference": 1}, 0.1),
            Contrast(
                "decoupled decay tells loud from quiet less",
                {"adam/difference": 1, "adamw/difference": -1},
                0.1,
            ),
            Contrast("AdamW is right about new pictures more often", {"adamw/accuracy": 1, "adam/accuracy": -1}),
        ),
        draw=draw,
    )
)
