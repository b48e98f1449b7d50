"""N games of Go in which one agent plays against an opponent whose replies come at once: what both environments are.

The agent has won (+1), lost (-1) or neither (jigo, 0) when a game ends; before that a move is worth 0. A game ends
after two passes, after as many moves as the setting allows (then the board is counted as it stands), or when the
opponent gives up, which wins. The agent cannot give up: it has n * n + 1 actions, the points and the pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlab.envs.go.boards import MOST_KOMI, Boards, Setting
from rlab.envs.go.ids import default_komi
from rlab.envs.go.planes import KOMI_SCALE, PLANES, planes_of
from rlab.envs.go.players import RESIGN, Player, make_player
from rlab.envs.go.rules import BLACK, COUNT, TURN, WHITE
from rlab.envs.splitmix import GAMMA, mix
from rlab.errors import RlabError, nearest

Choose = Callable[[Boards, NDArray[np.int64], NDArray[np.uint64]], NDArray[np.int64]]
"""What a player's `choose` is."""

COLOURS = ("black", "white", "alternate", "random")
NAMES = ("", "black", "white")


def make_setting(
    size: int, komi: float | None = None, ko: str = "positional", suicide: bool = False, cap: int = 0
) -> Setting:
    """A setting whose komi, if None, is that of `rlab.envs.go.ids`."""
    setting = Setting(size, default_komi(size) if komi is None else komi, ko, suicide, cap)
    if setting.most < 2:
        raise RlabError(f"cap is {cap}; it must be 2 or more, so that both players move, or 0 for three of every point")
    return setting


def observations(size: int) -> Box:
    """The space of what a network sees of a board, float32 [C, n, n]; the same for every komi."""
    most = MOST_KOMI / KOMI_SCALE
    low, high = np.zeros((len(PLANES), size, size), np.float32), np.ones((len(PLANES), size, size), np.float32)
    low[-1], high[-1] = -most, most
    return Box(low, high, dtype=np.float32)


def seen_by(boards: Boards, rows: NDArray[np.int64], colours: NDArray[np.int64]) -> NDArray[np.float32]:
    """Planes [K, C, n, n] of games rows [K] as players of colours [K], 1 or 2, see them, whoever is to move."""
    turn = boards.games.cells[rows, COUNT, TURN]
    boards.games.cells[rows, COUNT, TURN] = colours
    planes = planes_of(boards, rows)
    boards.games.cells[rows, COUNT, TURN] = turn
    return planes


def refuse_illegal(boards: Boards, row: int, point: int) -> None:
    """Say why a move of a game is not legal, if it is not; nothing is altered.

    Raises:
        RlabError: that sentence.
    """
    if not (0 <= point <= boards.points and boards.legal()[row, point]):
        raise RlabError(f"action {point} in game {row} is not legal: {boards.why_not(row, point)}")


class Called:
    """A function as a player."""

    def __init__(self, choose: Choose):
        self.name = getattr(choose, "__name__", "function")
        self.choose = choose

    def close(self) -> None:
        """Nothing is held."""


def make_opponent(opponent: str | Player | Choose) -> Player:
    """A player of a name (see `make_player`), of a function (boards, rows, keys) -> moves, or itself.

    Raises:
        RlabError: it is none of these, or nobody has that name.
    """
    if isinstance(opponent, str):
        return make_player(opponent)
    if not isinstance(opponent, type):
        if hasattr(opponent, "choose"):
            return cast(Player, opponent)
        if callable(opponent):
            return Called(opponent)
    raise RlabError(
        f"an opponent is a name such as random, a player, or a function (boards, rows, keys) -> moves, not {opponent!r}"
    )


