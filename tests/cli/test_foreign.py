"""Runs in environments that somebody else wrote: what fails, what is told, and how many copies are open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from rlab.agents import interaction
from rlab.errors import RlabError
from rlab.run.folder import create_run, find_run

WORDS = ["--steps", "64", "--threads", "1", "--num-envs", "1", "--final-episodes", "3", "--evaluate-steps", "0"]
DQN = ["train", "dqn", "--env", "Theirs-v0", *WORDS, "--learning-starts", "16", "--memory-size", "200"]


class Theirs(gym.Env[Any, Any]):
    """Four steps an episode, one action that counts."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    length: float = 4
    opened = most = at_most = 0
    fails_at = 10**9
    lived = 0

    def __init__(self) -> None:
        if Theirs.opened + 1 > Theirs.at_most > 0:
            raise OSError("the port is taken")
        Theirs.opened += 1
        Theirs.most = max(Theirs.most, Theirs.opened)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.lived += 1
        if self.lived == Theirs.fails_at:
            raise KeyError("no such room")
        return np.full(2, self.t % 2, np.float32), float(action), self.t >= self.length, False, {}

    def close(self) -> None:
        Theirs.opened -= 1


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(interaction.Interaction, "seconds_per_step", lambda self, stop: 1e-4)
    for name in ("opened", "most", "at_most", "lived"):
        monkeypatch.setattr(Theirs, name, 0)
    gym.register("Theirs-v0", entry_point=Theirs)
    yield
    del gym.registry["Theirs-v0"]


def test_a_failing_step_halts_and_the_run_goes_on_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rlab: Any
) -> None:
    monkeypatch.setattr(Theirs, "fails_at", 40)
    said = rlab(*DQN, "--name", "x", "--checkpoint-steps", "20")
    last = said.err.splitlines()[-1]
    assert said.status == 1
    assert "Traceback" not in said.err
    assert last.startswith("rlab: at step 40: step() of copy 0 of 'Theirs-v0' failed: KeyError: 'no such room' (")
    assert "the last checkpoint was kept" in last
    assert "once this is mended: rlab resume x; traceback: " in last
    log = (tmp_path / "runs/x/errors.log").read_text()
    assert "Traceback" in log
    assert "no such room" in log
    monkeypatch.setattr(Theirs, "fails_at", 10**9)
    assert rlab("resume", "x").status == 0
    monkeypatch.setattr(Theirs, "fails_at", 2)
    said = rlab("eval", "x", "--episodes", "2")
    assert (said.status, said.err.count("no such room")) == (1, 1)
    assert (tmp_path / "runs/x/errors.log").read_text().count("Traceback") == 2


def test_a_number_that_is_none_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, rlab: Any) -> None:
    step = Theirs.step

    def spoils(self: Theirs, action: Any) -> Any:
        obs, *rest = step(self, action)
        return obs * np.nan if self.lived == 40 else obs, *rest

    monkeypatch.setattr(Theirs, "step", spoils)
    last = rlab(*DQN, "--name", "x").err.splitlines()[-1]
    assert last.startswith("rlab: observation[0] became nan at step ")
    assert last.endswith("once the environment is mended: rlab resume x")


def test_a_refused_environment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rlab: Any) -> None:
    monkeypatch.setattr(Theirs, "observation_space", Dict(a=Theirs.observation_space))
    said = rlab(*DQN)
    measuring, sentence = said.err.splitlines()
    assert (said.status, measuring.endswith(" ..."), sentence.startswith("rlab: ")) == (1, True, True)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("evaluate", "most"), [("0", 1), ("40", 2)])
def test_copies_of_an_environment_are_counted(evaluate: str, most: int, rlab: Any) -> None:
    said = rlab(*DQN, "--evaluate-steps", evaluate, "--name", "x")
    assert said.status == 0, said.err
    assert (Theirs.most, Theirs.opened) == (most, 0)
    assert ("copies   1 at a time" in said.err) == (most == 1)
    assert rlab("eval", "x", "--episodes", "5").status == 0
    assert Theirs.most == most


def test_evaluations_that_need_another_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rlab: Any) -> None:
    monkeypatch.setattr(Theirs, "at_most", 1)
    said = rlab(*DQN, "--evaluate-steps", "40")
    assert said.status == 1
    assert "OSError: the port is taken" in said.err
    assert said.err.strip().endswith("nearest: --evaluate-steps 0, which evaluates at the end only")
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_never_ends_is_cut_and_told(monkeypatch: pytest.MonkeyPatch, rlab: Any, rlab_json: Any) -> None:
    monkeypatch.setattr(interaction, "LONGEST", 30)
    monkeypatch.setattr(Theirs, "length", float("inf"))
    said = rlab(*DQN, "--reset-steps", "20", "--name", "x")
    assert "note: 3 of 3 episodes of the evaluation were cut at 30 steps" in said.err
    assert said.err.count("restarts cut every episode; nearest: --reset-steps 200") == 1
    assert rlab_json("eval", "x", "--episodes", "2")["cut"] == 2


@pytest.mark.parametrize(
    ("agent", "more", "clause"),
    [
        ("pqn", ["--rollout", "64"], "a rollout is --rollout 64 of --num-envs 1, 64 steps"),
        ("a2c", ["--rollout", "65"], "a rollout is --rollout 65 of --num-envs 1, 65 steps"),
        ("ppo", ["--n-steps", "65", "--batch-size", "65"], "a rollout is --n-steps 65 of --num-envs 1, 65 steps"),
        ("a2c", ["--rollout", "8"], ""),
    ],
)
def test_a_budget_below_a_rollout_is_told(agent: str, more: list[str], clause: str, tmp_path: Path, rlab: Any) -> None:
    said = rlab("train", agent, "--env", "Theirs-v0", *WORDS, *more, "--log-steps", "8", "--name", "x")
    assert said.status == 0
    assert ("nothing will be learned in 64 steps" in said.err) == bool(clause)
    assert clause in said.err
    assert ('"loss"' in (tmp_path / "runs/x/metrics.jsonl").read_text()) == (not clause)


def test_an_environment_that_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rlab: Any) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("RLAB_RUNS", "here")
    monkeypatch.chdir(tmp_path)
    reset = Theirs.reset

    def moves(self: Theirs, **given: Any) -> Any:
        os.chdir(tmp_path / "elsewhere")
        return reset(self, **given)

    monkeypatch.setattr(Theirs, "reset", moves)
    assert rlab(*DQN, "--name", "x").status == 0
    assert (tmp_path / "here/x/evaluation.json").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_long_names_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RLAB_RUNS", "~/mine")
    folder = create_run("dqn", {"env": "x" * 300}, {}, None)
    assert folder.path.parent == tmp_path / "mine"
    assert find_run(f"~/mine/{folder.name}").path == folder.path
    with pytest.raises(RlabError, match=r"at most 150 characters, and 'y{40}\.\.\.' has 300"):
        create_run("dqn", {"env": "x"}, {}, "y" * 300)
    for name in ("z" * 300, "no\0such", "~nobody-of-this-name/x"):
        with pytest.raises(RlabError, match="no run"):
            find_run(name)
