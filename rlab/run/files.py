"""Durable small files: whole or not at all, on disk before they are named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from rlab.errors import RlabError


def fsync_dir(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on disk (its name is durable once the folder is synced)."""
    with open(path, "wb") as f:
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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RlabError: it is missing, unreadable or not JSON; the message names it.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RlabError(f"{path} is missing") from None
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    except (ValueError, UnicodeDecodeError) as e:
        raise RlabError(f"{path} is not valid JSON ({e})") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as f:
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
