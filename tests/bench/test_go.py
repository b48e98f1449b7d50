"""The benchmark of random games of Go runs and reports; what it measures is not asserted."""

from __future__ import annotations

import json

import pytest

from rlab.cli import main


def test_every_way_of_playing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "go", "--size", "5", "--rounds", "2", "--seconds", "0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert min(found["moves_per_s"], found["playouts_per_s"], found["threads_per_s"]) > 0
    assert [row["boards"] for row in found["steps"]] == [1, 64, 1024]
    assert all(len(speeds) == 2 and min(speeds) > 0 for speeds in found["speeds"].values())
    assert (found["ratio"] is None) == ("openspiel" not in found["speeds"])


def test_calls_of_every_size_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--size", "5", "--rounds", "2", "--seconds", "0.01"]
    assert main(["bench", "go", "--granularity", "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    ours = [row for row in found["rows"] if row["engine"].startswith("rlab")]
    assert [row["boards"] for row in ours if row["call"] == "a step"] == [1, 16, 256, 4096]
    assert sum(row["call"] == "whole games" for row in ours) == 2
    assert all(len(row["speeds"]) == 2 and min(row["speeds"]) > 0 for row in found["rows"])
    assert (found["one_board_ratio"] is None) == (len(ours) == len(found["rows"]))
    assert main(["bench", "go", "--granularity", "--search"]) == 1
    assert "one at a time" in capsys.readouterr().err


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, said in (
        (["--seconds", "0"], "--seconds is 0; it must be more than 0"),
        (["--seconds", "4000"], "--seconds is 4000; it must be more than 0 and less than 3600"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--size", "1"], "2 to 19 wide, not 1"),
    ):
        assert main(["bench", "go", *flags]) == 1
        assert said in capsys.readouterr().err
