"""A deep autoencoder of sigmoids, trained as a whole from random weights, or layer by layer first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10
RATES = {"momentum": (0.003, 0.01), "adam": (0.003, 0.01)}
"""The one that is best on the training examples counts. Deep nets were trained by SGD with momentum then."""


@dataclass(frozen=True)
class Settings:
    """Stacked autoencoders of digits, as many updates for each."""

    data: str = "mnist"
    """The pictures."""
    train: int = 10_000
    """Training examples."""
    test: int = 5_000
    """Test examples."""
    widths: tuple[int, ...] = (400, 200, 100, 50)
    """Units of the layers of a deep encoder."""
    code: int = 20
    """Numbers of the code."""
    steps: int = 10_000
    """Updates of each autoencoder, of 64 examples; half of them for the single layers, where these come first."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Share of the variance of the test pictures that is explained, over the training, at the best rate."""
    import torch

    from rlab.studies.autoencoders import autoencoder, explained, train, train_greedily
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.train, settings.test)
    shape = data.x.shape[1:]
    widths = settings.widths if variant["deep"] else settings.widths[:1]
    name = "-".join(map(str, ("mlp", *widths))) + f"+{variant['activation']}"
    best: tuple[float, list[float]] = (-1.0, [0.0] * (POINTS + 1))
    optimiser = variant.get("optimiser", "adam")
    for rate in RATES[optimiser]:
        model: Any = autoencoder(name, shape, settings.code, seed)
        steps = settings.steps
        if variant["greedy"]:
            layers = len(model.pairs())
            train_greedily(model, data.x, settings.steps // 2 // layers, seed, rate=rate, optimiser=optimiser)
            steps -= settings.steps // 2
        with torch.no_grad():
            begin = explained(model, data.x_test)
        way = train(
            model, data.x, steps, seed, rate=rate, optimiser=optimiser, points=POINTS,
            look=partial(explained, model, data.x_test),
        )  # fmt: skip
        found = (explained(model, data.x), [begin, *way])
        if np.isfinite(found[0]) and found[0] > best[0]:
            best = found
    curve = np.clip(np.nan_to_num(best[1], nan=-1), -1, 1)
    return {"curve": np.round(curve, 4), "explained": float(curve[-1])}


def draw(figure: Any, results: Results) -> None:
    """What is explained at the end, and over the training of all layers together."""
    above, below = figure.subplots(2, 1)
    dots(above, columns(results, "explained"), "variance explained")
    above.tick_params(axis="x", labelsize=6)
    ways = {name: np.asarray(way)[:, 1:] for name, way in columns(results, "curve").items()}
    curves(below, (np.arange(POINTS) + 1) / POINTS, ways, ("part of the training as a whole", "variance explained"))


STUDIES.register("greedy-autoencoder")(
    Study(
        claim="A deep autoencoder of sigmoids, trained as a whole by SGD from random weights, gives back the mean "
        "picture; by Adam it stays behind one with one layer, and training layer by layer first makes up for much.",
        claim_ja="シグモイド関数を使う深い自己符号化器は、乱数の重みから全体を SGD で学習すると、"
        "平均画像しか復元できない。Adam でも 1 層のものに及ばないが、先に 1 層ずつ学習すると、"
        "その差の多くを取り戻せる。",
        source="items 155, 156, 157; Hinton & Salakhutdinov 2006; Bengio et al. 2007",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "test": 50, "widths": (12, 8), "code": 3, "steps": 20},
        small={"data": "digits", "train": 0, "test": 0, "widths": (48, 36, 28, 20), "code": 10, "steps": 1_500},
        small_seeds=5,
        variants={
            "one layer": {"deep": False, "greedy": False, "activation": "sigmoid"},
            "deep, SGD": {"deep": True, "greedy": False, "activation": "sigmoid", "optimiser": "momentum"},
            "deep": {"deep": True, "greedy": False, "activation": "sigmoid"},
            "deep, greedy": {"deep": True, "greedy": True, "activation": "sigmoid"},
        },
        measure=measure,
        contrasts=(
            Contrast("deep, by SGD: less than a tenth is explained", {"deep, SGD/explained": -1}, above=-0.1),
            Contrast("one layer, by Adam: over 0.2 more", {"one layer/explained": 1, "deep/explained": -1}, above=0.2),
            Contrast("layer by layer: over 0.1 more", {"deep, greedy/explained": 1, "deep/explained": -1}, above=0.1),
        ),
        draw=draw,
        seeds=5,
    )
)
