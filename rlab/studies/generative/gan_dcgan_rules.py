"""DCGAN's rules taken away one by one: batch norm, strided convolutions, leaky ReLU, convolutions at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """As many updates for all; the distance is on the lab's own features."""

    data: str = "mnist"
    examples: int = 20_000
    width: int = 32
    epochs: int = 8
    samples: int = 5_000


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Natural logarithm of the FID to the test images."""
    from rlab.run.contract import Stop
    from rlab.studies.rl import learner, run

    how = {"width": settings.width, "epochs": settings.epochs, "samples": settings.samples, "precision": "fp32"}
    with learner("dcgan", settings.data, seed, examples=settings.examples, **how | variant) as built:
        run(built)
        score = built.evaluate(Stop())
    return {"log_fid": math.log(score["mean"]), "log_floor": math.log(score["floor"])}


def draw(figure: Any, results: Results) -> None:
    """The distance of each variant."""
    axes = figure.subplots()
    dots(axes, columns(results, "log_fid"), "log FID (less is better)")
    axes.tick_params(axis="x", labelsize=7, rotation=20)


STUDIES.register("gan-dcgan-rules")(
    Study(
        claim="Each of DCGAN's rules is worth its place: without batch norm, with pooling in place of strides, with "
        "ReLU in the discriminator, or without convolutions, samples are further from the data.",
        claim_ja="DCGAN の指針は、どれも役に立っている。バッチ正規化をなくす、ストライドの代わりにプーリングを使う、"
        "識別器に ReLU を使う、畳み込みをやめる、のどれでも、生成データは本物のデータから遠くなる。",
        source="item 259; Radford et al. 2016, section 3",
        settings=Settings(),
        smoke={"data": "digits", "examples": 64, "width": 4, "epochs": 1, "samples": 20},
        small={"data": "digits", "examples": 1_200, "width": 16, "epochs": 60, "samples": 1_000},
        small_seeds=8,
        variants={
            "all rules": {},
            "no batch norm": {"generator_norm": "none", "discriminator_norm": "none"},
            "pooling": {"strided": False},
            "ReLU": {"leak": 0.0},
            "dense": {"net": "mlp", "width": 256, "generator_norm": "none", "discriminator_norm": "none"},
        },
        measure=measure,
        contrasts=(
            Contrast("without batch norm (log ratio)", {"no batch norm/log_fid": 1, "all rules/log_fid": -1}),
            Contrast("with pooling in place of strides", {"pooling/log_fid": 1, "all rules/log_fid": -1}),
            Contrast("with ReLU in the discriminator", {"ReLU/log_fid": 1, "all rules/log_fid": -1}),
            Contrast("without convolutions", {"dense/log_fid": 1, "all rules/log_fid": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
