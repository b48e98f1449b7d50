"""The benchmark by the clock: an ordinary run whose numbers come back; refused where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rlab.bench.breakout import SETTINGS
from rlab.cli import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without a GPU")
def test_no_gpu_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "breakout-gpu"]) == 1
    assert "no GPU" in capsys.readouterr().err


def test_the_command_runs_on_a_cpu(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    small = {"num_envs": 8, "rollout": 8, "batch_size": 32, "final_episodes": 2}
    monkeypatch.setattr("rlab.bench.breakout.SETTINGS", SETTINGS | small)
    assert main(["bench", "breakout-gpu", "--device", "cpu", "--steps", "256", "--name", "tried", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == "tried"
    assert (tmp_path / "tried" / "evaluation.json").exists()
    assert said["steps_per_s"] > 0
    assert said["episodes"] == 2
    assert said["met"] == {"steps_per_s": False, "score": False}
