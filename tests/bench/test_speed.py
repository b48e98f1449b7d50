"""The benchmark runs and reports; what it measures is not asserted."""

from __future__ import annotations

import pytest

import rlab.agents.recipes  # noqa: F401 - registers the recipes
from rlab.bench.speed import measure


@pytest.mark.slow
def test_both_rows_are_measured() -> None:
    told: list[str] = []
    found = measure("dqn", 1, 400, told.append)
    assert len(found["rows"]) == 2
    for row in found["rows"]:
        assert row["ours_steps_per_s"] > 0
        assert row["peer_steps_per_s"] > 0
        assert row["ratio"] == pytest.approx(row["ours_steps_per_s"] / row["peer_steps_per_s"], rel=0.02)
    assert {"agent", "peer", "ours_steps_per_s", "peer_steps_per_s", "ratio"} <= set(found)
    assert len(told) == 2
