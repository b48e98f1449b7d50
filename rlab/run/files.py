"""Files of a run's folder: written whole or not at all, on disk before they are named; read as a stranger's.

A folder may come from a stranger. So no link in it is followed, nothing but plain files is opened, and no file is taken
into memory that is larger than it can be. What fails with an input/output error is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from rlab.errors import RlabError, printable, shortened
from rlab.machine import available_memory, gigabytes
from rlab.trust import foreign

JSON_BYTES = 64 << 20
"""The largest JSON file that is read; what it holds takes some 20 times as much memory."""


RETRY_SECONDS = (0.1, 0.5, 2.0)
"""After an input/output error (a cable, a network drive): how long it is waited before each of the new tries."""

T = TypeVar("T")


def persistently(attempt: Callable[[], T]) -> T:
    """Read or write, and after an input/output error (EIO) do it again, up to three times; each is told on stderr.

    Args:
        attempt: begins anew whatever an earlier one has left.

    Raises:
        OSError: another error, or the last one.
    """
    for seconds in RETRY_SECONDS:
        try:
            return attempt()
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            what = f" at {printable(e.filename)}" if e.filename else ""
            print(f"rlab: {e.strerror or 'input/output error'}{what}; trying again", file=sys.stderr, flush=True)
            time.sleep(seconds)
    return attempt()


def refuse_links(folder: Path) -> None:
    """Refuse a folder that leads out of itself: with a link, or anything but plain files and folders, anywhere in it.

    The folder itself may be reached through a link: that is the user's.

    Raises:
        RlabError: the message names the first of them.
    """
    folders = [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:  # it has just gone, or is not readable
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                    raise _not_plain(Path(entry.path))


def open_plain(path: Path, flags: int = os.O_RDONLY) -> IO[bytes]:
    """`descriptor_of` a file as a file object, for reading or for writing."""
    fd = descriptor_of(path, flags)
    return os.fdopen(fd, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "ab" if flags & os.O_APPEND else "wb")


def descriptor_of(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a plain file: no link, pipe or device; for writing one that has no second name either.

    Args:
        path: the file.
        flags: of `os.open`, without `os.O_TRUNC`.

    Raises:
        RlabError: it is something else; the message names it.
        OSError: it cannot be opened.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            raise _not_plain(path) from None
        raise
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise _not_plain(path)
    if flags & os.O_ACCMODE != os.O_RDONLY and about.st_nlink > 1:
        os.close(fd)
        raise RlabError(f"{path} is the same file as another one (a hard link), so it is not written to; copy it")
    return fd


def read_plain(path: Path, most: int | None = None) -> bytes:
    """The content of a plain file.

    Args:
        path: the file.
        most: bytes; None: half of the memory that is free.

    Raises:
        RlabError: it is larger, or no plain file.
        OSError: it cannot be read.
    """
    limit = available_memory() // 2 if most is None else most

    def read() -> bytes:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise RlabError(f"{path} has {gigabytes(size)}, and at most {gigabytes(limit)} are read")
            return file.read(limit)

    return persistently(read)


def _not_plain(path: Path) -> RlabError:
    what = "a link" if path.is_symlink() else "no plain file"
    return RlabError(f"{path} is {what}; nothing in a run's folder may lead out of it, so nothing was done")


def fsync_dir(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on disk (its name is durable once the folder is synced)."""
    with open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a file as one step: a reader, or a crash, sees the old content or the new, never a mix.

    Raises:
        RlabError: the disk refused; the old content stands.
    """
    temporary = path.with_name(f".{path.name}.tmp")

    def replace() -> None:
        temporary.unlink(missing_ok=True)
        write_durably(temporary, data)
        os.replace(temporary, path)
        fsync_dir(path.parent)

    try:
        persistently(replace)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(e, path.parent) from None


def to_json(value: Any) -> bytes:
    """Encode as JSON; refuses NaN and Inf, and anything that is not plain JSON."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there, whose name is durable."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        fsync_dir(path.parent)


def parse_json(text: bytes, shown: bool = True) -> Any:
    """Parse JSON as `to_json` writes it.

    Args:
        text: in UTF-8.
        shown: refuse text that could not be printed or written as UTF-8.

    Raises:
        ValueError: it is not JSON, nested too deeply, names a key twice, or holds NaN, a number that no float holds
            or half a character.
    """
    try:
        value = _DECODER.decode(text.decode("utf-8-sig"))
        if shown and b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as e:
        raise ValueError(f"it holds no whole characters: {e.reason}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"'{next(key for key in keys if keys.count(key) > 1)}' stands twice in it")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:20]}, which is no number")
    return value


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)


DIGITS = 300
"""The longest integer that is read: a float holds it."""

_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_int=_integer, parse_constant=_number)


def read_json(path: Path, most: int = JSON_BYTES, shown: bool = True) -> Any:
    """Read a JSON file; what it names is not trusted (`rlab.trust`).

    Args:
        path: the file.
        most: the largest size in bytes.
        shown: as in `parse_json`.

    Raises:
        RlabError: it is missing, unreadable, too large or not JSON; the message names it.
    """
    try:
        value = parse_json(read_plain(path, most), shown)
    except FileNotFoundError:
        raise RlabError(f"{path} is missing") from None
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    except ValueError as e:
        raise RlabError(f"{path} is not valid JSON ({e})") from None
    foreign(value)
    return value


def read_document(path: Path, kind: str, schema: int, most: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file of the lab: an object whose "schema" says which version wrote it.

    Args:
        path: the file.
        kind: what it belongs to, for messages, such as "run".
        schema: the version that is read.
        most: the largest size in bytes.

    Raises:
        RlabError: it cannot be read as JSON, or has another schema.
    """
    document = read_json(path, most)
    given = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(document, dict) or given != schema:
        raise RlabError(f"{path} has {kind} schema {shortened(str(given))}; this rlab reads {schema}")
    return document


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""

    def read() -> str:
        with os.fdopen(descriptor_of(path), "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    return persistently(read)


def verify(path: Path, sha256: str) -> None:
    """Check a file against its hash.

    Raises:
        RlabError: it is missing, unreadable or damaged; the message names it.
    """
    try:
        actual = sha256_of(path)
    except FileNotFoundError:
        raise RlabError(f"{path} is missing") from None
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    if actual != sha256:
        raise RlabError(f"{path} is damaged (SHA-256 differs from the manifest's)")


def disk_error(error: OSError, path: Path) -> RlabError:
    """Turn a failed write (disk full, read-only, too large) into one sentence that names the place."""
    return RlabError(f"cannot write under {path}: {error.strerror or error} (errno {error.errno})")


def write_document(path: Path, document: object) -> None:
    """Replace a JSON file durably.

    Raises:
        RlabError: the disk refused.
    """
    try:
        replace_durably(path, to_json(document))
    except OSError as e:
        raise disk_error(e, path.parent) from None


SCRATCH = "rlab-scratch-"
"""Temporary folders begin with it."""

SCRATCH_SECONDS = 600
"""How old one of a dead process is when it is removed: a new one may not be held yet."""


@contextlib.contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder for as long as this is open; those that killed processes have left are removed.

    Whoever works in one holds a `flock` on it, which ends with the process.

    Args:
        within: where it lies; None: where the system has its temporary files.

    Raises:
        OSError: the disk refused.
    """
    within = within or Path(tempfile.gettempdir())
    for old in within.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            fd = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                about = os.fstat(fd)
                if about.st_uid == os.getuid() and time.time() - about.st_mtime > SCRATCH_SECONDS:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old)
            finally:
                os.close(fd)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=within) as folder:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(fd)
