"""What a test error is worth when training was stopped by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network on few digits of 8x8 pixels; parts of what it was not trained on stop it, and judge it."""

    train: int = 200
    updates: int = 1_500
    looks: int = 75
    """On the way, of which one is chosen."""
    draws: int = 300
    """Of the parts that stop and judge, for each network."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """True less told test error, in points, in the mean over draws.

    "optimism": told by the part that chose the look; "honest": by another part of the same size, after the first has
    chosen. True: on all examples that are neither trained on nor in a part.
    """
    import torch

    from rlab.seeding import derive
    from rlab.studies.supervised import fit, network, parts

    train, (x, y) = parts("digits", seed, settings.train, 0)
    model = network([64, 128, 10], seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    plan: dict[str, Any] = {"steps": settings.updates, "batch_size": 25, "seed": seed, "points": settings.looks}
    wrong = 100 * np.array(fit(model, *train, optimiser, look=lambda: (model(x).argmax(1) != y).numpy(), **plan))
    generator = np.random.default_rng(derive(seed, "parts"))
    gaps = np.zeros((settings.draws, 2))
    for draw_of in gaps:
        order = generator.permutation(len(y))
        chooser, second, fresh = np.split(order, [variant, 2 * variant])
        estimates = wrong[:, chooser].mean(1)
        best = int(estimates.argmin())
        true = wrong[best, fresh].mean()
        draw_of[:] = true - estimates[best], true - wrong[best, second].mean()
    optimism, honest = gaps.mean(0)
    return {"optimism": optimism, "honest": honest, "off": abs(honest)}


def draw(figure: Any, results: Results) -> None:
    """Optimism by the size of the part."""
    axes = figure.subplots()
    shown = {}
    for name, seeds in results.items():
        shown[f"{name}, stopped\nand judged"] = column(seeds, "optimism")
        shown[f"{name}, judged\napart"] = column(seeds, "honest")
    dots(axes, shown, "true less told error in points")
    axes.axhline(0, color="black", lw=1, ls=":")


STUDIES.register("stopping-on-test-data")(
    Study(
        claim="A test error that decided where training stopped is too low, the more so the smaller the test set; "
        "after stopping by validation examples the test error is right in the mean.",
        claim_ja="学習を止める判断に使ったテスト誤差は、本来より低い値になり、"
        "テストデータが少ないほどその偏りは大きい。検証データで止めれば、テスト誤差は平均的に正しい。",
        correction="A text stops where the test error begins to rise; that uses test examples for training, and they "
        "can then judge no more. A validation split is for that.",
        correction_ja="教材は、テスト誤差が上がり始めたら止めるとする。"
        "それではテストデータを学習に使ったことになり、もう性能の評価には使えない。そのために検証データがある。",
        source="item 141; Cawley & Talbot 2010",
        settings=Settings(),
        smoke={"updates": 40, "looks": 10, "draws": 5},
        small={"updates": 500, "looks": 50, "draws": 200},
        small_seeds=6,
        variants={"50 examples": 50, "400 examples": 400},
        measure=measure,
        contrasts=(
            Contrast("what stopped it tells too little (50 examples, points)", {"50 examples/optimism": 1}),
            Contrast("less so with 400", {"50 examples/optimism": 1, "400 examples/optimism": -1}),
            Contrast("what did not is right within 0.3 points (400)", {"400 examples/off": -1}, above=-0.3),
        ),
        draw=draw,
        seeds=15,
    )
)
