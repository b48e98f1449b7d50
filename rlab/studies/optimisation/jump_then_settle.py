"""Large steps that leave a valley, and rates that fall so that the next one is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 20


@dataclass(frozen=True)
class Settings:
    """Three tasks for each way to set the rate: two valleys, Rastrigin's hundred, a network on pictures of digits."""

    steps: int = 1_000
    """Updates in the valleys."""
    starts: int = 200
    """Walks in the valleys."""
    data: str = "mnist"
    """What the network learns."""
    examples: int = 4_000
    """To learn from."""
    updates: int = 2_000
    """Of the network, on batches of 16."""
    wrong: float = 0.3
    """Share of the labels drawn anew: what cannot be fitted keeps the noise of batches alive."""


LARGE = {"wells": 0.5, "rastrigin": 0.1, "digits": 0.5}
"""Rates at which a step is longer than a narrow valley; on digits one at which the loss still falls."""

SMALL = {"wells": 0.02, "rastrigin": 0.005, "digits": 0.02}


def valleys(narrow: float, wide: float) -> Any:
    """x[N, 1] -> [N]: a narrow valley at -2 (width 0.2) and a wide one at 2 (width 1), as deep as said."""

    def surface(x: Any) -> Any:
        from torch import exp

        holes = narrow * exp(-((x + 2) ** 2) / 0.08) + wide * exp(-((x - 2) ** 2) / 2)
        return (0.02 * (x - 1) ** 2 - holes).sum(1)

    return surface


