"""Append-only logs that stream to disk as segments while a run goes on.

A log is a sequence of rows (equally shaped columns). Rows are gathered in memory, compressed and written by one
background thread in files of about 16 MiB, each an ``.npz`` without pickle, named by the rows it holds. A checkpoint
points at row numbers and at the segments that hold them; it costs what has not been written yet.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rlab.errors import RlabError
from rlab.run.contract import Log, Rows
from rlab.run.files import disk_error, fsync_dir, make_folder, open_plain, persistently, sha256_of

SEGMENT_BYTES = 16 << 20
"""Rows are gathered up to this many bytes before they are written; a checkpoint writes what there is."""

ROW_BYTES = 1 << 30
"""The largest row that is read."""

HEADER_BYTES = 1 << 12
"""The longest header of a column."""

RATIO = 1100
"""What deflate can make of a byte, and a little more."""


@dataclass(frozen=True)
class Segment:
    """A file with rows ``start`` to ``end`` (exclusive) of a log, and its SHA-256."""

    log: str
    start: int
    end: int
    sha256: str

    def __post_init__(self) -> None:
        if not (re.fullmatch(r"[\w-]+", self.log) and 0 <= self.start < self.end):
            raise ValueError(f"a log has no segment '{self.log}' of rows {self.start} to {self.end}")

    @property
    def name(self) -> str:
        """The file's name inside the journal's folder."""
        return f"{self.log}-{self.start:012d}-{self.end:012d}.npz"


class _Open:
    """Rows of one log that are not on disk yet: preallocated columns, filled from `start`."""

    def __init__(self, start: int):
        self.start = start
        self.count = 0
        self.columns: Rows = {}

    def room_for(self, rows: Mapping[str, np.ndarray]) -> int:
        """Allocate on first use; return how many more rows fit."""
        if not self.columns:
            row_bytes = sum(v.itemsize * math.prod(v.shape[1:]) for v in rows.values())
            capacity = max(1, min(1 << 16, SEGMENT_BYTES // max(1, row_bytes)))
            self.columns = {k: np.empty((capacity, *v.shape[1:]), v.dtype) for k, v in rows.items()}
        return len(next(iter(self.columns.values()))) - self.count

    def rows(self) -> Rows:
        return {k: v[: self.count] for k, v in self.columns.items()}


class Journal:
    """The logs of one run, in one folder.

    Thread use: all methods are called from one thread; writing happens on a second one. A failed write is
    raised as one sentence by the next call.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.segments: dict[str, list[Segment]] = {}
        self._open: dict[str, _Open] = {}
        self._kinds: dict[str, dict[str, tuple[np.dtype, tuple[int, ...]]]] = {}
        self._failure: BaseException | None = None
        self._queue: queue.Queue[tuple[str, _Open] | None] = queue.Queue(maxsize=2)
        self._writer: threading.Thread | None = None

    def append(self, log: str, rows: Mapping[str, np.ndarray]) -> int:
        """Add rows ``{column: array[rows, ...]}`` to a log; return the number of the first of them.

        The arrays are copied. Columns, shapes and dtypes must not change within a log.
        """
        total = len(next(iter(rows.values())))
        kind = {name: (column.dtype, column.shape[1:]) for name, column in rows.items()}
        if self._kinds.setdefault(log, kind) != kind or any(len(c) != total for c in rows.values()):
            raise ValueError(f"rows of log '{log}' must be equally long columns {self._kinds[log]}, not {kind}")
        open_ = self._open.get(log)
        if open_ is None:
            open_ = self._open[log] = _Open(self.end(log))
        first = open_.start + open_.count
        done = 0
        while done < total:
            take = min(open_.room_for(rows), total - done)
            for name, column in open_.columns.items():
                column[open_.count : open_.count + take] = rows[name][done : done + take]
            open_.count += take
            done += take
            if open_.room_for(rows) == 0:
                self._submit(log)
                open_ = self._open[log] = _Open(open_.start + open_.count)
        return first

    def end(self, log: str) -> int:
        """The number of the next row of a log."""
        open_ = self._open.get(log)
        if open_ is not None:
            return open_.start + open_.count
        segments = self.segments.get(log)
        return segments[-1].end if segments else 0

    def log(self, name: str, start: int) -> Log:
        """A reference to rows from `start` to the present end, as a state holds it."""
        end = self.end(name)
        return Log(name, start, end, lambda: self.read(name, start, end))

    def read(self, log: str, start: int, end: int) -> Iterator[Rows]:
        """Yield rows ``start`` to ``end`` in order, in chunks, from disk and from memory."""
        self.flush()
        covered = start
        for segment in self.segments.get(log, []):
            if segment.end <= covered or segment.start >= end:
                continue
            if segment.start > covered:
                break
            rows = load_segment(self.folder / segment.name, segment.end - segment.start)
            cut = slice(covered - segment.start, min(end, segment.end) - segment.start)
            covered = min(end, segment.end)
            yield {k: v[cut] for k, v in rows.items()}
        if covered < end:
            raise RlabError(f"{self.folder}: rows {covered} to {end} of log '{log}' are missing")

    def flush(self) -> None:
        """Write what is gathered and wait until all of it is durable."""
        for log, open_ in list(self._open.items()):
            if open_.count:
                self._submit(log)
                self._open[log] = _Open(open_.start + open_.count)
        self._queue.join()
        self._raise_failure()
        if self.folder.is_dir():
            persistently(partial(fsync_dir, self.folder))

    def covering(self, log: Log) -> list[Segment]:
        """The segments that hold a log's rows, after a `flush`.

        Raises:
            RlabError: some of the rows are in none.
        """
        segments = [s for s in self.segments.get(log.name, []) if s.end > log.start and s.start < log.end]
        covered = log.start
        for segment in segments:
            if segment.start <= covered:
                covered = segment.end
        if covered < log.end:
            raise RlabError(f"{self.folder}: rows {covered} to {log.end} of log '{log.name}' are missing")
        return segments

    def adopt(self, segments: list[Segment], ends: Mapping[str, int]) -> None:
        """Continue from a checkpoint: take its segments as what there is. Touches no file.

        Args:
            segments: those that the restored checkpoint points at (verified by the caller), in order.
            ends: log -> number of its next row, also for logs of which no segment is left.
        """
        self.segments = {}
        for segment in segments:
            self.segments.setdefault(segment.log, []).append(segment)
        self._open = {log: _Open(end) for log, end in ends.items()}

    def delete_all_but(self, keep: set[str]) -> None:
        """Delete every segment file whose name is not in `keep`."""
        for log, segments in self.segments.items():
            self.segments[log] = [s for s in segments if s.name in keep]
        for path in self.folder.glob("*.npz*"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the writer thread; what was appended since the last flush is not kept."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None

    def _submit(self, log: str) -> None:
        self._raise_failure()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
            self._writer.start()
        self._queue.put((log, self._open[log]))

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    self._write(*item)
            except BaseException as e:  # whatever it is: a dead writer would leave its caller waiting for ever
                self._failure = e
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, log: str, open_: _Open) -> None:
        part = self.folder / f".{log}.npz.tmp"

        def write() -> Segment:
            make_folder(self.folder)
            part.unlink(missing_ok=True)
            save_segment(part, open_.rows())
            segment = Segment(log, open_.start, open_.start + open_.count, sha256_of(part))
            os.replace(part, self.folder / segment.name)
            return segment

        try:
            segment = persistently(write)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self.segments.setdefault(log, []).append(segment)

    def _raise_failure(self) -> None:
        if isinstance(self._failure, OSError):
            raise disk_error(self._failure, self.folder)
        if self._failure is not None:
            raise self._failure


