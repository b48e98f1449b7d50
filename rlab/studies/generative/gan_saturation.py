"""Minimax against non-saturating: what the generator's gradient is where the discriminator is ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Small dense networks on eight Gaussians; the discriminator makes several updates for one of the generator."""

    width: int = 64
    epochs: int = 60
    ahead: int = 5
    points: int = 12
    """Moments at which gradients are measured."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Gradient norms (log10) of the generator by either loss over training by one of them, and its distance at the end.

    `ratio` is the mean of the logarithms' difference, non-saturating less minimax, over the last half of training.
    """
    import torch

    from rlab.studies.rl import learner, run
    from rlab.tasks.generative.gan import generator_loss
    from rlab.tasks.generative.scores import frechet, moments

    def norms(built: Any) -> list[float]:
        task = built.task
        z = torch.randn(256, *task.code_shape, generator=torch.Generator().manual_seed(seed))
        logits, found = task.discriminator(task.generator(z)), []
        for kind in ("non-saturating", "minimax"):
            parameters = list(task.generator.parameters())
            gradients = torch.autograd.grad(generator_loss(kind, logits), parameters, retain_graph=True)
            found.append(float(torch.cat([g.flatten() for g in gradients]).norm().clamp(min=1e-30).log10()))
        return found

    how = {"width": settings.width, "depth": 2, "epochs": settings.epochs, "noise": 0.0, "learning_rate": 1e-3}
    how |= {"discriminator_steps": settings.ahead, "loss": variant, "samples": 500, "beta1": 0.5, "batch_size": 128}
    with learner("gan", "gaussians-8", seed, examples=4_000, **how) as built:
        seen = np.array(run(built, settings.points, norms))
        task = built.task
        samples = torch.from_numpy(task.sample(2_000, seed))
        away = frechet(moments(samples), moments(task.dataset.inputs("test")))
    late = seen[len(seen) // 2 :]
    return {
        "ratio": float((late[:, 0] - late[:, 1]).mean()),
        "distance": float(np.log10(away + 1e-6)),
        "gradient": seen[:, 0 if variant == "non-saturating" else 1].tolist(),
    }


def draw(figure: Any, results: Results) -> None:
    """The gradient's size over training, each variant by its own loss."""
    axes = figure.subplots()
    groups = columns(results, "gradient")
    points = len(next(iter(groups.values()))[0])
    curves(axes, np.linspace(1 / points, 1, points), groups, ("share of training", "gradient norm, log10"))


STUDIES.register("gan-saturation")(
    Study(
        claim="Where the discriminator is ahead, the minimax loss leaves the generator a gradient that is many times "
        "smaller than that of the non-saturating loss, and it ends further from the data.",
        claim_ja="識別器が先行すると、ミニマックス損失が生成器に与える勾配は、"
        "non-saturating 損失の場合の何分の 1 かに縮み、学習後の分布もデータから遠い。",
        source="item 256; Goodfellow et al. 2014, section 3",
        settings=Settings(),
        smoke={"width": 8, "epochs": 1, "points": 2},
        small={"epochs": 30},
        small_seeds=5,
        variants={"non-saturating": "non-saturating", "minimax": "minimax"},
        measure=measure,
        contrasts=(
            Contrast("trained by minimax, its gradient is less than a third (log10)", {"minimax/ratio": 1}, 0.5),
            Contrast(
                "minimax ends further from the data (log10 of the Fréchet distance)",
                {"minimax/distance": 1, "non-saturating/distance": -1},
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
