"""Compiled loops: those that call each other across files are compiled anew when any of the files changes, and rows of
arrays are shared by threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from numba import njit

from rlab.machine import cores

ROOTS = ("rlab/envs", "rlab/agents")
"""Folders whose kernels call each other."""


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
        file._load_index = partial(_index_or_nothing, file._load_index)
        return dispatcher

    return kernel


def _index_or_nothing(load: Callable[[], dict[Any, Any]]) -> dict[Any, Any]:
    """What a cache holds: nothing, if that was compiled for classes that have another name or place now."""
    try:
        return load()
    except (AttributeError, ImportError):
        return {}


@lru_cache
def stamp(root: Path = Path(__file__).parents[1]) -> str:
    """A word for the names, sizes and times of change of all sources of `ROOTS`."""
    word = hashlib.sha1(usedforsecurity=False)
    for package in ROOTS:
        for path in sorted((root / package).rglob("*.py")):
            about = path.stat()
            word.update(f"{path.relative_to(root)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return word.hexdigest()


LEAST = 32
"""Rows that are worth a thread: a call of a kernel, and waking the thread, cost some 20 microseconds."""


class Threads:
    """Threads that share the rows of kernels which let go of Python's lock; what is found does not depend on them."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self.number = cores()

    def use(self, number: int) -> None:
        """Have so many threads from now on, the one that asks among them; 0: one per core."""
        wanted = number or cores()
        if wanted != self.number:
            self.forget()
            self.number = wanted

    def forget(self) -> None:
        """Begin with new threads when some are needed again."""
        self._pool = None

    def share(self, kernel: Callable[[int, int], Any], rows: int, least: int = LEAST) -> None:
        """Call kernel(lo, hi) for parts of 0 .. rows - 1, `least` rows or more each; it must write only to its own."""
        parts = min(self.number, rows // least)
        if parts < 2:
            kernel(0, rows)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.number - 1, "rlab-kernels")
        (lo, hi), *others = pairwise(round(rows * k / parts) for k in range(parts + 1))
        waiting = [self._pool.submit(kernel, *part) for part in others]
        kernel(lo, hi)
        for one in waiting:
            one.result()


THREADS = Threads()
os.register_at_fork(after_in_child=THREADS.forget)  # a child has none of its parent's threads
