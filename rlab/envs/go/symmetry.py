# mypy: allow-untyped-defs
"""The eight symmetries of a square board: what rotates and mirrors games, planes and moves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.rules import jit

NUMBER = 8


@lru_cache
def symmetries(size: int) -> NDArray[np.int64]:
    """[8, n * n + 1]: where a point goes under each; the pass stays. Number 0 changes nothing.

    k is 0 to 3 quarter turns to the left, after a mirror image (left to right) if 4 or more.
    """
    points = np.arange(size * size).reshape(size, size)
    found = np.empty((NUMBER, size * size + 1), np.int64)
    for k in range(NUMBER):
        moved = np.rot90(points[:, ::-1] if k >= 4 else points, k % 4)  # moved[where] = what came there
        found[k, moved.ravel()] = points.ravel()
    found[:, -1] = size * size
    found.flags.writeable = False
    return found


@lru_cache
def inverses(size: int) -> NDArray[np.int64]:
    """[8, n * n + 1]: where a point came from; ``x[..., inverses(n)[k]]`` is x moved by symmetry k."""
    found = np.argsort(symmetries(size), 1)
    found.flags.writeable = False
    return found


def move_planes(planes: NDArray[np.float32], kinds: NDArray[np.int64]) -> NDArray[np.float32]:
    """Planes [K, C, n, n], each row moved by its symmetry kinds [K]."""
    rows, channels, size, _ = planes.shape
    from_ = inverses(size)[kinds, :-1]
    flat = planes.reshape(rows, channels, -1)
    return np.take_along_axis(flat, from_[:, None], 2).reshape(planes.shape)


def move_back(policies: NDArray[np.float32], kinds: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Numbers of every point and the pass [K, n * n + 1], said of moved boards, as they are of the boards before."""
    return np.take_along_axis(policies, symmetries(size)[kinds], 1)


@jit
def gather_planes(planes, rows, kinds, sources, out, lo, hi):
    """Write rows lo .. hi-1 of out [J, n * n, C], channels last: planes [K, C, n * n] of rows [J], moved by kinds [J]
    (see `inverses`)."""
    for j in range(lo, hi):
        k = rows[j]
        for p in range(out.shape[1]):
            source = sources[kinds[j], p]
            for c in range(out.shape[2]):
                out[j, p, c] = planes[k, c, source]


@jit
def add_moved_back(policies, kinds, places, out, lo, hi):
    """Add to rows lo .. hi-1 of out [J, n * n + 1] what policies [J, n * n + 1] say of boards moved by kinds [J] (see
    `symmetries`)."""
    for j in range(lo, hi):
        for a in range(out.shape[1]):
            out[j, a] += policies[j, places[kinds[j], a]]
