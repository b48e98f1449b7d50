"""Ways to halve a map: the two fixed ones, and those that learn or draw."""

from __future__ import annotations

from typing import Any

from rlab.studies.images import SMALL, SMOKE, Images, built, pictures, size, trained
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


def make(kind: str, channels: int) -> Any:
    """A pooling over places of 2x2: maps [B, channels, h, w] of nothing below 0 -> [B, channels, h / 2, w / 2]."""
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import avg_pool2d, max_pool2d, unfold

    class Power(nn.Module):
        """The p-th root of the mean p-th power, p of each map learned, from 2 on (Gulcehre et al. 2014)."""

        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.full((channels, 1, 1), 2.0))

        def forward(self, x: Tensor) -> Tensor:
            p = self.p.clamp(1, 20)
            scale = max_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3) + 1e-3
            return avg_pool2d(((x + 1e-6) / scale) ** p, 2) ** (1 / p) * scale[:, :, ::2, ::2]

    class Gated(nn.Module):
        """Between maximum and mean, as what is in the place says (Lee et al. 2016)."""

        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Conv2d(channels, channels, 2, 2, groups=channels)

        def forward(self, x: Tensor) -> Tensor:
            return torch.lerp(avg_pool2d(x, 2), max_pool2d(x, 2), self.gate(x).sigmoid())

    class Drawn(nn.Module):
        """One of the four, drawn in proportion to its value; in evaluation the mean of that (Zeiler & Fergus 2013)."""

        def forward(self, x: Tensor) -> Tensor:
            four = unfold(x.flatten(0, 1)[:, None], 2, stride=2).transpose(1, 2) + 1e-6  # [B * C, places, 4]
            chance = (four / four.sum(2, keepdim=True)).detach()
            if self.training:
                drawn = torch.multinomial(chance.reshape(-1, 4), 1).view(*four.shape[:2], 1)
                return four.gather(2, drawn).reshape(*x.shape[:2], x.shape[2] // 2, -1)
            return (four * chance).sum(2).reshape(*x.shape[:2], x.shape[2] // 2, -1)

    if kind == "strided":
        return nn.Sequential(nn.Conv2d(channels, channels, 2, 2), nn.ReLU())  # Springenberg et al. 2015
    fixed = {"max": nn.MaxPool2d(2), "mean": nn.AvgPool2d(2)}
    return fixed[kind] if kind in fixed else {"power": Power, "gated": Gated, "drawn": Drawn}[kind]()


def measure(settings: Images, variant: Any, seed: int) -> Numbers:
    """Accuracy, weights of the poolings, and how far these have moved from where they began, in the mean."""
    from torch import nn

    from rlab.nn.encoders.mobilenet import unit
    from rlab.studies.supervised import accuracy

    data = pictures(settings, seed)

    def whole() -> nn.Sequential:
        units = [unit(1, 8, 3, 1, 1, nn.ReLU), make(variant, 8), unit(8, 16, 3, 1, 1, nn.ReLU), make(variant, 16)]
        return nn.Sequential(*units, nn.Flatten(), nn.Linear(data.x[0].numel(), 10))

    network = built(whole, seed)
    poolings = nn.ModuleList([network[1], network[3]])
    before = [p.detach().clone() for p in poolings.parameters()]
    trained(network, data.x, data.y, settings, seed)
    moves = [float((p - was).detach().abs().mean()) for p, was in zip(poolings.parameters(), before, strict=True)]
    score = accuracy(network, data.x_test, data.y_test)
    return {"accuracy": score, "weights": size(poolings), "moved": sum(moves) / max(len(moves), 1)}


def draw(figure: Any, results: Results) -> None:
    """Accuracies, with how many weights each kind learns."""
    groups = {f"{name}\n{seeds[0]['weights']} weights": column(seeds, "accuracy") for name, seeds in results.items()}
    axes = figure.subplots()
    dots(axes, groups, "accuracy")
    axes.tick_params(axis="x", labelsize=7)


LEARNING = ("power", "gated", "strided")

STUDIES.register("pooling-types")(
    Study(
        claim="Pooling need not be fixed: exponents, gates and strided convolutions learn with the rest of the "
        "network, and images are recognised about as well as with the maximum, which learns nothing.",
        claim_ja="プーリングは固定とは限らない。指数、ゲート、ストライド付き畳み込みは、"
        "ネットワークのほかの部分とともに学習でき、何も学習しない最大値プーリングと同じくらいの精度になる。",
        correction="The slides say that pooling is the maximum or the mean only and so has nothing to learn. "
        "Poolings that learn or draw have been published since, and many networks halve by strided convolutions.",
        correction_ja="教材のスライドは、プーリングには最大値か平均しかなく、学習するものがないとする。その後、"
        "学習するプーリングや確率的なプーリングが発表され、多くのネットワークはストライド付き畳み込みで縮小してい"
        "る。",
        source="items 179, 183; Zeiler & Fergus 2013; Gulcehre et al. 2014; Springenberg et al. 2015; Lee et al. 2016",
        settings=Images(),
        smoke={**SMOKE, "steps": 1},
        small=SMALL,
        small_seeds=4,
        variants={kind: kind for kind in ("max", "mean", "drawn", *LEARNING)},
        measure=measure,
        contrasts=(
            *(Contrast(f"what is learned in '{kind}' moves", {f"{kind}/moved": 1}, 0.01) for kind in LEARNING),
            *(
                Contrast(
                    f"'{kind}' is less than 4 points below the maximum",
                    {f"{kind}/accuracy": 1, "max/accuracy": -1},
                    -0.04,
                )
                for kind in ("mean", "drawn", *LEARNING)
            ),
        ),
        draw=draw,
        seeds=6,
    )
)
