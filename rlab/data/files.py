"""Find or download the files of data sets: in a mirror, the user's cache, or the net. Only checked files are used."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from rlab.data.catalog import DATASETS, DataSource, File, folder_of
from rlab.data.download import download
from rlab.errors import RlabError
from rlab.machine import available_memory, gigabytes

Report = Callable[[str], None]
"""Takes one line for the user."""


def mirrors() -> list[Path]:
    """Folders of data sets that are only read: those of ``RLAB_DATA``, divided by colons."""
    return [Path(part).expanduser() for part in os.environ.get("RLAB_DATA", "").split(":") if part]


def cache() -> Path:
    """The folder of data sets that downloads go to: ``RLAB_CACHE``, or ``~/.cache/rlab/data``."""
    return Path(os.environ.get("RLAB_CACHE") or "~/.cache/rlab/data").expanduser()


def find(name: str, file: File) -> Path | None:
    """Find the path of a set's file: in the first mirror that has it, else in the cache; None if it is nowhere."""
    for root in (*mirrors(), cache()):
        path = root / folder_of(name) / file.name
        if path.is_file():
            return path
    return None


def check(path: Path, file: File) -> bytes:
    """Read a file and check its content against the digest.

    Returns:
        The content, unpacked if it is a gzip file.

    Raises:
        RlabError: it is unreadable or damaged; the message names it, with both digests.
    """
    try:
        data = path.read_bytes()
        if file.packed:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(most := available_memory() // 2)
                if packed.read(1):
                    raise RlabError(f"{path} is damaged: unpacked it has more than {gigabytes(most)}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise RlabError(f"{path} is damaged: it cannot be unpacked ({e})") from None
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        content = "the content of " if file.packed else ""
        raise RlabError(
            f"{path} is damaged: SHA-256 of {content}{len(data):,} bytes is {digest[:12]}, expected {file.sha256[:12]}"
        )
    return data


def reader(name: str, report: Report | None = None) -> Callable[[str], bytes]:
    """Make sure that every file of a set is there, downloading what is not, and return what reads them.

    Args:
        name: of the data set.
        report: takes a line for each download.

    Returns:
        File name -> checked content.

    Raises:
        RlabError: the set is unknown, or a file can neither be found nor downloaded; the message says where to put
            which. The returned function raises it for a damaged file.
    """
    source = DATASETS.get(name)
    provide(name, report)
    files = {file.name: file for file in source.files}

    def read(file: str) -> bytes:
        path = find(name, files[file])
        if path is None:
            raise RlabError(f"{file} of data set '{name}' has just disappeared")
        try:
            return check(path, files[file])
        except RlabError as e:
            raise RlabError(f"{e}; {remedy(name, path)}") from None

    return read


def provide(name: str, report: Report | None = None) -> list[str]:
    """Download those files of a set into the cache that are nowhere.

    Returns:
        Names of the files that were downloaded.

    Raises:
        RlabError: a file is nowhere and cannot be downloaded; nothing half-written is left under its name.
    """
    source = DATASETS.get(name)
    missing = [file for file in source.files if find(name, file) is None]
    folder = cache() / folder_of(name)
    if by_hand := [file.name for file in missing if file.address is None]:
        raise RlabError(
            f"data set '{name}' has no direct download: put {' and '.join(by_hand)} into {folder} "
            f"(source: {source.source})" + _mirrors_note()
        )
    names = [file.name for file in missing]
    for n, file in enumerate(missing):
        try:
            fetch(name, file, report)
        except RlabError as e:
            raise RlabError(f"{e}; or put {', '.join(names[n:])} into {folder} by hand{_mirrors_note()}") from None
    return names


def fetch(name: str, file: File, report: Report | None = None) -> Path:
    """Download one file of a set into the cache, in place of what is there.

    Raises:
        RlabError: it did not work; what was there stands.
    """
    if report:
        report(f"downloading {file.name} of {name} ({file.size / 1e6:,.1f} MB) from {file.address}")
    return download(file, cache() / folder_of(name), check)


def remedy(name: str, path: Path) -> str:
    """Say what a user can do about a damaged file."""
    source = DATASETS.get(name)
    if path.parent == cache() / folder_of(name) and any(f.name == path.name and f.address for f in source.files):
        return f"`rlab data get {name}` replaces it"
    return f"replace it (source: {source.source})"


def state(name: str, file: File) -> tuple[str, Path | None]:
    """Report the state of a file: ("good", "damaged: why" or "missing", its path)."""
    path = find(name, file)
    if path is None:
        return "missing", None
    try:
        check(path, file)
    except RlabError as e:
        return f"damaged: {str(e).removeprefix(f'{path} ').removeprefix('is damaged: ')}", path
    return "good", path


def place(name: str) -> str:
    """Say where a set comes from, in a few words, without reading its files."""
    source: DataSource = DATASETS.get(name)
    if source.embedded:
        return "embedded"
    paths = [find(name, file) for file in source.files]
    if None not in paths:
        roots = {path.parent.parent for path in paths if path}
        return "cache" if roots == {cache()} else "mirror"
    some = f", {sum(1 for p in paths if p)} of {len(paths)} there" if any(paths) else ""
    return ("download" if all(file.address for file in source.files) else "by hand") + some


def _mirrors_note() -> str:
    """A word on folders of ``RLAB_DATA`` that are not there."""
    absent = [str(root) for root in mirrors() if not root.is_dir()]
    return f" (RLAB_DATA names {', '.join(absent)}, which is no folder)" if absent else ""
