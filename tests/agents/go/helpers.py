"""Players whose moves are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rlab.agents.go.analysis import Analysis, Avoided, Candidate, without
from rlab.envs.go.boards import Boards

CANNOT_PLAY = {"gtp:false": "gtp:false ended", "gnugo:21": "levels are 0 to 20", "nobody": "there is no player"}
"""Opponent -> what is said of it."""


class Planned:
    """Plays the first of its points that is legal, then passes; says a win rate and ownership that are given.

    Args:
        points: in the order of preference.
        winrate: of the player to move.
        black: [n, n] ownership from Black's side; None: it knows none.
    """

    name = "planned"
    visits = 3

    def __init__(self, points: list[int], winrate: float = 0.6, black: np.ndarray | None = None):
        self.points, self.winrate, self.black = points, winrate, black
        self.asked: list[int] = []
        """Visits of every analysis."""
        self.closed = False

    def choose(self, boards: Boards, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        legal = boards.legal()
        return np.array([next((p for p in self.points if legal[row, p]), boards.pass_) for row in rows])

    def analyse(
        self, boards: Boards, row: int, visits: int, stop: Callable[[], bool], avoided: Sequence[Avoided] = ()
    ) -> Iterator[Analysis]:
        self.asked.append(visits)
        left = without(boards.legal()[[row]], boards.turn[[row]], np.zeros(1, np.int64), avoided)[0]
        best = next((p for p in self.points if left[p]), boards.pass_)
        sign = 1 if boards.turn[row] == 1 else -1
        ownership = None if self.black is None else sign * self.black
        for n in range(1, 4):
            candidate = Candidate(best, n, self.winrate, 1.5, 0.25, (best, boards.pass_))
            yield Analysis(n, self.winrate, 1.5, (candidate,), ownership)
            if stop():
                return

    def close(self) -> None:
        self.closed = True


class Mover(Planned):
    """The same without an analysis."""

    analyse = property()  # type: ignore[assignment]
