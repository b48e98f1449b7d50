"""The hyperparameter search: its space, going on where it was left, and what it reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlab.compare import define_search, open_or_create, tune, tuning
from rlab.compare.processes import Row
from rlab.compare.tuning import best_commands
from rlab.errors import RlabError
from rlab.run.contract import Stop

# Optuna's journal leaves closing its file to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
SPACE = ["agent.gamma=0.5:0.99", "n_step=1,3,5"]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are not trained but scored by a formula: best at gamma .9 and n_step 3. Returns the names of those made."""
    pytest.importorskip("optuna", reason="the search needs the extra hpo")
    made: list[str] = []

    class Pool:
        def __init__(self, folder: Path, threads: int, at_once: int, stop: Stop, view: Any):
            self.stop = stop

        def run(self, jobs: Any) -> list[Row]:
            rows = []
            for job in jobs:
                made.append(job.name)
                value = -abs(job.settings["gamma"] - 0.9) - abs(job.settings["n_step"] - 3) + job.seed
                bad = job.settings["n_step"] == 5
                state = "stopped" if self.stop.requested else "failed" if bad else "finished"
                rows.append(Row(job, state, job.steps, value, "loss became nan" if bad else None))
            return rows

    monkeypatch.setattr("rlab.compare.tuning.Pool", Pool)
    return made


def opened(*, seeds: tuple[int, ...] = (0, 2), name: str = "hunt") -> Any:
    definition = define_search(["q-learning"], ["FrozenLake-v1"], seeds, SPACE, 1000)
    return open_or_create("search", definition, [], name)


def test_several_seeds_a_trial_and_the_best_is_reported(played: list[str]) -> None:
    sweep = opened()
    found = tune(sweep, 8, jobs=2)
    assert found["finished"]
    assert len(found["trials"]) == 8
    assert len(played) == 16
    for row in found["trials"]:
        if row["settings"]["n_step"] == 5:  # a trial with a failed run has no value, and the search goes on
            assert row["value"] is None
            assert "loss became nan" in row["error"]
        else:
            off = abs(row["settings"]["gamma"] - 0.9) + abs(row["settings"]["n_step"] - 3)
            assert row["value"] == pytest.approx(1 - off)  # the mean over seeds 0 and 2
    assert tune(sweep, 8)["trials"] == found["trials"]  # told again as it was
    values = [row["value"] for row in found["trials"] if row["value"] is not None]
    assert found["best"]["value"] == max(values)
    train, check = best_commands(sweep.definition, found["best"])
    assert train.startswith("rlab train q-learning --env FrozenLake-v1 --steps 1000 --seed 3 --threads 1 --gamma 0.")
    assert "--seeds 3-7" in check


def test_it_goes_on_to_the_same_trials(played: list[str]) -> None:
    whole = tune(opened(name="whole"), 6, jobs=1)
    first = tune(opened(name="parts"), 3, jobs=1)
    assert (len(first["trials"]), first["finished"]) == (3, True)
    rest = tune(opened(name="parts"), 6, jobs=1)
    assert [r["settings"] for r in rest["trials"]] == [r["settings"] for r in whole["trials"]]
    assert len(played) == len(set(played)) * 2 == 24


def test_a_stopped_trial_is_taken_up_again(played: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()

    class Stopping(tuning.Pool):
        def run(self, jobs: Any) -> list[Row]:
            stop.request("SIGINT")
            return list(super().run(jobs))

    with monkeypatch.context() as patch:
        patch.setattr("rlab.compare.tuning.Pool", Stopping)
        found = tune(opened(), 2, jobs=1, stop=stop)
    assert not found["finished"]
    assert found["trials"] == []
    begun = list(played)
    assert tune(opened(), 2, jobs=1)["finished"]
    assert played[len(begun) : 2 * len(begun)] == begun  # the same runs, which a pool resumes


def test_the_space_is_durable_plain_json(runs: Path) -> None:
    opened()
    document = json.loads((runs / "hunt" / "sweep.json").read_text())
    assert document["definition"]["search"] == {
        "gamma": {"type": "float", "low": 0.5, "high": 0.99, "log": False},
        "n_step": {"choices": [1, 3, 5]},
    }
    (runs / "hunt" / "trial-0000").mkdir()
    (runs / "hunt" / "trial-0000" / "config.json").write_text("{}")
    definition = define_search(["q-learning"], ["FrozenLake-v1"], (0, 2), ["gamma=0.5:0.9", SPACE[1]], 1000)
    with pytest.raises(RlabError, match="search of gamma"):
        open_or_create("search", definition, [], "hunt")


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ("agent.gama=0:1", "unknown setting 'agent.gama'; nearest: agent.gamma"),
        ("gamma=0.9:0.5", "LOW must be below HIGH"),
        ("gamma=0:0.5:log", "above 0 on a log scale"),
        ("gamma=0.5:2", "--gamma is 2.0; it must lie between 0 and 1"),
        ("gamma=0.5", "needs two or more different values"),
        ("n_step=1,1", "needs two or more different values"),
        ("n_step=1:x", "n_step must be int, not 'x'"),
        ("method=sarsa:q-learning", "write field=LOW:HIGH"),
        ("method=sarsa,dqn", "method is 'dqn'"),
        ("seed=0:4", "say it with --seeds"),
        ("gamma", "write field=value"),
    ],
)
def test_wrong_spaces_are_refused(search: str, sentence: str) -> None:
    with pytest.raises(RlabError) as refused:
        define_search(["q-learning"], ["FrozenLake-v1"], (0, 1), [search], 1000)
    assert sentence in str(refused.value)


def test_a_search_is_for_one_agent_on_one_environment() -> None:
    with pytest.raises(RlabError, match="one agent, not 2"):
        define_search(["sarsa", "q-learning"], ["FrozenLake-v1"], (0,), SPACE, 1000)
    with pytest.raises(RlabError, match="--search agent"):
        define_search(["sarsa"], ["FrozenLake-v1"], (0,), [], 1000)


def test_without_optuna_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlab.cli import main

    monkeypatch.setitem(sys.modules, "optuna", None)
    words = ["sweep", "--tune", "--agents", "sarsa", "--envs", "FrozenLake-v1", "--steps", "1000", "--search", *SPACE]
    assert main(words) == 1
    assert "pip install 'rlab-rl[hpo]'" in capsys.readouterr().err
    assert not list(runs.iterdir())
