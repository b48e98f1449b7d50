"""The statistics of a comparison, against rliable's numbers, by hand, and by what must always hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlab import stats as statistics
from rlab.errors import NonFinite, RlabError
from rlab.stats import checked, curve, holm, improvement, iqm, p_value, profile

GOLDEN = json.loads((Path(__file__).parent / "rliable.json").read_text())
CASES = pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: c["name"])

scores = st.lists(
    st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=7).map(np.array), min_size=1, max_size=3
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    environments = draw(st.integers(1, 3))
    runs = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=6).map(np.array)
    sides = st.lists(runs, min_size=environments, max_size=environments)
    return draw(sides), draw(sides)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPLICATES", 500)


def arrays(rows: list[list[float]]) -> list[np.ndarray]:
    return [np.array(row) for row in rows]


@CASES
def test_as_rliable_has_it(case: dict[str, Any]) -> None:
    x, y = arrays(case["x"]), arrays(case["y"])
    estimates = {"x": (iqm(x), case["iqm"]["x"]), "y": (iqm(y), case["iqm"]["y"])}
    estimates["x > y"] = (improvement(x, y), case["improvement"])
    for ours, theirs in estimates.values():
        assert ours.value == pytest.approx(theirs["value"], abs=1e-6)
        # Two bootstraps with other random numbers: their ends differ by what chance leaves after thousands of draws.
        width = theirs["interval"][1] - theirs["interval"][0]
        assert [ours.low, ours.high] == pytest.approx(theirs["interval"], abs=0.06 * width)


@CASES
def test_profiles_as_rliable_has_them(case: dict[str, Any]) -> None:
    expected = case["profile"]
    fractions, band = profile(arrays(case["x"]), np.array(expected["thresholds"]))
    assert band is not None
    assert fractions == pytest.approx(expected["fractions"], abs=1e-6)
    one_run = 1 / sum(map(len, case["x"]))
    assert band[0] == pytest.approx(expected["low"], abs=one_run + 1e-9)
    assert band[1] == pytest.approx(expected["high"], abs=one_run + 1e-9)


def test_the_interquartile_mean_by_hand() -> None:
    # Of eight pooled runs the two lowest and the two highest go: (2 + 3 + 4 + 5) / 4.
    assert iqm([np.array([100.0, 1, 2, 3]), np.array([4.0, 5, -50, 6])]).value == 3.5
    assert iqm([np.array([1.0, 2.0, 9.0])]).value == 4.0  # of three nothing goes


def test_the_probability_of_improvement_by_hand() -> None:
    # 3 > 1, 3 > 2, 2 > 1, 2 = 2: three and a half of four pairs; the second environment: one of two.
    x, y = arrays([[3, 2], [0]]), arrays([[1, 2], [-1, 1]])
    assert improvement(x, y).value == pytest.approx((3.5 / 4 + 0.5) / 2)


def test_profiles_count_runs_strictly_above() -> None:
    fractions, band = profile(arrays([[0, 1], [1, 2]]), np.array([-1.0, 0.0, 1.0, 2.0]))
    assert fractions.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert band is None


def test_curves_are_trimmed_at_each_point_by_itself() -> None:
    middle, band = curve(np.array([[0.0, 9], [1, 1], [3, 3], [90, -4]]))
    assert middle.tolist() == [2.0, 2.0]
    assert band is not None
    assert (band[0] <= middle).all()
    assert (middle <= band[1]).all()


def test_fewer_than_three_runs_have_no_interval() -> None:
    two, three = arrays([[1, 2]]), arrays([[1, 2, 3]])
    assert iqm(two).low is None
    assert improvement(two, three).high is None
    assert iqm([three[0], two[0]]).low is None  # one environment with too few is too few
    assert iqm(three).low is not None
    assert curve(np.ones((2, 4)))[1] is None


def test_permutations_are_exact_where_they_can_be_counted() -> None:
    # Of the 20 ways to deal six runs, two are as far apart as 1 2 3 | 4 5 6; of 252, two as 1 to 5 | 6 to 10.
    assert p_value(arrays([[1, 2, 3]]), arrays([[4, 5, 6]])) == pytest.approx(0.1, abs=0.01)
    assert p_value(arrays([[1, 2, 3, 4, 5]]), arrays([[6, 7, 8, 9, 10]])) == pytest.approx(2 / 252, abs=0.003)
    assert p_value(arrays([[1, 1, 1]]), arrays([[1, 1, 1]])) == 1.0


def test_holm_by_hand() -> None:
    # Smallest times three, next times two, but never below the one before; at most 1.
    assert holm([0.02, 0.01, 0.9]) == pytest.approx([0.04, 0.03, 0.9])
    assert holm([0.01, 0.012]) == pytest.approx([0.02, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.parametrize("bad", [[], [np.array([])], [np.array([1.0]), np.array([])], [np.array([np.nan])]])
def test_what_cannot_be_compared_is_refused(bad: list[np.ndarray]) -> None:
    with pytest.raises(RlabError, match="score"):
        iqm(bad)


def test_other_environments_are_refused() -> None:
    with pytest.raises(RlabError, match="1 environments and Y of 2"):
        improvement(arrays([[1, 2]]), arrays([[1], [2]]))


@pytest.mark.usefixtures("few")
@settings(max_examples=40, deadline=None)
@given(scores)
def test_an_interval_holds_its_value_and_lies_within_the_scores(x: list[np.ndarray]) -> None:
    found = iqm(x)
    assert found.low is not None
    assert found.high is not None
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    pooled = np.concatenate(x)
    assert pooled.min() - 1e-9 <= found.low
    assert found.high <= pooled.max() + 1e-9


@pytest.mark.usefixtures("few")
@settings(max_examples=40, deadline=None)
@given(scores, st.randoms(use_true_random=False), st.floats(0.5, 4))
def test_the_order_of_runs_is_nothing_and_scale_is_carried(x: list[np.ndarray], random: Any, scale: float) -> None:
    shuffled = [np.array(random.sample(list(a), len(a))) for a in x]
    assert iqm(shuffled) == iqm(x)
    scaled = iqm([a * scale for a in x])
    plain = iqm(x)
    assert [scaled.value, scaled.low, scaled.high] == pytest.approx(
        [scale * v for v in (plain.value, plain.low or 0.0, plain.high or 0.0)], abs=1e-9
    )


@pytest.mark.usefixtures("few")
@settings(max_examples=40, deadline=None)
@given(pairs())
def test_what_one_wins_the_other_loses(both: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    x, y = both
    there, back = improvement(x, y), improvement(y, x)
    assert there.value + back.value == pytest.approx(1)
    assert there.low is not None
    assert there.high is not None
    assert 0 <= there.low - 1e-9 + 1e-9 <= there.value + 1e-9
    assert there.value - 1e-9 <= there.high <= 1 + 1e-9
    assert improvement(x, x).value == pytest.approx(0.5)
    assert p_value(x, y) == pytest.approx(p_value(y, x), abs=0.16)  # other draws: five standard errors


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("seeds", "environments", "least"), [(3, 1, 0.1), (5, 1, 0.03), (10, 5, 0.0)])
def test_equal_agents_are_rarely_told_apart(seeds: int, environments: int, least: float) -> None:
    """The table of docs/comparing.md in small: what intervals alone would claim, and what is left of it."""
    rng = np.random.default_rng(1)
    alone = both = 0
    for _ in range(100):
        x, y = ([rng.normal(size=seeds) for _ in range(environments)] for _ in range(2))
        found = improvement(x, y)
        assert found.low is not None
        assert found.high is not None
        claimed = not found.low <= 0.5 <= found.high
        alone += claimed
        both += claimed and p_value(x, y) < 0.05
    assert alone / 100 >= least
    assert both / 100 <= (0.0 if (seeds, environments) == (3, 1) else 0.1)


@settings(max_examples=40, deadline=None)
@given(scores)
def test_profiles_fall(x: list[np.ndarray]) -> None:
    fractions, band = profile(x, np.linspace(-60, 60, 13), replicates=50)
    assert fractions[0] == 1
    assert fractions[-1] == 0
    assert (np.diff(fractions) <= 0).all()
    assert band is not None
    assert (band[0] <= band[1]).all()
    assert sum(map(len, checked(x))) == sum(map(len, x))


def test_interval_of_what_is_no_number_is_refused() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(NonFinite, match=f"a score became {value} at an evaluation"):
            statistics.bootstrap_mean(np.array([1.0, value, 2.0]))
