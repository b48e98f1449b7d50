"""Ratings from results: Bradley-Terry by maximum likelihood, bootstrap intervals, and a sequential test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PRIOR = 1.0
"""Drawn games that are added between every two who met: half a point to each. It is Jeffreys' prior of a share, and
keeps the rating of whoever won everything finite; after hundreds of games it weighs next to nothing."""

REST = 0.1
"""The same in a resample, whose urn holds the drawn game already: only so much that nothing is infinite."""

RESAMPLES = 2000

ELO = 400 / math.log(10)
"""Elo points in one unit of log odds: 400 are odds of 10 to 1."""

STEP = 2.0
"""Log odds that a rating moves at most in one step of Newton's method, which may overshoot far from the optimum."""

LEAST = 1e-3
"""Count of an outcome of a pair of games that was never seen, in the sequential test: with a variance of 0 it would end
at once (as in Fishtest)."""

POINTS = np.arange(5) / 4
"""The first's share of two games with one opening: 0, a quarter, .. 1."""


def elo_of(share: float) -> float:
    """The difference of ratings at which a player expects this share of the points, between 0 and 1."""
    return ELO * math.log(share / (1 - share))


def share_of(elo: float) -> float:
    """The share of the points that a player expects at this difference of ratings."""
    return 1 / (1 + math.exp(-elo / ELO))


def bradley_terry(points: Array, anchor: int | None = None, prior: float = PRIOR) -> Array:
    """Ratings at which what happened is most probable, if i beats j with odds of exp(r_i - r_j) and a draw is half a
    win (Bradley and Terry 1952; the likelihood is concave, so Newton's method finds its one maximum).

    Args:
        points: [..., P, P]: what i got against j, a draw half; several tables are fitted at once.
        anchor: who has rating 0; None: their mean is 0.
        prior: drawn games added between every two who met.

    Returns:
        [..., P] in Elo. NaN for whom no games link to the anchor (without one: to the largest group).
    """
    points = np.asarray(points, np.float64)
    players = points.shape[-1]
    met = points + points.swapaxes(-1, -2) > 0
    linked = _group(np.any(met.reshape(-1, players, players), 0), anchor)
    ratings = np.full(points.shape[:-1], np.nan)
    if len(linked) == 0:
        return ratings
    got = (points + prior / 2 * met)[..., linked[:, None], linked]
    games = got + got.swapaxes(-1, -2)
    r = np.zeros(got.shape[:-1])
    for _ in range(500):
        expected = 1 / (1 + np.exp(np.clip(r[..., None, :] - r[..., :, None], -500, 500)))
        gradient = (got - games * expected).sum(-1)
        weight = games * expected * (1 - expected)
        # The Hessian, and a constant on the direction in which nothing changes: all ratings by the same.
        hessian = -weight + weight.sum(-1)[..., None] * np.eye(len(linked)) + 1e-9 + 1e-12 * np.eye(len(linked))
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step -= step.mean(-1, keepdims=True)
        r += step * np.minimum(1, STEP / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-300))
        if np.abs(step).max() < 1e-9:
            break
    zero = r.mean(-1) if anchor is None else r[..., linked.tolist().index(anchor)]
    ratings[..., linked] = ELO * (r - zero[..., None])
    return ratings


def _group(met: NDArray[np.bool_], anchor: int | None) -> NDArray[np.int64]:
    """Whom games link to the anchor, in order; without one the largest such group."""
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(met, directed=False)
    if anchor is None:
        anchor = int(np.flatnonzero(label == np.bincount(label).argmax())[0])
    group = np.flatnonzero(label == label[anchor])
    return group if len(group) > 1 else group[:0]


@dataclass(frozen=True)
class Rating:
    """What games say of one player, in Elo.

    Attributes:
        elo: None if no games link it to the others.
        low, high: 95 % bootstrap interval. None where it is open: nobody weaker than the player, or than the anchor,
            ever got half a point from somebody stronger, so that no distance is too large (Ford 1957).
    """

    elo: float | None
    low: float | None
    high: float | None


