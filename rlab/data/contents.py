"""What is in the files of a data set that the lab cannot make tensors of: a few words and the first lines."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

from rlab.data.catalog import DATASETS

SHOWN = 3
"""First lines or members of a file that are told."""


def contents(name: str, read: Callable[[str], bytes]) -> list[dict[str, Any]]:
    """Describe every file of a data set.

    Args:
        name: of the data set.
        read: what `rlab.data.files.reader` returned: file name -> checked content.

    Returns:
        Of each file its name (``file``), its size (``bytes``), what it is made of (``unit``: lines or members), how
        many of those there are (``number``), and the first of them (``first``).
    """
    files = DATASETS.get(name).files
    return [{"file": file.name, "bytes": file.size} | _inside(file.name, read(file.name)) for file in files]


def _inside(name: str, data: bytes) -> dict[str, Any]:
    """Unit, number and first parts of one file; the content was checked against its digest."""
    members: list[str] | None = None
    if ".tar" in name:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = [member.name for member in archive if member.isfile()]
    elif name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = [member for member in packed.namelist() if not member.endswith("/")]
    if members is not None:
        return {"unit": "members", "number": len(members), "first": members[:SHOWN]}
    text = (lzma.decompress(data) if name.endswith(".xz") else data).decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return {"unit": "lines", "number": len(lines), "first": lines[:SHOWN]}
