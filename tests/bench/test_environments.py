"""The benchmark of environments runs and reports; what it measures is not asserted."""

from __future__ import annotations

import json

import pytest

from rlab.bench import environments
from rlab.cli import main


def test_every_game_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "COPIES", {"minatar": 8, "atari": 2})
    monkeypatch.setattr(environments, "GO", [(env, 4) for env, _ in environments.GO])
    assert main(["bench", "envs", "--rounds", "1", "--seconds", "0.01", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["through"] for row in rows] == ["engine"] * 5 + ["make_vec"] * 15
    assert sum(row["env"].startswith("MinAtar/") for row in rows) == 10
    assert [row["env"] for row in rows[-5:]] == ["Go5", "Go5", "Go9", "Go9", "Go19"]
    assert all(row["best"] >= row["median"] > 0 for row in rows)


def test_wrong_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--seconds", "0"], ["--rounds", "0"]):
        assert main(["bench", "envs", *flags]) == 1
        assert f"{flags[0]} is 0" in capsys.readouterr().err