class Matches:
    """N games of an agent and its opponent.

    A game's random numbers (the opponent's, and those of colours) come from its own RNG key, so it does not depend on
    the others.

    Args:
        number: N.
        setting: what holds for all games.
        opponent: whom the agent plays; closed by `close` if it came as a name.
        colour: of the agent: black, white, alternate (black in the first game of even rows, white in that of odd ones,
            then in turn) or random (anew for every game).
        threads: see `Boards`.

    Attributes:
        boards: the games. Where one goes on, it is the agent's turn.
        side: [N] the agent's colour, 1 or 2.

    Raises:
        RlabError: an unknown opponent or colour.
    """

    def __init__(
        self,
        number: int,
        setting: Setting,
        opponent: str | Player | Choose = "random",
        colour: str = "alternate",
        threads: int = 0,
    ):
        if colour not in COLOURS:
            raise RlabError(f"unknown colour '{colour}'; {nearest(str(colour), COLOURS)}")
        self.colour = colour
        self.opponent = make_opponent(opponent)
        self._owned = isinstance(opponent, str)
        self.boards = Boards(number, setting, threads=threads)
        self.dice = np.zeros(number, np.uint64)
        self.begun = np.zeros(number, np.int64)  # games since the seed
        self.side = np.ones(number, np.int64)

    def begin(self, words: NDArray[np.uint64] | None = None) -> None:
        """Begin all games; with words [N], from the very start of their streams of random numbers."""
        rows = np.arange(self.boards.number)
        if words is not None:
            self.dice[:] = words
            self.begun[:] = 0
        self.restart(rows)

    def restart(self, rows: NDArray[np.int64]) -> None:
        """Begin games anew; where the agent is white, the opponent moves first."""
        self.boards.clear(rows)
        if self.colour == "random":
            self.side[rows] = np.where(self._keys(rows) >> np.uint64(63), WHITE, BLACK)
        elif self.colour == "alternate":
            self.side[rows] = np.where((rows + self.begun[rows]) % 2, WHITE, BLACK)
        else:
            self.side[rows] = NAMES.index(self.colour)
        self.begun[rows] += 1
        if self._reply(rows[self.side[rows] == WHITE]).size:
            raise RlabError(f"the opponent '{self.opponent.name}' gave up before its first move")

    def advance(self, points: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The agent's legal moves [N], then the opponent's: (rewards [N], which games [N] have ended).

        Games that ended stand as they are until `restart`.

        Raises:
            RlabError: the opponent's move is not legal; then the games are of no use until `begin`.
        """
        self.boards.play(points)
        resigned = self._reply(np.flatnonzero(~self.boards.over))
        ended = self.boards.over
        reward = np.zeros(self.boards.number, np.float32)
        if ended.any():
            sign = np.where(self.side[ended] == BLACK, 1, -1)
            reward[ended] = np.sign(self.boards.score()[ended]) * sign
        reward[resigned], ended[resigned] = 1.0, True
        return reward, ended

    def observe(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Planes [K, C, n, n] of games rows [K], or of all, from the agent's side."""
        chosen = np.arange(self.boards.number) if rows is None else rows
        return seen_by(self.boards, chosen, self.side[chosen])

    def close(self) -> None:
        """Let threads and the opponent go."""
        self.boards.close()
        if self._owned:
            self.opponent.close()

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that are everything, not copied. What an opponent keeps beside its moves is not among them."""
        own = {"starts": self.boards.starts, "dice": self.dice, "begun": self.begun, "side": self.side}
        return self.boards.games._asdict() | own

    def _keys(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        self.dice[rows] += GAMMA
        return mix(self.dice[rows])

    def _reply(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The opponent moves in games rows [K]; those that it gave up instead."""
        if not len(rows):
            return rows
        name = self.opponent.name
        moves = np.asarray(self.opponent.choose(self.boards, rows, self._keys(rows)))
        if moves.shape != rows.shape or moves.dtype.kind not in "iu":
            raise RlabError(
                f"the opponent '{name}' owes integers of shape {rows.shape}, but gave {moves.dtype} of {moves.shape}"
            )
        points = np.full(self.boards.number, -1, np.int64)
        points[rows] = moves
        if (moves < RESIGN).any():
            raise RlabError(f"the opponent '{name}' made no legal move: {moves.min()} is no point")
        try:
            self.boards.play(points)
        except RlabError as e:
            raise RlabError(f"the opponent '{name}' made no legal move: {e}") from None
        return rows[moves == RESIGN]
