"""Warnings of training health where a user meets them: the end of a run, `rlab runs show`, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WORDS = ["--env", "CartPole-v1", "--threads", "1", "--steps", "3000", "--log-steps", "100", "--checkpoint-steps", "100"]
WORDS += ["--learning-starts", "100", "--train-every", "1", "--batch-size", "8", "--final-episodes", "1"]
BAD = [*WORDS, "--learning-rate", "0.02", "--final-learning-rate", "0.02", "--target-every", "8", "--name", "bad"]


def test_a_collapse_ends_with_a_sentence_and_is_shown_ever_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rlab: Any, rlab_json: Any
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    said = rlab("train", "dqn", *BAD, "--stop-on-collapse")
    assert said.status == 1
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("rlab: training collapsed at ")
    for part in (
        "(q-drift)",
        "likely cause: a learning rate that is too large",
        "try: --learning-rate ten times smaller",
    ):
        assert part in last
    assert f"the last good checkpoint was kept: {tmp_path / 'bad' / 'checkpoints'}" in last
    assert "set stop_on_collapse to false" in last
    assert last.endswith("rlab resume bad")
    assert sum(line.startswith("warning at ") for line in said.err.splitlines()) == 1

    (warning,) = rlab_json("runs", "show", "bad")["warnings"]
    assert (warning["rule"], warning["until"]) == ("q-drift", None)
    assert f"warning q-drift at {warning['step']:,} steps: the largest value" in rlab("runs", "show", "bad").out
    page = Path(rlab_json("report", "bad")["report"]).read_text()
    for part in ("Training health", "q-drift", "likely cause", "dead units", "action gap", "gradient norm"):
        assert part in page

    again = rlab("resume", "bad")
    assert (again.status, again.err.splitlines()[-1]) == (1, last)
    path = tmp_path / "bad" / "config.json"
    document = json.loads(path.read_text())
    document["config"]["run"]["stop_on_collapse"] = False
    document["config"]["env"]["steps"] = 3000
    path.write_text(json.dumps(document))
    assert rlab("resume", "bad").status == 0
    assert rlab_json("runs", "show", "bad")["status"] == "finished"


def test_a_healthy_run_shows_no_warnings(runs: Path, rlab: Any, rlab_json: Any) -> None:
    assert rlab_json("runs", "show", "cart")["warnings"] == []
    assert "warning" not in rlab("runs", "show", "cart").out
    assert "Training health" not in Path(rlab_json("report", "cart")["report"]).read_text()
