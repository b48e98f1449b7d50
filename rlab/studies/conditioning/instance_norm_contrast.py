"""What a change of an image's contrast and brightness does to nets that normalise differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Two convolutions and a linear layer, trained on digits as they are."""

    width: int = 32
    """Channels."""
    steps: int = 1_000
    """Updates of 64 examples, by Adam."""
    least: float = 0.3
    """Contrast of a changed image: between this and 1 / this, drawn evenly by its logarithm."""
    brighter: float = 1.0
    """What is added to all its pixels: up to this, more or less (in deviations of all pixels)."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in percent on digits as they are and on changed ones, and how far outputs move with a change."""
    import torch

    from rlab.nn.optim import make_optimiser
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, normed_convolutions

    data = examples("digits", seed, preprocess="standard")
    model = normed_convolutions(variant["norm"], settings.width, seed)
    optimiser = make_optimiser("adam", model.parameters(), lr=2e-3, foreach=True)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
    rng = np.random.default_rng(derive(seed, "changes"))
    count, edge = len(data.x_test), -np.log(settings.least)
    gain = torch.tensor(np.exp(rng.uniform(-edge, edge, (count, 1, 1, 1))), dtype=torch.float32)
    shift = torch.tensor(rng.uniform(-settings.brighter, settings.brighter, (count, 1, 1, 1)), dtype=torch.float32)
    changed = gain * data.x_test + shift
    with torch.no_grad():
        as_they_are, moved = model(data.x_test).softmax(1), model(changed).softmax(1)
    plain, other = (100 * accuracy(model, x, data.y_test) for x in (data.x_test, changed))
    moves = float((as_they_are - moved).abs().sum(1).mean() / 2)
    return {"plain": plain, "changed": other, "lost": plain - other, "moves": moves}


def draw(figure: Any, results: Results) -> None:
    """Accuracy lost, and how far probabilities move."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "lost"), "accuracy lost (points)")
    moves = {name: [100 * value for value in column(seeds, "moves")] for name, seeds in results.items()}
    dots(right, moves, "probability that moves to other classes (%)")


STUDIES.register("instance-norm-contrast")(
    Study(
        claim="Instance normalisation takes an image's own contrast and brightness out of it: changing both costs it "
        "less than a point, where batch normalisation loses over five.",
        claim_ja="インスタンス正規化は、画像ごとのコントラストと明るさの影響を取り除く。"
        "両方を変えたときの正解率の低下は、1 ポイントに満たない。バッチ正規化では 5 ポイントを超える。",
        source="items 089, 090; Ulyanov et al. 2016; Wu & He 2018",
        settings=Settings(),
        smoke={"width": 4, "steps": 2},
        small={"width": 8, "steps": 150},
        small_seeds=8,
        variants={name: {"norm": name} for name in ("none", "batch", "layer", "group", "instance")},
        measure=measure,
        contrasts=(
            Contrast("instance loses less than a point", {"instance/lost": -1}, above=-1.0, trials=270, span=(0, 100)),
            Contrast("batch loses more, by 5 points", {"batch/lost": 1, "instance/lost": -1}, above=5.0),
            Contrast("its outputs move less than layer's", {"layer/moves": 1, "instance/moves": -1}),
            Contrast("unchanged it is right in 9 of 10", {"instance/plain": 1}, above=90.0),
        ),
        draw=draw,
        seeds=8,
    )
)
