"""`rlab bench parallel` measures and reports; speeds are not asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlab.bench import parallel
from rlab.cli import main


def test_ratios_are_of_each_round(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds differ by the load of the machine, so that ways are compared within one; the bar counts the median."""
    speeds = iter([160.0, 100.0, 80.0, 70.0, 50.0, 40.0, 90.0, 50.0, 45.0])
    asked: list[dict[str, Any]] = []

    def one(module: str, request: dict[str, Any]) -> float:
        asked.append(request)
        return next(speeds)

    monkeypatch.setattr(parallel, "measured_apart", one)
    assert main(["bench", "parallel", "--rounds", "3", "--updates", "2", "--beside", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(request["workers"], request["threads"]) for request in asked] == [(2, 1), (1, 2), (1, 1)] * 3
    assert [row["examples_per_s"] for row in found["rows"]] == [90.0, 50.0, 45.0]
    assert found["ratios"][0]["each"] == [1.6, 1.4, 1.8]
    assert found["ratios"][0]["low"] < found["ratios"][0]["ratio"] == 1.6 < found["ratios"][0]["high"]
    assert found["met"]
    monkeypatch.setattr(parallel, "measured_apart", lambda module, request: 1.0)
    assert main(["bench", "parallel", "--rounds", "1"]) == 0
    assert "bar 1.5x over one rank of two threads: not met" in capsys.readouterr().out
    assert main(["bench", "parallel", "--rounds", "0"]) == 1
    assert "--rounds is 0" in capsys.readouterr().err


def test_a_run_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    monkeypatch.setattr(parallel, "MODEL", "lenet")
    monkeypatch.setattr(parallel, "DATA", {"data": "digits", "examples": 50})
    monkeypatch.setattr(parallel, "WARM_UP", 1)
    monkeypatch.setattr(parallel, "SETTINGS", parallel.SETTINGS | {"batch_size": 4})
    assert parallel.run({"workers": 1, "threads": 1, "updates": 2}) > 0
    assert not any(tmp_path.iterdir())
