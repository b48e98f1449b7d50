"""Eight techniques of training together, each of them left out, and the four of the start alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from rlab.seeding import derive
from rlab.studies.images import Images, pictures
from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

TECHNIQUES = ("ReLU", "He", "BN", "Adam", "dropout", "shifts", "decay", "stopping")
"""Without them: sigmoid, N(0, 0.01), no norm, plain descent."""

ALONE = TECHNIQUES[:4]


@dataclass(frozen=True)
class Settings(Images):
    """Dense networks on few images, a fifth of which is kept to choose the parameters by ("stopping")."""

    hidden: int = 4
    """Hidden layers."""
    units: int = 64
    """Of each."""
    rate: float = 0.1
    """Learning rate of plain descent."""


def make(settings: Settings, chosen: list[str], pixels: int, seed: int) -> Any:
    """The network."""
    from torch import nn

    from rlab.studies.images import built
    from rlab.studies.supervised import network

    sizes = (pixels, *[settings.units] * settings.hidden, 10)
    dense = network(
        sizes,
        "relu" if "ReLU" in chosen else "sigmoid",
        seed=seed,
        init="he-normal" if "He" in chosen else "normal",
        norm="batch" if "BN" in chosen else "none",
    )
    if "dropout" not in chosen:
        return dense
    *layers, last = dense
    return built(lambda: nn.Sequential(*layers, nn.Dropout(0.2), last), seed)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy: at the end, or with "stopping" where a fifth of the images was recognised best."""
    import torch

    from rlab.data.augment import augment, parse
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, fit

    chosen = list(variant)
    data = pictures(settings, seed)
    held = len(data.x) // 5
    network = make(settings, chosen, data.x[0].numel(), seed)
    decay = {"weight_decay": 1e-3} if "decay" in chosen else {}
    adam, rate = "Adam" in chosen, settings.learning_rate if "Adam" in chosen else settings.rate
    optimiser = make_optimiser("adam" if adam else "sgd", network.parameters(), lr=rate, **decay)
    generator, shifts = torch.Generator().manual_seed(derive(seed, "shifts")), parse("crop:1")

    def moved(x: Any, y: Any) -> Any:
        return (augment(x, shifts, generator).images, y) if "shifts" in chosen else (x, y)

    def look() -> tuple[float, Any]:
        return accuracy(network, data.x[:held], data.y[:held]), copy.deepcopy(network.state_dict())

    points = fit(
        network, data.x[held:], data.y[held:], optimiser, steps=settings.steps, batch_size=settings.batch_size,
        seed=seed, change=moved, look=look, points=10,
    )  # fmt: skip
    if "stopping" in chosen:
        network.load_state_dict(max(points, key=lambda point: point[0])[1])
    return {"accuracy": accuracy(network, data.x_test, data.y_test)}


def draw(figure: Any, results: Results) -> None:
    """Every accuracy."""
    left, right = figure.subplots(2, 1)
    few = {name: column(results[name], "accuracy") for name in ("none", *ALONE, "all")}
    dots(left, few, "accuracy")
    left.set_xlabel("one alone", fontsize=8)
    names = {"all": "all", **{name: f"all but {name}" for name in TECHNIQUES}}
    dots(right, {short: column(results[name], "accuracy") for short, name in names.items()}, "accuracy")
    right.set_xlabel("one left out", fontsize=8)


STUDIES.register("combined-techniques")(
    Study(
        claim="Techniques of training are worth most together: all of them beat none and each of the first four "
        "alone, and as they stand in for each other, leaving out one costs little.",
        claim_ja="学習の工夫は、組み合わせて使うと最も効果が大きい。すべてを使えば、何も使わない場合にも、"
        "最初の四つのどれか一つを使う場合にも勝る。互いに補い合うので、一つを外しても損失は小さい。",
        source="item 295; He et al. 2015; Ioffe & Szegedy 2015",
        settings=Settings(train=1_000, steps=500),
        smoke={"data": "digits", "train": 40, "test": 30, "steps": 4, "units": 8, "hidden": 2},
        small={"data": "digits", "train": 300, "test": 0, "steps": 100, "units": 48},
        small_seeds=4,
        variants={
            "none": [],
            **{name: [name] for name in ALONE},
            **{f"all but {name}": [other for other in TECHNIQUES if other != name] for name in TECHNIQUES},
            "all": list(TECHNIQUES),
        },
        measure=measure,
        contrasts=(
            Contrast("all beat none", {"all/accuracy": 1, "none/accuracy": -1}, 0.1),
            *(Contrast(f"all beat {name} alone", {"all/accuracy": 1, f"{name}/accuracy": -1}) for name in ALONE),
            Contrast(
                "what each costs when left out is in sum less than what all bring",
                {"none/accuracy": -1, "all/accuracy": -7, **{f"all but {name}/accuracy": 1 for name in TECHNIQUES}},
            ),
        ),
        draw=draw,
        seeds=6,
    )
)
