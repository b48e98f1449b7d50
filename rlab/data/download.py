"""Download a file: into ``NAME.part``, resumed where it stopped, checked, and only then given its name."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from rlab.errors import RlabError

if TYPE_CHECKING:
    from rlab.data.catalog import File

TIMEOUT_SECONDS = 30.0
"""Of silence, after which a connection counts as lost."""

CHUNK = 1 << 16
"""Bytes read at a time."""


def download(file: File, folder: Path, check: Callable[[Path, File], bytes]) -> Path:
    """Download a file.

    Args:
        file: with an address.
        folder: where it goes; made if it is not there.
        check: raises `RlabError` if what was downloaded is not the file.

    Returns:
        Its path, once it is complete, checked and on disk.

    Raises:
        RlabError: the server or the disk refused, the connection broke, or something else came than the file. After a
            break, the part that is there stays, and the next call goes on from it.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(part) as f:
            _receive(file, f)
            f.flush()
            os.fsync(f.fileno())
            try:
                check(part, file)
            except RlabError as e:
                part.unlink()
                reason = str(e).removeprefix(f"{part} ")
                raise RlabError(f"what {file.address} sent {reason.replace('is damaged', 'is not the file')}") from None
            os.replace(part, path)
    except OSError as e:
        raise RlabError(f"cannot write under {folder}: {e.strerror or e} (errno {e.errno})") from None
    return path


@contextlib.contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The open part, locked: two processes must not write one file."""
    while True:
        with open(part, "ab") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RlabError(f"another process is just downloading {part.name.removesuffix('.part')}") from None
            # Another process may have finished between the two lines, and its file has its own name now.
            if part.exists() and os.path.samestat(os.fstat(f.fileno()), part.stat()):
                try:
                    yield f
                finally:
                    if part.exists() and part.stat().st_size == 0:
                        part.unlink()
                return


def _receive(file: File, f: BinaryIO) -> None:
    """Append what is missing of the file to an open part.

    Raises:
        RlabError: no connection, an error's status, or a break.
    """
    address = str(file.address)
    if urlsplit(address).scheme not in ("http", "https"):
        raise RlabError(f"{address} is no http or https address")
    have = f.seek(0, os.SEEK_END)
    request = urllib.request.Request(address, headers={"User-Agent": "rlab"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if have and not (answer.status == 206 and resumed):
                have = f.seek(0)
                f.truncate()
            _copy(answer, f, have, file)
    except urllib.error.HTTPError as e:
        with e:
            if e.code == 416 and have:  # nothing lies beyond what is there: it is whole, or no part of this file
                return
        raise RlabError(f"{address} answered {e.code} {e.reason}") from None
    except http.client.IncompleteRead:
        raise _broken(address, f) from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as e:
        if f.tell() > have:
            raise _broken(address, f) from None
        reason = getattr(e, "reason", e)
        raise RlabError(f"{address} cannot be reached ({getattr(reason, 'strerror', None) or reason})") from None


def _broken(address: str, f: BinaryIO) -> RlabError:
    return RlabError(f"the connection to {address} broke after {f.tell():,} bytes; the same command goes on from there")


def _copy(answer: Any, f: BinaryIO, have: int, file: File) -> None:
    """Copy an answer's body to the part, with a progress bar where there is a terminal.

    Raises:
        IncompleteRead: it ended before its length.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=total or file.size, completed=have)
        while chunk := answer.read1(CHUNK):
            f.write(chunk)
            bar.advance(task, len(chunk))
    if total is not None and f.tell() < total:
        raise http.client.IncompleteRead(b"", total - f.tell())
