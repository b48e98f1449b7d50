"""Games of policies as they are, without search: what is chosen among, how a move is drawn, and how a game ends.

Nobody plays into an own eye, so that groups which live stay alive, and a player passes only if by the count of the
board as it stands it has won, or if nothing else is left. Two passes in a row by which the second player throws a game
away (dead stones are still on the board, and count) do not happen then: whoever is behind has to go on, takes what can
be taken and tries what can be tried, and whoever is ahead passes when its policy says so. A game is over when the one
who is behind has no move left. AlphaGo counted the position at the end, too, but says nothing of how it came to one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.position_buffer import planes_again
from rlab.agents.go.tree_game import PositionBatch
from rlab.agents.search import Evaluate
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import PLANES, planes_of
from rlab.envs.go.players import own_eyes
from rlab.envs.go.symmetry import gather_planes, inverses
from rlab.envs.splitmix import rng_key, split, uniforms
from rlab.run.contract import Stop, Stopped
from rlab.seeding import derive

_MOVE = np.uint64(0x8CB92BA72F3D8DD7)


def choices(boards: Boards) -> NDArray[np.bool_]:
    """[N, n * n + 1]: the moves that a policy chooses among; none where a game is over."""
    may = boards.legal()
    may[:, :-1] &= ~own_eyes(boards)
    ahead = np.where(boards.turn == 1, 1, -1) * boards.score() > 0
    may[:, -1] &= ahead | ~may[:, :-1].any(1)
    return may


def rng_keys_of(seed: int, games: NDArray[np.int64], plies: NDArray[np.int64]) -> NDArray[np.uint64]:
    """An RNG key for the move after plies [K] of games [K], which are numbered within a seed's stream."""
    return split(rng_key(seed, games), plies + 1)


def uniform(rng_keys: NDArray[np.uint64], salt: np.uint64 = _MOVE) -> NDArray[np.float64]:
    """[K] in [0, 1): drawn by RNG keys [K] for one of several purposes, which have a salt each."""
    return uniforms(rng_keys ^ salt)


def draw(logits: NDArray[np.float32], may: NDArray[np.bool_], rng_keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Moves [K] by the softmax of logits [K, A] over those that may be played [K, A]."""
    masked = np.where(may, logits, -np.inf).astype(np.float64)
    total = np.exp(masked - masked.max(1, keepdims=True)).cumsum(1)
    last = np.nextafter(total[:, -1], 0)  # a chance just below 1 is rounded up
    return (total <= np.minimum(uniform(rng_keys) * total[:, -1], last)[:, None]).sum(1)


def best(logits: NDArray[np.float32], may: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The most probable of the moves [K] that may be played."""
    return np.where(may, logits, -np.inf).argmax(1)


def ask(
    evaluator: Evaluate, boards: Boards, rows: NDArray[np.int64], rng_keys: NDArray[np.uint64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [K, A] and values [K] of games rows [K]."""
    planes = planes_of(boards).reshape(boards.number, len(PLANES), -1)
    return evaluator(PositionBatch(planes, boards), rows, rng_keys)


class GoPolicyPlayer:
    """A policy that plays its most probable move, or one that it draws; see `rlab.envs.go.players.Player`."""

    def __init__(self, name: str, evaluator: Evaluate, greedy: bool = True):
        self.name, self._evaluator, self._greedy = name, evaluator, greedy

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`."""
        logits, may = ask(self._evaluator, boards, rows, keys)[0], choices(boards)[rows]
        return best(logits, may) if self._greedy else draw(logits, may, keys)

    def close(self) -> None:
        """Nothing is held open."""


def draw_openings(
    evaluator: Evaluate, setting: Setting, number: int, moves: int, seed: int, stop: Stop
) -> list[tuple[int, ...]]:
    """Beginnings of games, without passes, each move drawn from a policy; two of them may be the same.

    Raises:
        Stopped: a stop was requested.
    """
    boards, rows = Boards(number, setting, threads=1), np.arange(number)
    for ply in range(min(moves, setting.most - 1)):
        if stop.requested:
            raise Stopped
        may = choices(boards)
        may[:, -1] &= ~may[:, :-1].any(1)
        rng_keys = rng_keys_of(derive(seed, "openings"), rows, np.full(number, ply))
        logits, _ = ask(evaluator, boards, rows, rng_keys)
        boards.play(np.where(boards.over, -1, draw(logits, may, rng_keys)))
    return [tuple(boards.moves(k)) for k in range(number)]


class GameReplay:
    """Makes positions again from the moves of their games.

    Args:
        setting: of the games.
    """

    def __init__(self, setting: Setting):
        self._board = Boards(1, setting, threads=1)
        self._found = np.empty((2, self._board.rules.numbers.shape[1]), np.uint16)

    def planes(
        self, moves: NDArray[np.uint16], games: NDArray[np.int64], plies: NDArray[np.int64], kinds: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What positions look like.

        Args:
            moves: [G, M], of all games.
            games, plies: [J], which game, and how many moves were made before.
            kinds: [J], the symmetry by which each is turned.

        Returns:
            planes [J, C, n, n], channels last in memory.
        """
        n = self._board.size
        planes = np.empty((len(games), len(PLANES), n * n), np.float32)
        flat = np.ascontiguousarray(moves).reshape(-1)
        planes_again(
            *self._board.games, *self._board.rules, self._board.setting.komi, flat, plies,
            games * moves.shape[1] + plies, len(flat), planes, self._found,
        )  # fmt: skip
        turned = np.empty((len(games), n * n, len(PLANES)), np.float32)
        gather_planes(planes, np.arange(len(games)), kinds, inverses(n), turned, 0, len(games))
        return turned.reshape(-1, n, n, len(PLANES)).transpose(0, 3, 1, 2)


def outcomes(scores: NDArray[np.floating], plies: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 won, 0 drawn, -1 lost [J] for the player to move after plies [J], of games that end with scores [J]."""
    return (np.sign(scores) * np.where(plies % 2 == 0, 1, -1)).astype(np.float32)
