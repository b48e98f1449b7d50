"""A graph in int8 computes alike on processors with and without instructions for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from rlab.cli import main


def test_weights_leave_a_bit_for_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without VNNI two products are added up in 16 bits: 2 x 255 x 64 fits in there, and 2 x 255 x 127 does not."""
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    small = ["--data", "digits", "--examples", "100", "--epochs", "1", "--threads", "1", "--evaluate-steps", "0"]
    assert main(["train", "mlp", *small, "--name", "m"]) == 0
    file = tmp_path / "m.onnx"
    assert main(["export", "m", "--int8", "--no-latency", "--examples", "20", "--out", str(file)]) == 0
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
    assert len(weights) == 3
    assert max(np.abs(array.astype(int)).max() for array in weights) in (63, 64)
