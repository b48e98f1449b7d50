"""Whoever plays Go: what a player is, and the one that needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from envs.go.boards import Boards
from rlab.errors import RlabError, nearest
from rlab.registry import Registry

RESIGN = -1
"""In the place of a move: the game is given up."""


class Player(Protocol):
    """Chooses moves in many games at once."""

    name: str
    """As it stands in tables and game records."""

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Moves [K] in games rows [K] of boards, in each of which it is its turn; `RESIGN` gives a game up.

        Args:
            boards: whose games are not altered.
            rows: which games; none is over.
            keys: [K] words of chance. A move depends on its game and its key, not on the other rows.
        """

    def close(self) -> None:
        """Free memory and processes. Safe to call twice."""


PLAYERS: Registry[Callable[[str], Player]] = Registry("player")
"""Kind -> factory(what stands after the colon): ``gnugo:10``."""


def make_player(name: str) -> Player:
    """A player by name: ``random``, or of another kind that is registered, such as ``gnugo:10``.

    Raises:
        RlabError: there is no such kind, or it cannot be had here.
    """
    kind, _, rest = name.partition(":")
    if kind not in PLAYERS:
        raise RlabError(f"unknown player '{name}'; {nearest(kind, PLAYERS)}")
    return PLAYERS.get(kind)(rest)


class RandomPlayer:
    """A legal move by chance, but never into an eye of its own; passes when nothing else is left.

    An eye is an empty point whose neighbours are all of its colour, and of whose diagonal points at most one is the
    other's (none at the edge). So its games end, as those of Monte-Carlo Go do (Bruegmann 1993).
    """

    name = "random"

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`."""
        masks = boards.legal()[rows]
        masks[:, :-1] &= ~own_eyes(boards.stones()[rows], boards.turn[rows]).reshape(len(rows), -1)
        masks[:, -1] = ~masks[:, :-1].any(1)
        # One draw a row: the key alone says which of its moves it is.
        counts = masks.sum(1).astype(np.uint64)
        place = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53 * counts
        nth = place.astype(np.int64)
        return (masks.cumsum(1) > nth[:, None]).argmax(1)

    def close(self) -> None:
        """Nothing is held."""


def own_eyes(stones: NDArray[np.uint8], turn: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[K, n, n]: the empty points that are eyes of the player to move; see `RandomPlayer`."""
    wall = 3
    around = np.pad(stones, ((0, 0), (1, 1), (1, 1)), constant_values=wall)
    own = turn[:, None, None].astype(np.uint8)
    n = stones.shape[1]

    def at(dy: int, dx: int) -> NDArray[np.uint8]:
        return around[:, 1 + dy : n + 1 + dy, 1 + dx : n + 1 + dx]

    sides = [at(dy, dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    corners = [at(dy, dx) for dy, dx in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    closed = np.all([(side == own) | (side == wall) for side in sides], 0)
    edge = np.any([side == wall for side in sides], 0)
    hostile = np.sum([corner == 3 - own for corner in corners], 0)
    return (stones == 0) & closed & (hostile <= np.where(edge, 0, 1))


PLAYERS.register("random")(lambda rest: RandomPlayer())
