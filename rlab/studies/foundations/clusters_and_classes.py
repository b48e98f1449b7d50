"""What comes out where nobody says what is looked for: clusters against the classes that people see."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

COUNTS = (2, 5, 7, 10, 15, 20, 30)
"""Of clusters."""


@dataclass(frozen=True)
class Settings:
    """k-means on images or on the codes of an autoencoder, and a linear classifier of the same examples."""

    data: str = "mnist"
    examples: int = 3_000
    test: int = 3_000
    steps: int = 2_000
    """Updates of the autoencoder (8 numbers in the middle) and of the classifier, with 100 examples each."""


def codes(settings: Settings, data: Any, seed: int) -> Any:
    """What an autoencoder makes of the examples, [n, 8]."""
    import torch

    from rlab.studies.supervised import fit, network

    pixels = data.x[0].numel()
    model = network([pixels, 64, 8, 64, pixels], "relu", seed=seed)
    del model[4]  # the ReLU on the code
    flat = data.x.flatten(1)
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    fit(model, flat, flat, adam, steps=settings.steps, batch_size=100, seed=seed, loss=torch.nn.functional.mse_loss)
    with torch.no_grad():
        return model[:4](flat).numpy()


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """By number of clusters: share of examples in the commonest class of their cluster, and what k-means minimises."""
    import torch
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, train=settings.examples, test=settings.test)
    if variant["of"] == "labels":
        model = network([data.x[0].numel(), 10], seed=seed)
        adam = torch.optim.Adam(model.parameters(), 3e-3)
        fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=100, seed=seed)
        return {"right": accuracy(model, data.x_test, data.y_test)}
    x = data.x.flatten(1).numpy() if variant["of"] == "pixels" else codes(settings, data, seed)
    x, y = x.astype(np.float64), data.y.numpy()
    purity, spread, agreement = [], [], {}
    for k in COUNTS:
        both = [KMeans(k, n_init=1, random_state=derive(seed, "clusters", k, again)).fit(x) for again in (0, 1)]
        clusters = both[0].labels_
        purity.append(sum(np.bincount(y[clusters == c]).max() for c in np.unique(clusters)) / len(y))
        spread.append(both[0].inertia_ / len(x))
        agreement[k] = adjusted_rand_score(*(fitted.labels_ for fitted in both))
        if k == 10:
            information = normalized_mutual_info_score(y, clusters)
    numbers = {"way": purity, "purity": purity[COUNTS.index(10)], "information": information, "twice": agreement[10]}
    falls = min(np.log(a / b) for a, b in pairwise(spread))
    return numbers | {"spread": np.array(spread) / spread[0], "fall": falls}


def draw(figure: Any, results: Results) -> None:
    """Purity, and the distances that k-means minimises, by number of clusters."""
    axes = figure.subplots(1, 2)
    clustered = {name: seeds for name, seeds in results.items() if "way" in seeds[0]}
    ways = {name: column(seeds, "way") for name, seeds in clustered.items()}
    curves(axes[0], COUNTS, ways, ("clusters", "share in the commonest class of its cluster"))
    learned = np.mean(column(results["labels"], "right"))
    axes[0].axhline(learned, color="black", lw=1, ls=":", label="learned from labels")
    axes[0].legend(fontsize=8)
    ways = {name: column(seeds, "spread") for name, seeds in clustered.items()}
    curves(axes[1], COUNTS, ways, ("clusters", "squared distance to the centre (2 clusters: 1)"))


STUDIES.register("clusters-and-classes")(
    Study(
        claim="Clustering needs no labels, but what it finds agrees with what people mean only in part, and neither "
        "how many clusters there are nor what they are follows from the data alone.",
        claim_ja="クラスタリングにラベルは要らないが、得られるクラスタは、人が考える分類と部分的にしか一致しない。"
        "クラスタの数も意味も、データだけからは決まらない。",
        source="item 010; MacQueen 1967; Kleinberg 2003 (An impossibility theorem for clustering)",
        settings=Settings(),
        smoke={"data": "digits", "examples": 80, "test": 60, "steps": 5},
        small={"data": "digits", "examples": 600, "test": 0, "steps": 300},
        small_seeds=8,
        variants={"pixels": {"of": "pixels"}, "autoencoder": {"of": "codes"}, "labels": {"of": "labels"}},
        measure=measure,
        contrasts=(
            Contrast("10 clusters know much of the 10 classes: purity above 0.4", {"pixels/purity": 1}, above=0.4),
            Contrast(
                "but a linear model of the labels is 10 points better",
                {"labels/right": 1, "pixels/purity": -1},
                above=0.1,
            ),
            Contrast(
                "and better than clusters of an autoencoder's codes", {"labels/right": 1, "autoencoder/purity": -1}
            ),
            Contrast(
                "two starts give different clusters (adjusted Rand index below 0.95)", {"pixels/twice": -1}, -0.95
            ),
            Contrast(
                "what k-means minimises falls with ever more clusters and so names no number (least fall, log)",
                {"pixels/fall": 1},
                above=0.01,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
