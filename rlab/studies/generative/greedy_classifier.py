"""Classifiers of several depths that start at random or from a stacked autoencoder, and what either costs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

RATES = (0.01, 0.1)
"""Of SGD with momentum 0.9 for the classifier, which deep nets were trained with; the best on the training examples
counts."""

LAYER_RATE = 0.01
"""Of Adam for each layer that learns to give back the one below."""


@dataclass(frozen=True)
class Settings:
    """Networks of sigmoids with layers of equal width below a softmax."""

    data: str = "mnist"
    """The pictures."""
    train: int = 20_000
    """Training examples."""
    test: int = 0
    """Test examples; 0: all."""
    width: int = 200
    """Units of each hidden layer."""
    depths: tuple[int, ...] = (1, 3, 5, 7)
    """Hidden layers."""
    steps: int = 6_000
    """Updates of a classifier, of 64 examples."""
    layer_steps: int = 2_000
    """Updates of each layer before that."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By depth: test accuracy in percent, how far weights moved, and multiply-adds; each of the deepest, too."""
    import torch
    from torch import nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.autoencoders import autoencoder, train_greedily
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    found: dict[str, list[float]] = {"accuracy": [], "moved": [], "cost": []}
    pixels = data.x[0].numel()
    for depth in settings.depths:
        sizes = (pixels, *[settings.width] * depth)
        start = "xavier-normal" if variant["activation"] == "sigmoid" else "he-normal"
        model: Any = network((*sizes, 10), variant["activation"], seed=seed, init=start)
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        cost = 64.0 * settings.steps * sum(layer.weight.numel() for layer in layers)
        if variant["greedy"]:
            name = "-".join(map(str, ("mlp", *sizes[1:]))) + f"+{variant['activation']}+{start}"
            stacked: Any = autoencoder(name, data.x.shape[1:], 0, seed)
            train_greedily(stacked, data.x, settings.layer_steps, seed, rate=LAYER_RATE)
            learned = [layer for layer in stacked.encoder.modules() if isinstance(layer, nn.Linear)]
            with torch.no_grad():
                for mine, theirs in zip(layers, learned, strict=False):
                    mine.weight.copy_(theirs.weight)
                    mine.bias.copy_(theirs.bias)
            cost += 2 * 64.0 * settings.layer_steps * sum(layer.weight.numel() for layer in learned)
        tried = []
        for rate in RATES:
            tuned: Any = copy.deepcopy(model)
            optimiser = make_optimiser("momentum", tuned.parameters(), lr=rate)
            fit(tuned, data.x, data.y, optimiser, steps=settings.steps, batch_size=64, seed=seed)
            after = [layer.weight for layer in tuned if isinstance(layer, nn.Linear)]
            with torch.no_grad():
                pairs = zip(after, layers, strict=True)
                ways = [float((new - old.weight).norm() / old.weight.norm()) for new, old in pairs]
            right = [accuracy(tuned, x, y) for x, y in ((data.x, data.y), (data.x_test, data.y_test))]
            if np.isfinite(ways).all():
                tried.append((*right, float(np.mean(ways[:-1]))))
        best = max(tried)
        found["accuracy"].append(100 * best[1])
        found["moved"].append(best[2])
        found["cost"].append(cost / 1e9)
    lists = {name: np.round(values, 4) for name, values in found.items()}
    return lists | {f"{name}_deepest": values[-1] for name, values in found.items()} | {"depths": settings.depths}


def draw(figure: Any, results: Results) -> None:
    """Accuracy and movement by depth."""
    above, below = figure.subplots(2, 1)
    depths = next(iter(results.values()))[0]["depths"]
    curves(above, depths, columns(results, "accuracy"), ("hidden layers", "test accuracy in percent"))
    curves(below, depths, columns(results, "moved"), ("hidden layers", "movement of weights, part of their norm"))


STUDIES.register("greedy-classifier")(
    Study(
        claim="With many layers of sigmoids a classifier learns nothing from random weights and well from a stacked "
        "autoencoder, whose weights it changes little; with ReLU and He's initialisation it needs no such start.",
        claim_ja="シグモイド関数の層が多い分類器は、乱数の重みからは何も学習できないが、"
        "積層自己符号化器の重みからはよく学習し、その重みはわずかしか変わらない。ReLU と He の初期値を使えば、"
        "このような事前学習は要らない。",
        correction="A text says that pre-training is not used any more. Layer by layer it is not; self-supervised "
        "pre-training of whole networks is the rule for language and common for images.",
        correction_ja="教材は、事前学習はもう使われないとする。層ごとの事前学習はそのとおりである。"
        "ネットワーク全体の自己教師あり事前学習は、言語では標準で、画像でも広く使われている。",
        source="items 161, 162, 163; Hinton & Salakhutdinov 2006; Erhan et al. 2010; Glorot et al. 2011",
        settings=Settings(),
        smoke={"data": "digits", "train": 100, "test": 50, "width": 8, "depths": (1, 2), "steps": 6, "layer_steps": 4},
        small={
            "data": "digits",
            "train": 0,
            "test": 0,
            "width": 48,
            "depths": (1, 6),
            "steps": 1_500,
            "layer_steps": 500,
        },
        small_seeds=5,
        variants={
            "sigmoid": {"activation": "sigmoid", "greedy": False},
            "sigmoid, greedy": {"activation": "sigmoid", "greedy": True},
            "relu": {"activation": "relu", "greedy": False},
        },
        measure=measure,
        contrasts=(
            Contrast("deepest, at random: below 30 percent", {"sigmoid/accuracy_deepest": -1}, above=-30),
            Contrast(
                "with a greedy start over 20 points more",
                {"sigmoid, greedy/accuracy_deepest": 1, "sigmoid/accuracy_deepest": -1},
                above=20,
            ),
            Contrast("its weights move by less than their norm", {"sigmoid, greedy/moved_deepest": -1}, above=-1),
            Contrast(
                "ReLU, at random, comes within a point of it or beyond",
                {"relu/accuracy_deepest": 1, "sigmoid, greedy/accuracy_deepest": -1},
                above=-1,
            ),
            Contrast(
                "the greedy start costs over a third of the training",
                {"sigmoid, greedy/cost_deepest": 1, "relu/cost_deepest": -1.33},
                exact=True,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