def rastrigin(x: Any) -> Any:
    """x[N, D] -> [N]: a bowl full of dents, lowest at 0 with the height 0."""
    from math import pi

    return (x**2 + 1 - (2 * pi * x).cos()).sum(1)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Shares that reach the wide valley, deep or not; heights on Rastrigin; the network's loss at last."""
    import torch

    from rlab.nn.optim import SCHEDULES
    from rlab.studies.descent import walk

    rates, options = (LARGE if variant["large"] else SMALL), variant["options"]
    rng = np.random.default_rng(derive(seed, "starts"))
    narrow, anywhere = rng.uniform(-2.15, -1.85, (settings.starts, 1)), rng.uniform(-4, 4, (settings.starts, 2))

    def factor(part: float) -> float:
        return float(SCHEDULES.get(variant["schedule"])(part, **options))

    def end(surface: Any, starts: Any, rate: float) -> Any:
        path = walk(surface, starts, "sgd", settings.steps, schedule=factor, lr=rate)
        return np.nan_to_num(np.clip(path[-1], -1e3, 1e3), nan=1e3)

    heights = rastrigin(torch.tensor(end(rastrigin, anywhere, rates["rastrigin"]))).clamp(max=100)
    losses = _digits(settings, rates["digits"], factor, seed)
    return {
        "wide_deep": float((end(valleys(0.5, 1.0), narrow, rates["wells"])[:, 0] > 0).mean()),
        "wide_shallow": float((end(valleys(1.5, 0.5), narrow, rates["wells"])[:, 0] > 0).mean()),
        "rastrigin": float(heights.mean()),
        "digits": float(np.mean(losses[-POINTS // 5 :])),
        "curve": np.round(losses, 5),
    }


def _digits(settings: Settings, rate: float, factor: Any, seed: int) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.nn.optim import make_optimiser, scale_rates
    from rlab.studies.supervised import examples, fit, network

    data = examples(settings.data, seed, settings.examples, preprocess="standard")
    generator = torch.Generator().manual_seed(derive(seed, "wrong"))
    others = torch.randint(10, data.y.shape, generator=generator)
    y = torch.where(torch.rand(len(data.y), generator=generator) < settings.wrong, others, data.y)
    model = network((data.x[0].numel(), 32, 10), seed=seed)
    optimiser = make_optimiser("sgd", model.parameters(), lr=rate)
    scale_rates(optimiser, factor(0.0))
    return fit(
        model,
        data.x,
        y,
        optimiser,
        steps=settings.updates,
        batch_size=16,
        seed=seed,
        after=lambda step: scale_rates(optimiser, factor(step / settings.updates)),
        look=lambda: float(cross_entropy(model(data.x), y)),
        points=POINTS,
    )


def draw(figure: Any, results: Results) -> None:
    """Heights on Rastrigin by schedule, and the network's loss."""
    above, below = figure.subplots(2, 1)
    names = {name: name.replace("-", "\n", 1) for name in results}
    dots(above, {names[name]: column(seeds, "rastrigin") for name, seeds in results.items()}, "end on Rastrigin")
    chosen = ("small", "large", "step-early", "step", "cosine")
    ways = {name: np.log10(np.maximum(column(results[name], "curve"), 1e-6)) for name in chosen}
    curves(below, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "wrong labels: loss, powers of 10"))


CONSTANT: dict[str, Any] = {"schedule": "constant", "options": {}}

STUDIES.register("jump-then-settle")(
    Study(
        claim="A large rate jumps out of a narrow valley into a wide one, though it be less deep, and does not settle "
        "among many; a rate that is large first and falls, not too early, ends lower than either constant.",
        claim_ja="大きな学習率は、狭い谷から飛び出して広い谷に入る。それが浅い谷でもそうである。谷が多いと、"
        "一つの谷に落ち着かない。最初は大きくし、早すぎない時期に下げる学習率は、"
        "どちらの一定の学習率よりも低い損失に達する。",
        source="item 069; Robbins & Monro 1951; Loshchilov & Hutter 2017",
        correction="The text says that a large rate jumps over the barrier towards the global optimum. It jumps out of "
        "what is too narrow for its step: out of the deepest valley, too, if that is the narrow one.",
        correction_ja="教材は、大きな学習率なら山を越えて大域最適解に向かえるとする。実際に飛び出すのは、"
        "ステップ幅に対して狭すぎる谷である。最も深い谷でも、狭ければ飛び出してしまう。",
        settings=Settings(),
        smoke={"steps": 20, "starts": 10, "data": "digits", "examples": 50, "updates": 20},
        small={"steps": 200, "starts": 100, "data": "digits", "examples": 500, "updates": 250},
        small_seeds=4,
        seeds=5,
        variants={
            "small": {"large": False, **CONSTANT},
            "large": {"large": True, **CONSTANT},
            "step-early": {"large": True, "schedule": "step", "options": {"at": [0.01, 0.02]}},
            "step": {"large": True, "schedule": "step", "options": {}},
            "cosine": {"large": True, "schedule": "cosine", "options": {}},
            "inverse": {"large": True, "schedule": "inverse", "options": {}},
            "cyclic": {"large": True, "schedule": "cyclic", "options": {}},
            "warm-up-cosine": {"large": True, "schedule": "warm-up-cosine", "options": {}},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "large steps go from a narrow into a wide, deeper valley, small ones do not",
                {"large/wide_deep": 1, "small/wide_deep": -1},
                0.9,
                trials="starts",
            ),
            Contrast(
                "they do so, too, where the wide one is less deep",
                {"large/wide_shallow": 1, "small/wide_shallow": -1},
                0.9,
                trials="starts",
            ),
            Contrast("Rastrigin: cosine ends lower than small", {"small/rastrigin": 1, "cosine/rastrigin": -1}),
            Contrast("Rastrigin: cosine ends lower than large", {"large/rastrigin": 1, "cosine/rastrigin": -1}),
            Contrast(
                "Rastrigin: steps down at half and three quarters beat those within the first 2 %",
                {"step-early/rastrigin": 1, "step/rastrigin": -1},
            ),
            Contrast(
                "digits, labels partly wrong: cosine ends lower than small", {"small/digits": 1, "cosine/digits": -1}
            ),
            Contrast(
                "digits, labels partly wrong: cosine ends lower than large", {"large/digits": 1, "cosine/digits": -1}
            ),
        ),
        draw=draw,
    )
)
