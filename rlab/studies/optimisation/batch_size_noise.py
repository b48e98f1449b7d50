"""How noisy the gradient of a mini-batch is, and what a batch of which size is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A network with 32 hidden units on pictures of digits, each batch size at its best rate."""

    data: str = "mnist"
    """The data set."""
    examples: int = 4_000
    """To learn from."""
    epochs: int = 4
    """Passes through them, for each batch size alike."""
    updates: int = 250
    """For each batch size alike, as far as that goes."""
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    """What every batch size tries; the best counts."""
    draws: int = 200
    """Batches of each size whose gradients are compared with the whole one."""


SIZES = (1, 4, 16, 64, 256)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The error of a batch's gradient by size; or the training loss after equal passes and after equal updates."""
    from rlab.studies.supervised import examples, network

    data = examples(settings.data, seed, settings.examples, preprocess="standard")
    model = network((data.x[0].numel(), 32, 10), seed=seed)
    if variant == "noise":
        return _noise(settings, model, data, seed)
    return {
        "by_epochs": _loss(settings, data, seed, variant, settings.epochs * len(data.x) // (variant or len(data.x))),
        "by_updates": _loss(settings, data, seed, variant, settings.updates),
    }


def _noise(settings: Settings, model: Any, data: Any, seed: int) -> Numbers:
    import torch
    from torch.nn.functional import cross_entropy

    def gradient(x: Any, y: Any) -> Any:
        slopes = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        return torch.cat([slope.flatten() for slope in slopes])

    whole, generator = gradient(data.x, data.y), torch.Generator().manual_seed(derive(seed, "draws"))
    noise = []
    for size in SIZES:
        parts = torch.randint(len(data.x), (settings.draws, size), generator=generator)
        errors = [float((gradient(data.x[part], data.y[part]) - whole).square().sum()) for part in parts]
        noise.append(float(np.sqrt(np.mean(errors)) / whole.norm()))
    power = float(np.polyfit(np.log(SIZES), np.log(noise), 1)[0])
    return {"noise": noise, "power": power, "off": abs(power + 0.5)}


def _loss(settings: Settings, data: Any, seed: int, size: int, updates: int) -> float:
    import torch
    from torch.nn.functional import cross_entropy

    from rlab.nn.optim import make_optimiser
    from rlab.studies.descent import tuned
    from rlab.studies.supervised import fit, network

    def loss(rate: float) -> float:
        model = network((data.x[0].numel(), 32, 10), seed=seed)
        optimiser = make_optimiser("sgd", model.parameters(), lr=rate)
        fit(model, data.x, data.y, optimiser, steps=max(1, updates), batch_size=size, seed=seed)
        with torch.no_grad():
            return float(cross_entropy(model(data.x), data.y))

    return tuned(settings.rates, loss, worst=5.0)[0]


def draw(figure: Any, results: Results) -> None:
    """Noise over batch sizes, and the loss after equal effort."""
    panels = figure.subplot_mosaic([["noise", "passes"], ["noise", "updates"]])
    left = panels["noise"]
    curves(
        left, SIZES, {"measured": column(results["noise"], "noise")}, ("batch size", "gradient's error / its length")
    )
    first = np.mean(column(results["noise"], "noise"), axis=0)[0]
    left.plot(SIZES, first / np.sqrt(SIZES), "k:", label="1 / root of the size")
    left.set(xscale="log", yscale="log")
    left.legend(fontsize=8)
    for effort, number in (("passes", "by_epochs"), ("updates", "by_updates")):
        groups = {f"batches\nof {name}": column(results[name], number) for name in ("8", "64", "all")}
        dots(panels[effort], groups, "training loss")
        panels[effort].set_title(f"after equal {effort}", fontsize=9)


STUDIES.register("batch-size-noise")(
    Study(
        claim="A mini-batch's gradient errs by one over the root of its size: for the same passes through the data "
        "small batches get further, for the same number of updates large ones do.",
        claim_ja="ミニバッチの勾配の誤差は、バッチサイズの平方根に反比例する。"
        "同じエポック数なら小さいバッチのほうが、同じ更新回数なら大きいバッチのほうが学習が進む。",
        source="item 073; Robbins & Monro 1951; Bottou, Curtis & Nocedal 2018",
        settings=Settings(),
        smoke={"data": "digits", "examples": 100, "epochs": 1, "updates": 3, "rates": (0.1,), "draws": 5},
        small={"data": "digits", "examples": 1_000, "epochs": 2, "updates": 60, "rates": (0.1, 0.3, 1.0), "draws": 60},
        small_seeds=4,
        seeds=5,
        variants={"noise": "noise", "8": 8, "64": 64, "all": 0},
        measure=measure,
        contrasts=(
            Contrast("the error falls as the size to the power -1/2, within 0.05", {"noise/off": -1}, -0.05),
            Contrast(
                "after equal passes batches of 8 have less loss than whole ones",
                {"all/by_epochs": 1, "8/by_epochs": -1},
            ),
            Contrast(
                "after equal updates whole batches have less loss than those of 8",
                {"8/by_updates": 1, "all/by_updates": -1},
            ),
        ),
        draw=draw,
    )
)
