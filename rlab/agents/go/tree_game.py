# mypy: allow-untyped-defs
"""Go as `rlab.agents.search` needs it: where moves lead to from games of `Boards`, with planes for a network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.agents.search import LeafBatch
from rlab.envs.go import rules as go
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import PLANES, planes_row
from rlab.kernels import THREADS


class PositionBatch(NamedTuple):
    """A batch of positions, as a network sees them and as boards.

    Attributes:
        planes: float32 [K, C, n * n], see `rlab.envs.go.planes`; rows of ended games mean nothing.
        boards: the same positions, row k of it.
    """

    planes: NDArray[np.float32]
    boards: Boards


class GoGame:
    """The rules of Go for a search; states are `Boards` of its setting.

    Args:
        setting: of the games.
        places: leaves that there can be at once; more are made when they are asked for.
    """

    def __init__(self, setting: Setting, places: int = 64):
        self.setting = setting
        self.actions = setting.size**2 + 1
        self._make(places)

    def _make(self, places: int) -> None:
        self.boards = Boards(places, self.setting, threads=1)
        cells = self.boards.rules.numbers.shape[1]
        self._cells = cells
        self._planes = np.empty((places, len(PLANES), self.boards.points), np.float32)
        self._legal = np.empty((places, self.actions), np.bool_)
        self._ended = np.empty(places, np.bool_)
        self._value = np.empty(places, np.float32)

    def step(
        self, states: Boards, rows: NDArray[np.int64], paths: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> LeafBatch:
        """See `rlab.agents.search.Game`; what is returned is overwritten by the next call."""
        n = len(rows)
        if n > self.boards.number:
            self._make(max(n, 2 * self.boards.number))
        boards = self.boards
        THREADS.share(lambda lo, hi: step_rows(
            *boards.games, *states.games, *boards.rules, self.setting.komi, rows, paths, lengths, self._planes,
            self._legal, self._ended, self._value, np.empty((2, self._cells), np.uint16),
            np.empty(boards.points, np.uint8), lo, hi,
        ), n)  # fmt: skip
        return LeafBatch(self._legal[:n], self._ended[:n], self._value[:n], PositionBatch(self._planes[:n], boards))


@go.jit
def step_rows(
    s, w, q, m, s2, w2, q2, m2, r, z, komi, rows, paths, lengths, planes, legal, ended, value, found, owner, lo, hi
):  # fmt: skip
    """Rows lo .. hi-1 become games `rows` of the second arrays, make the moves, and are written down."""
    points = np.int64(r[0, go.SIZE]) * r[0, go.SIZE]
    for k in range(lo, hi):
        go.copy_row(s, w, q, m, k, s2, w2, q2, m2, rows[k])
        for d in range(lengths[k]):
            go.play(s, w, q, m, r, z, k, paths[k, d])
        ended[k] = s[k, go.COUNT, go.OVER] != 0
        value[k] = 0
        if ended[k]:
            score = go.area(s, r, k, owner, found) - komi
            won = 1 if score > 0 else -1 if score < 0 else 0
            value[k] = won if s[k, go.COUNT, go.TURN] == go.BLACK else -won
            for p in range(points + 1):
                legal[k, p] = False
        else:
            planes_row(s, w, q, m, r, z, k, komi, planes[k], found)
            for p in range(points):
                legal[k, p] = found[0, r[1, p]] != 0
            legal[k, points] = True
