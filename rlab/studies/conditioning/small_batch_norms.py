"""Normalisations by batch and by example, as batches get small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SIZES = (2, 4, 32)
"""Examples of a batch."""


@dataclass(frozen=True)
class Settings:
    """Two hidden layers on digits, of units or of maps; as many updates for every size of the batch."""

    units: int = 64
    """Of a fully connected layer."""
    maps: int = 32
    """Of a convolution, of 6 x 6 and 4 x 4 positions."""
    steps: int = 1_500
    """Updates, by SGD with momentum."""
    rate: float = 0.03
    """Learning rate at 32 examples; of fewer, less by the root of their share."""


def build(settings: Settings, variant: Any, seed: int) -> Any:
    """The net; normalisations do not change what is drawn."""
    from rlab.studies.supervised import network, normed_convolutions

    if variant["of"] == "units":
        sizes = (64, settings.units, settings.units, 10)
        return network(sizes, seed=seed, init="he-normal", norm=variant["norm"])
    return normed_convolutions(variant["norm"], settings.maps, seed)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy by size of the batch."""
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import accuracy, examples, fit

    data = examples("digits", seed, preprocess="standard")
    accuracies = []
    for size in SIZES:
        model = build(settings, variant, seed)
        rate = settings.rate * (size / max(SIZES)) ** 0.5
        optimiser = make_optimiser("momentum", model.parameters(), lr=rate, foreach=True)
        fit(model, data.x, data.y, optimiser, steps=settings.steps, batch_size=size, seed=seed)
        accuracies.append(accuracy(model, data.x_test, data.y_test))
    return {"curve": accuracies} | {f"of_{size}": value for size, value in zip(SIZES, accuracies, strict=True)}


def draw(figure: Any, results: Results) -> None:
    """Accuracy over the size of batches."""
    axes = figure.subplots()
    ways = columns(results, "curve", 100)
    curves(axes, range(len(SIZES)), ways, ("examples of a batch", "test accuracy (%)"))
    axes.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])


def lead(ahead: str, behind: str, size: int) -> dict[str, float]:
    """Of one accuracy over another."""
    return {f"{ahead}/of_{size}": 1, f"{behind}/of_{size}": -1}


STUDIES.register("small-batch-norms")(
    Study(
        claim="Batch normalisation of units falls far behind layer normalisation in batches of two, and is like it in "
        "batches of 32; of maps, their positions make up for missing examples.",
        claim_ja="全結合層のバッチ正規化は、バッチサイズが 2 だとレイヤー正規化に大きく後れを取るが、"
        "32 なら同等である。特徴マップでは、位置の数がデータの少なさを補う。",
        source="items 087, 089, 090; Ba et al. 2016; Wu & He 2018, section 4.1",
        settings=Settings(),
        smoke={"units": 4, "maps": 4, "steps": 2},
        small={"maps": 8, "units": 32, "steps": 200},
        small_seeds=5,
        variants={
            "units, batch": {"of": "units", "norm": "batch"},
            "units, layer": {"of": "units", "norm": "layer"},
            "maps, batch": {"of": "maps", "norm": "batch"},
            "maps, layer": {"of": "maps", "norm": "layer"},
            "maps, group": {"of": "maps", "norm": "group"},
        },
        measure=measure,
        contrasts=(
            Contrast("units, 2 examples: layer leads by 10 points", lead("units, layer", "units, batch", 2), above=0.1),
            Contrast("units, 32: batch is not 3 points behind", lead("units, batch", "units, layer", 32), above=-0.03),
            Contrast("maps, 2: batch is not 10 points behind", lead("maps, batch", "maps, layer", 2), above=-0.1),
            Contrast("maps, 32: group is not 3 points behind", lead("maps, group", "maps, batch", 32), above=-0.03),
        ),
        draw=draw,
        seeds=6,
    )
)
