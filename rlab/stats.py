"""Every interval that the lab prints: Wilson's of shares, Student's and the bootstrap's of means, and those over runs.

Interquartile mean, stratified bootstrap, probability of improvement and profiles over a few runs are after Agarwal et
al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", section 4; checked against their
package rliable. Scores are one array an environment, float[runs of that environment]; environments are the strata, so
that every resample keeps as many runs of each. Pure numpy and scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlab.errors import NonFinite, RlabError

Scores = Sequence[np.ndarray]
"""One array an environment: float[runs]."""

ENOUGH = 3
"""Runs of each environment below which nothing is said but the values."""

REPLICATES = 10_000
"""Resamples of an interval."""

LEVEL = 0.95
"""Of every interval."""

TRIMMED = 0.25
"""Part cut off at either end by the interquartile mean."""


def wilson(hits: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (1927) of a probability, after `hits` in `n` trials."""
    share, spread = hits / n, z * z / n
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def student(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval (1908) of the mean of two or more values."""
    from scipy.special import stdtrit

    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return mean - half, mean + half


def bootstrap_mean(values: np.ndarray, replicates: int = REPLICATES) -> tuple[float, float]:
    """The percentile bootstrap's interval of the mean of values[n] (Efron & Tibshirani 1993, ch. 13), fixed seed.

    Raises:
        NonFinite: a value is NaN or infinite.
    """
    if not (finite := np.isfinite(values)).all():
        raise NonFinite("a score", float(values[~finite][0]), "an evaluation")
    low, high = _interval(_resampled([values], replicates).mean(axis=1))
    return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; `low` and `high` are None where there are too few runs for one."""

    value: float
    low: float | None
    high: float | None


def iqm(scores: Scores) -> Estimate:
    """Interquartile mean: the mean of the middle half of all runs of all environments, with its interval.

    With fewer than four runs in all nothing can be cut off, and it is the mean (as in rliable).

    Raises:
        RlabError: an environment has no run, or a score is not finite.
    """
    from scipy import stats

    pooled = np.concatenate(checked(scores))
    value = float(stats.trim_mean(pooled, TRIMMED))
    if not enough(scores):
        return Estimate(value, None, None)
    low, high = _interval(stats.trim_mean(_resampled(scores, REPLICATES), TRIMMED, axis=1))
    return Estimate(value, float(low), float(high))


def improvement(x: Scores, y: Scores) -> Estimate:
    """P(X > Y): how often a run of X scores above a run of Y on the same environment, a tie counting half.

    The mean over environments of the Mann-Whitney statistic divided by the number of pairs (Agarwal et al. 2021,
    section 4.3); the runs of X and of Y are resampled independently.

    Args:
        x: scores of X.
        y: scores of Y on the same environments, in the same order.

    Raises:
        RlabError: the numbers of environments differ, one has no run, or a score is not finite.
    """
    x, y = _paired(x, y)
    wins = [_wins(a, b) for a, b in zip(x, y, strict=True)]
    value = float(np.mean([w.mean() for w in wins]))
    if not (enough(x) and enough(y)):
        return Estimate(value, None, None)
    rng = np.random.default_rng(0)
    total = np.zeros(REPLICATES)
    for w in wins:  # a resample is how often each run was drawn: int[replicates, runs]
        drawn = [rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES) for n in w.shape]
        total += (drawn[0] @ w * drawn[1]).sum(axis=1) / w.size
    low, high = _interval(total / len(wins))
    return Estimate(value, float(low), float(high))


def p_value(x: Scores, y: Scores) -> float:
    """How often chance alone gives a P(X > Y) at least as far from a half: a two-sided permutation test.

    Within each environment the runs are dealt anew to X and Y, 10,000 times (Good 2005, chapter 3). Intervals of a few
    runs are narrower than they should be; this is not: three runs against three can never be told apart at 5 %.
    """
    from scipy import stats

    x, y = _paired(x, y)
    rng = np.random.default_rng(0)
    observed = sum(_wins(a, b).mean() - 0.5 for a, b in zip(x, y, strict=True))
    chance = np.zeros(REPLICATES)
    for a, b in zip(x, y, strict=True):
        # Mann-Whitney's statistic from ranks, which a permutation only deals out: U = sum of ranks - n (n + 1) / 2.
        ranks = np.tile(stats.rankdata(np.concatenate([a, b])), (REPLICATES, 1))
        n = len(a)
        won = rng.permuted(ranks, axis=1)[:, :n].sum(axis=1) - n * (n + 1) / 2
        chance += won / (n * len(b)) - 0.5
    as_far = np.abs(chance) >= abs(observed) - 1e-9
    return float((1 + as_far.sum()) / (1 + REPLICATES))


