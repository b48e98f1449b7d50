"""What the layers of a convolutional network know of the classes, one by one, before and after learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

LAYERS = (1, 2, 3)


@dataclass(frozen=True)
class Settings:
    """Three convolutions with as many maps each, ReLU and max-pooling; Adam."""

    data: str = "fashion_mnist"
    examples: int = 10_000
    test: int = 5_000
    maps: int = 32
    steps: int = 1_500
    """Updates with 100 examples each."""


def build(maps: int, side: int, seed: int) -> Any:
    """Layers by name: block 1-3 and the classifier."""
    import torch
    from torch import nn

    from rlab.nn.layers import drawing_from

    def block(n_in: int, kernel: int, pool: bool) -> Any:
        parts = [nn.Conv2d(n_in, maps, kernel, padding=kernel // 2), nn.ReLU(), *[nn.MaxPool2d(2)] * pool]
        return nn.Sequential(*parts)

    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        places = (side // 4) ** 2
        last = nn.Sequential(nn.Flatten(), nn.Linear(maps * places, 10))
        return nn.Sequential(block(1, 5, True), block(maps, 3, True), block(maps, 3, False), last)


def selectivity(units: Any, y: Any) -> float:
    """Mean over units of (mean of the best class - mean of the others) / their sum (Morcos et al. 2018), [n, U]."""
    means = np.stack([units[y == c].mean(0) for c in range(10)])
    best = means.max(0)
    others = (means.sum(0) - best) / 9
    return float(((best - others) / np.maximum(best + others, 1e-9)).mean())


def probe(units: Any, y: Any, new: Any, y_new: Any) -> float:
    """Accuracy of a linear model, ridge regression of the classes, on what units say: [n, U]."""
    scale = units.std(0) + 1e-9
    x, x_new = (np.column_stack([part / scale, np.ones(len(part))]) for part in (units, new))
    w = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ np.eye(10)[y])
    return float(((x_new @ w).argmax(1) == y_new).mean())


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By layer: class selectivity of its maps' means, and how well a linear model reads classes from the layer.

    It is given the mean of each quarter of each map: as many numbers of every layer, and roughly where they are.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    from rlab.studies.supervised import examples, fit

    data = examples(settings.data, seed, train=settings.examples, test=settings.test)
    model = build(settings.maps, data.x.shape[-1], seed)
    if variant["trained"]:
        adam = torch.optim.Adam(model.parameters(), 3e-3)
        fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=100, seed=seed)
    probes, select = [], []
    with torch.no_grad():
        train, new = data.x, data.x_test
        for layer in LAYERS:
            train, new = (torch.cat([model[layer - 1](part) for part in x.split(1_000)]) for x in (train, new))
            quarters, fresh = (adaptive_avg_pool2d(x, 2).flatten(1).double().numpy() for x in (train, new))
            probes.append(probe(quarters, data.y.numpy(), fresh, data.y_test.numpy()))
            select.append(selectivity(train.mean((2, 3)).double().numpy(), data.y.numpy()))
    filters = model[0][0].weight.detach()[:8, 0].numpy().round(3)
    return {
        "probes": probes,
        "selective": select,
        "probe gain": probes[-1] - probes[0],
        "selectivity gain": select[-1] - select[0],
        "filters": filters.tolist(),
    }


def draw(figure: Any, results: Results) -> None:
    """Both measures by layer, and the first filters before and after."""
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 1.3])
    axes = top.subplots(1, 2)
    for panel, key, label in zip(
        axes,
        ("probes", "selective"),
        ("accuracy of a linear model on the layer", "class selectivity of its units"),
        strict=True,
    ):
        curves(panel, LAYERS, columns(results, key), ("layer", label))
        panel.set_xticks(LAYERS)
    for row, (name, seeds) in zip(bottom.subplots(2, 8), results.items(), strict=True):
        for panel, image in zip(row, seeds[0]["filters"], strict=True):
            panel.imshow(np.asarray(image), cmap="gray")
            panel.set_axis_off()
        row[0].set_title(f"first filters, {name}", fontsize=7, loc="left")


STUDIES.register("features-by-depth")(
    Study(
        claim="Later layers of a trained network know more of the classes than early ones, unit by unit and together; "
        "learning brings that about, not depth by itself.",
        claim_ja="学習済みのネットワークでは、後の層ほどクラスの情報をよく表す。ユニット一つ一つでも、"
        "層全体でもそうである。それをもたらすのは、深さそのものではなく学習である。",
        source="item 042; Zeiler & Fergus 2014; Alain & Bengio 2017; Morcos et al. 2018",
        settings=Settings(),
        smoke={"data": "digits", "examples": 200, "test": 100, "maps": 8, "steps": 3},
        small={"examples": 2_000, "test": 2_000, "maps": 16, "steps": 200},
        small_seeds=5,
        variants={"before": {"trained": False}, "after": {"trained": True}},
        measure=measure,
        contrasts=(
            Contrast("a linear model reads classes from layer 3 better than from 1", {"after/probe gain": 1}),
            Contrast("units of layer 3 are more selective for a class than those of 1", {"after/selectivity gain": 1}),
            Contrast("learning, not depth, does the first", {"after/probe gain": 1, "before/probe gain": -1}),
            Contrast("and the second", {"after/selectivity gain": 1, "before/selectivity gain": -1}),
        ),
        draw=draw,
        seeds=5,
        correction="The picture of edges, then parts, then faces is an illustration. What can be measured is that the "
        "classes become easier to read from layer to layer.",
        correction_ja="エッジ、部品、顔という図は、説明のためのたとえである。測定できるのは、"
        "層が進むほどクラスを読み取りやすくなることである。",
    )
)
