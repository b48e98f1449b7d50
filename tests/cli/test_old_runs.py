"""Run folders of earlier versions, which `fixtures/old_runs/make.py` made: shown, scored, loaded and gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rlab as lab
from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.go_resnet import GoResNet
from rlab.run.checkpoint import digest
from rlab.run.files import read_json, to_json
from rlab.run.folder import find_run
from rlab.run.lifecycle import read_newest
from tests.fixtures.old_runs import make

OLD = Path(__file__).parents[1] / "fixtures/old_runs"
RUNS = [f"{of}/{name}" for of, names in make.RUNS.items() for name in names]
"""``0.1/dqn`` and so on."""

Call = Callable[..., SimpleNamespace]
CallJson = Callable[..., dict[str, Any]]


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of an old run, where runs lie."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    small = partial(GoResNet, blocks=1, channels=4)  # which `make.py` had, too
    monkeypatch.setitem(ENCODERS._entries, "go-resnet-1x4", small)
    shutil.copytree(OLD / request.param, tmp_path / Path(request.param).name)
    return OLD / request.param


def noted(old: Path) -> tuple[dict[str, Any], bool]:
    """What the old code came to, and whether digests can be the same here: processor and packages are."""
    document = read_json(old.parent / "digests.json")
    return document["runs"][old.name], {**document, "runs": None} == {**make.describe(), "runs": None}


def in_old_words(state: dict[str, Any]) -> dict[str, Any]:
    """A state with its parts called as 0.1 called them, so that digests say whether any bit is another.

    Since then (0.2) a model's run holds several modules and optimisers by name, and optimisers of agents their groups.
    """
    state = dict(state)
    agent = state.get("agent", {})
    if "optimizer" in agent:
        agent["adam"] = list(agent.pop("optimizer")["state"].values())
    if "optimisers" in agent:
        agent["optimisers"] = {name: whole["state"] for name, whole in agent["optimisers"].items()}
    for part in (state, *([state["best"]] if state.get("best") else [])):
        if "modules" in part:
            part["model"] = {name.removeprefix("model."): value for name, value in part.pop("modules").items()}
    if "optimizers" in state:
        state["optimizer"] = state.pop("optimizers")["model"]
    return state


NEWER = ("iou",)
"""What scores have had since 0.2 began."""


def without_newer(state: dict[str, Any]) -> dict[str, Any]:
    """A state whose score says no more than it did then."""
    score = {key: value for key, value in (state.get("score") or {}).items() if key not in NEWER}
    return state | ({"score": score} if score else {})


@pytest.mark.parametrize("old", RUNS, indirect=True)
def test_old_run_plays_and_goes_on(old: Path, rlab_json: CallJson) -> None:
    then, same = noted(old)
    shown = rlab_json("runs", "show", old.name)
    assert (shown["status"], shown["step"], shown["digest"]) == ("stopped", *then["stopped"].values())
    assert np.isfinite(rlab_json("eval", old.name, "--episodes", "2")["mean"])
    with lab.load(old.name) as loaded:
        assert loaded.step == then["stopped"]["step"]
    rlab_json("resume", old.name)
    shown = rlab_json("runs", "show", old.name)
    assert (shown["status"], shown["step"]) == ("finished", then["straight"]["step"])
    saved = read_newest(find_run(old.name))
    assert saved is not None
    now = digest(in_old_words(saved.state) if old.parent.name == "0.1" else without_newer(saved.state))
    if same:
        assert now == then["straight"]["digest"]  # as if never stopped; of images 0.1 itself came to another
    else:
        print(f"{old.name}: {now} here, {then['straight']['digest']} as noted")


@pytest.mark.parametrize(
    ("edited", "sentence"),
    [
        ({"sticky": 0.5}, "sticky belongs to Atari and MinAtar, and 'CartPole-v1' is not of these"),  # where 0.1 had it
        ({"options": {"komi": 5.5}}, "komi belongs to Go, and 'CartPole-v1' is not Go; its options: max_steps"),
        ({"options": {"max_steps": 9}}, "says max_steps 9, its checkpoint nothing; put the old value back"),
        ({"options": {"max_steps": "9"}}, "max_steps is '9'; it must be a whole number or None"),
        ({"options": 5}, "has an unknown field 'protocol'"),
    ],
)
@pytest.mark.parametrize("old", ["0.1/pqn"], indirect=True)
def test_old_run_keeps_its_rules(old: Path, edited: dict[str, Any], sentence: str, tmp_path: Path, rlab: Call) -> None:
    path = tmp_path / "pqn/config.json"
    document = read_json(path)
    document["config"]["env"] |= edited
    path.write_bytes(to_json(document))
    said = rlab("resume", "pqn")
    assert said.status == 1
    assert sentence in said.err


@pytest.mark.parametrize("verb", ["resume", "eval"])
@pytest.mark.parametrize("old", ["0.1/dqn"], indirect=True)
def test_run_without_journal_is_left_alone(old: Path, verb: str, tmp_path: Path, rlab: Call) -> None:
    shutil.rmtree(tmp_path / "dqn/journal")
    learned = [tmp_path / "dqn/metrics.jsonl", *(tmp_path / "dqn/checkpoints").rglob("*.*")]
    before = {p: p.read_bytes() for p in learned}
    done = rlab(verb, "dqn")
    assert done.status == 1
    assert "no checkpoint under" in done.err
    assert {p: p.read_bytes() for p in before} == before
