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
from typing import IO, Any

from rlab.errors import RlabError, shortened
from rlab.machine import available_memory, gigabytes
from rlab.run.contract import Metrics
from rlab.run.files import (
    disk_error,
    open_plain,
    parse_json,
    persistently,
    read_document,
    read_plain,
    replace_durably,
)

RESERVED = ("kind", "step", "clock")
"""Keys of a row that are not metrics."""

LINE_BYTES = 1 << 20
"""The longest line that is read."""

NUMBERS = (
    *("mean", "median", "low", "high", "human_normalised", "episodes", "examples", "return_mean", "loss"),
    *("calibration_error", "rmse", "validation", "best_at", "mse_train", "mse_held", "mean_length", "steps_per_s"),
)
"""Keys of rows and of evaluations whose value is a number, or null."""

TEXTS = ("kind", "measure", "split", "rule", "saw", "cause", "advice")
"""Keys whose value is text."""

OBJECTS = ("clock", "per_class")
"""Keys whose value is an object of numbers."""


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
        self._length = 0
        try:
            data = read_plain(path) if os.path.lexists(path) else b""
            kept = data[:length]
            if hashlib.sha256(kept).hexdigest() != expected:
                aside = path.with_name("metrics-bad.jsonl")
                replace_durably(aside, data)
                kept = b"".join(readable(data, belongs))
                report(f"{path} is not what its checkpoint says; kept as {aside.name}, and its whole rows are used")
            if kept != data:
                replace_durably(path, kept)
            self._file = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError as e:
            raise disk_error(e, path.parent) from None
        self._hash = hashlib.sha256(kept)
        self._length = len(kept)

    def write(self, row: dict[str, Any]) -> None:
        """Append one line; a reader of the file sees it at once."""
        line = json.dumps(row, allow_nan=False).encode() + b"\n"

        def write() -> None:
            os.truncate(self._file.fileno(), self._length)  # what an earlier try has left
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]

        try:
            persistently(write)
        except OSError as e:
            raise disk_error(e, self.path.parent) from None
        self._hash.update(line)
        self._length += len(line)

    def sync(self) -> tuple[int, str]:
        """Wait until all lines are on disk; return the file's length in bytes and its SHA-256."""
        try:
            persistently(lambda: os.fsync(self._file.fileno()))
        except OSError as e:
            raise disk_error(e, self.path.parent) from None
        return self._length, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file. Every written line is in it already, or its failure was told."""
        with contextlib.suppress(OSError):
            self._file.close()


def readable(data: bytes, belongs: Callable[[dict[str, Any]], bool]) -> Iterator[bytes]:
    """Yield the lines of a damaged file that are whole rows and belong to what is wanted."""
    for line in data.splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and belongs(parse_row(line)):
                yield line


def parse_row(line: bytes) -> dict[str, Any]:
    """Parse a line of metrics.jsonl; whoever reads it finds the kind of value that it looks for.

    Raises:
        ValueError: it is no JSON object, or a value is of another kind than its key says.
    """
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    if not {"kind", "step"} <= row.keys():
        raise ValueError("it has no kind or no step")
    check_values(row)
    needed = {"rule", "raised"} | ({"saw", "cause", "advice"} if row.get("raised") else set())
    if row["kind"] == "warning" and not needed <= row.keys():
        raise ValueError("it is no whole warning")
    return row


def check_values(values: dict[str, Any]) -> None:
    """Check a row of metrics or an evaluation key by key.

    Raises:
        ValueError: a value is of another kind than its key says.
    """
    for name, value in values.items():
        if name == "step":
            right = type(value) is int and value >= 0
        elif name in TEXTS:
            right = isinstance(value, str)
        elif name in OBJECTS:
            right = isinstance(value, dict) and all(_is_number(one) for one in value.values())
        elif name in NUMBERS or values.get("kind") == "train":
            right = value is None or _is_number(value)
        else:
            right = True
        if not right:
            raise ValueError(f"{name} is {shortened(repr(value))}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_score(path: Path) -> dict[str, Any]:
    """Read evaluation.json.

    Raises:
        RlabError: it is missing or damaged.
    """
    score = read_document(path, "evaluation", 1)
    try:
        check_values(score)
        if "measure" in score and not (isinstance(score.get("examples"), int) and "split" in score):
            raise ValueError("it is no whole score of a model")
    except ValueError as e:
        raise RlabError(f"{path} is damaged ({e}); `rlab eval` writes it anew") from None
    return score


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows; a last line that was cut off by a kill is left out.

    Raises:
        RlabError: a line other than the last is no row (`parse_row`) or longer than `LINE_BYTES`, or the file cannot
            be read or would not fit into memory.
    """
    if not os.path.lexists(path):
        return
    try:
        with persistently(lambda: open_plain(path)) as file:
            yield from _rows(path, file)
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None


def _rows(path: Path, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    size, most = os.fstat(file.fileno()).st_size, available_memory() // 10
    if size > most:
        raise RlabError(f"{path} has {gigabytes(size)}, and at most {gigabytes(most)} are read")
    begins = 0

    def read() -> bytes:
        file.seek(begins)
        return file.readline(LINE_BYTES)

    for number in itertools.count(1):
        line = persistently(read)
        begins += len(line)
        if not line:
            return
        if not line.strip():
            continue
        try:
            row = parse_row(line)
        except ValueError as e:
            if line.endswith(b"\n") or len(line) == LINE_BYTES:
                raise RlabError(f"{path}, line {number}, is not valid JSON for a row ({e})") from None
            continue
        yield row


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and Inf by None, so that a row is valid JSON."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
