"""What is thought of a position: candidates, a win rate, who will own what; and who gives such an analysis."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards


@dataclass(frozen=True)
class Candidate:
    """A move that was looked at. Numbers are those of the player who makes it.

    Attributes:
        point: the move; n * n is a pass.
        visits: how often the search went there.
        winrate: of winning after it, 0 to 1; a draw counts half.
        score: expected lead in points with komi; None if it is not known.
        prior: its probability before any search.
        variation: the moves that are expected, beginning with this one.
    """

    point: int
    visits: int
    winrate: float
    score: float | None
    prior: float
    variation: tuple[int, ...]


@dataclass(frozen=True)
class Analysis:
    """What is thought of a position. Numbers are those of the player to move.

    Attributes:
        visits: of the whole search.
        winrate: 0 to 1; a draw counts half.
        score: expected lead in points with komi; None if it is not known.
        candidates: the best one first.
        ownership: [n, n], 1: the point will be the player's to move, -1: the other's; None if it is not known.
    """

    visits: int
    winrate: float
    score: float | None
    candidates: tuple[Candidate, ...]
    ownership: NDArray[np.float64] | None = None


class Analyst(Protocol):
    """What a player may have beside its moves."""

    def analyse(self, boards: Boards, row: int, visits: int, stop: Callable[[], bool]) -> Iterator[Analysis]:
        """Analyse a game that is not over, better and better, until so many visits or until stop says so.

        There is at least one analysis, with at least one candidate, however early `stop` is, which is polled at least
        every tenth of a second. The games are not altered.
        """


def last_of(found: Iterator[Analysis]) -> Analysis:
    """The last and best one of an analysis."""
    return deque(found, maxlen=1).pop()


def tell(found: Iterator[Analysis], told: Callable[[Analysis], None]) -> Iterator[Analysis]:
    """Each analysis, after it was told."""
    for analysis in found:
        told(analysis)
        yield analysis


def never() -> bool:
    """A stop that does not come."""
    return False
