"""ONNX Runtime: networks that were exported, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlab.errors import RlabError


def session_of(file: Path, threads: int = 0) -> Any:
    """Open an ONNX file in ONNX Runtime, on so many threads of the CPU (0: as many as there are cores).

    Raises:
        RlabError: the extra is missing, or it is no such file.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise RlabError(f"ONNX needs the extra: pip install 'rlab-rl[export]' ({e.name} is missing)") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # it has classes of its own for each way in which a file can be wrong
        raise RlabError(f"'{file}' is no network that ONNX Runtime opens: {str(e).splitlines()[0]}") from e
