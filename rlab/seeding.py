"""Seeds of a run's parts, all derived from the run's one seed."""

from __future__ import annotations

import zlib

import numpy as np

LARGEST = 2**63 - 1
"""The largest seed that every generator takes as it is."""


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2^30) for the part that `path` names; different paths give independent streams."""
    words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in path]
    return int(np.random.SeedSequence(seed, spawn_key=tuple(words)).generate_state(1)[0]) >> 2


def bounded(seed: int) -> int:
    """Return the seed itself, or one derived from it where it is too large for torch's generators."""
    return seed if seed <= LARGEST else derive(seed, "bounded")
