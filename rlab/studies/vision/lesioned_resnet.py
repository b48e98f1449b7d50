"""Blocks are taken out of trained networks, with shortcuts and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings(Images):
    """Networks of three stages of three blocks, after training."""

    width: int = 8
    """Channels of the first stage."""
    draws: int = 8
    """Of pairs and of triples of blocks to take out; single ones are all tried."""


def without(network: Any, images: Any, classes: Any, lesions: list[tuple[int, int]]) -> float:
    """Accuracy when nothing but the shortcut is left of these (stage, block)."""
    from torch import nn

    from rlab.studies.supervised import accuracy

    stages = [network[0].get_submodule(name) for name in network[0].stages]
    kept = {(s, b): stages[s][b] for s, b in lesions}
    for s, b in lesions:
        stages[s][b] = nn.Identity()
    right = accuracy(network, images, classes)
    for (s, b), block in kept.items():
        stages[s][b] = block
    return right


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy by how many blocks are missing."""
    from torch import nn

    from rlab.nn.encoders.residual import CIFAR, Basic, Cut, Layout, Padded, ResidualNet

    data = pictures(settings, seed)
    layout = Layout(Basic, (3, 3, 3), settings.width, CIFAR, Padded if variant == "residual" else Cut)

    def whole() -> nn.Sequential:
        encoder = ResidualNet(tuple(data.x.shape[1:]), layout)
        return nn.Sequential(encoder, nn.Linear(encoder.out_dim, 10))

    network = trained(built(whole, seed), data.x, data.y, settings, seed)
    rng = np.random.default_rng(derive(seed, "lesions"))
    free = [(0, 0), *((stage, block) for stage in range(3) for block in (1, 2))]  # the others change the shape
    way = []
    for missing in range(4):
        subsets = [[free[k] for k in rng.permutation(len(free))[:missing]] for _ in range(settings.draws)]
        if missing < 2:
            subsets = [[one] for one in free] if missing else [[]]
        way.append(float(np.mean([without(network, data.x_test, data.y_test, chosen) for chosen in subsets])))
    return {"way": way, "whole": way[0], "one": way[1], "two": way[2], "lost": way[0] - way[1]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by missing blocks."""
    curves(figure.subplots(), range(4), columns(results, "way"), ("blocks taken out", "accuracy"))


STUDIES.register("lesioned-resnet")(
    Study(
        claim="A residual network works on when a trained block is taken out, or even two, as an ensemble of many "
        "paths would; a plain one breaks down.",
        claim_ja="残差ネットワークは、学習済みのブロックを一つ、または二つ取り除いても、"
        "多数の経路のアンサンブルのように動作する。ショートカットのないネットワークは、動作しなくなる。",
        correction="An ensemble is an analogy: its members share weights and are trained together. And not every "
        "network with skips is a ResNet: highway networks gate them, DenseNet and U-Net concatenate.",
        correction_ja="アンサンブルはたとえである。経路は重みを共有し、一緒に学習される。また、"
        "スキップ接続を持つネットワークがすべて ResNet というわけではない。Highway Network はゲートを通し、"
        "DenseNet と U-Net は連結する。",
        source="item 203; Veit et al. 2016, section 4; He et al. 2016",
        settings=Settings(steps=300, train=2_000, test=1_000),
        smoke={**SMOKE, "steps": 1, "width": 4, "draws": 1},
        small={**SMALL, "steps": 80, "draws": 4},
        small_seeds=3,
        variants={"residual": "residual", "plain": "plain"},
        measure=measure,
        contrasts=(
            Contrast("a missing block costs the plain network much", {"plain/lost": 1}, 0.3),
            Contrast("and the residual one less", {"plain/lost": 1, "residual/lost": -1}, 0.1),
            Contrast("without two it is ahead of the plain one without one", {"residual/two": 1, "plain/one": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
