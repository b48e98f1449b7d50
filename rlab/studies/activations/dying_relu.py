"""Units whose ReLU is off for every example: what makes them, and what a slope on the negative side does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Two hidden layers on digits, by plain SGD."""

    steps: int = 2_000
    """Updates of 32 examples."""
    width: int = 64
    """Units of each hidden layer."""
    rates: tuple[float, ...] = (0.03, 0.1, 0.2, 0.4, 0.8)
    """Learning rates, from one that suits to one that does not."""
    margin: float = 0.1
    """By which the first hidden layer's units are below 0 for every example, where a variant begins with them off."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By rate: shares of hidden numbers that are negative and of units that are so for every example; test accuracy.
    Of nets that begin off, by the first rate alone."""
    import torch
    from torch import nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples("digits", seed, preprocess="standard")
    curves: dict[str, list[float]] = {"off": [], "dead": [], "accuracy": []}
    for rate in settings.rates[:1] if variant["begins_off"] else settings.rates:
        model = network((64, settings.width, settings.width, 10), variant["activation"], seed=seed, init="he-normal")
        hidden = [part for part in model if isinstance(part, nn.Linear)][:-1]
        if variant["begins_off"]:
            with torch.no_grad():
                hidden[0].bias.sub_(hidden[0](data.x.flatten(1)).amax(0) + settings.margin)
        optimiser = make_optimiser("sgd", model.parameters(), lr=rate)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=32, seed=seed)
        sums: list[torch.Tensor] = []
        for layer in hidden:
            layer.register_forward_hook(lambda _, __, out, sums=sums: sums.append(out))
        right = accuracy(model, data.x_test, data.y_test)
        sums.clear()
        with torch.no_grad():
            model(data.x)
        off = torch.cat(sums, 1) <= 0
        for key, value in (("off", off.float().mean()), ("dead", off.all(0).float().mean()), ("accuracy", right)):
            curves[key].append(float(value))
    ends = {f"{key}_first": values[0] for key, values in curves.items()}
    return curves | ends | {"dead_last": curves["dead"][-1], "mean_accuracy": float(np.mean(curves["accuracy"]))}


def draw(figure: Any, results: Results) -> None:
    """Units that are always negative and accuracies by rate, and what comes of nets that begin off."""
    panels = figure.subplots(2, 2)
    swept = {name: seeds for name, seeds in results.items() if len(seeds[0]["dead"]) > 1}
    begun = {name.replace(", ", "\n"): seeds for name, seeds in results.items() if name not in swept}
    places = range(1, 1 + len(next(iter(swept.values()))[0]["dead"]))
    for axes, key, label in zip(panels[0], ("dead", "accuracy"), ("always off (%)", "accuracy (%)"), strict=True):
        ways = {name: 100 * np.array(column(seeds, key)) for name, seeds in swept.items()}
        curves(axes, places, ways, ("rate: from modest to large", label))
    for axes, key, label in zip(panels[1], ("dead", "accuracy"), ("always off (%)", "accuracy (%)"), strict=True):
        dots(
            axes,
            {name: [100 * value for value in column(seeds, f"{key}_first")] for name, seeds in begun.items()},
            label,
        )
        axes.tick_params(axis="x", labelsize=6)


def way(activation: str, begins_off: bool = False) -> dict[str, Any]:
    """How a variant is trained."""
    return {"activation": activation, "begins_off": begins_off}


STUDIES.register("dying-relu")(
    Study(
        claim="A ReLU that is off for every example learns no more, and large rates make it so; a slope on the "
        "negative side lets units recover, and to be off for some examples harms nothing.",
        claim_ja="すべてのデータに対して出力が 0 になった ReLU は、それ以上学習しない。学習率が大きいと、"
        "これが起こる。負の側に傾きがあれば、ユニットは回復できる。一部のデータに対して 0 になるだけなら、害はない。",
        correction="The text says that learning may fail since the gradient is 0 for x <= 0. That alone is no harm: in "
        "a net that learns well, more than a third of all units are off at a time. Only one that is off for all is "
        "dead.",
        correction_ja="教材は、x <= 0 で勾配が 0 なので学習できないことがあるとする。しかし、それだけでは害はない。"
        "よく学習したネットワークでも、常に 3 分の 1 を超えるユニットの出力が 0 である。死んでいるのは、"
        "すべてのデータで 0 になるユニットだけである。",
        source="items 053, 055; Maas et al. 2013; Lu et al. 2020",
        settings=Settings(),
        smoke={"steps": 4, "width": 8, "rates": (0.1, 0.8)},
        small={"steps": 250, "rates": (0.03, 0.2, 0.8)},
        small_seeds=6,
        variants={
            "ReLU": way("relu"),
            "Leaky": way("leaky-relu"),
            "ReLU, begun off": way("relu", begins_off=True),
            "Leaky 0.01, begun off": way("leaky-relu", begins_off=True),
            "PReLU 0.25, begun off": way("prelu", begins_off=True),
        },
        measure=measure,
        contrasts=(
            Contrast(
                "a large rate kills more units, by a tenth of all",
                {"ReLU/dead_last": 1, "ReLU/dead_first": -1},
                above=0.1,
            ),
            Contrast(
                "over all rates Leaky ReLUs are more accurate", {"Leaky/mean_accuracy": 1, "ReLU/mean_accuracy": -1}
            ),
            Contrast("begun off, ReLUs stay near chance", {"ReLU, begun off/mean_accuracy": -1}, above=-0.2),
            Contrast("a slope of 1/100 learns", {"Leaky 0.01, begun off/mean_accuracy": 1}, above=0.5),
            Contrast("a slope of 1/4 learns well", {"PReLU 0.25, begun off/mean_accuracy": 1}, above=0.9),
            Contrast("of a net that learns, 1/3 is off at a time", {"ReLU/off_first": 1}, above=1 / 3),
            Contrast("and it is right in more than 9 of 10", {"ReLU/accuracy_first": 1}, above=0.9),
        ),
        draw=draw,
        seeds=10,
    )
)
