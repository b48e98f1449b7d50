"""Standardising moves and stretches a distribution; whether that makes it normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

EDGES = np.linspace(-4, 4, 33)


@dataclass(frozen=True)
class Settings:
    """Columns of a data set, looked at one by one."""

    share: float = 0.8
    """Of the rows, drawn anew for each seed."""
    samples: int = 2_000
    """Normal samples, of as many rows, whose distances say which are too large."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Greatest distance of each column's distribution from the normal one of its mean and variance, and the share
    of columns that a test of normality (level 1 %) refuses.

    Mean and variance are the column's own, so distances are held against those of normal samples with theirs
    (Lilliefors 1967); Kolmogorov's own table would refuse far too few.
    """
    import torch
    from scipy.stats import goodness_of_fit, kstest, norm

    from rlab.data.preprocess import fit
    from rlab.studies.supervised import examples

    if variant["data"] == "normal":
        rows = torch.from_numpy(np.random.default_rng(seed).normal(50, 9, (500, 200)))
    else:
        rows = examples(variant["data"], seed).x.flatten(1).double()
        rows = rows[torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)))]
        rows = rows[: round(settings.share * len(rows))]
        rows = rows[:, rows.std(0) > 0]
    done = fit("standard", rows.float())(rows).double()

    def distances(x: Any) -> Any:
        return [kstest(c, "norm", args=(c.mean(), c.std())) for c in x.numpy().T]

    before, after = distances(rows), distances(done)
    sampled = goodness_of_fit(
        norm, done[:, 0].numpy(), statistic="ks", n_mc_samples=settings.samples, rng=np.random.default_rng(seed)
    )
    furthest = np.quantile(sampled.null_distribution, 0.99)
    widest = int(np.argmax([test.statistic for test in after]))
    return {
        "distance": float(np.mean([test.statistic for test in after])),
        "change": float(np.mean([abs(a.statistic - b.statistic) for a, b in zip(after, before, strict=True)])),
        "refused": float(np.mean([test.statistic > furthest for test in after])),
        "moments": float(done.mean(0).abs().max() + (done.std(0, correction=0) - 1).abs().max()),
        "widest": np.histogram(done[:, widest].numpy(), EDGES, density=True)[0].round(4),
    }


def draw(figure: Any, results: Results) -> None:
    """The column that is furthest from normal, standardised."""
    axes = figure.subplots()
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    for name, seeds in results.items():
        axes.step(middles, np.mean([seed["widest"] for seed in seeds], axis=0), where="mid", label=name)
    axes.plot(middles, np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi), color="black", ls=":", label="standard normal")
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 6)
    axes.set_xlabel("worst column, standardised (deviations)", fontsize=9)
    axes.set_ylabel("density (per deviation)", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


STUDIES.register("standardised-shape")(
    Study(
        claim="Standardised columns have mean 0 and variance 1 but not a normal distribution: the distance from the "
        "normal one is what it was before.",
        claim_ja="標準化した列は平均 0、分散 1 になるが、正規分布になるわけではない。正規分布との隔たりは、"
        "標準化の前と変わらない。",
        correction="The text says that each feature then follows the standard normal distribution. Shifting and "
        "stretching cannot change a distribution's shape; only what was normal before is so afterwards.",
        correction_ja="教材は、標準化した各特徴量が標準正規分布に従うとする。平行移動と伸縮では分布の形は変わらず、"
        "標準化の後に正規分布になるのは、初めから正規分布だったものだけである。",
        source="items 082; Lilliefors 1967",
        settings=Settings(),
        smoke={"share": 0.3, "samples": 20},
        small={"share": 0.7, "samples": 1_000},
        small_seeds=5,
        variants={
            "breast cancer": {"data": "breast_cancer"},
            "digits": {"data": "digits"},
            "normal": {"data": "normal"},
        },
        measure=measure,
        contrasts=(
            Contrast("mean and deviation are right to 1/1000", {"breast cancer/moments": -1}, above=-1e-3),
            Contrast("the distance does not change by 1/1000", {"digits/change": -1}, above=-1e-3),
            Contrast("of a table, half of all columns are refused", {"breast cancer/refused": 1}, above=0.5, trials=30),
            Contrast("of images, 9 of 10 are", {"digits/refused": 1}, above=0.9, trials=60),
            Contrast("of normal columns, less than 1 in 20 is", {"normal/refused": -1}, above=-0.05, trials=200),
        ),
        draw=draw,
        seeds=10,
    )
)
