"""The benchmark of Transformers runs and reports; both sides compute the same. Speeds are not asserted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlab.bench import sequences
from rlab.cli import main


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Measurements in this process, of small models; what was asked for."""
    asked: list[dict[str, Any]] = []

    def one(request: dict[str, Any]) -> Any:
        asked.append(request)
        return sequences.RUNS[request["side"]](request)

    small = {"width": 32, "layers": 2, "heads": 2, "batch_size": 8}
    tasks = {name: task | {"settings": task["settings"] | small} for name, task in sequences.TASKS.items()}
    monkeypatch.setattr(sequences, "TASKS", tasks)
    monkeypatch.setattr(sequences, "WRITER", sequences.WRITER | {"width": 32, "layers": 1, "heads": 2})
    monkeypatch.setattr(sequences, "WRITTEN", 24)
    monkeypatch.setattr(sequences, "_one", one)
    monkeypatch.setattr("rlab.nn.precision.bf16_pays", lambda: False)
    return asked


def test_both_sides_learn_the_same(inside: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sequences", "--rounds", "1", "--steps", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in found["training"]] == ["language model", "translator"]
    for row in found["training"]:
        assert (row["updates"], row["precision"]) == (24, "fp32")
        assert row["apart"] < 1e-3, "the same model, or a peer of another shape"
        assert row["ratio"] == pytest.approx(row["ours_tokens_per_s"] / row["peer_tokens_per_s"], abs=0.01)
    assert found["writing"]["same"] == found["writing"]["tokens"] == 24
    assert [request["side"] for request in inside] == ["fp32", "peer"] * 2 + ["cached", "uncached"]


def test_it_is_printed(inside: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sequences", "--rounds", "0"]) == 1
    assert "--rounds is 0" in capsys.readouterr().err
    assert main(["bench", "sequences", "--rounds", "1", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "torch.nn.Transformer" in said
    assert "24 of the tokens are the same" in said
