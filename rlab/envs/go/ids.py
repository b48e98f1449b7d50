"""Boards of Go that have a Gymnasium id, and their komi. Imports no numba."""

from __future__ import annotations

import re

import gymnasium

SIZES = (5, 7, 9, 13, 19)
"""Boards that have an id: ``rlab/Go9-v0``, in short ``Go9``."""

NAMES = tuple(f"Go{size}" for size in SIZES)

KOMI = {5: 24.5, 7: 9.0}
"""What is fair where play is good, if that is not `LARGE`: 5x5 is all Black's (solved: +25; van der Werf et al. 2003),
and half a point less says that nothing else wins; 7x7 is held to be +9 (Li Zhe 2015), a draw if both play well."""
LARGE = 7.0
"""Komi of larger boards by area: what strong programs come to on 9x9, and nearly so on 19x19."""


def default_komi(size: int) -> float:
    """Komi of a board's width; of those below 5, none."""
    return KOMI.get(size, LARGE if size > 5 else 0.0)


def go_size(name: str) -> int | None:
    """The board's width of an environment's name (``Go9``, ``rlab/Go9-v0``), None if it is not Go with an id.

    A ``Go9`` that somebody registered in Gymnasium is theirs.
    """
    if name in gymnasium.registry and not name.startswith("rlab/"):
        return None
    match = re.fullmatch(r"Go(\d+)|rlab/Go(\d+)-v0", name)
    size = int(match[1] or match[2]) if match else 0
    return size if size in SIZES else None
