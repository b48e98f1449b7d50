"""``metrics.jsonl``: one JSON object a line, written by the loop; exact across kills and resumes.

Rows: ``{"kind": "train", "step", ..., "clock": {...}}``, ``{"kind": "eval", "step", "mean", "low", "high", ...}`` and
``{"kind": "warning", "step", "rule", "raised", ...}`` (see `rlab.run.health`).
Everything outside ``clock`` is the same bits however often the run was interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlab.errors import RlabError
from rlab.machine import available_memory, gigabytes
from rlab.run.contract import Metrics
from rlab.run.files import disk_error, open_plain, read_plain, replace_durably

RESERVED = ("kind", "step", "clock")
"""Keys of a row that are not metrics."""

LINE_BYTES = 1 << 20
"""The longest line that is read."""


class Window:
    """Averages of a learner's metrics since the last line of the log; part of the saved state.

    A name that ends in ``_sum`` is added up, one that ends in ``_last`` keeps its newest value, one that ends in
    ``_max`` its largest; every other one is averaged over the steps that reported it.
    """

    def __init__(self, saved: dict[str, list[float]] | None = None):
        self.sums: dict[str, list[float]] = saved or {}

    def add(self, metrics: Metrics) -> None:
        """Take in the metrics of one step."""
        for name, value in metrics.items():
            entry = self.sums.get(name)
            if entry is None:
                self.sums[name] = [float(value), 1]
            elif name.endswith("_last"):
                entry[0] = float(value)
            elif name.endswith("_max"):
                entry[0] = max(entry[0], float(value))
            else:
                entry[0] += float(value)
                entry[1] += 1

    def close(self) -> dict[str, float]:
        """Return the line's numbers and start a new window."""
        line = {}
        for name, (total, count) in self.sums.items():
            plain = name.removesuffix("_last").removesuffix("_sum").removesuffix("_max")
            if plain in RESERVED:
                raise ValueError(f"a learner's metric cannot be called '{name}': '{plain}' is a key of every row")
            line[plain] = total if name != plain else total / count
        self.sums = {}
        return line


class MetricsFile:
    """Append lines; `sync` makes them durable and returns the mark that a checkpoint notes.

    Args:
        path: of the file.
        mark: (length in bytes, SHA-256 of that much) as `sync` returned it; what stands beyond is dropped.
        belongs: whether a row belongs to what the mark describes; asked of every readable row if the file is not
            what the mark says. The rows it accepts are kept, and the damaged file stays as ``metrics-bad.jsonl``.
        report: told of a damaged file.
    """

    def __init__(
        self,
        path: Path,
        mark: tuple[int, str] | None = None,
        belongs: Callable[[dict[str, Any]], bool] = lambda row: True,
        report: Callable[[str], None] = lambda text: None,
    ):
        self.path = path
        length, expected = mark or (0, hashlib.sha256().hexdigest())
        try:
            data = read_plain(path) if os.path.lexists(path) else b""
            kept = data[:length]
            if hashlib.sha256(kept).hexdigest() != expected:
                aside = path.with_name("metrics-bad.jsonl")
                replace_durably(aside, data)
                kept = b"".join(_readable(data, belongs))
                report(f"{path} is not what its checkpoint says; kept as {aside.name}, and its whole rows are used")
            if kept != data:
                replace_durably(path, kept)
            self._file = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError as e:
            raise disk_error(e, path.parent) from None
        self._hash = hashlib.sha256(kept)

    def write(self, row: dict[str, Any]) -> None:
        """Append one line; a reader of the file sees it at once."""
        try:
            line = json.dumps(row, allow_nan=False).encode() + b"\n"
            self._file.write(line)
            self._file.flush()
            self._hash.update(line)
        except OSError as e:
            raise disk_error(e, self.path.parent) from None

    def sync(self) -> tuple[int, str]:
        """Wait until all lines are on disk; return the file's length in bytes and its SHA-256."""
        try:
            os.fsync(self._file.fileno())
        except OSError as e:
            raise disk_error(e, self.path.parent) from None
        return self._file.tell(), self._hash.hexdigest()

    def close(self) -> None:
        """Close the file. Every written line is in it already, or its failure was told."""
        with contextlib.suppress(OSError):  # what a full disk refused is tried again here
            self._file.close()


def _readable(data: bytes, belongs: Callable[[dict[str, Any]], bool]) -> Iterator[bytes]:
    for line in data.splitlines(keepends=True):
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            if line.endswith(b"\n") and belongs(json.loads(line)):
                yield line


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows; a last line that was cut off by a kill is left out.

    Raises:
        RlabError: a line other than the last is no JSON object or longer than `LINE_BYTES`, or the file would not fit
            into memory.
    """
    if not os.path.lexists(path):
        return
    with open_plain(path) as file:
        size, most = os.fstat(file.fileno()).st_size, available_memory() // 10
        if size > most:
            raise RlabError(f"{path} has {gigabytes(size)}, and at most {gigabytes(most)} are read")
        for number in itertools.count(1):
            line = file.readline(LINE_BYTES)
            if not line:
                return
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield row
            elif line.endswith(b"\n") or len(line) == LINE_BYTES:
                raise RlabError(f"{path}, line {number}, is not valid JSON")


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and Inf by None, so that a row is valid JSON."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
