"""Noise on the weights in training: accuracy, and how sharply the loss rises around what was found."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """The same network, examples and updates; only the noise on the weights differs."""

    data: str = "mnist"
    train: int = 500
    test: int = 5_000
    hidden: int = 256
    steps: int = 3_000
    """Updates of 50 examples."""
    shake: float = 0.4
    """Noise that measures sharpness, in parts of each layer's root mean squared weight."""
    shakes: int = 50


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy (%), and the rise of the training loss when the weights that were found are shaken.

    `variant` is the deviation of the noise, in parts of 1 / sqrt(inputs) of each layer, which is about a weight's
    first size.
    """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy
    from torch.nn.utils import parametrize
    from torch.optim import Adam

    from rlab.nn.layers import GaussianNoise, drawing_from, noisy_weights
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in layers:
        noise = GaussianNoise(variant / layer.in_features**0.5).eval()  # nothing is drawn when it is put in
        parametrize.register_parametrization(layer, "weight", noise)
    adam = Adam(model.parameters(), 2e-3)
    fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=50, seed=seed)
    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight")
    with torch.no_grad(), drawing_from(torch.Generator().manual_seed(derive(seed, "shakes"))):
        loss, shaken = float(cross_entropy(model(data.x), data.y)), 0.0
        for _ in range(settings.shakes):
            with ExitStack() as stack:
                for layer in layers:
                    size = float(layer.weight.square().mean().sqrt())
                    stack.enter_context(noisy_weights(layer, settings.shake * size))
                shaken += float(cross_entropy(model(data.x), data.y)) / settings.shakes
    return {"accuracy": 100 * accuracy(model, data.x_test, data.y_test), "sharpness": shaken - loss}


def draw(figure: Any, results: Results) -> None:
    """Accuracy and sharpness by the noise."""
    axes = figure.subplots(1, 2)
    for panel, name, label in (
        (axes[0], "accuracy", "test accuracy (%)"),
        (axes[1], "sharpness", "rise of the loss when weights are shaken (nats)"),
    ):
        dots(panel, columns(results, name), label)
        panel.set_xlabel("noise on the weights (parts of their first size)", fontsize=8)


STUDIES.register("weight-noise-flat-minima")(
    Study(
        claim="Noise on the weights in training leads to flatter minima, and in moderate strength to better accuracy "
        "on new examples; too strong, it costs accuracy.",
        claim_ja="学習時に重みにノイズを加えると、より平坦な極小に到達し、"
        "適度な強さなら未知のデータに対する精度が上がる。強すぎると精度は下がる。",
        correction="The text says that such noise improves generalisation, without a strength.",
        correction_ja="教材は、重みへのノイズが汎化性能を上げるとするが、強さに触れていない。",
        source="item 124; Murray & Edwards 1994; Hochreiter & Schmidhuber 1997",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 20, "shakes": 4},
        small={"data": "digits", "train": 100, "hidden": 64, "steps": 400},
        small_seeds=8,
        variants={"0": 0.0, "0.5": 0.5, "1": 1.0, "2": 2.0},
        measure=measure,
        contrasts=(
            Contrast("noise leads to flatter minima (nats)", {"0/sharpness": 1, "1/sharpness": -1}),
            Contrast("moderate noise raises accuracy (points)", {"1/accuracy": 1, "0/accuracy": -1}),
            Contrast("strong noise costs accuracy (points)", {"1/accuracy": 1, "2/accuracy": -1}),
        ),
        draw=draw,
        seeds=6,
    )
)
