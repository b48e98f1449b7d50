"""The benchmarks run and report; what they measure is not asserted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import rlab.agents.recipes  # noqa: F401 - registers the recipes
from rlab.bench import speed
from rlab.bench.peers import pqn
from rlab.bench.peers.sb3_dqn import AleVecEnv
from rlab.errors import RlabError
from tests.processes import until

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_rows_are_measured() -> None:
    told: list[str] = []
    found = speed.measure("dqn", 1, 400, told.append)
    assert len(found["rows"]) == 2
    for row in found["rows"]:
        assert row["ours_steps_per_s"] > 0
        assert row["peer_steps_per_s"] > 0
        assert row["ratio"] == pytest.approx(row["ours_steps_per_s"] / row["peer_steps_per_s"], rel=0.02)
    assert {"agent", "peer", "ours_steps_per_s", "peer_steps_per_s", "ratio"} <= set(found)
    assert len(told) == 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"bf16": True, "compile": True}])
def test_every_rung_trains(more: dict[str, bool]) -> None:
    settings = {"num_envs": 4, "batch_size": 32, "train_every": 4, "vector": True, **more}
    assert speed.run_sb3({"settings": settings, "steps": 400}, "cpu") > 0


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Measurements that are not made: 100 steps a second of ours, and of a peer as many as it has of good things."""
    asked: list[dict[str, Any]] = []

    def one(request: dict[str, Any]) -> float:
        asked.append(request)
        settings = request.get("settings", {})
        beside = len(psutil.Process().children())
        good = 10 * sum(settings.get(name, False) for name in ("vector", "bf16")) - 5 * settings.get("compile", False)
        return 100.0 / (1 + beside) if request["side"] == "ours" else 10.0 + good

    monkeypatch.setattr(speed, "_one", one)
    return asked


def test_the_fair_rung_is_the_fastest_peer(measured: list[dict[str, Any]]) -> None:
    found = speed.climb("dqn", 2, 50, lambda text: None)
    assert [row["peer_steps_per_s"] for row in found["rows"]] == [10, 20, 30, 25]
    assert (found["name"], found["peer_steps_per_s"]) == (found["rows"][2]["name"], 30)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert [request["side"] for request in measured] == ["sb3", "ours"] * 8
    with pytest.raises(RlabError, match="'pqn' does not; nearest: --agent dqn"):
        speed.climb("pqn", 1, 50, lambda text: None)


def test_pqn_has_a_plain_peer_with_its_settings(measured: list[dict[str, Any]]) -> None:
    found = speed.measure("pqn", 1, 50, lambda text: None)
    assert "plain" in found["rows"][1]["name"]
    assert found["rows"][1]["batch_size"]["peer"] == found["rows"][1]["batch_size"]["ours"]
    assert found["rows"][1]["low"] is None
    with pytest.raises(RlabError, match="not for 'dqn'; nearest: --agent pqn"):
        speed.race("dqn", 30.5, 50, lambda text: None)


@pytest.mark.parametrize(("others", "cores", "fair"), [(1, 2, 1 / 2), (2, 2, 1 / 3), (1, 8, 7 / 8)])
def test_the_share_beside_others_is_of_what_is_fair(
    others: int, cores: int, fair: float, measured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "cores", lambda: cores)
    found = speed.crowded("dqn", others, 1, 50, lambda text: None)
    assert found["fair"] == pytest.approx(fair, abs=1e-4)
    assert found["share"] == pytest.approx(1 / (1 + others) / fair, abs=1e-3)


def test_busy_processes_end_whatever_happens() -> None:
    with pytest.raises(KeyboardInterrupt), speed.busy(2) as pids:
        raise KeyboardInterrupt
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    program = (
        "import time; from rlab.bench.speed import busy\nwith busy(1) as pids: print(*pids, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_plain_pqn_learns_from_every_rollout() -> None:
    asked: list[int] = []
    args = pqn.Args(num_envs=2, rollout=3, batch_size=4, epochs=1, total_steps=12)
    pqn.train(args, lambda steps, scores: asked.append(steps) or False)  # type: ignore[func-returns-value]
    assert asked == [0, 6]


def test_the_peers_games_are_counted_by_lives() -> None:
    envs, rng = AleVecEnv("Breakout", 4), np.random.default_rng(0)
    envs.reset()
    ends = 0
    for _ in range(150):
        obs, reward, done, infos = envs.step(rng.integers(0, 4, 4))
        assert set(reward.tolist()) <= {-1.0, 0.0, 1.0}
        assert [("terminal_observation" in info) for info in infos] == done.tolist()
        ends += done.sum()
    assert obs.shape == (4, 4, 84, 84)
    assert ends > 4
    envs.close()