def save_segment(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Write columns as a compressed ``.npz`` (zlib level 1: game frames shrink some 30 times) and sync it."""
    with open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as f:
        with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, column in rows.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(column), allow_pickle=False)
        f.flush()
        os.fsync(f.fileno())


def load_segment(path: Path, count: int | None = None) -> Rows:
    """Read a segment's columns; the archive's own checksums are verified.

    Args:
        path: the file.
        count: rows that it holds, if that is known; nothing is unpacked that they cannot take.

    Raises:
        RlabError: the file is missing or damaged; the message names it.
    """
    try:
        return persistently(lambda: _load_segment(path, count))
    except FileNotFoundError:
        raise RlabError(f"segment {path} is missing") from None
    except OSError as e:
        raise RlabError(f"segment {path} cannot be read ({e.strerror or e})") from None
    except (ValueError, EOFError, KeyError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error) as e:
        raise RlabError(f"segment {path} is damaged ({e})") from None


def _load_segment(path: Path, count: int | None) -> Rows:
    with open_plain(path) as f, zipfile.ZipFile(f) as archive:
        members = archive.infolist()
        # As `_Open` gathers them: as many rows as `SEGMENT_BYTES` hold, or one, however large.
        most = max(SEGMENT_BYTES, 1 << 24) if count and count > 1 else ROW_BYTES
        most = min(most + HEADER_BYTES * len(members), RATIO * os.fstat(f.fileno()).st_size)
        if sum(member.file_size for member in members) > most:
            raise ValueError(f"a segment of this kind takes at most {most:,} bytes")
        return {member.filename.removesuffix(".npy"): _column(archive, member, count) for member in members}


def _column(archive: zipfile.ZipFile, member: zipfile.ZipInfo, count: int | None) -> np.ndarray:
    """A column, once its header says no more than there is."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others are unpacked without a limit
        raise ValueError(f"{member.filename} is packed in another way")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=HEADER_BYTES)
        size = math.prod(shape) * dtype.itemsize
        other = count is not None and shape[:1] != (count,)
        if dtype.hasobject or fortran or other or file.tell() + size != member.file_size:
            raise ValueError(f"{member.filename} does not hold the rows of numbers that it should")
        data = bytearray(file.read(size))  # with a number, no more than that is unpacked, whatever there is
        if len(data) != size or file.read(1):
            raise ValueError(f"{member.filename} is cut off")
        return np.frombuffer(data, dtype).reshape(shape)
