"""The benchmark of a WaveNet's generation: both ways make the same sound; how fast they are is not asserted."""

from __future__ import annotations

import json

import pytest

from rlab.cli import main


def test_both_ways_make_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "wavenet", "--samples", "40", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["field"] == 2_048
    assert found["same_codes"] == found["checked"] == 16
    assert found["logits_apart"] <= 1e-4
    assert min(found["single_per_s"], found["batch_per_s"], found["naive_per_s"]) > 0
    assert found["ratio"] == pytest.approx(found["single_per_s"] / found["naive_per_s"])
    assert main(["bench", "wavenet", "--classifier", "x"]) == 1
    assert "name it: --run RUN" in capsys.readouterr().err
