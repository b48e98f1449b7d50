"""Whether fakes can be told from data at the end: by the GAN's own discriminator, and by a fresh network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.adversarial import told_apart
from rlab.studies.plots import columns, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 10


@dataclass(frozen=True)
class Settings:
    """DCGAN on images; as many samples as there are test images are told from these, or these from training images."""

    data: str = "mnist"
    examples: int = 10_000
    width: int = 32
    epochs: int = 12
    tested: int = 2_000
    steps: int = 1_000
    """Updates of the network that starts afresh."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy of the discriminator over training (`ends`: in the last fifth), and of a fresh network (%)."""
    import torch

    from rlab.data.datasets import as_float
    from rlab.studies.rl import learner, run

    own: list[float] = []
    how = {"width": settings.width, "epochs": settings.epochs, "samples": 100, "precision": "fp32"}
    with learner("dcgan", settings.data, seed, examples=settings.examples, **how) as built:
        task = built.task
        test = task.dataset.items("test")[: settings.tested]
        train = task.dataset.items("train")[: len(test)]
        real = as_float(task.dataset.x[test])
        if variant == "data":
            other = as_float(task.dataset.x[train])
        else:

            def look(built: Any) -> float:
                with torch.no_grad():
                    codes = torch.randn(len(real), *task.code_shape, generator=torch.Generator().manual_seed(seed))
                    task.modules.train()  # as it is when it judges: batch norm by the batch
                    right = (task.discriminator(task.scaling(real)) > 0).float().mean()
                    wrong = (task.discriminator(task.generator(codes)) <= 0).float().mean()
                return 50 * float(right + wrong)

            own = run(built, POINTS, look)
            other = as_float(torch.from_numpy(task.sample(len(real), seed)))
    return {
        "fresh": 100 * told_apart(real, other, seed, steps=settings.steps),
        "ends": float(np.mean(own[-2:])) if own else 0.0,
        **({"own": own} if own else {}),
    }


def draw(figure: Any, results: Results) -> None:
    """The discriminator's accuracy over training, and what a fresh network reaches."""
    left, right = figure.subplots(1, 2)
    own = {name: seeds for name, seeds in results.items() if "own" in seeds[0]}
    curves(left, np.linspace(1 / POINTS, 1, POINTS), columns(own, "own"), ("share of training", "accuracy (%)"))
    left.axhline(50, color="black", lw=1, ls=":")
    dots(right, columns(results, "fresh"), "accuracy of a fresh network (%)")
    right.axhline(50, color="black", lw=1, ls=":")


STUDIES.register("gan-told-apart")(
    Study(
        claim="At the end of training a GAN's fakes can still be told from data: by its own discriminator, and by a "
        "network that starts afresh, which does not tell data from other data.",
        claim_ja="学習を終えても、GAN の生成データは本物のデータと見分けられる。自身の識別器でも、"
        "新たに学習したネットワークでもそうである。後者は、データどうしを見分けることはできない。",
        correction="The texts say that in the end fakes cannot be told from real ones. That is the optimum of the "
        "game, where D is 1/2 everywhere; training does not reach it.",
        correction_ja="教材は、最後には生成データを本物と見分けられなくなるとする。それは、"
        "識別器の出力がどこでも 1/2 になるゲームの最適解で、実際の学習はそこに達しない。",
        source="item 258; Goodfellow et al. 2014; Lopez-Paz & Oquab 2017",
        settings=Settings(),
        smoke={"data": "digits", "examples": 100, "width": 4, "epochs": 1, "tested": 60, "steps": 10},
        small={"data": "digits", "examples": 1_200, "width": 16, "epochs": 40, "tested": 270, "steps": 400},
        small_seeds=10,
        variants={"fakes": "fakes", "data": "data"},
        measure=measure,
        contrasts=(
            Contrast("its own discriminator is right more often than by chance (%)", {"fakes/ends": 1}, 55.0),
            Contrast("a fresh network is right about fakes (%)", {"fakes/fresh": 1}, 60.0),
            Contrast("it is less often right about data against data (%)", {"fakes/fresh": 1, "data/fresh": -1}, 5.0),
        ),
        draw=draw,
        seeds=5,
    )
)
