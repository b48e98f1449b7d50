"""Training health by hand-made lines: every rule with its healthy counterpart, and what the loop does with warnings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlab.errors import RlabError
from rlab.run import lifecycle as life
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, runs_dir
from rlab.run.health import CALM, RULES, THROUGHPUT, Collapsed, Health, Pace, Warned, warnings_in
from rlab.run.status import newest_checkpoint
from tests.run.fake import QuietView, digest_of, experiment, resume, rows_of, start

Lines = list[dict[str, float]]


def lines(count: int, line: Callable[[int], dict[str, float]]) -> Lines:
    return [line(i) for i in range(count)]


def seen(rows: Iterable[dict[str, Any]], health: Health | None = None) -> list[Warned]:
    health = health or Health(RULES)
    return [warned for step, row in enumerate(rows, 1) for warned in health.update({"step": step, **row})]


def cartpole(i: int) -> dict[str, float]:
    """A line as a run that learns has them."""
    return {
        "loss": 0.5 + 0.1 * i,
        "q_mean": 5.0 * i,
        "grad_norm": 1.0 + 0.5 * i,
        "episodes": 40.0 * i,
        "reward_size": 1.0,
        "return_mean": 20.0 + 10 * i,
        "episode_length": 20.0 + 10 * i,
        "value_rate": min(1.3, 0.05 * i),
        "action_gap": 0.3 + 0.1 * i,
        "dead_units": 0.35,
        "terminals": 0.05 / (i + 1),
        "entropy": 0.69 / (i + 1),
        "policy_spread": 1.0 / (i + 1),
    }


CASES: dict[str, list[tuple[Lines, int, Lines]]] = {
    # rule: (lines that show it, the line at which it is raised, lines nearly the same that do not)
    "q-drift": [
        (
            lines(9, lambda i: {"reward_size": 1, "value_rate": 6.0 if i > 3 else 1.0}),
            6,
            lines(9, lambda i: {"reward_size": 1, "value_rate": 6.0 if i == 3 else 4.9}),
        ),
        (  # an untrained network before the first reward says nothing; a reward that was large once counts
            lines(9, lambda i: {"reward_size": 0.01 * (i > 3), "value_rate": 0.06}),
            6,
            lines(9, lambda i: {"reward_size": float(i == 0), "value_rate": 1.5}),
        ),
    ],
    "gradient-explosion": [
        (
            lines(20, lambda i: {"grad_norm": 1.0 if i < 12 else 2e4}),
            15,
            lines(20, lambda i: {"grad_norm": 1.0 if i < 12 else 500.0}),
        ),
        (  # from the first line on; what decays and comes back is harmless
            lines(5, lambda i: {"grad_norm": 2e6}),
            3,
            lines(40, lambda i: {"grad_norm": 10.0 * 0.5**i if i < 30 else 50.0}),
        ),
    ],
    "dead-units": [
        (
            lines(6, lambda i: {"dead_units": 0.3 + 0.2 * i}),
            5,
            lines(9, lambda i: {"dead_units": 0.95 if i % 2 else 0.6}),
        ),
    ],
    "no-reward": [
        (  # nothing at all: many episodes, as a reward may be rare
            lines(60, lambda i: {"reward_size": 0, "episodes": 10 * i, "return_mean": 0}),
            33,
            lines(60, lambda i: {"reward_size": float(i > 30), "episodes": 10 * i, "return_mean": 0}),
        ),
        (  # clipped: returns are not 0, so it is sure
            lines(9, lambda i: {"reward_size": 0, "episodes": 10 * i, "return_mean": 9.5}),
            5,
            lines(9, lambda i: {"reward_size": 0.1, "episodes": 10 * i, "return_mean": 9.5}),
        ),
        (
            lines(9, lambda i: {"reward_size": 0, "episodes": 10 * i, "return_mean": -21}),
            5,
            lines(9, lambda i: {"reward_size": 0, "episodes": 2 * i, "return_mean": -21}),
        ),
    ],
    "no-terminals": [
        (
            lines(9, lambda i: {"terminals": 0, "episodes": 10 * i, "episode_length": 20 + i}),
            5,
            lines(9, lambda i: {"terminals": 0, "episodes": 10 * i, "episode_length": 200}),  # a limit of time
        ),
        (
            lines(9, lambda i: {"terminals": 0, "episodes": 10 * i, "episode_length": 20 + i}),
            5,
            lines(9, lambda i: {"terminals": 0.01 * (i == 0), "episodes": 10 * i, "episode_length": 20 + i}),
        ),
    ],
    "too-many-terminals": [
        (
            lines(5, lambda i: {"terminals": 1.0, "episode_length": 60}),
            3,
            lines(5, lambda i: {"terminals": 1.0, "episode_length": 1}),  # one step each: rightly so
        ),
    ],
    "action-gap": [
        (
            lines(5, lambda i: {"action_gap": 1e-4, "q_mean": -50}),
            3,
            lines(5, lambda i: {"action_gap": 1e-2, "q_mean": -50}),
        ),
        (
            lines(5, lambda i: {"action_gap": 0, "q_mean": 1}),
            3,
            lines(5, lambda i: {"action_gap": 0, "q_mean": 0}),
        ),
    ],
    "entropy-collapse": [
        (
            lines(6, lambda i: {"policy_spread": 1.0 if i == 0 else 1e-5, "return_mean": 20 if i == 0 else 9.4}),
            4,
            lines(6, lambda i: {"policy_spread": 1.0 if i == 0 else 1e-5, "return_mean": 20 if i == 0 else 500}),
        ),
        (
            lines(6, lambda i: {"policy_spread": 1e-4, "return_mean": -1500 if i else -1000}),
            4,
            lines(6, lambda i: {"policy_spread": 1e-4, "return_mean": 0.99 if i else 1}),  # solved in the first line
        ),
    ],
    "kl-collapse": [
        (
            lines(12, lambda i: {"kl": 3.0 if i == 0 else 0.02, "active_units": 0.0}),
            11,
            lines(12, lambda i: {"kl": 0.02 if i < 9 else 0.3, "active_units": 1.0}),  # a slow start
        )
    ],
    "mode-collapse": [
        (
            lines(6, lambda i: {"sample_spread": 0.9 if i < 2 else 0.04}),
            5,
            lines(6, lambda i: {"sample_spread": 0.9 if i == 0 else 0.04 if i == 2 else 0.06}),  # few modes
        ),
        (
            lines(24, lambda i: {"sample_spread": 0.01}),  # it never begins
            23,
            lines(30, lambda i: {"sample_spread": 0.01 if i < 20 else 0.5}),  # it begins late
        ),
    ],
    "discriminator-won": [
        (
            lines(12, lambda i: {"discriminator_accuracy": 0.999, "loss_generator": 9.0}),
            10,
            lines(30, lambda i: {"discriminator_accuracy": 0.999 if i % 10 else 0.95, "loss_generator": 9.0}),
        )
    ],
}


def test_every_rule_has_its_case() -> None:
    assert set(CASES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("case", [(name, *case) for name, cases in CASES.items() for case in cases], ids=lambda c: c[0])
def test_rule_separates_failure_from_health(case: tuple[str, Lines, int, Lines]) -> None:
    name, bad, at, healthy = case
    raised = [warned for warned in seen(bad) if warned.raised]
    assert [(warned.rule, warned.step) for warned in raised] == [(name, at)]
    assert raised[0].saw
    assert raised[0].cause
    assert raised[0].advice
    assert seen(healthy) == []


def test_learning_run_has_no_warning() -> None:
    assert seen(lines(200, cartpole)) == []


def test_line_without_needed_metrics() -> None:
    rows = [row for _ in range(4) for row in ({"dead_units": 0.9}, {"loss": 1.0}, {})]
    assert [(w.rule, w.step) for w in seen(rows)] == [("dead-units", 4)]


def test_warning_is_raised_once() -> None:
    sick, well = {"dead_units": 1.0}, {"dead_units": 0.1}
    told = seen([sick] * 10 + [well] * (CALM - 1) + [sick] + [well] * CALM + [sick] * 2)
    assert [(w.step, w.raised) for w in told] == [(2, True), (10 + 2 * CALM, False), (12 + 2 * CALM, True)]


METRICS = ["reward_size", "value_rate", "dead_units", "grad_norm", "terminals", "episodes", "episode_length"]
METRICS += ["return_mean", "policy_spread", "action_gap", "q_mean"]
LINE = st.dictionaries(st.sampled_from(METRICS), st.sampled_from([0.0, 1e-6, 0.3, 0.9, 30.0, -5.0, 400.0, 1e7]))


@given(st.lists(LINE, max_size=40), st.integers(0, 40))
def test_restored_health_warns_alike(rows: Lines, cut: int) -> None:
    rows = [{"step": i, **row} for i, row in enumerate(rows)]  # type: ignore[misc]
    whole, first = Health(RULES), Health(RULES)
    expected = [whole.update(row) for row in rows]
    raised = [first.update(row) for row in rows[:cut]]
    second = Health(RULES, json.loads(json.dumps(first.state(), allow_nan=False)))
    assert second.suspicious == first.suspicious
    assert raised + [second.update(row) for row in rows[cut:]] == expected
    assert second.state() == whole.state()


def test_what_is_usual_is_by_hand() -> None:
    health = Health(RULES)
    for norm in (1.0, 100.0):
        health.update({"step": 1, "grad_norm": norm})
    kept = health.state()["seen"]["grad_norm"]
    assert kept["usual"] == pytest.approx(10.0)  # sqrt(1 * 100)
    assert (kept["lines"], kept["low"], kept["high"]) == (2, 1.0, 100.0)


def test_speed_drop_is_reported() -> None:
    def told(speeds: list[float]) -> list[int]:
        pace = Pace(THROUGHPUT, seconds=10)
        raised = []
        for i, speed in enumerate(speeds):
            for _ in range(5):  # lines of 2 s each
                raised += [i for warned in pace.update(i, round(2 * speed), 2.0) if warned.rule == "throughput"]
        return raised

    assert told([1000.0] * 10 + [400.0] * 4) == [12]
    assert told([1000.0] * 10 + [400.0] * 2 + [1000.0] * 4) == []
    assert told([1000.0, 1100.0, 900.0, 700.0] * 5) == []
    assert told([1000.0, 300.0, 300.0, 300.0, 300.0]) == []  # too little is known of what is usual


def test_warnings_have_their_end() -> None:
    sick, well = {"dead_units": 1.0}, {"dead_units": 0.1}
    told = [warned.row() for warned in seen([sick] * 2 + [well] * CALM + [sick] * 2)]
    found = warnings_in([{"kind": "train", "step": 1}, *told])
    assert [(w["rule"], w["step"], w["until"]) for w in found] == [("dead-units", 2, 7), ("dead-units", 9, None)]
    assert all(json.loads(json.dumps(w)) == w for w in found)


# In the loop ----------------------------------------------------------------------------------------------------

LEARNED = ("loss", "rows", "done", "rare", "kind", "step", "mean", "median", "low", "high", "episodes")


def raised_in(folder: RunFolder) -> list[tuple[str, int, bool]]:
    return [(r["rule"], r["step"], r["raised"]) for r in rows_of(folder) if r["kind"] == "warning"]


def test_warning_is_logged_and_shown() -> None:
    well, _ = start("well", experiment(log_steps=2))
    view = QuietView()
    settings = experiment(log_steps=2, diverge=(8, 10))
    folder, outcome = life.start_run("fake", settings, "sick", Stop(), view, lambda c, f, d: c)
    assert outcome.finished
    assert raised_in(well) == []
    assert raised_in(folder) == [("q-drift", 10, True), ("q-drift", 20, False)]
    assert digest_of(folder) == digest_of(well)
    kept = [{k: v for k, v in r.items() if k in LEARNED} for r in rows_of(folder) if r["kind"] != "warning"]
    assert kept == [{k: v for k, v in r.items() if k in LEARNED} for r in rows_of(well)]
    told = [e for e in view.events if "q-drift" in e]
    assert len(told) == 2
    assert "warning at 10: q-drift" in told[0]
    assert "likely cause: a learning rate that is too large" in told[0]
    assert told[1] == "warning taken back at 20: q-drift"


@pytest.mark.parametrize("k", range(1, 12))
def test_interrupted_run_warns_alike(k: int) -> None:
    settings = {"log_steps": 2, "diverge": (8, 10)}
    whole, _ = start("whole", experiment(**settings))
    folder, _ = start("run", experiment(**settings), stop_after=k)
    assert resume(folder).finished
    assert rows_of(folder) == rows_of(whole)
    assert digest_of(folder) == digest_of(whole)


@pytest.mark.parametrize("every", [1, 4, 100])
def test_collapse_keeps_last_good_checkpoint(every: int) -> None:
    settings = {"log_steps": 2, "checkpoint_steps": every, "diverge": (12,), "stop_on_collapse": True}
    with pytest.raises(Collapsed, match=r"collapsed at 14 units \(q-drift\).*100 at every step.*likely.*; try: ") as e:
        start("run", experiment(**settings))
    assert e.value.warning.rule == "q-drift"
    folder = RunFolder(runs_dir() / "run")
    newest = newest_checkpoint(folder)
    assert (newest[1] if newest else None) == {1: 10, 4: 8, 100: None}[every]
    assert raised_in(folder) == [("q-drift", 14, True)]
    before = rows_of(folder)
    with pytest.raises(Collapsed):
        resume(folder)
    assert rows_of(folder) == before


def test_passing_collapse_costs_one_checkpoint() -> None:
    settings = {"log_steps": 2, "checkpoint_steps": 4, "diverge": (12, 12), "stop_on_collapse": True}
    view = QuietView()
    folder, outcome = life.start_run("fake", experiment(**settings), "run", Stop(), view, lambda c, f, d: c)
    assert outcome.finished
    assert [e for e in view.events if "checkpoint" in e] == [f"checkpoint at {n} units" for n in (4, 8, 14, 16, 20)]
    assert raised_in(folder) == []


def test_resume_after_collapse() -> None:
    settings = {"log_steps": 2, "checkpoint_steps": 4, "diverge": (12,)}
    whole, _ = start("whole", experiment(**settings))
    with pytest.raises(Collapsed):
        start("run", experiment(**settings, stop_on_collapse=True))
    folder = RunFolder(runs_dir() / "run")
    path = folder.path / "config.json"
    path.write_text(path.read_text().replace('"stop_on_collapse": true', '"stop_on_collapse": false'))
    assert resume(folder).finished
    assert rows_of(folder) == rows_of(whole)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RlabError, match="seed"):
        resume(folder)
