"""Whether adaptive methods predict new examples worse: on a problem made for it, and on pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A linear problem with more weights than examples (Wilson et al. 2017, section 3.3), and a network on digits."""

    made: int = 200
    """Examples of the made problem; as many new ones are for the score."""
    steps: int = 500
    """Updates on the made problem, all examples at once."""
    data: str = "mnist"
    """What the network learns."""
    examples: int = 1_000
    """To learn from."""
    judged: int = 4_000
    """Other examples; half of them choose the rate, the other half are for the score."""
    updates: int = 1_500
    """Of the network, on batches of 32."""


RATES = {
    "sgd": (0.01, 0.03, 0.1, 0.3, 1.0),
    "momentum": (0.003, 0.01, 0.03, 0.1, 0.3),
    "adagrad": (0.003, 0.01, 0.03, 0.1),
    "rmsprop": (0.0003, 0.001, 0.003, 0.01),
    "adam": (0.0003, 0.001, 0.003, 0.01),
}
"""What each tries on pictures."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy on old and new examples of the made problem, and on new pictures at the best rate."""
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.examples, settings.judged, preprocess="standard")
    fitted, new = _made(settings, variant, seed)
    scores = [_pictures(settings, variant, rate, data, seed) for rate in RATES[variant]]
    best = int(np.argmax([choosing for choosing, _ in scores]))
    return {"fitted": fitted, "made": new, "pictures": scores[best][1]}


def _made(settings: Settings, name: str, seed: int) -> tuple[float, float]:
    """Feature 0 is the class, 1 and 2 are always 1; each example has others of its own: one if +1, five if -1."""
    import torch

    from rlab.studies.descent import walk

    n = settings.made
    y = np.random.default_rng(derive(seed, "classes")).choice([-1, 1], 2 * n, p=[0.3, 0.7])
    x = np.zeros((2 * n, 3 + 5 * 2 * n))
    x[:, 0], x[:, 1:3] = y, 1
    for i, label in enumerate(y):
        x[i, 3 + 5 * i : 3 + 5 * i + (1 if label > 0 else 5)] = 1
    inputs, right = torch.tensor(x[:n]), torch.tensor(y[:n]).double()
    rate = 0.1 if name in ("sgd", "momentum") else 0.01
    path = walk(
        lambda w: (w @ inputs.T - right).square().mean(1) / 2, np.zeros((1, x.shape[1])), name, settings.steps, lr=rate
    )
    correct = np.sign(x @ path[-1, 0]) == y
    return float(correct[:n].mean()), float(correct[n:].mean())


def _pictures(settings: Settings, name: str, rate: float, data: Any, seed: int) -> tuple[float, float]:
    from rlab.nn.optim import SCHEDULES, make_optimiser, scale_rates
    from rlab.studies.supervised import accuracy, fit, network

    model = network((data.x[0].numel(), 64, 10), seed=seed)
    optimiser, cosine = make_optimiser(name, model.parameters(), lr=rate), SCHEDULES.get("cosine")
    fit(
        model,
        data.x,
        data.y,
        optimiser,
        steps=settings.updates,
        batch_size=32,
        seed=seed,
        after=lambda step: scale_rates(optimiser, cosine(step / settings.updates)),
    )
    choosing, judging = (accuracy(model, data.x_test[k::2], data.y_test[k::2]) for k in range(2))
    return choosing, judging


def draw(figure: Any, results: Results) -> None:
    """Both accuracies by optimiser."""
    above, below = figure.subplots(2, 1)
    dots(above, columns(results, "made"), "accuracy, made problem")
    dots(below, columns(results, "pictures"), "accuracy, new pictures")


STUDIES.register("adam-generalises")(
    Study(
        claim="On a problem made for it Adam fits what it has seen and misses much of what is new, where gradient "
        "descent is right; on pictures, at its best rate, it is at most a point worse than momentum.",
        claim_ja="そのために作られた問題では、Adam は訓練データに適合しながら未知のデータの多くを間違え、"
        "勾配降下法は正しく答える。しかし画像では、最良の学習率を選んだ Adam がモーメンタムに劣るのは、"
        "1 ポイント以内である。",
        source="item 078; Wilson et al. 2017; Choi et al. 2019",
        settings=Settings(),
        smoke={"made": 10, "steps": 20, "data": "digits", "examples": 40, "judged": 40, "updates": 4},
        small={"made": 200, "steps": 300, "data": "digits", "examples": 400, "judged": 0, "updates": 120},
        small_seeds=5,
        seeds=5,
        variants={name: name for name in RATES},
        measure=measure,
        contrasts=(
            Contrast(
                "the made problem: Adam is right about nearly all it has seen", {"adam/fitted": 1}, 0.95, trials="made"
            ),
            Contrast("gradient descent is right about new examples", {"sgd/made": 1}, 0.95, trials="made"),
            Contrast("a tenth more of them than Adam", {"sgd/made": 1, "adam/made": -1}, 0.1),
            Contrast("pictures: Adam is at most a point worse", {"adam/pictures": 1, "momentum/pictures": -1}, -0.01),
        ),
        draw=draw,
    )
)
