from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from rlab.agents.go.ratings import ELO, Sprt, Walk, bradley_terry, elo_of, rate, share_of


def test_three_of_four_points_are_191_elo() -> None:
    points = np.array([[0, 75.0], [25, 0]])
    assert bradley_terry(points, 1, prior=0) == pytest.approx([400 * math.log10(3), 0])
    assert 400 * math.log10(3) == pytest.approx(190.85, abs=0.01)
    assert bradley_terry(points, prior=0) == pytest.approx([95.424, -95.424], abs=1e-3)
    assert elo_of(0.75) == pytest.approx(190.85, abs=0.01)
    assert share_of(elo_of(0.3)) == pytest.approx(0.3)


def test_three_players_in_a_chain() -> None:
    """A beats B 3 : 1, and B beats C 9 : 1; A and C never met, so A is log(27) above C."""
    points = np.array([[0, 3.0, 0], [1, 0, 9], [0, 1, 0]])
    assert bradley_terry(points, 2, prior=0) == pytest.approx([ELO * math.log(27), ELO * math.log(9), 0])


def test_a_circle_of_equals() -> None:
    points = np.array([[0, 2.0, 1], [1, 0, 2], [2, 1, 0]])
    assert bradley_terry(points, prior=0) == pytest.approx([0, 0, 0], abs=1e-9)


def test_the_prior_is_one_draw() -> None:
    """20 : 0 counts as 20.5 : 0.5, and so is finite."""
    assert bradley_terry(np.array([[0, 20.0], [0, 0]]), 1)[0] == pytest.approx(ELO * math.log(20.5 / 0.5))


def test_who_never_met_the_others_has_no_rating() -> None:
    points = np.zeros((5, 5))
    points[0, 1], points[1, 2], points[3, 4] = 3, 2, 9
    assert np.isnan(bradley_terry(points)).tolist() == [False, False, False, True, True]
    assert np.isnan(bradley_terry(points, 4)).tolist() == [True, True, True, False, False]
    assert np.isnan(bradley_terry(np.zeros((3, 3)))).all()


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    players = draw(st.integers(2, 6))
    halves = draw(st.lists(st.integers(0, 400), min_size=players**2, max_size=players**2))
    points = np.array(halves, float).reshape(players, players) / 2
    np.fill_diagonal(points, 0)
    return points


