"""Whether batch normalisation overfits less, and whether its noise is why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Few digits, until all are learned by heart; batches of 64, normalised in groups of less where a variant does."""

    train: int = 300
    """Training examples."""
    width: int = 128
    """Units of each of three hidden layers."""
    steps: int = 2_000
    """Updates of 64 examples, by SGD with momentum."""
    rate: float = 0.03
    """Learning rate."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy in percent in training and tests and the gap; noise: how much what an example becomes in the first
    layer varies over the groups that it is normalised in, in deviations of that layer's outputs."""
    import torch
    from torch import Tensor, nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    class Grouped(nn.BatchNorm1d):
        """Batch normalisation by parts of a batch ("ghost batches"), so that only the noise changes."""

        def forward(self, x: Tensor) -> Tensor:
            """x[B, C] -> the same shape."""
            if not self.training:
                return super().forward(x)
            return torch.cat([super(Grouped, self).forward(part) for part in x.split(variant["group"])])

    data = examples("digits", seed, train=settings.train, preprocess="standard")
    sizes = (64, *[settings.width] * 3, 10)
    model = network(sizes, seed=seed, init="he-normal", norm="batch" if variant["group"] else "none")
    for pair in model:
        if isinstance(pair, nn.Sequential):
            pair[1] = Grouped(settings.width)
    noise = 0.0
    if variant["group"]:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            drawn = []
            for _ in range(50):
                order = torch.randperm(len(data.x), generator=generator)[: 64 // variant["group"] * variant["group"]]
                order[0] = 0
                drawn.append(model[1](data.x[order].flatten(1))[0])
            noise = float(torch.stack(drawn).std(0).mean())
    optimiser = make_optimiser("momentum", model.parameters(), lr=settings.rate)
    fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
    train, new = (100 * accuracy(model, x, y) for x, y in (data[:2], data[2:]))
    return {"train": train, "test": new, "gap": train - new, "noise": noise}


def draw(figure: Any, results: Results) -> None:
    """Gaps, and the noise."""
    left, right = figure.subplots(1, 2)
    names = {name: name.replace(" of ", "\nof ") for name in results}
    dots(left, {names[n]: column(s, "gap") for n, s in results.items()}, "training less test accuracy (points)")
    noisy = {names[name]: column(seeds, "noise") for name, seeds in results.items() if name != "none"}
    dots(right, noisy, "noise of normalised numbers (deviations)")
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=7)


STUDIES.register("batch-norm-overfitting")(
    Study(
        claim="Batch normalisation narrows the gap between training and test accuracy, and by its noise: over groups "
        "of 8 it narrows it more than over whole batches.",
        claim_ja="バッチ正規化は、訓練とテストの正解率の差を縮める。差を縮めるのは統計量のノイズで、"
        "8 個ずつのグループで正規化すると、バッチ全体で正規化するより差が小さくなる。",
        source="items 088; Ioffe & Szegedy 2015, section 3.4; Hoffer et al. 2017; Luo et al. 2019",
        settings=Settings(),
        smoke={"train": 100, "width": 8, "steps": 3},
        small={"steps": 200, "width": 64},
        small_seeds=8,
        variants={
            "none": {"group": 0},
            "groups of 4": {"group": 4},
            "groups of 8": {"group": 8},
            "groups of 64": {"group": 64},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "groups of 4 are noisier than 64, by a tenth",
                {"groups of 4/noise": 1, "groups of 64/noise": -1},
                above=0.1,
            ),
            Contrast("the gap of whole batches is narrower than without", {"none/gap": 1, "groups of 64/gap": -1}),
            Contrast("in groups of 8 it is narrower still", {"groups of 64/gap": 1, "groups of 8/gap": -1}),
        ),
        draw=draw,
        seeds=12,
    )
)
