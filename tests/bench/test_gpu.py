"""`rlab bench gpu` and `rlab bench roofline` on a machine without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rlab.bench import gpu, roofline
from rlab.cli import main


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"sees no GPU here, so none of its {len(gpu.TRIALS)} paths was tried" in said


def test_a_broken_path_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> gpu.Figures:
        raise OSError("no driver")

    monkeypatch.setattr(gpu, "SECONDS", 0.0)
    kept = {name: gpu.TRIALS[name] for name in ("replay on the device", "DDP on one card")}
    monkeypatch.setattr(gpu, "TRIALS", {"broken": broken, **kept})
    path = tmp_path / "gpu.json"
    assert main(["bench", "gpu", "--device", "cpu", "--out", str(path)]) == 1
    trials = {trial["name"]: trial for trial in json.loads(path.read_text())["trials"]}
    assert trials["broken"]["works"] is False
    assert trials["broken"]["why"] == "OSError: no driver"
    assert trials["replay on the device"]["figures"]["equal_to_cpu"]
    assert trials["DDP on one card"]["figures"]["largest_difference"] < 1e-6
    assert main(["bench", "gpu", "--device", "cpu", "--minutes", "1e-9", "--out", str(path)]) in (0, 1)
    assert json.loads(path.read_text())["trials"][-1]["works"] is None


def test_few_operations_a_byte_wait_for_memory() -> None:
    """Item 283: what decides is how many operations an algorithm makes for each byte."""
    measured = roofline.measure(1, 0.0, lambda text: None)
    rows = {row["layer"]: row for row in measured["rows"]}
    assert rows["ReLU on maps"]["intensity"] == pytest.approx(1 / 8)
    assert rows["ReLU on maps"]["limited_by"] == "memory"
    assert rows["conv 3x3"]["intensity"] > 100 * rows["ReLU on maps"]["intensity"]
    assert all(row["gflops"] <= measured["peak_gflops"] for row in measured["rows"])
