"""What whitening costs beside standardising, and what a linear and a deep model have of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 20


@dataclass(frozen=True)
class Settings:
    """Times are the least of some repetitions, the only numbers that differ from run to run."""

    data: str = "fashion_mnist"
    """Data set that is learned."""
    train: int = 5_000
    """Training examples; 0: all."""
    test: int = 5_000
    """Test examples; 0: all."""
    steps: int = 600
    """Updates of 64 examples, by plain SGD."""
    rates: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
    """Learning rates; the one with the least training loss counts."""
    rows: int = 4_000
    """Of the inputs that are timed."""
    columns: tuple[int, ...] = (128, 256, 512, 1_024)
    """Of those."""
    repeats: int = 3
    """Repetitions of each time."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """What a model comes to, or what the preparations take."""
    return cost(settings, seed) if variant["model"] == "none" else learned(settings, variant, seed)


def learned(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Training loss over updates, and test accuracy in percent, at the best rate."""
    from torch import nn

    from rlab.data.preprocess import fit as prepare
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    more = {"eps": 0.01} if variant["preparation"] == "zca" else {}  # against noise in what hardly varies
    transform = prepare(variant["preparation"], data.x.flatten(1), **more)
    x, x_test = transform(data.x.flatten(1)), transform(data.x_test.flatten(1))
    ends = []
    for rate in settings.rates:
        hidden = [] if variant["model"] == "linear" else [128, 128]
        model: Any = network((x.shape[1], *hidden, 10), seed=seed, init="he-normal")
        if not hidden:
            model[1].weight.data.zero_()

        def look(model: nn.Module = model) -> float:
            loss = float(nn.functional.cross_entropy(model(x), data.y))
            return min(loss, 1e3) if np.isfinite(loss) else 1e3

        optimiser = make_optimiser("sgd", model.parameters(), lr=rate)
        way = fit(model, x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed, look=look, points=POINTS)
        ends.append((way[-1], way, 100 * accuracy(model, x_test, data.y_test)))
    end, way, right = min(ends)
    return {"loss": end, "way": np.round(way, 4), "accuracy": right}


def cost(settings: Settings, seed: int) -> Numbers:
    """Logarithms of the seconds that fitting takes, and by which power of the columns they grow."""
    import torch

    from rlab.data.preprocess import fit

    x = torch.randn(settings.rows, max(settings.columns), generator=torch.Generator().manual_seed(seed))
    seconds: dict[str, list[float]] = {"standard": [], "zca": []}
    for name, times_of in seconds.items():
        for columns in settings.columns:
            part, times = x[:, :columns].contiguous(), []
            for _ in range(settings.repeats):
                began = time.process_time()
                fit(name, part)(part)
                times.append(time.process_time() - began)
            times_of.append(float(np.log10(max(min(times), 1e-6))))
    size = np.log10(settings.columns)
    numbers: dict[str, Any] = {f"{name}_seconds": np.round(times_of, 4) for name, times_of in seconds.items()}
    numbers |= {f"{name}_power": float(np.polyfit(size, times_of, 1)[0]) for name, times_of in seconds.items()}
    return numbers | {"times": seconds["zca"][-1] - seconds["standard"][-1], "columns": list(settings.columns)}


def draw(figure: Any, results: Results) -> None:
    """Losses of both models, and seconds over columns."""
    left, right = figure.subplots(1, 2)
    ways = {name: column(seeds, "way") for name, seeds in results.items() if name != "cost"}
    curves(left, (np.arange(POINTS) + 1) / POINTS, ways, ("part of training", "training loss (nats)"))
    left.set_yscale("log")
    left.legend(fontsize=7)
    times_of = {name: 10 ** np.array(column(results["cost"], f"{name}_seconds")) for name in ("standard", "zca")}
    curves(right, results["cost"][0]["columns"], times_of, ("columns", "fitting and applying (s)"))
    right.set_xscale("log")
    right.set_xticks(results["cost"][0]["columns"], [str(count) for count in results["cost"][0]["columns"]])
    right.set_xticks([], minor=True)
    right.set_yscale("log")


def ahead(model: str, key: str, sign: int) -> dict[str, float]:
    """By how much whitening is better than standardising."""
    return {f"{model}, whitened/{key}": sign, f"{model}, standard/{key}": -sign}


STUDIES.register("whitening-cost")(
    Study(
        claim="Whitening takes over ten times as long as standardising, in a growing ratio; it speeds a linear model "
        "up, and a net with hidden layers gains no accuracy worth it.",
        claim_ja="白色化には標準化の 10 倍以上の時間がかかり、その比は次第に大きくなる。"
        "線形モデルの学習は速くなるが、隠れ層のあるネットワークでは、時間に見合うほど正解率が上がらない。",
        source="items 083, 084; LeCun et al. 1998, section 4.3; Krizhevsky 2009",
        settings=Settings(),
        smoke={
            "data": "digits",
            "train": 200,
            "steps": 20,
            "rates": (0.1,),
            "rows": 100,
            "columns": (8, 16),
            "repeats": 1,
        },
        small={
            "data": "digits",
            "train": 0,
            "test": 0,
            "steps": 120,
            "rates": (10.0, 3.0, 1.0, 0.3, 0.1),
            "rows": 2_000,
            "columns": (64, 128, 256, 512),
            "repeats": 2,
        },
        small_seeds=5,
        variants={
            "linear, standard": {"model": "linear", "preparation": "standard"},
            "linear, whitened": {"model": "linear", "preparation": "zca"},
            "deep, standard": {"model": "deep", "preparation": "standard"},
            "deep, whitened": {"model": "deep", "preparation": "zca"},
            "cost": {"model": "none", "preparation": "both"},
        },
        measure=measure,
        contrasts=(
            Contrast("it takes more than ten times as long (powers of ten)", {"cost/times": 1}, above=1.0),
            Contrast(
                "its time grows by a higher power of the columns, by 1/2",
                {"cost/zca_power": 1, "cost/standard_power": -1},
                above=0.5,
            ),
            Contrast("a linear model's training loss is lower (nats)", ahead("linear", "loss", -1)),
            Contrast("a deep one's accuracy gains less than a point", ahead("deep", "accuracy", -1), above=-1.0),
        ),
        draw=draw,
        seeds=5,
    )
)