def least_p(sizes: Sequence[tuple[int, int]]) -> float:
    """The smallest p that `p_value` can come to: if every run of X scores above every run of Y.

    Args:
        sizes: the number of runs of X and of Y in each environment.
    """
    return min(1.0, 2.0 / math.prod(math.comb(x + y, x) for x, y in sizes))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): so few of all verdicts together are false, as of one alone."""
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(order), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def profile(scores: Scores, thresholds: np.ndarray, replicates: int = 2_000) -> tuple[np.ndarray, np.ndarray | None]:
    """Score distribution: the fraction of runs above each threshold (Agarwal et al. 2021, equation 1), and its band.

    Args:
        scores: as everywhere here.
        thresholds: tau, float[T].
        replicates: resamples of the band.

    Returns:
        (fractions float[T], band float[2, T] of lower and upper bounds or None where there are too few runs).
    """
    pooled = np.concatenate(checked(scores))
    fractions = (pooled[:, None] > thresholds).mean(axis=0)
    if not enough(scores):
        return fractions, None
    drawn = np.sort(_resampled(scores, replicates), axis=1)
    above = np.stack([drawn.shape[1] - np.searchsorted(row, thresholds, side="right") for row in drawn])
    return fractions, _interval(above / drawn.shape[1])


def curve(values: np.ndarray, replicates: int = 2_000) -> tuple[np.ndarray, np.ndarray | None]:
    """Interquartile mean of learning curves at each point, and its pointwise band; whole curves are resampled.

    Args:
        values: float[runs, points].
        replicates: resamples of the band.

    Returns:
        (middle float[points], band float[2, points] or None where there are too few runs).
    """
    from scipy import stats

    n = len(values)
    middle = stats.trim_mean(values, TRIMMED, axis=0)
    if n < ENOUGH:
        return middle, None
    drawn = np.random.default_rng(0).integers(0, n, (replicates, n))
    means = [stats.trim_mean(values[:, p][drawn], TRIMMED, axis=1) for p in range(values.shape[1])]
    return middle, _interval(np.stack(means, axis=1))


def enough(scores: Scores) -> bool:
    """Whether each environment has runs enough for an interval."""
    return all(len(s) >= ENOUGH for s in scores)


def checked(scores: Scores) -> list[np.ndarray]:
    """The scores as float arrays, in an order that the order of runs has no part in.

    Raises:
        RlabError: there is no environment, one has no run, or a score is not finite.
    """
    arrays = [np.sort(np.asarray(s, np.float64)) for s in scores]
    if not arrays or any(len(a) == 0 for a in arrays):
        raise RlabError("there must be at least one score of each environment")
    if not all(np.isfinite(a).all() for a in arrays):
        raise RlabError("a score is not finite; there is nothing to compare")
    return arrays


def _paired(x: Scores, y: Scores) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(x) != len(y):
        raise RlabError(f"X has scores of {len(x)} environments and Y of {len(y)}; they must be the same ones")
    return checked(x), checked(y)


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 where a run of X beats one of Y, 1/2 where they tie: float[len(a), len(b)]."""
    return (a[:, None] > b) + 0.5 * (a[:, None] == b)


def _resampled(scores: Scores, replicates: int) -> np.ndarray:
    """Runs drawn with replacement within each environment, side by side: float[replicates, all runs]."""
    rng = np.random.default_rng(0)
    return np.concatenate([s[rng.integers(0, len(s), (replicates, len(s)))] for s in checked(scores)], axis=1)


def _interval(samples: np.ndarray) -> np.ndarray:
    """Percentile interval over the first axis: [2, ...]."""
    tail = 100 * (1 - LEVEL) / 2
    return np.percentile(samples, [tail, 100 - tail], axis=0)
