"""Blocks are taken out of trained networks, and gradients sent through chosen paths only."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, trained
from rlab.studies.plots import column, columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings(Images):
    """Networks of three stages of three blocks, after training."""

    width: int = 8
    """Channels of the first stage."""
    draws: int = 8
    """Of blocks to take out, and of paths."""


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


def gradient(network: Any, images: Any, classes: Any, inside: set[int]) -> float:
    """Norm of the gradient at the stem along the one path that goes inside these blocks and around all others."""
    import torch
    from torch.nn.functional import cross_entropy

    encoder, head = network
    start = x = torch.relu(encoder.bn1(encoder.conv1(images))).detach().requires_grad_()
    for k, block in enumerate(block for name in encoder.stages for block in encoder.get_submodule(name)):
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
        around = block.downsample(x)
        x = torch.relu(branch + around.detach() if k in inside else branch.detach() + around)
    (gradient,) = torch.autograd.grad(cross_entropy(head(x.mean((2, 3))), classes), start)
    return float(gradient.norm())


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy by how many blocks are missing; of the residual network, the length of paths that gradients take."""
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
    numbers: dict[str, Any] = {"way": way, "whole": way[0], "lost": way[0] - way[1]}
    if variant == "residual":
        shares = []
        for length in range(10):
            paths = [set(rng.permutation(9)[:length].tolist()) for _ in range(max(settings.draws // 2, 1))]
            norms = [gradient(network, data.x[:64], data.y[:64], path) for path in paths]
            shares.append(comb(9, length) * float(np.mean(norms)))
        numbers |= {"shares": np.array(shares) / sum(shares), "length": np.average(range(10), weights=shares)}
    return numbers


def draw(figure: Any, results: Results) -> None:
    """Accuracy by missing blocks, and gradients by the length of the path."""
    left, right = figure.subplots(1, 2)
    ways = columns(results, "way")
    curves(left, range(4), ways, ("blocks taken out", "accuracy"))
    shares = {"of the gradient": column(results["residual"], "shares")}
    curves(right, range(10), shares, ("blocks on the path", "share"))
    right.plot(range(10), [comb(9, k) / 2**9 for k in range(10)], "k:", label="of the paths")
    right.legend(fontsize=8)


STUDIES.register("lesioned-resnet")(
    Study(
        claim="A residual network works on when a trained block is taken out, as an ensemble of many paths would, and "
        "a plain one breaks down; most of the gradient comes along paths shorter than the mean.",
        claim_ja="残差ネットワークは学習済みのブロックを一つ抜いても、多数の経路のアンサンブルのように動き続け、"
        "ショートカットのない網は壊れる。勾配の多くは平均より短い経路を通って届く。",
        source="item 203; Veit et al. 2016, sections 4 and 5; He et al. 2016",
        settings=Settings(steps=300, train=2_000, test=1_000),
        smoke={**SMOKE, "steps": 1, "width": 4, "draws": 1},
        small={**SMALL, "steps": 80, "draws": 4},
        small_seeds=3,
        variants={"residual": "residual", "plain": "plain"},
        measure=measure,
        contrasts=(
            Contrast("a missing block costs the plain network much", {"plain/lost": 1}, 0.3),
            Contrast("and the residual one less", {"plain/lost": 1, "residual/lost": -1}, 0.1),
            Contrast("the gradient's mean path is shorter than half of the 9 blocks", {"residual/length": -1}, -4.5),
        ),
        draw=draw,
        seeds=5,
    )
)
