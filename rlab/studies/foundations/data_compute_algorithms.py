"""Three reasons for the rise of deep learning, each taken away from the same network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rlab.seeding import derive
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Networks of several sizes on parts of a data set; as many updates for all."""

    data: str = "mnist"
    """Or "teacher"."""
    counts: tuple[int, ...] = (100, 300, 1_000, 3_000, 10_000, 30_000)
    """Training examples, from few to many."""
    test: int = 0
    """Test examples; 0: all."""
    steps: int = 2_000
    """Updates with 50 examples each."""
    width: int = 512
    """Of the large network's two hidden layers."""


def teacher(seed: int, count: int) -> Any:
    """Inputs of 10 numbers, and which of 4 outputs of a random network is the largest: a problem of any size."""
    import torch

    from rlab.studies.supervised import Examples, network

    x = torch.randn(count + 4_000, 10, generator=torch.Generator().manual_seed(derive(seed, "inputs")))
    with torch.no_grad():
        outputs = network([10, 32, 32, 4], seed=derive(seed, "teacher"), init="he-normal")(x)
    y = (outputs - outputs.mean(0)).argmax(1)
    return Examples(x[4_000:], y[4_000:], x[:4_000], y[:4_000])


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test error by number of examples, log10 of it, and with the most of them also after a tenth of the updates."""
    import torch

    from rlab.studies.supervised import accuracy, examples, fit, network

    way, early = [], 0.0
    for count in settings.counts:
        if settings.data == "teacher":
            data = teacher(seed, count)
        else:
            data = examples(settings.data, seed, train=count, test=settings.test)
        hidden = {"none": [], "small": [16], "large": [settings.width] * 2}[variant["size"]]
        model = network([data.x[0].numel(), *hidden, int(data.y.max()) + 1], variant["activation"], seed=seed)
        optimiser = (torch.optim.Adam if variant["adam"] else torch.optim.SGD)(model.parameters(), variant["rate"])
        early, last = fit(
            model,
            data.x,
            data.y,
            optimiser,
            steps=settings.steps,
            batch_size=50,
            seed=seed,
            look=lambda model=model, data=data: 1 - accuracy(model, data.x_test, data.y_test),  # type: ignore[misc]
            points=10,
        )[::9]
        way.append(last)
    log = {"few": way[0], "many": way[-1], "early": early}
    least = 0.5 / len(data.y_test)  # so that no error has a logarithm, too
    return {"counts": settings.counts, "way": way} | {k: math.log10(max(v, least)) for k, v in log.items()}


def draw(figure: Any, results: Results) -> None:
    """Error by number of examples."""
    axes = figure.subplots()
    ways = columns(results, "way")
    curves(axes, next(iter(results.values()))[0]["counts"], ways, ("training examples", "test error"))
    axes.set(xscale="log", yscale="log")


STUDIES.register("data-compute-algorithms")(
    Study(
        claim="The more examples, the larger a large network's lead over a small one; taking away updates or the "
        "newer algorithms costs it accuracy, too.",
        claim_ja="データが多いほど、大きなネットワークは小さなネットワークに対して優位になる。更新回数（計算量）"
        "を減らしても、新しいアルゴリズムを使わなくても、精度は落ちる。",
        source="item 006; Halevy et al. 2009; Sun et al. 2017; LeCun et al. 2015",
        settings=Settings(),
        smoke={"data": "digits", "counts": (40, 80), "test": 60, "steps": 10, "width": 16},
        small={"data": "teacher", "counts": (100, 800, 6_400), "steps": 600, "width": 64},
        small_seeds=6,
        variants={
            "linear model": {"size": "none", "activation": "relu", "adam": True, "rate": 1e-2},
            "small network": {"size": "small", "activation": "relu", "adam": True, "rate": 1e-2},
            "large network": {"size": "large", "activation": "relu", "adam": True, "rate": 1e-3},
            "large, sigmoid and SGD": {"size": "large", "activation": "sigmoid", "adam": False, "rate": 0.5},
        },
        measure=measure,
        contrasts=(
            *(
                Contrast(
                    f"data: {other}'s error / large network's is larger with the most examples than the fewest (log10)",
                    {f"{other}/many": 1, "large network/many": -1, f"{other}/few": -1, "large network/few": 1},
                )
                for other in ("linear model", "small network")
            ),
            Contrast(
                "compute: a tenth of the updates leaves 1.5 times the error (log10)",
                {"large network/early": 1, "large network/many": -1},
                above=0.18,
            ),
            Contrast(
                "algorithms: sigmoids and plain gradient descent leave 1.5 times the error (log10)",
                {"large, sigmoid and SGD/many": 1, "large network/many": -1},
                above=0.18,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
