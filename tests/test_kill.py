"""A run killed by SIGKILL at random instants and resumed ends in the same bits as one never interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlab.cli import main
from tests.processes import Spawn, until

CARTPOLE = [
    "train", "dqn", "--env", "CartPole-v1", "--steps", "7_000", "--threads", "1", "--checkpoint-steps", "700",
    "--reset-steps", "1_500", "--evaluate-steps", "3_000", "--evaluate-episodes", "2", "--final-episodes", "2",
    "--memory-size", "3_000", "--log-steps", "100",
]  # fmt: skip
BREAKOUT = [
    "train", "dqn", "--env", "Breakout", "--steps", "1_000", "--threads", "1", "--checkpoint-steps", "240",
    "--reset-steps", "500", "--evaluate-steps", "0", "--final-episodes", "1", "--memory-size", "1_000",
    "--learning-starts", "200", "--batch-size", "16", "--log-steps", "100", "--num-envs", "4",
]  # fmt: skip
A2C = [
    "train", "a2c", "--env", "Pendulum-v1", "--steps", "20_000", "--threads", "1", "--checkpoint-steps", "900",
    "--reset-steps", "5_000", "--evaluate-steps", "9_000", "--evaluate-episodes", "2", "--final-episodes", "2",
    "--log-steps", "100",
]  # fmt: skip
PPO = [
    "train", "ppo", "--env", "CartPole-v1", "--steps", "12_000", "--threads", "1", "--checkpoint-steps", "700",
    "--reset-steps", "1_500", "--evaluate-steps", "4_000", "--evaluate-episodes", "2", "--final-episodes", "2",
    "--log-steps", "100",
]  # fmt: skip
SAC = [
    "train", "sac", "--env", "Pendulum-v1", "--steps", "1_200", "--threads", "1", "--checkpoint-steps", "110",
    "--reset-steps", "500", "--evaluate-steps", "600", "--evaluate-episodes", "2", "--final-episodes", "2",
    "--log-steps", "100", "--memory-size", "500", "--batch-size", "32",
]  # fmt: skip
LENET = [
    "train", "lenet", "--data", "digits", "--threads", "1", "--checkpoint-steps", "500", "--evaluate-steps", "2_000",
    "--log-steps", "200", "--epochs",
]  # fmt: skip
LBFGS = ["--optimiser", "lbfgs", "--weight-decay", "0"]


def environment(runs: Path) -> dict[str, str]:
    return os.environ | {"RLAB_RUNS": str(runs), "COLUMNS": "100"}


def here(runs: Path, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command prints that is run in this process, whose torch is loaded."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(runs))
        assert main([*args]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def result(runs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what `rlab runs show` tells, the rows of metrics.jsonl without clocks)."""
    shown = json.loads(here(runs, capsys, "runs", "show", name, "--json"))
    rows = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("clock", None)
    return shown, rows


def kill_and_resume(
    runs: Path,
    start: list[str],
    kills: int,
    rng: random.Random,
    longest: float,
    spawn: Spawn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Start a run, kill it `kills` times after random times of its life, then let it end in this process."""
    folder = runs / "killed"
    command = [*start, "--name", "killed"]
    for _ in range(kills):
        process = spawn(
            *(sys.executable, "-m", "rlab", *command),
            env=environment(runs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until((folder / "env.json").exists, process)
        try:
            process.wait(timeout=rng.uniform(0.0, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        command = ["resume", "killed"]
    here(runs, capsys, *command)


@pytest.mark.parametrize(
    ("start", "kills", "longest"),
    [
        pytest.param(CARTPOLE, 1, 4.0, id="CartPole, 1 kill"),
        pytest.param(BREAKOUT, 1, 6.0, id="Breakout, 1 kill"),
        pytest.param(A2C, 1, 4.0, id="a2c on Pendulum, 1 kill"),
        pytest.param([*LENET, "12"], 1, 4.0, id="lenet, 1 kill"),
        pytest.param(
            [*LENET, "3", *LBFGS], 12, 6.0, id="lbfgs, 12 kills", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]
        ),
        pytest.param(A2C, 12, 4.0, id="a2c on Pendulum, 12 kills", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(PPO, 12, 6.0, id="ppo, 12 kills", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(SAC, 12, 8.0, id="sac, 12 kills", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(CARTPOLE, 40, 4.0, id="CartPole, 40 kills", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
        pytest.param(BREAKOUT, 12, 8.0, id="Breakout, 12 kills", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_killed_and_resumed_is_the_same_to_the_bit(
    start: list[str], kills: int, longest: float, tmp_path: Path, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random()  # other instants each time; any failure is a real one
    here(tmp_path, capsys, *start, "--name", "whole")
    kill_and_resume(tmp_path, start, kills, rng, longest, spawn, capsys)
    whole, whole_rows = result(tmp_path, "whole", capsys)
    killed, killed_rows = result(tmp_path, "killed", capsys)
    assert killed["status"] == whole["status"] == "finished"
    assert killed["digest"] == whole["digest"]
    assert killed_rows == whole_rows
