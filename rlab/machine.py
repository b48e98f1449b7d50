"""What this process may have of the machine, and bytes for a reader. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that a new process can have: the system's free memory within a container's limit."""
    free = psutil.virtual_memory().available
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(0, limit - used))
    except (OSError, ValueError):
        pass  # no container limit
    return free


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, as Python, numpy and torch tell it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says in such an error on Linux, on Windows and of a GPU."""


def gigabytes(n: float) -> str:
    """Bytes for a reader: 0.03 GB, 7.1 GB."""
    return f"{n / 1e9:.2f} GB" if n < 1e9 else f"{n / 1e9:.1f} GB"
