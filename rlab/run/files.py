"""Files of a run's folder: written whole or not at all, on disk before they are named; read as a stranger's.

A folder may come from a stranger. So no link in it is followed, nothing but plain files is opened, and no file is taken
into memory that is larger than it can be.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from rlab.errors import RlabError
from rlab.machine import available_memory, gigabytes
from rlab.trust import foreign

JSON_BYTES = 64 << 20
"""The largest JSON file that is read; what it holds takes some 20 times as much memory."""


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
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise RlabError(f"{path} has {gigabytes(size)}, and at most {gigabytes(limit)} are read")
        return file.read(limit)


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
    try:
        temporary.unlink(missing_ok=True)
        write_durably(temporary, data)
        os.replace(temporary, path)
        fsync_dir(path.parent)
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


def read_json(path: Path, most: int = JSON_BYTES) -> Any:
    """Read a JSON file; what it names is not trusted (`rlab.trust`).

    Raises:
        RlabError: it is missing, unreadable, larger than `most` bytes or not JSON; the message names it.
    """
    try:
        value = json.loads(read_plain(path, most))
    except FileNotFoundError:
        raise RlabError(f"{path} is missing") from None
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    except (ValueError, UnicodeDecodeError) as e:
        raise RlabError(f"{path} is not valid JSON ({e})") from None
    except RecursionError:
        raise RlabError(f"{path} is not valid JSON here (it is nested too deeply)") from None
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
        raise RlabError(f"{path} has {kind} schema {given}; this rlab reads {schema}")
    return document


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with os.fdopen(descriptor_of(path), "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


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
