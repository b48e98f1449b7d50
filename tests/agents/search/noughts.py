"""Noughts and crosses for searches, with a network that is a table of random numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.agents.search import LeafBatch

LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]
THREES = 3 ** np.arange(9)
EMPTY = np.zeros(9, np.int64)


@lru_cache
def tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [3^9, 9] and values [3^9] of all boards, as ternary numbers."""
    rng = np.random.default_rng(7)
    return rng.normal(size=(3**9, 9)).astype(np.float32), rng.uniform(-0.9, 0.9, 3**9).astype(np.float32)


def winner(board: NDArray[np.int64]) -> int:
    """Of a board of 0, 1, 2: who has three in a row; 0: nobody."""
    stones = board.tolist()
    for a, b, c in LINES:
        if stones[a] and stones[a] == stones[b] == stones[c]:
            return int(stones[a])
    return 0


class Noughts:
    """States are boards [B, 9]; 1 begins."""

    actions = 9

    def step(
        self, states: Any, rows: NDArray[np.int64], paths: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> LeafBatch:
        boards = states[rows].copy()
        for board, path, length in zip(boards, paths, lengths, strict=True):
            for action in path[:length]:
                assert board[action] == 0
                assert not winner(board)
                board[action] = 1 if (board > 0).sum() % 2 == 0 else 2
        won = np.array([winner(board) for board in boards])
        ended = (won > 0) | (boards > 0).all(1)
        return LeafBatch((boards == 0) & ~ended[:, None], ended, np.where(won > 0, -1, 0).astype(np.float32), boards)


def by_table(positions: Any, rows: NDArray[np.int64], rng_keys: NDArray[np.uint64]) -> Any:
    """A network of no sense."""
    logits, values = tables()
    at = positions[rows] @ THREES
    return logits[at], values[at]


def ignorant(positions: Any, rows: NDArray[np.int64], rng_keys: NDArray[np.uint64]) -> Any:
    """All moves are as good, and nobody wins."""
    return np.zeros((len(rows), 9), np.float32), np.zeros(len(rows), np.float32)


def solved(board: NDArray[np.int64]) -> int:
    """The result for the player to move: 1, 0, -1."""
    if winner(board):
        return -1
    free = np.flatnonzero(board == 0)
    if not len(free):
        return 0
    best = -1
    for point in free:
        board[point] = 1 if (board > 0).sum() % 2 == 0 else 2
        best = max(best, -solved(board))
        board[point] = 0
        if best == 1:
            break
    return best


def some_boards(number: int, seed: int) -> NDArray[np.int64]:
    """Boards after 0 to 5 moves by chance at which the game goes on."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < number:
        board = EMPTY.copy()
        for k in range(int(rng.integers(0, 6))):
            board[rng.choice(np.flatnonzero(board == 0))] = 1 + k % 2
        if not winner(board):
            found.append(board)
    return np.array(found)