@settings(max_examples=60, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_other_labels_change_nothing(points: np.ndarray, random) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    np.testing.assert_allclose(
        bradley_terry(points[np.ix_(order, order)]), bradley_terry(points)[order], atol=1e-5, equal_nan=True
    )


@settings(max_examples=25, deadline=None)
@given(tables())
def test_it_is_the_maximum_that_scipy_finds(points: np.ndarray) -> None:
    with_prior = points + 0.5 * (points + points.T > 0)

    def loss(r: np.ndarray) -> float:
        return float((with_prior * np.logaddexp(0, r[None, :] - r[:, None])).sum()) + 1e-6 * float((r**2).sum())

    found = minimize(loss, np.zeros(len(points)), method="BFGS", options={"gtol": 1e-7}).x
    ours = bradley_terry(points) / ELO
    if not np.isnan(ours).any():
        assert loss(ours) <= loss(found) + 1e-4


def test_many_tables_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(1, 50, (7, 4, 4)) * (1 - np.eye(4))
    together = bradley_terry(points, 2)
    for table, ratings in zip(points, together, strict=True):
        np.testing.assert_allclose(ratings, bradley_terry(table, 2), atol=1e-6)


def test_intervals_hold_what_they_say() -> None:
    """The truth lies in about 95 of 100 intervals."""
    rng = np.random.default_rng(1)
    truth = elo_of(0.7)
    inside = 0
    for trial in range(80):
        units = [(float(got), 2) for got in rng.binomial(2, 0.7, 60)]
        one, zero = rate(2, {(0, 1): units}, 1, resamples=300, seed=trial)
        assert (zero.elo, zero.low, zero.high) == (0, 0, 0)
        assert one.low is not None
        assert one.high is not None
        inside += one.low <= truth <= one.high
    assert 0.88 <= inside / 80 <= 0.99


def test_a_rating_lies_in_its_interval_even_after_few_games() -> None:
    won, some = [(2.0, 2)] * 5, [(2.0, 2), (1.0, 2), (1.0, 2), (1.0, 2), (0.0, 2)]
    met = {(0, 1): won, (0, 2): won, (0, 3): [(2.0, 2)] * 4 + [(1.0, 2)], (1, 2): some, (1, 3): some, (2, 3): some}
    for row in rate(4, met, 3)[:3]:
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.elo < row.high


def test_games_of_one_opening_are_drawn_together() -> None:
    """100 openings, each of which one side wins with both colours, are 100 results and not 200."""
    alike = rate(2, {(0, 1): [(2.0, 2), (0.0, 2)] * 50}, 1)[0]
    apart = rate(2, {(0, 1): [(1.0, 1), (0.0, 1)] * 100}, 1)[0]
    assert alike.low is not None
    assert apart.low is not None
    assert alike.low / apart.low == pytest.approx(math.sqrt(2), rel=0.1)


def test_an_interval_is_open_where_nothing_bounds_it() -> None:
    won = [(2.0, 2)] * 10
    some = [(1.5, 2)] * 10
    strong, middle, weak = rate(3, {(0, 1): won, (1, 2): some}, 2)
    assert strong.high is None
    assert strong.low is not None
    assert strong.low > middle.elo
    assert middle.high is not None
    assert weak.elo == 0
    # Seen from the strongest, who never lost, both others are open below.
    _, middle, weak = rate(3, {(0, 1): won, (1, 2): some}, 0)
    assert (middle.low, weak.low) == (None, None)
    assert rate(3, {(0, 1): some}, None)[2].elo is None


def test_the_bounds_of_the_sequential_test() -> None:
    """Wald: log(0.05 / 0.95) and its negative."""
    assert Sprt().bounds == pytest.approx((-2.9444, 2.9444), abs=1e-4)
    assert Sprt(alpha=0.01, beta=0.2).bounds == pytest.approx((math.log(0.2 / 0.99), math.log(80)))


def test_the_ratio_of_pairs_that_one_side_wins_whole() -> None:
    """With outcomes 0 and 2 alone the hypotheses leave no choice: it is the ratio of two binomials."""
    test = Sprt(0, 50)
    s = share_of(50)
    expected = 30 * math.log(s / 0.5) + 20 * math.log((1 - s) / 0.5)
    assert test.ratio([20, 0, 0, 0, 30]) == pytest.approx(expected, abs=2e-3)
    assert test.ratio([0, 0, 0, 0, 0]) == 0
    assert math.isfinite(test.ratio([0, 0, 0, 0, 1000]))


def test_the_ratio_is_near_its_normal_approximation() -> None:
    """N (s1 - s0) (2 mean - s0 - s1) / (2 variance), for differences as small as this one."""
    counts, points = np.array([40, 90, 260, 110, 50]), np.arange(5) / 4
    total = counts.sum()
    mean = (counts * points).sum() / total
    variance = (counts * (points - mean) ** 2).sum() / total
    s0, s1 = share_of(0), share_of(10)
    near = total * (s1 - s0) * (2 * mean - s0 - s1) / (2 * variance)
    assert Sprt(0, 10).ratio(counts.tolist()) == pytest.approx(near, rel=0.03)


@pytest.mark.parametrize(("truth", "wrong"), [(0.0, "elo1"), (150.0, "elo0")])
def test_the_sequential_test_errs_as_rarely_as_it_says(truth: float, wrong: str) -> None:
    rng = np.random.default_rng(0)
    errors = pairs = 0
    for _ in range(40):
        walk = Walk(Sprt(0, 150, 0.1, 0.1))
        while not walk.verdict:
            walk.add(float(rng.binomial(2, share_of(truth))))
        errors += walk.verdict == wrong
        pairs += walk.pairs
    assert errors <= 9  # 4 are expected; more than 9 in 1 of 200 tries
    assert pairs / 40 < 60


def test_nothing_counts_after_the_verdict() -> None:
    walk = Walk(Sprt(0, 200))
    for _ in range(500):
        walk.add(2.0)
    assert walk.verdict == "elo1"
    assert walk.pairs < 100
