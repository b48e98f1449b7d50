"""Verdicts from numbers, and numbers kept on disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run.folder import Lock, all_runs
from rlab.stats import student, wilson
from rlab.studies import Contrast
from rlab.studies.runner import judge_again, result_of, run_study
from rlab.studies.study import judge

from .conftest import Fake, Settings


def run(fake: Fake, seeds: int = 4, settings: Any = None, **how: Any) -> dict[str, Any]:
    how = {"budget": "full", "fresh": False} | how
    return run_study("fake", fake.study, settings or Settings(), seeds, say=lambda text: None, **how)


def test_interval_by_hand() -> None:
    low, high = student([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)  # Student's t with 2 degrees of freedom; standard deviation 1
    assert (low, high) == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        ([1.0, 1.1, 0.9], 0.0, "holds"),
        ([1.0, 1.1, 0.9], 2.0, "fails"),
        ([1.0, 1.1, 0.9], 1.0, "undecided"),
        ([1.0, -1.1, 0.9], 0.0, "undecided"),
        ([1.0, 1.1], 0.0, "undecided"),
        ([1.0], 0.0, "undecided"),
        ([1.0, 1.0, 1.0], 0.0, "undecided"),
        ([0.0, 0.0, 0.0], 0.0, "undecided"),
    ],
)
def test_one_contrast(values: list[float], above: float, verdict: str) -> None:
    found = judge([Contrast("more", {"a/x": 2, "b/y": -1}, above)], {
        "a": [{"x": v} for v in values], "b": [{"y": v} for v in values],
    })  # fmt: skip
    assert found.verdict == found.findings[0].verdict == verdict
    assert found.findings[0].values == values


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ((1, 1), "holds"),
        ((1, -1), "holds partly"),
        ((1, 0), "undecided"),
        ((0, -1), "fails"),
        ((-1, -1), "fails"),
        ((0, 0), "undecided"),
    ],
)
def test_a_claim_is_all_of_its_contrasts(means: tuple[float, float], verdict: str) -> None:
    wobble = (-0.1, 0.0, 0.1)
    results = {name: [{"x": mean + w} for w in wobble] for name, mean in zip("ab", means, strict=True)}
    assert judge([Contrast("a", {"a/x": 1}), Contrast("b", {"b/x": 1})], results).verdict == verdict


def test_budgets_and_items_of_a_study(fake: Fake) -> None:
    assert fake.study.items == (0, 2, 3, 4)
    assert fake.study.budget("smoke") == (Settings(10.0), 2)
    assert fake.study.budget("small") == (Settings(1.0), 3)
    assert fake.study.budget("full") == (Settings(0.0), 4)


def test_a_claim_needs_each_contrast_and_is_refuted_by_all_together() -> None:
    results = {"a": [{"x": v} for v in (1.0, 2.0, 3.0)]}
    _, single = student([1.0, 2.0, 3.0])
    _, double = student([1.0, 2.0, 3.0], 0.975)
    bounds = {"holds": student([1.0, 2.0, 3.0])[0] - 0.01, "undecided": (single + double) / 2, "fails": double + 0.01}
    for word, bound in bounds.items():
        found = judge([Contrast("", {"a/x": 1}, bound)] * 2, results).findings[0]
        assert (found.low, found.high, found.ceiling) == (*student([1.0, 2.0, 3.0]), double)
        assert found.verdict == word
    assert judge([Contrast("", {"a/x": 1}, bounds["undecided"])], results).verdict == "fails", (
        "alone it is not corrected"
    )


@pytest.mark.parametrize("budget", ["smoke", "small"])
def test_a_small_budget_refutes_nothing(budget: Any) -> None:
    results = {name: [{"x": mean + w} for w in (-0.1, 0.0, 0.1)] for name, mean in (("a", 1), ("b", -1), ("c", 0))}
    contrasts = {name: Contrast(name, {f"{name}/x": 1}) for name in "abc"}
    for names, word in (
        ("a", "holds"),
        ("b", "not seen at this size"),
        ("ab", "not seen at this size"),
        ("ac", "undecided"),
    ):
        found = judge([contrasts[name] for name in names], results, budget)
        assert found.verdict == word
        assert "fails" not in {finding.verdict for finding in found.findings}


@pytest.mark.parametrize(
    ("values", "how", "above", "verdict", "interval"),
    [
        ([1.0] * 3, {"exact": True}, 0.999, "holds", None),
        ([1.0] * 3, {"exact": True}, 1.001, "fails", None),
        ([1.0] * 3, {"exact": True}, 1.0, "undecided", None),
        ([1.0, 1.0, 0.9], {"exact": True}, 0.9, "undecided", student([1.0, 1.0, 0.9])),  # not exact after all
        ([1.0] * 3, {}, 0.0, "undecided", None),
        ([1.0] * 2, {"trials": 1_000}, 0.0, "undecided", None),
        ([1.0] * 4, {"trials": 10}, 0.9, "holds", wilson(40, 40)),
        ([1.0] * 4, {"trials": "games"}, 0.9, "holds", wilson(40, 40)),
        ([1.0] * 4, {"trials": "examples"}, 0.9, "undecided", None),  # 0, all of them: who knows how many
        ([1.0] * 3, {"trials": 10}, 0.9, "undecided", wilson(30, 30)),
        ([0.25] * 3, {"trials": 8, "span": (-1, 1)}, 0.0, "undecided", tuple(2 * x - 1 for x in wilson(15, 24))),
        ([0.2, 0.5, 0.8], {"trials": 1_000}, 0.0, "undecided", student([0.2, 0.5, 0.8])),  # wider than the trials'
    ],
)
def test_seeds_that_agree(values: list[float], how: Any, above: float, verdict: str, interval: Any) -> None:
    results = {"a": [{"x": value} for value in values]}
    (found,) = judge([Contrast("", {"a/x": 1}, above, **how)], results, settings={"games": 10, "examples": 0}).findings
    assert found.verdict == verdict
    assert (found.low, found.high) == ((None, None) if interval is None else pytest.approx(interval))


def test_shares_that_are_compared_err_both() -> None:
    """Newcombe 1998, method 10, example (a): 56 of 70 against 48 of 80 are 0.0524 to 0.3339 apart."""
    results = {"a": [{"x": 56 / 70}] * 3, "b": [{"x": 48 / 80}] * 3}
    low = [wilson(56, 70)[0] - 0.8, wilson(48, 80)[1] - 0.6]
    assert -math.hypot(*low) + 0.2 == pytest.approx(0.0524, abs=1e-4)
    (found,) = judge([Contrast("", {"a/x": 1, "b/x": -1}, trials=25)], results).findings
    parts = [wilson(60, 75)[0] - 0.8, wilson(45, 75)[1] - 0.6]
    assert found.low == pytest.approx(0.2 - math.hypot(*parts))


def test_trials_by_a_setting_that_is_not_there() -> None:
    with pytest.raises(RlabError, match="by the setting 'games', which there is not"):
        judge([Contrast("", {"a/x": 1}, trials="games")], {"a": [{"x": 1.0}] * 3})


def test_a_stored_result_is_judged_anew(fake: Fake, tmp_path: Path) -> None:
    run(fake)
    folder = tmp_path / "studies" / "fake" / "full"
    before = (folder / "result.json").read_bytes(), (folder / "figure.png").read_bytes()
    assert judge_again("fake", fake.study, folder) == ("holds", "holds")
    assert before == ((folder / "result.json").read_bytes(), (folder / "figure.png").read_bytes())
    stricter = replace(fake.study, claim="It is more than 2.", contrasts=(Contrast("more", {"a/x": 1}, 2.0),))
    assert judge_again("fake", stricter, folder) == ("holds", "fails")
    stored = result_of("fake")
    assert stored is not None
    assert (stored["verdict"], stored["claim"]) == ("fails", "It is more than 2.")
    assert stored["numbers"] == json.loads(before[0])["numbers"]
    assert (folder / "figure.png").read_bytes() != before[1]
    with pytest.raises(RlabError, match="other variants than study 'fake' has now"):
        judge_again("fake", replace(fake.study, variants={"a": 1}), folder)


@given(st.integers(0, 2**32 - 1))
def test_the_interval_seldom_misses_the_mean(seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(5.0, 2.0, (400, 5))
    covered = np.mean([low <= 5.0 <= high for low, high in map(student, drawn.tolist())])
    assert 0.95 - 6 * np.sqrt(0.95 * 0.05 / 400) < covered  # six standard errors below


def test_a_contrast_of_nothing_measured_is_named() -> None:
    for key in ("b/x", "a/y", "a"):
        with pytest.raises(RlabError, match=f"'{key}', which was not measured"):
            judge([Contrast("", {key: 1})], {"a": [{"x": 1.0}]})


def test_result_and_figure(fake: Fake, tmp_path: Path) -> None:
    found = run(fake)
    folder = tmp_path / "studies" / "fake" / "full"
    stored = json.loads((folder / "result.json").read_text())
    assert stored == result_of("fake")
    assert found == stored | {"folder": str(folder)}
    assert stored["verdict"] == "holds"
    assert stored["seeds"] == [0, 1, 2, 3]
    assert stored["numbers"]["b"] == [{"x": s / 100, "way": [[1, 2], [3, s]]} for s in range(4)]
    assert stored["findings"][0]["values"] == pytest.approx([1.0] * 4)
    assert stored["settings"] == {"shift": 0.0}
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all_runs() == []


def test_an_interrupted_study_goes_on_where_it_stopped(fake: Fake, tmp_path: Path) -> None:
    fake.interrupt_at = ("b", 1)
    with pytest.raises(KeyboardInterrupt):
        run(fake)
    assert fake.calls == [("a", 0), ("b", 0), ("a", 1)]
    assert result_of("fake") is None
    fake.interrupt_at, fake.calls = None, []
    resumed = run(fake)
    assert fake.calls == [("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    fresh = run(fake, fresh=True)
    assert len(fake.calls) == 5 + 8
    assert {k: v for k, v in resumed.items() if k in ("numbers", "findings", "verdict")} == {
        k: v for k, v in fresh.items() if k in ("numbers", "findings", "verdict")
    }


def test_finished_seeds_are_not_measured_again_and_more_can_be_added(fake: Fake) -> None:
    run(fake, seeds=2)
    run(fake, seeds=3)
    assert fake.calls == [(variant, seed) for seed in range(3) for variant in "ab"]
    assert len(run(fake, seeds=2)["seeds"]) == 2
    assert len(fake.calls) == 6


def test_other_settings_and_quick_runs_keep_their_numbers_apart(fake: Fake) -> None:
    run(fake, seeds=3)
    other = run(fake, seeds=3, settings=Settings(shift=-5.0))
    assert other["verdict"] == "fails"
    run(fake, seeds=1, settings=Settings(shift=10.0), budget="smoke")
    assert len(fake.calls) == 6 + 6 + 2
    assert run(fake, seeds=3)["verdict"] == "holds"
    assert len(fake.calls) == 14
    assert result_of("fake", budget="smoke")["budget"] == "smoke"


def test_another_process_at_it(fake: Fake, tmp_path: Path) -> None:
    run(fake, seeds=1)
    lock = Lock(tmp_path / "studies" / "fake" / "full" / "lock")
    with pytest.raises(RlabError, match="held by process"):
        run(fake)
    lock.release()
    run(fake)


@pytest.mark.parametrize("bad", ["", "{", "[]", '{"cells": {"a": 3}}', '{"cells": {"a": {"numbers": null}}}'])
def test_a_damaged_seed_is_named_and_kept(fake: Fake, tmp_path: Path, bad: str) -> None:
    run(fake, seeds=1)
    (path,) = (tmp_path / "studies" / "fake" / "full" / "seeds").glob("*/0.json")
    path.write_text(bad)
    with pytest.raises(RlabError, match=r"0\.json.*--fresh"):
        run(fake, seeds=1)
    assert path.read_text() == bad
    assert run(fake, seeds=1, fresh=True)["seeds"] == [0]


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], np.array([[np.nan]])])
def test_what_is_not_finite_is_named(fake: Fake, value: Any) -> None:
    fake.study = replace(fake.study, measure=lambda settings, variant, seed: {"x": value})
    with pytest.raises(RlabError, match="study 'fake', variant 'a', seed 0: x became"):
        run(fake)


def test_a_folder_that_cannot_be_written(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(RlabError, match="cannot write under"):
        run(fake)
