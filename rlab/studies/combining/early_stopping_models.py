"""One rule for whatever is trained step by step: a linear model, a dense and a convolutional network, boosted trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Whether a digit is 5 or more, learned from a few images, some with a wrong label."""

    train: int = 300
    validation: int = 600
    """Examples; all others are tested on, with right labels."""
    wrong: float = 0.4
    """Share of the labels of training and validation that are drawn anew, so that half of them are wrong."""
    updates: int = 2_000
    """Of the networks, with 30 looks on the way."""
    trees: int = 200
    """Of boosting, with a look after each."""


def staged(settings: Settings, kind: str, train: Any, others: Any, seed: int) -> list[np.ndarray]:
    """What a model says of others' inputs at every look: classes [looks, N] each."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from
    from rlab.seeding import derive
    from rlab.studies.supervised import fit, network

    if kind == "boosted trees":
        from sklearn.ensemble import GradientBoostingClassifier

        model = GradientBoostingClassifier(n_estimators=settings.trees, learning_rate=0.3, random_state=seed)
        model.fit(train[0].flatten(1).numpy(), train[1].numpy())
        return [np.array(list(model.staged_predict(x.flatten(1).numpy()))) for x in others]
    if kind == "convolutions":
        with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
            maps = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
            net = nn.Sequential(*maps, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))
    else:
        net = network([64, 600, 2] if kind == "linear" else [64, 128, 128, 2], seed=seed)
    if kind == "linear":  # on features that are drawn and stay
        net[1].requires_grad_(False)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.02, momentum=0.9)

    def look() -> list[Any]:
        return [net(x).argmax(1).numpy() for x in others]

    staged_outputs = fit(
        net, train[0], train[1], optimiser, steps=settings.updates, batch_size=25, seed=seed, look=look, points=30
    )
    return [np.array(one) for one in zip(*staged_outputs, strict=True)]


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test errors in %: at the end, and where the validation error is lowest."""
    from rlab.studies.supervised import mislabelled, parts

    sets = parts("digits", seed, settings.train, settings.validation, 0)
    labels = [(y >= 5).long() for _, y in sets]
    labels[:2] = [mislabelled(y, settings.wrong, seed, classes=2) for y in labels[:2]]
    predictions = staged(settings, variant, (sets[0][0], labels[0]), [x for x, _ in sets[1:]], seed)
    validation, test = (100 * (s != y.numpy()).mean(1) for s, y in zip(predictions, labels[1:], strict=True))
    return {"end": test[-1], "kept": test[validation.argmin()]}


def draw(figure: Any, results: Results) -> None:
    """Test errors of each model."""
    axes = figure.subplots()
    shown: dict[str, list[Any]] = {}
    for name, seeds in results.items():
        short = name.replace("boosted ", "")
        shown |= {f"{short}\nend": column(seeds, "end"), f"{short}\nstopped": column(seeds, "kept")}
    dots(axes, shown, "test error in %")
    axes.tick_params(axis="x", labelsize=7)


KINDS = ("linear", "dense", "convolutions", "boosted trees")

STUDIES.register("early-stopping-models")(
    Study(
        claim="Early stopping is one rule for any model that is trained step by step: with wrong labels about it "
        "spares linear models, networks and boosted trees errors.",
        claim_ja="早期終了は、段階的に学習するモデルならどれにでも使える。誤ったラベルが混じるとき、線形モデル、"
        "ニューラルネットワーク、ブースティング木の誤りを減らす。",
        source="item 142; Prechelt 1998; Friedman 2001",
        settings=Settings(),
        smoke={"updates": 20, "trees": 3},
        small={"updates": 900, "trees": 150},
        small_seeds=8,
        variants={kind: kind for kind in KINDS},
        measure=measure,
        contrasts=tuple(
            Contrast(f"{kind}: the turn errs less than the end (points)", {f"{kind}/end": 1, f"{kind}/kept": -1})
            for kind in KINDS
        ),
        draw=draw,
        seeds=20,
    )
)
