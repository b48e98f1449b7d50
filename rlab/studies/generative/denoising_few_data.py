"""Codes of autoencoders that learn from clean or from noisy inputs, by the number of examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

LABELS = 100
"""By which a linear classifier of codes is fitted; the same for all, and never more than there are examples."""


@dataclass(frozen=True)
class Settings:
    """An autoencoder with one hidden layer, which is the code."""

    data: str = "mnist"
    """The pictures."""
    sizes: tuple[int, ...] = (200, 1_000, 10_000)
    """Training examples, without labels."""
    test: int = 5_000
    """Test examples."""
    hidden: int = 1_000
    """Units of the code."""
    noise: float = 0.5
    """Standard deviation of the noise."""
    steps: int = 5_000
    """Updates, of 64 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By number of examples: variance of clean pictures that is explained from noisy ones, and percent right."""
    import torch

    from rlab.seeding import derive
    from rlab.studies.autoencoders import autoencoder, explained, probe, train
    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, 0, settings.test)
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(derive(seed, "order")))
    dice = torch.Generator().manual_seed(derive(seed, "test noise"))
    noisy = data.x_test + settings.noise * torch.randn(data.x_test.shape, generator=dice)
    labelled = order[:LABELS]
    right, cleaned = [], []
    for size in settings.sizes:
        model: Any = autoencoder(f"mlp-{settings.hidden}", data.x.shape[1:], 0, seed)
        noise = settings.noise if variant == "noisy" else 0.0
        train(model, data.x[order[:size]], settings.steps, seed, rate=2e-3, noise=noise)
        with torch.no_grad():
            codes = [model.encode(x) for x in (data.x[labelled], data.x_test)]
        right.append(100 * probe(codes[0], data.y[labelled], codes[1], data.y_test))
        cleaned.append(explained(model, data.x_test, noisy))
    return {
        "right": np.round(right, 3),
        "cleaned": np.round(cleaned, 4),
        "right_few": right[0],
        "right_many": right[-1],
        "cleaned_few": cleaned[0],
        "cleaned_many": cleaned[-1],
        "sizes": settings.sizes,
    }


def draw(figure: Any, results: Results) -> None:
    """Both by the number of examples."""
    above, below = figure.subplots(2, 1)
    sizes = results["clean"][0]["sizes"]
    curves(above, sizes, columns(results, "right"), ("examples", "percent right, by codes"))
    curves(below, sizes, columns(results, "cleaned"), ("examples", "variance explained from noisy inputs"))
    for axes in (above, below):
        count_ticks(axes, sizes)


STUDIES.register("denoising-few-data")(
    Study(
        claim="An autoencoder that is given noisy inputs takes noise out, and with few examples its codes tell classes "
        "better than those of one that is given clean inputs; with many the gain is smaller.",
        claim_ja="ノイズを加えた入力で学習した自己符号化器は、ノイズを取り除く。データが少ないとき、その符号は、"
        "きれいな入力で学習したものよりクラスをよく表す。データが多いと、その差は小さくなる。",
        source="items 165, 166; Vincent et al. 2008; Vincent et al. 2010",
        settings=Settings(),
        smoke={"data": "digits", "sizes": (20, 40), "test": 50, "hidden": 12, "steps": 6},
        small={"data": "digits", "sizes": (100, 1_200), "test": 0, "hidden": 128, "noise": 0.4, "steps": 1_200},
        small_seeds=8,
        variants={"clean": "clean", "noisy": "noisy"},
        measure=measure,
        contrasts=(
            Contrast(
                "it takes noise out: over 0.2 more", {"noisy/cleaned_many": 1, "clean/cleaned_many": -1}, above=0.2
            ),
            Contrast("with few examples, too", {"noisy/cleaned_few": 1, "clean/cleaned_few": -1}, above=0.2),
            Contrast("with few its codes tell more (points)", {"noisy/right_few": 1, "clean/right_few": -1}),
            Contrast(
                "with many the gain is smaller (points)",
                {"noisy/right_few": 1, "clean/right_few": -1, "noisy/right_many": -1, "clean/right_many": 1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
