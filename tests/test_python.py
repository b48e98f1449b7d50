"""The lab from Python: environments in every form, predictions, callbacks, and the page of docs/ that shows them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import rlab
from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import Progress
from rlab.run.lifecycle import read_newest

QUICK: dict[str, Any] = {
    "steps": 240,
    "learning_starts": 60,
    "batch_size": 8,
    "num_envs": 2,
    "threads": 1,
    "final_episodes": 2,
    "evaluate_episodes": 1,
    "evaluate_steps": 120,
    "checkpoint_steps": 80,
}


class Short(gym.Env):
    """Episodes of a few steps; actions 3 and 4, of which the first pays."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, length: int = 6, render_mode: str | None = None):
        self.length, self.render_mode = length, render_mode
        self.observation_space, self.action_space = Box(-1, 1, (3,), np.float32), Discrete(2, start=3)

    def _look(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in (3, 4)
        self.time += 1
        return self._look(), float(action == 3), self.time >= self.length, False, {}

    def render(self) -> Any:
        return np.zeros((16, 16, 3), np.uint8)


class Halved(gym.RewardWrapper):
    """Pays half."""

    def reward(self, reward: Any) -> float:
        return float(reward) / 2


@pytest.fixture(autouse=True)
def _runs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> rlab.Run:
    """A finished run on a class of a module, with an argument and a wrapper."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(tmp_path_factory.mktemp("trained")))
        return rlab.train("dqn", Short, "short", env_args={"length": 4}, wrappers=[Halved], **QUICK)


def state_of(run: rlab.Run) -> str:
    saved = read_newest(run)
    assert saved is not None
    return digest(saved.state)


def test_class_arguments_and_wrappers_are_kept_by_name(short: rlab.Run) -> None:
    part = short.config()["config"]["env"]
    assert part["env"] == "tests.test_python:Short"
    assert part["options"] == {"env_args": {"length": 4}, "wrappers": ["tests.test_python:Halved"]}
    assert short.score is not None
    assert short.score["mean_length"] == 4
    assert short.score["mean"] <= 2
    with rlab.load(short.path) as loaded:  # nothing is given again
        assert loaded.step == 240


def test_predict_takes_one_or_many_and_names_shapes(short: rlab.Run) -> None:
    env = Short()
    with short.load() as player:
        assert isinstance(player, rlab.Player)
        one = player.predict(env.reset(seed=0)[0])
        assert type(one) is int
        assert one in env.action_space
        assert set(player.predict(np.zeros((5, 3), np.float32))) <= {3, 4}
        assert player.predict([0.0, 0.0, 0.0]) in (3, 4)
        for wrong in (np.zeros(2), np.zeros((2, 3, 3)), 0.0):
            with pytest.raises(RlabError, match=r"one observation of shape \(3,\) or a batch of shape \(B, 3\)"):
                player.predict(wrong)
        with pytest.raises(RlabError, match=r"observations of float32, which <U1"):
            player.predict(["a", "b", "c"])


def test_loaded_run_is_scored_filmed_reported(short: rlab.Run) -> None:
    with short.load() as player:
        assert isinstance(player, rlab.Player)
        score = player.evaluate(episodes=3, seed=5)
        assert score["episodes"] == 3
        film = player.watch(max_steps=3)
        assert (film.suffix, film.parent) == (".mp4", short.videos)
        assert player.report() == short.report
        for refused, words in (({"episodes": 0}, "episodes is 0"), ({"seed": -1}, "seed is -1")):
            with pytest.raises(RlabError, match=words):
                player.evaluate(**refused)
            with pytest.raises(RlabError, match=words):
                rlab.evaluate(short, **refused)
    again = rlab.evaluate(short, 3, 5)
    assert short.score == again | {"seed": 5}
    assert again["returns"] == score["returns"]
    assert short.resume().score == short.score  # it is finished


def test_notebook_view_of_a_run_is_escaped(short: rlab.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    document = short.config() | {"recipe": "<script>"}
    monkeypatch.setattr(rlab.Run, "config", lambda self: document)
    shown = short._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert 'src="data:image/svg+xml;base64,' in shown


def test_model_predicts_one_or_many() -> None:
    run = rlab.train("logistic", data="iris", epochs=1, threads=1)
    with run.load() as model:
        assert isinstance(model, rlab.Predictor)
        many = model.predict(np.ones((2, 4), np.float32))
        assert many.shape == (2, 3)
        assert np.array_equal(model.predict(np.ones(4, np.float32)), many[0])
        assert model.watch().is_dir()


class Meddling:
    """Callbacks that draw from everything global and change what they get."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _meddle(self, values: Any = None) -> None:
        random.random()
        np.random.random()  # noqa: NPY002
        torch.rand(3)
        torch.set_grad_enabled(False)
        if values is not None:
            values.clear()

    def on_step(self, progress: Progress, metrics: dict[str, float]) -> None:
        assert "return_mean_last" in metrics or progress.done < 60
        self.calls.append("step")
        self._meddle(metrics)

    def on_evaluation(self, progress: Progress, score: dict[str, Any]) -> None:
        self.calls.append(f"evaluation {progress.done}")
        self._meddle(score)

    def on_checkpoint(self, progress: Progress, path: Path) -> None:
        assert path.is_dir()
        self.calls.append(f"checkpoint {progress.done}")
        self._meddle()


class Draws(Short):
    """Observations of numpy's global generator, which a callback could disturb."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            np.random.seed(seed)  # noqa: NPY002
        return super().reset(seed=seed)

    def _look(self) -> np.ndarray:
        return np.random.uniform(-1, 1, 3).astype(np.float32)  # noqa: NPY002


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state at the end of a run without callbacks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(tmp_path_factory.mktemp("plain")))
        return state_of(rlab.train("dqn", env=Draws, **QUICK))


def test_callbacks_cannot_change_a_run(undisturbed: str) -> None:
    meddling = Meddling()
    run = rlab.train(
        "dqn",
        env=Draws,
        on_step=meddling.on_step,
        on_evaluation=meddling.on_evaluation,
        on_checkpoint=meddling.on_checkpoint,
        **QUICK,
    )
    assert torch.is_grad_enabled()
    assert state_of(run) == undisturbed
    assert meddling.calls.count("step") > 3
    assert {"evaluation 120", "evaluation 240", "checkpoint 240"} <= set(meddling.calls)


def fails(progress: Progress, metrics: Any) -> None:
    if progress.done >= 100:
        raise ZeroDivisionError("of the user's")


def stops(progress: Progress, metrics: Any) -> None:
    if progress.done >= 100:
        raise rlab.StopTraining


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The state at the end of a run that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(tmp_path_factory.mktemp("whole")))
        return state_of(rlab.train("dqn", env="CartPole-v1", **QUICK))


@pytest.mark.parametrize("on_step", [fails, lambda progress, metrics: progress.done < 100])
def test_callback_ends_a_run_that_goes_on_exactly(on_step: Callable[..., Any], whole: str) -> None:
    with pytest.raises(ZeroDivisionError, match="of the user's") if on_step is fails else contextlib.nullcontext():
        rlab.train("dqn", env="CartPole-v1", name="cut", on_step=on_step, **QUICK)
    with rlab.load("cut") as stopped:
        assert 100 <= stopped.step < 240
    assert state_of(rlab.resume("cut")) == whole


def test_environment_without_a_name_is_given_again(whole: str) -> None:
    def make(reward: bool) -> gym.Env:
        return gym.make("CartPole-v1", sutton_barto_reward=reward)

    run = rlab.train("dqn", make, "cut", env_args={"reward": False}, **QUICK, on_step=stops)
    assert run.config()["config"]["env"]["env"] == "python:make"
    for opened in (lambda: rlab.load("cut"), lambda: rlab.resume("cut")):
        with pytest.raises(RlabError, match=r"only Python code has \('python:make'\); give it again"):
            opened()
    with rlab.load("cut", env=make) as player, run.load() as same:
        assert 100 <= player.step == same.step < 240
    assert state_of(rlab.resume("cut", env=make)) == whole


def test_run_goes_on_in_its_own_environment(short: rlab.Run) -> None:
    with pytest.raises(RlabError, match=r"learned in 'tests.test_python:Short', and env is 'CartPole-v1'"):
        rlab.load(short, env="CartPole-v1")


def test_resume_takes_a_new_budget() -> None:
    run = rlab.train("dqn", env="CartPole-v1", **QUICK).resume(300)
    with run.load() as player:
        assert player.step == 300
    with pytest.raises(RlabError, match="steps and minutes exclude each other"):
        rlab.resume(run, steps=400, minutes=1)


ROOT = Path(__file__).parents[1]


def blocks(page: str) -> str:
    return "\n".join(re.findall("```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL))


@pytest.mark.parametrize(("page", "trainings"), [("docs/python.md", 3), ("README.md", 1)])
def test_documented_python_runs(page: str, trainings: int, tmp_path: Path) -> None:
    """Every block, in one program, with small budgets."""
    code = blocks(page)
    assert code.count("steps=20_000") == trainings
    code = code.replace("steps=20_000", "steps=400, final_episodes=2, threads=1").replace("steps=40_000", "steps=600")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"RLAB_RUNS": "runs"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[\d.]+( [\d.]+)?\n", done.stdout)


def test_readme_is_short_in_both_languages() -> None:
    english, japanese = ((ROOT / f"README{end}.md").read_text("utf-8") for end in ("", ".ja"))
    assert len(english.split()) <= 900
    assert max(len(text.splitlines()) for text in (english, japanese)) <= 120
    assert blocks("README.md") == blocks("README.ja.md")
    assert english.count("\n## ") == japanese.count("\n## ")
