# mypy: allow-untyped-defs
"""What a network sees of a game of Go: numbered planes of the board, from the side of the player to move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards
from rlab.envs.go.rules import BOARD, CHAIN, COUNT, EMPTY, FOLLOW, MADE, PASSES, SIZE, STONES, TURN, jit, legal

HISTORY = 5
PLANES = (
    "own stones",
    "other stones",
    "points of the board",
    *(f"last move but {k}" if k else "last move" for k in range(HISTORY)),
    "own chains with 1 liberty",
    "own chains with 2 liberties",
    "own chains with 3 liberties",
    "other chains with 1 liberty",
    "other chains with 2 liberties",
    "other chains with 3 liberties",
    "empty points that are not legal",
    "whether the last move was a pass",
    "komi, a fifteenth of it, as the player to move has it",
)
"""Names of the planes [C, n, n], 0 or 1 but for the last one. A liberty is an empty point, counted once."""
_OWN, _OTHER, _ALL, _MOVES = 0, 1, 2, 3
_LIBERTIES = _MOVES + HISTORY
_FORBIDDEN = _LIBERTIES + 6
_PASSED, _KOMI = _FORBIDDEN + 1, _FORBIDDEN + 2
KOMI_SCALE = 15.0


@jit
def planes_row(s, w, q, m, r, z, i, komi, out, found):
    """Write out [C, n * n] of game i, and to found [0] (uint16 [2, cells]) which cells are legal."""
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    step = np.int64(r[0, SIZE]) + 1
    me = np.int64(s[i, COUNT, TURN])
    for plane in range(out.shape[0]):
        for p in range(points):
            out[plane, p] = 0
    legal(s, w, q, r, z, i, found)
    for p in range(points):
        out[_ALL, p] = 1
        c = r[1, p]
        colour = s[i, BOARD, c]
        if colour == EMPTY:
            out[_FORBIDDEN, p] = 1 - np.int64(found[0, c])
        else:
            out[_OWN if colour == me else _OTHER, p] = 1
    for c in range(found.shape[1]):
        found[1, c] = 0
    for p in range(points):
        c = r[1, p]
        colour = s[i, BOARD, c]
        if colour != EMPTY and s[i, CHAIN, c] == c:  # a chain's head
            n = 0
            stone = c
            for _ in range(s[i, STONES, c]):
                at = np.int64(stone)
                for e in (at - step, at + step, at - 1, at + 1):
                    if s[i, BOARD, e] == EMPTY and found[1, e] != c:
                        found[1, e] = c
                        n += 1
                stone = s[i, FOLLOW, stone]
            if n <= 3:
                plane = _LIBERTIES + (0 if colour == me else 3) + n - 1
                for _ in range(s[i, STONES, c]):
                    out[plane, r[2, stone]] = 1
                    stone = s[i, FOLLOW, stone]
    made = np.int64(s[i, COUNT, MADE])
    for back in range(min(made, HISTORY)):
        move = np.int64(m[i, made - 1 - back])
        if move < points:
            out[_MOVES + back, move] = 1
    passed = np.float32(1 if s[i, COUNT, PASSES] else 0)
    own = np.float32((komi if me == 2 else -komi) / KOMI_SCALE)
    for p in range(points):
        out[_PASSED, p] = passed
        out[_KOMI, p] = own


@jit
def planes_rows(s, w, q, m, r, z, komi, rows, out, found, lo, hi):
    """Write out [K, C, n * n] of games rows [K], lo .. hi-1 of them; found is uint16 [2, cells]."""
    for k in range(lo, hi):
        planes_row(s, w, q, m, r, z, rows[k], komi, out[k], found)


def planes_of(boards: Boards, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Planes [K, C, n, n] of games rows [K], or of all; C and what each is: `PLANES`."""
    chosen = np.arange(boards.number) if rows is None else np.ascontiguousarray(rows, np.int64)
    out = np.empty((len(chosen), len(PLANES), boards.points), np.float32)
    komi, cells = boards.setting.komi, boards.rules.numbers.shape[1]
    boards.share(lambda lo, hi: planes_rows(
        *boards.games, *boards.rules, komi, chosen, out, np.empty((2, cells), np.uint16), lo, hi,
    ), len(chosen))  # fmt: skip
    return out.reshape(len(chosen), len(PLANES), boards.size, boards.size)
