"""Seeds of a run's parts, all derived from the run's one seed."""

from __future__ import annotations

import zlib

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """A seed in [0, 2^30) for the part that `path` names; different paths give independent streams."""
    words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in path]
    return int(np.random.SeedSequence(seed, spawn_key=tuple(words)).generate_state(1)[0]) >> 2
