"""What is thought of a position: candidates, a win rate, who will own what; and who gives such an analysis."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True)
class Avoided:
    """Moves that an analysis leaves out.

    Attributes:
        colour: of the player whose they are.
        points: the moves; n * n is a pass.
        depth: they are left out where fewer moves than this lead from the position; 1: in the position alone.
    """

    colour: int
    points: frozenset[int]
    depth: int


def without(
    legal: NDArray[np.bool_], turn: NDArray[np.int64], depth: NDArray[np.int64], avoided: Sequence[Avoided]
) -> NDArray[np.bool_]:
    """Legal moves [K, n * n + 1] without those that are avoided; where none would be left, all of them.

    Args:
        legal: of the positions.
        turn: [K], who is to move in each.
        depth: [K], moves that lead there.
        avoided: see `Avoided`.
    """
    left = legal.copy()
    for one in avoided:
        left[np.ix_((turn == one.colour) & (depth < one.depth), sorted(one.points))] = False
    none = ~left.any(1)
    left[none] = legal[none]
    return left


class Analyst(Protocol):
    """What a player may have beside its moves."""

    def analyse(
        self, boards: Boards, row: int, visits: int, stop: Callable[[], bool], avoided: Sequence[Avoided] = ()
    ) -> Iterator[Analysis]:
        """Analyse a game that is not over, better and better, until so many visits or until stop says so.

        There is at least one analysis, with at least one candidate, however early `stop` is, which is polled at least
        every tenth of a second. The games are not altered.
        """


def last_of(analyses: Iterator[Analysis]) -> Analysis:
    """The last and best one of an analysis."""
    return deque(analyses, maxlen=1).pop()


def tell(analyses: Iterator[Analysis], on_analysis: Callable[[Analysis], None]) -> Iterator[Analysis]:
    """Each analysis, after it was given to a callback."""
    for analysis in analyses:
        on_analysis(analysis)
        yield analysis


def never() -> bool:
    """A stop that does not come."""
    return False
