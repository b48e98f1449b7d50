"""Attention's division by the root of the size: what a softmax of dot products and its gradient become without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Queries and keys with independent components of variance 1, as after a norm."""

    sizes: tuple[int, ...] = (4, 16, 64, 256, 1024)
    """Components of a query."""
    keys: int = 64
    """Keys that are attended to."""
    queries: int = 256
    """Queries."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By size: entropy of the weights in parts of the largest, and norm of the scores' gradient."""
    import torch

    from rlab.nn.sequence.attention import scaled_dot_product
    from rlab.seeding import derive

    generator = torch.Generator().manual_seed(derive(seed, "queries"))
    entropies, slopes = [], []
    for size in settings.sizes:
        query = torch.randn(settings.queries, size, generator=generator, dtype=torch.float64)
        key = torch.randn(settings.keys, size, generator=generator, dtype=torch.float64)
        value = torch.randn(settings.keys, 1, generator=generator, dtype=torch.float64)
        _, weights = scaled_dot_product(query, key, value, scale=None if variant == "scaled" else 1.0)
        entropies.append(float(torch.special.entr(weights).sum(1).mean() / math.log(settings.keys)))
        # The slope of what comes out by the scores, w * (v - w.v).
        slopes.append(float((weights * (value.T - weights @ value)).square().sum(1).sqrt().mean()))
    return {
        "entropy": np.round(entropies, 5),
        "slope": np.round(slopes, 6),
        "small_entropy": entropies[0],
        "large_entropy": entropies[-1],
        "small_slope": slopes[0],
        "large_slope": slopes[-1],
        "sizes": settings.sizes,
    }


def draw(figure: Any, results: Results) -> None:
    """Entropy and slope by size."""
    sizes = results["scaled"][0]["sizes"]
    labels = {"entropy": "entropy / log N", "slope": "gradient of a score"}
    for axes, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        curves(axes, sizes, columns(results, name), ("components of a query", label))
        count_ticks(axes, sizes)


STUDIES.register("softmax-scaling")(
    Study(
        claim="Without a division by the root of their size, long vectors' dot products drive attention's softmax to "
        "one key, and its gradient shrinks; with it, entropy and gradient do not depend on the size.",
        claim_ja="次元の平方根で割らないと、長いベクトルの内積によって、"
        "Attention のソフトマックスは一つのキーに偏り、その勾配は小さくなる。割れば、"
        "エントロピーも勾配も次元によらない。",
        correction="The text's listing does not divide.",
        correction_ja="教材のコードは、割っていない。",
        source="item 243; Vaswani et al. 2017, section 3.2.1",
        settings=Settings(),
        smoke={"sizes": (4, 64), "keys": 8, "queries": 16},
        small={"queries": 128},
        variants={"scaled": "scaled", "not scaled": "not scaled"},
        measure=measure,
        contrasts=(
            Contrast("unscaled, entropy falls to a fifth of the largest", {"not scaled/large_entropy": -1}, above=-0.2),
            Contrast(
                "and the gradient to a half",
                {"not scaled/small_slope": 0.5, "not scaled/large_slope": -1},
            ),
            Contrast("scaled, entropy stays above 0.8", {"scaled/large_entropy": 1}, above=0.8),
            Contrast(
                "at all sizes alike within 0.1",
                {"scaled/large_entropy": 1, "scaled/small_entropy": -1},
                above=-0.1,
            ),
            Contrast(
                "scaled, the gradient of long vectors is larger",
                {"scaled/large_slope": 1, "not scaled/large_slope": -1},
            ),
        ),
        draw=draw,
        seeds=10,
    )
)
