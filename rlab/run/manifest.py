"""The manifest of a checkpoint, which says what belongs to it: read without torch, and believed only as a whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rlab.errors import RlabError
from rlab.run.files import JSON_BYTES, read_document, read_json, read_plain, to_json, verify

SCHEMA = 2
"""Version of a checkpoint's layout; one of another version is refused by name."""

FILES = ("tensors.safetensors", "state.json")
"""What lies beside the manifest."""


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of its own content."""
    return manifest | {"sha256": hashlib.sha256(to_json(manifest)).hexdigest()}


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Read what belongs to a checkpoint: ``done``, ``files`` (name -> SHA-256), ``ends`` and ``segments``.

    Raises:
        RlabError: it is missing, damaged or of another version.
    """
    file = checkpoint / "manifest.json"
    document = read_document(file, "checkpoint", SCHEMA)
    manifest = {k: v for k, v in document.items() if k != "sha256"}
    if to_json(sealed(manifest)) != read_plain(file, JSON_BYTES):
        raise RlabError(f"{file} is damaged (its SHA-256 differs)")
    files, done = manifest.get("files"), manifest.get("done")
    if not isinstance(files, dict) or not all(isinstance(files.get(name), str) for name in FILES):
        raise RlabError(f"{file} is damaged (it does not name {' and '.join(FILES)})")
    if type(done) is not int or done < 0:
        raise RlabError(f"{file} is damaged (done is {done!r})")
    return manifest


def read_notes(checkpoint: Path) -> dict[str, Any]:
    """Read what the loop noted in a checkpoint (`rlab.run.loop.Notes`); its tensors are not looked at.

    Raises:
        RlabError: it is missing, damaged or of another version.
    """
    file = checkpoint / "state.json"
    verify(file, read_manifest(checkpoint)["files"][file.name])
    document = read_json(file, shown=False)
    notes = document.get("loop") if isinstance(document, dict) else None
    if not isinstance(notes, dict):
        raise RlabError(f"{file} is damaged (it has no notes)")
    return notes
