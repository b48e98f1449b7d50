"""What wrong labels cost a supervised learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Settings:
    """A linear model and a network with one hidden layer, Adam, the same number of updates for all."""

    data: str = "mnist"
    examples: int = 5_000
    test: int = 5_000
    width: int = 512
    steps: int = 2_000
    """Updates with 100 examples each."""
    rate: float = 1e-3
    """Of Adam."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy, by true labels, after learning from labels of which a part is another class at random."""
    import torch

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, train=settings.examples, test=settings.test)
    rng = np.random.default_rng(derive(seed, "wrong"))
    luck = torch.from_numpy(rng.random(len(data.y)))
    other = (data.y + torch.from_numpy(rng.integers(1, 10, len(data.y)))) % 10
    way = []
    for rate in RATES:
        model = network([data.x[0].numel(), *[settings.width] * variant["hidden"], 10], seed=seed)
        y = torch.where(luck < rate, other, data.y)
        optimiser = torch.optim.Adam(model.parameters(), settings.rate)
        fit(model, data.x, y, optimiser, steps=settings.steps, batch_size=100, seed=seed)
        way.append(accuracy(model, data.x_test, data.y_test))
    return {"way": way, "at 0": way[0], "at 20": way[2], "at 40": way[4]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by share of wrong labels."""
    axes = figure.subplots()
    ways = columns(results, "way")
    curves(axes, 100 * np.array(RATES), ways, ("wrong labels in the training, %", "test accuracy"))
    axes.plot([0, 40], [1, 0.6], ":", color="black", lw=1)
    axes.annotate("accuracy of the labels", (25, 0.75), fontsize=8, rotation=-25, ha="right", va="top")


STUDIES.register("label-noise")(
    Study(
        claim="Mistakes of those who label cost a supervised learner accuracy, the more the more there are; the freer "
        "model, which can learn them by heart, loses most.",
        claim_ja="人が付けたラベルの誤りは、教師あり学習の精度を下げる。誤りが多いほど精度は下がり、"
        "誤りまで暗記できる自由度の高いモデルほど大きく下がる。",
        source="item 009; Natarajan et al. 2013; Zhang et al. 2017",
        settings=Settings(),
        smoke={"data": "digits", "examples": 60, "test": 60, "width": 32, "steps": 10},
        small={"data": "digits", "examples": 400, "test": 0, "width": 256, "steps": 150, "rate": 3e-3},
        small_seeds=8,
        variants={"linear model": {"hidden": 0}, "network": {"hidden": 1}},
        measure=measure,
        contrasts=(
            Contrast(
                "network: 20 % wrong labels cost a point of accuracy or more",
                {"network/at 0": 1, "network/at 20": -1},
                above=0.01,
            ),
            Contrast("from 20 % to 40 % a point or more", {"network/at 20": 1, "network/at 40": -1}, above=0.01),
            Contrast(
                "linear model: 40 % cost a point or more",
                {"linear model/at 0": 1, "linear model/at 40": -1},
                above=0.01,
            ),
            Contrast(
                "of 20 % the network loses more than the linear model",
                {"network/at 0": 1, "network/at 20": -1, "linear model/at 0": -1, "linear model/at 20": 1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