def rate(
    players: int,
    met: Mapping[tuple[int, int], Sequence[tuple[float, int]]],
    anchor: int | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Rating]:
    """Ratings with intervals.

    Two games of a pair that begin with the same opening depend on each other, so they are drawn together. The drawn
    game of the prior is put in the urn with each pair's results, and drawn once on average: without it whoever won
    everything would have an interval of length 0.

    Args:
        players: P.
        met: (i, j) -> what i got against j from each opening, and in how many games.
        anchor: see `bradley_terry`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    from scipy.sparse.csgraph import shortest_path

    points = np.zeros((players, players))
    drawn = np.zeros((resamples, players, players))
    rng = np.random.default_rng(seed)
    for (i, j), units in sorted(met.items()):
        if not units:
            continue
        got, games = (np.array(column, np.float64) for column in zip(*units, strict=True))
        points[i, j] += got.sum()
        points[j, i] += (games - got).sum()
        urn, of = np.append(got, PRIOR / 2), np.append(games, PRIOR)
        counts = rng.multinomial(len(units), np.full(len(urn), 1 / len(urn)), resamples)
        drawn[:, i, j] += counts @ urn
        drawn[:, j, i] += counts @ (of - urn)
    elo = bradley_terry(points, anchor)
    spread = bradley_terry(drawn, anchor, REST)
    # Who got points from whom, directly or through others: each such way bounds a distance from one side.
    reaches = np.isfinite(shortest_path(points > 0, unweighted=True))
    ratings = []
    for p in range(players):
        if np.isnan(elo[p]):
            ratings.append(Rating(None, None, None))
        elif p == anchor:
            ratings.append(Rating(0.0, 0.0, 0.0))
        else:
            low, high = (float(bound) for bound in np.percentile(spread[:, p], [2.5, 97.5]))
            beside = [anchor] if anchor is not None else [q for q in range(players) if q != p and not np.isnan(elo[q])]
            above, below = all(reaches[q, p] for q in beside), all(reaches[p, q] for q in beside)
            ratings.append(Rating(float(elo[p]), low if below else None, high if above else None))
    return ratings


@dataclass(frozen=True)
class Sprt:
    """A sequential probability ratio test: is the first stronger by `elo1`, or only by `elo0`?

    Attributes:
        elo0, elo1: the two hypotheses, as differences of (logistic) Elo.
        alpha: how often elo1 may be accepted though elo0 is true.
        beta: how often elo0 may be accepted though elo1 is true.
    """

    elo0: float = 0.0
    elo1: float = 30.0
    alpha: float = 0.05
    beta: float = 0.05

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the log likelihood ratio: below the first elo0 is accepted, above the second elo1 (Wald 1945)."""
        return math.log(self.beta / (1 - self.alpha)), math.log((1 - self.beta) / self.alpha)

    def ratio(self, counts: Sequence[float]) -> float:
        """The generalised log likelihood ratio of pairs of games with one opening ("pentanomial").

        Each hypothesis gives the five outcomes those probabilities with its mean under which the counts are most
        probable: p_i (1 + x (a_i - s)) = counts_i / N, with x such that they add up to 1 (M. Van den Bergh, "A
        practical introduction to the GSPRT", proposition 1.1; it is what Fishtest does).

        Args:
            counts: how many pairs gave the first 0, 1/2, 1, 3/2 and 2 points.
        """
        seen = np.asarray(counts, np.float64)
        if not seen.sum():
            return 0.0
        smooth = np.maximum(seen, LEAST)
        share = smooth / smooth.sum()
        zero, one = (_most_probable(share, share_of(elo)) for elo in (self.elo0, self.elo1))
        return float(smooth.sum() * (share * np.log(one / zero)).sum())


@dataclass
class Walk:
    """A sequential test on its way: pairs of games one after the other, up to the first at which a bound is reached.

    The order must be that of their numbers, not that in which they ended: short games end first, and who wins fast
    would be favoured.

    Attributes:
        verdict: "elo0", "elo1", or "" while it is open.
        counts: pairs that gave the first 0, 1/2, 1, 3/2 and 2 points.
        ratio: of the likelihoods, as a logarithm.
    """

    sprt: Sprt
    verdict: str = ""
    counts: list[int] = field(default_factory=lambda: [0] * 5)
    ratio: float = 0.0

    @property
    def pairs(self) -> int:
        """Pairs of games that count."""
        return sum(self.counts)

    def add(self, points: float) -> None:
        """The next pair: what the first got of its 2 points. After the verdict nothing counts any more."""
        if self.verdict:
            return
        self.counts[round(2 * points)] += 1
        self.ratio = self.sprt.ratio(self.counts)
        low, high = self.sprt.bounds
        self.verdict = "elo1" if self.ratio >= high else "elo0" if self.ratio <= low else ""


def _most_probable(share: Array, mean: float) -> Array:
    """The probabilities of `POINTS` with that mean that are nearest to the shares, by likelihood."""
    from scipy.optimize import brentq

    away = POINTS - mean
    # Between the poles, where all probabilities are positive, the sum falls and has one zero.
    low, high = -1 / away.max(), -1 / away.min()
    margin = 1e-12 * (high - low)
    x = brentq(lambda x: (share * away / (1 + x * away)).sum(), low + margin, high - margin, xtol=1e-14)
    return share / (1 + x * away)
