"""Modes of a grid of 25 Gaussians that a GAN covers: the plain one, with a gradient penalty, and a Wasserstein GAN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.adversarial import covered
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

MODES = 25


@dataclass(frozen=True)
class Settings:
    """Dense networks of the same size and as many updates of the discriminator; samples count where they are near."""

    width: int = 128
    epochs: int = 300
    examples: int = 4_000
    batch_size: int = 128


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Modes covered, the share (%) of the samples near one, and 200 samples."""
    from rlab.studies.rl import learner, run

    recipe, how = variant["recipe"], {key: value for key, value in variant.items() if key != "recipe"}
    how |= {"width": settings.width, "epochs": settings.epochs, "batch_size": settings.batch_size, "samples": 500}
    with learner(recipe, "gaussians-25", seed, examples=settings.examples, **how) as built:
        run(built)
        points = built.task.sample(2_500, seed)
    modes, share = covered(points, "gaussians-25")
    return {"modes": modes, "near": 100 * share, "points": points[:200].round(2).tolist()}


def draw(figure: Any, results: Results) -> None:
    """Samples of the first seed, a picture a variant, and the modes of all seeds."""
    *places, last = figure.subplots(1, len(results) + 1)
    for axes, (name, seeds) in zip(places, results.items(), strict=True):
        axes.plot(*zip(*seeds[0]["points"], strict=True), ".", ms=2)
        axes.set(xlim=(-6, 6), ylim=(-6, 6), xticks=[], yticks=[], aspect="equal")
        axes.set_title(name, fontsize=8)
    dots(last, columns(results, "modes"), "modes of 25")
    last.tick_params(axis="x", labelsize=6, rotation=60)


STUDIES.register("gan-mode-coverage")(
    Study(
        claim="A plain GAN loses modes of the data for good; a penalty on the discriminator's gradient, or a "
        "Wasserstein GAN with one, covers more of them with the same networks and updates.",
        claim_ja="通常の GAN は、データのモードの一部を失ったまま取り戻せない（モード崩壊）。"
        "識別器の勾配への正則化や、それを使う Wasserstein GAN は、同じネットワークと更新回数で、"
        "より多くのモードをカバーする。",
        source="item 258; Srivastava et al. 2017; Mescheder et al. 2018",
        settings=Settings(),
        smoke={"width": 8, "epochs": 1, "examples": 256},
        small={"epochs": 100},
        small_seeds=5,
        variants={
            "plain": {"recipe": "gan", "noise": 0.0, "octaves": 0},
            "R1": {"recipe": "gan", "noise": 0.0, "octaves": 0, "penalty": 1.0},
            "wgan-gp": {"recipe": "wgan-gp", "discriminator_steps": 1, "penalty": 0.1},
        },
        measure=measure,
        contrasts=(
            Contrast("the plain one loses more than one mode", {"plain/modes": -1}, -24.0),
            Contrast("the penalty R1 covers more", {"R1/modes": 1, "plain/modes": -1}),
            Contrast("the Wasserstein GAN covers more", {"wgan-gp/modes": 1, "plain/modes": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
