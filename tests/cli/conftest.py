from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rlab.cli import main

CARTPOLE = ["--env", "CartPole-v1", "--steps", "3_000", "--threads", "1", "--evaluate-steps", "1000"]
CARTPOLE += ["--evaluate-episodes", "2", "--final-episodes", "3", "--checkpoint-steps", "1000"]
BREAKOUT = ["--env=Breakout", "--steps", "600", "--learning-starts", "200", "--memory-size", "2000"]
BREAKOUT += ["--batch-size", "32", "--threads", "1", "--final-episodes", "1"]


@pytest.fixture
def rlab(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def call(*words: str) -> SimpleNamespace:
        capsys.readouterr()
        status = main(list(words))
        said = capsys.readouterr()
        return SimpleNamespace(status=status, out=said.out, err=said.err)

    return call


@pytest.fixture
def rlab_json(rlab: Callable[..., SimpleNamespace]) -> Callable[..., dict[str, Any]]:
    """Run a verb with --json, and demand exactly one object on stdout."""

    def call(*words: str) -> dict[str, Any]:
        done = rlab(*words, "--json")
        assert done.status == 0, done.err
        assert done.out.count("\n") == 1
        value = json.loads(done.out)
        assert isinstance(value, dict)
        return value

    return call


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A runs folder with a finished CartPole run `cart` and a finished, tiny Breakout run `ball`."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(runs))
        assert main(["train", "dqn", *CARTPOLE, "--name", "cart"]) == 0
        assert main(["train", "dqn", *BREAKOUT, "--name", "ball"]) == 0
    return runs


@pytest.fixture
def runs(_trained: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RLAB_RUNS", str(_trained))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    return _trained
