"""Bootstrap samples, what is left out of them, and the variance of a mean of trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Friedman's first function of ten numbers in 0..1, five of which do nothing."""

    sets: int = 60
    """Training sets that variance is measured over."""
    examples: int = 100
    """Of each."""
    members: int = 40
    """Trees of a bag."""
    points: int = 200
    """Inputs that are judged."""
    spread: float = 1.0
    """Standard deviation of the noise on the targets."""


def friedman(x: np.ndarray) -> np.ndarray:
    """[N, 10] -> [N] (Friedman 1991; what scikit-learn's make_friedman1 draws from)."""
    return 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]


def members_of(x: np.ndarray, y: np.ndarray, samples: Any, depth: int | None, asked: np.ndarray) -> np.ndarray:
    """Predictions [B, N] of a tree for each sample of items."""
    from sklearn.tree import DecisionTreeRegressor

    return np.array(
        [DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x[s], y[s]).predict(asked) for s in samples]
    )


def out_of_bag(y: np.ndarray, predictions: np.ndarray, samples: np.ndarray) -> float:
    """Mean square error of every example's mean over the members [B, n] whose sample lacks it."""
    without = np.array([~np.isin(np.arange(len(y)), s) for s in samples])
    counts = without.sum(0)
    out = counts > 0
    mean = (predictions * without).sum(0)[out] / counts[out]
    return float(((mean - y[out]) ** 2).mean())


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Variances and mean square errors over training sets."""
    from rlab.seeding import derive

    generator = np.random.default_rng(derive(seed, "bagging"))
    n, b = settings.examples, settings.members
    asked = generator.random((settings.points, 10))
    truth = friedman(asked)
    predictions, unique, bag_errors, train_errors, parts = [], [], [], [], []
    for _ in range(settings.sets):
        x = generator.random((n, 10))
        y = friedman(x) + settings.spread * generator.normal(size=n)
        samples = generator.integers(n, size=(b, n))
        both = members_of(x, y, samples, variant, np.concatenate([asked, x]))
        predictions.append(both[:, : len(asked)])
        bag_errors.append(out_of_bag(y, both[:, len(asked) :], samples))
        train_errors.append(((both[:, len(asked) :].mean(0) - y) ** 2).mean())
        unique += [100 * len(np.unique(s)) / n for s in samples]
        parts.append(members_of(x, y, np.array_split(generator.permutation(n), b // 4), variant, asked).mean(0))
    every = np.array(predictions)  # [sets, B, points]
    half = b // 2
    known, fresh = every[:, :half], every[:, half:].mean(1)
    sigma = known.var(0, ddof=1).mean()  # of one member, over sets
    between = known.mean(1).var(0, ddof=1).mean()
    rho = (between - sigma / half) / (sigma - sigma / half)
    predicted, measured = rho * sigma + (1 - rho) * sigma / (b - half), fresh.var(0, ddof=1).mean()
    member, bag, apart = (((p - truth) ** 2).mean() for p in (every, every.mean(1), np.array(parts)))
    true = bag + settings.spread**2  # on new noisy targets
    return {
        "unique_off": abs(np.mean(unique) - 100 * (1 - (1 - 1 / n) ** n)),
        "variance": sigma,
        "rho": rho,
        "bag_variance": measured,
        "formula_off": 100 * abs(predicted / measured - 1),
        "member": member,
        "bag": bag,
        "parts": apart,
        "gain": 100 * (1 - bag / member),
        "out_of_bag_off": 100 * abs(np.mean(bag_errors) / true - 1),
        "training_off": 100 * abs(np.mean(train_errors) / true - 1),
    }


def draw(figure: Any, results: Results) -> None:
    """Squared errors and variances of one tree and of bags."""
    left, right = figure.subplots(1, 2)
    wide = 0.25
    for place, (name, seeds) in enumerate(results.items()):
        mean = {number: np.mean(column(seeds, number)) for number in seeds[0]}
        rho, sigma = mean["rho"], mean["variance"]
        bars = (mean["member"], mean["bag"], mean["parts"])
        left.bar(np.arange(3) + wide * place, bars, wide, label=name)
        right.bar([wide * place, 1 + wide * place], [sigma, mean["bag_variance"]], wide, label=f"{name}: rho {rho:.2f}")
    left.set_xticks(np.arange(3) + wide / 2, ["one tree", "bag", "disjoint\nparts"], fontsize=8)
    right.set_xticks(np.arange(2) + wide / 2, ["one tree", "bag"], fontsize=8)
    left.set_ylabel("mean square error", fontsize=9)
    right.set_ylabel("variance over training sets", fontsize=9)
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.tick_params(labelsize=8)


STUDIES.register("bagging-variance")(
    Study(
        claim="The mean of B learners of bootstrap samples has the variance rho s^2 + (1 - rho) s^2 / B: it spares "
        "deep trees errors, not stumps, and left-out examples tell its error.",
        claim_ja="ブートストラップ標本から学習した B 個の学習器の平均の分散は、ρσ² + (1 − ρ)σ²/B である。"
        "深い決定木の誤差は大きく減るが、決定株の誤差は減らない。標本に含まれないデータで、"
        "誤差を見積もれる（OOB 誤差）。",
        correction="The text draws parts and votes among weak learners; the samples are drawn with replacement (63.2 % "
        "of the examples are in one), and it is strong learners that bagging is for.",
        correction_ja="教材は、「分割抽出」した弱学習器の多数決とする。しかし、"
        "標本は復元抽出で（一つの標本に含まれるデータは 63.2 %）、バギングが有効なのは強い学習器である。",
        source="items 144, 145; Breiman 1996; Hastie et al. 2009, section 15.2",
        settings=Settings(),
        smoke={"sets": 4, "members": 12, "points": 50},
        small={"sets": 20, "members": 32},
        small_seeds=6,
        variants={"deep trees": None, "stumps": 1},
        measure=measure,
        contrasts=(
            Contrast(
                "63.2 % of the examples are in a sample, within half a point", {"deep trees/unique_off": -1}, -0.5
            ),
            Contrast("the formula tells the variance within 10 %", {"deep trees/formula_off": -1}, -10),
            Contrast("a bag of deep trees errs less than a tree", {"deep trees/member": 1, "deep trees/bag": -1}),
            Contrast(
                "a greater part is saved than of stumps (points)", {"deep trees/gain": 1, "stumps/gain": -1}, above=10
            ),
            Contrast("disjoint parts err more than a bag", {"deep trees/parts": 1, "deep trees/bag": -1}),
            Contrast(
                "out of the bag the error is nearer to the true one than by training examples (points of it)",
                {"deep trees/training_off": 1, "deep trees/out_of_bag_off": -1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
