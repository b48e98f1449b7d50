"""Compiled loops that call each other across files, and are compiled anew when any of those files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import njit

ROOTS = ("envs", "agents")
"""Packages whose kernels call each other."""


def compiled(**options: Any) -> Callable[..., Any]:
    """`numba.njit` with a cache on disk that knows of all files of `ROOTS`.

    numba keeps what it has compiled until the function's own file changes. What it has taken in from other files, such
    as a constant that they name, stays then as it was: wrong, and silently so. Here the stamp of a cache is that of all
    files.
    """
    decorate = njit(cache=True, **options)

    def kernel(function: Callable[..., Any]) -> Any:
        dispatcher = decorate(function)
        file = dispatcher._cache._cache_file
        file._source_stamp = (file._source_stamp, stamp())
        return dispatcher

    return kernel


@lru_cache
def stamp(root: Path = Path(__file__).parents[1]) -> str:
    """A word for the names, sizes and times of change of all sources of `ROOTS`."""
    word = hashlib.sha1(usedforsecurity=False)
    for package in ROOTS:
        for path in sorted((root / package).rglob("*.py")):
            about = path.stat()
            word.update(f"{path.relative_to(root)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return word.hexdigest()
