"""What a WaveNet gains from dilation: bits per sample by the number of layers, with and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """WaveNets of several depths, each trained alike."""

    data: str = "fsdd_wave"
    """The recordings."""
    examples: int = 0
    """Training recordings; 0: all."""
    layers: tuple[int, ...] = (2, 5, 8, 11)
    """Depths, ascending."""
    width: int = 32
    """Channels."""
    epochs: int = 2
    """Passes over the recordings."""
    batch_size: int = 1
    """Recordings of an update."""
    rate: float = 2e-3
    """Learning rate."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Bits per test sample by depth, and those of a table of pairs of samples."""
    from rlab.run.contract import Stop
    from rlab.studies.rl import learner, run

    bits, fields, bigram = [], [], 0.0
    for layers in settings.layers:
        with learner(
            "wavenet", settings.data, seed, examples=settings.examples, layers=layers, growth=variant,
            width=settings.width, skip=2 * settings.width, epochs=settings.epochs, batch_size=settings.batch_size,
            learning_rate=settings.rate, validation=0.0,
        ) as built:  # fmt: skip
            run(built)
            score = built.evaluate_split("test", Stop())
            bits.append(score["mean"])
            fields.append(built.task.model.field)
            bigram = score["bigram"]
    return {
        "bits": np.round(bits, 4),
        "fields": tuple(fields),
        "layers": settings.layers,
        "shallow": bits[0],
        "deep": bits[-1],
        "bigram": bigram,
    }


def draw(figure: Any, results: Results) -> None:
    """Bits by depth, beside those of the table."""
    axes = figure.subplots()
    layers = results["dilated"][0]["layers"]
    curves(axes, layers, columns(results, "bits"), ("layers", "bits per sample"))
    axes.axhline(results["dilated"][0]["bigram"], color="black", lw=1, ls=":", label="table of pairs")
    count_ticks(axes, layers)


STUDIES.register("wavenet-field")(
    Study(
        claim="Dilated causal convolutions predict sound better than as many without dilation, and the better the "
        "further they see; a classifier of the next sample is far below a table of pairs, and it generates.",
        claim_ja="Dilated Causal Convolution は、同じ層数で dilation のない畳み込みより音声をよく予測し、"
        "受容野が広いほどよい。次のサンプルを分類として予測するモデルは、"
        "2 サンプルの頻度表をはるかに下回るビット数になり、音声を生成できる。",
        source="items 206, 260; van den Oord et al. 2016",
        settings=Settings(),
        smoke={"data": "tones", "examples": 8, "layers": (1, 3), "width": 4, "epochs": 1, "batch_size": 8},
        small={
            "data": "tones", "layers": (2, 5, 8), "width": 16, "epochs": 12, "batch_size": 4, "rate": 5e-3,
        },
        small_seeds=5,
        variants={"dilated": 2, "not dilated": 1},
        measure=measure,
        contrasts=(
            Contrast(
                "of the deepest networks the dilated one needs fewer bits",
                {"not dilated/deep": 1, "dilated/deep": -1},
                above=0.05,
            ),
            Contrast("a longer field needs fewer bits", {"dilated/shallow": 1, "dilated/deep": -1}, above=0.05),
            Contrast(
                "it needs 0.8 bits less than a table of pairs", {"dilated/bigram": 1, "dilated/deep": -1}, above=0.8
            ),
        ),
        draw=draw,
        seeds=5,
    )
)  # fmt: skip
