# mypy: allow-untyped-defs
"""Whoever plays Go: what a player is, and the one that needs no learning."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards
from rlab.envs.go.rules import BOARD, COUNT, NEAR, SIZE, TURN, jit, legal
from rlab.registry import Registry

_11 = np.uint64(11)
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
            keys: [K] RNG keys. A move depends on its game and its key, not on the other rows.
        """

    def close(self) -> None:
        """Free memory and processes. Safe to call twice."""


def home_size(player: Player) -> int:
    """The board that a player is at home on: the one that it learned on, the largest that it can play on, else 9."""
    return getattr(player, "home", None) or max(getattr(player, "sizes", (9,)))


PLAYERS: Registry[Callable[[str], Player]] = Registry("player")
"""Kind -> factory(what stands after the colon): ``gnugo:10``."""

_KINDS = (
    "rlab.envs.go.gtp_client",
    "rlab.agents.go.rollouts",
    "rlab.agents.go.players",
    "rlab.agents.go.onnx_player",
)
"""What registers more kinds: other programs, players that search, and runs. It is known by name only."""


def kinds() -> list[str]:
    """All kinds of players, such as ``gnugo``."""
    for module in _KINDS:
        import_module(module)
    return list(PLAYERS)


def make_player(name: str) -> Player:
    """A player by name: of a kind that is registered, such as ``random`` or ``gnugo:10``, or else a run.

    Raises:
        RlabError: there is no such kind or run, or it cannot be had here.
    """
    kind, _, rest = name.partition(":")
    if kind not in PLAYERS and kind not in kinds():
        kind, rest = "run", name
    return PLAYERS.get(kind)(rest)


class RandomPlayer:
    """A legal move by chance, but never into an eye of its own; passes when nothing else is left.

    An eye is an empty point whose neighbours are all of its colour, and of whose diagonal points at most one is the
    other's (none at the edge). So its games end, as those of Monte-Carlo Go do (Bruegmann 1993).
    """

    name = "random"

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`."""
        chosen, cells = np.empty(len(rows), np.int64), boards.rules.numbers.shape[1]
        boards.share(lambda lo, hi: random_moves(
            *boards.games, *boards.rules, rows, keys, chosen, np.empty((2, cells), np.uint16), lo, hi,
        ), len(rows))  # fmt: skip
        return chosen

    def close(self) -> None:
        """Nothing is held."""


@jit
def random_moves(s, w, q, m, r, z, rows, keys, chosen, found, lo, hi):
    """Write chosen [K] for games rows [K], lo .. hi-1 of them, as `RandomPlayer` says; found is uint16 [2, cells].

    One draw a row: the key alone says which of its moves it is.
    """
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    for k in range(lo, hi):
        i = rows[k]
        me = np.int64(s[i, COUNT, TURN])
        legal(s, w, q, r, z, i, found)
        n = 0
        for p in range(points):
            c = r[1, p]
            found[0, c] = found[0, c] != 0 and not own_eye(s, r, i, np.int64(c), me)
            n += found[0, c]
        nth = np.int64(np.float64(keys[k] >> _11) * 2.0**-53 * n)
        chosen[k] = points
        for p in range(points):
            if found[0, r[1, p]]:
                if nth == 0:
                    chosen[k] = p
                    break
                nth -= 1


@jit
def own_eye(s, r, i, c, me):
    """Whether empty cell c is an eye of colour me; see `RandomPlayer`."""
    near = np.int64(s[i, NEAR, c])
    own, wall = (near >> (0 if me == 1 else 4)) & 15, (near >> 8) & 15
    if own + wall < 4:
        return False
    step = np.int64(r[0, SIZE]) + 1
    hostile = 0
    for e in (c - step - 1, c - step + 1, c + step - 1, c + step + 1):
        hostile += s[i, BOARD, e] == 3 - me
    return hostile <= (0 if wall > 0 else 1)


def own_eyes(boards: Boards) -> NDArray[np.bool_]:
    """[N, n * n]: the empty points that are eyes of the player to move; see `RandomPlayer`."""
    found = np.zeros((boards.number, boards.points), np.bool_)
    own_eyes_rows(*boards.games, *boards.rules, found)
    return found


@jit
def own_eyes_rows(s, w, q, m, r, z, found):
    """Write found [N, n * n]."""
    for i in range(len(found)):
        for p in range(found.shape[1]):
            c = np.int64(r[1, p])
            found[i, p] = s[i, BOARD, c] == 0 and own_eye(s, r, i, c, np.int64(s[i, COUNT, TURN]))


PLAYERS.register("random")(lambda rest: RandomPlayer())
