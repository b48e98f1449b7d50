"""How the games of a tournament begin: varied positions, each of which a pair plays with both colours."""

from __future__ import annotations

import numpy as np

from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.players import own_eyes
from rlab.envs.go.symmetry import symmetries
from rlab.errors import RlabError
from rlab.seeding import derive

TRIES = 500
"""Sequences in a row that bring nothing new, after which there is taken to be nothing new."""

FIRST_LINE_FROM = 7
"""Size of board from which on no opening move lies on the first line."""


def make_openings(setting: Setting, number: int, moves: int, seed: int) -> list[list[int]]:
    """Sequences of moves by chance that lead to positions of which no two are the same, rotated or mirrored.

    All legal moves are as probable, except those into an own eye and, from 7x7 on, on the first line, where nobody
    would begin. More openings begin with the same ones as fewer.

    Returns:
        `number` lists of moves, or fewer, but at least one, where there are not as many.

    Raises:
        RlabError: so many moves are too many for the board.
    """
    most = setting.size**2 // 2
    if not 0 <= moves <= min(most, setting.most - 1):
        raise RlabError(f"an opening of {moves} moves; on {setting.size}x{setting.size} it has 0 to {most}")
    rng = np.random.default_rng(derive(seed, "openings", setting.size, moves))
    boards = Boards(1, setting, threads=1)
    views = symmetries(setting.size)[:, :-1]
    found: list[list[int]] = []
    seen: set[bytes] = set()
    tries = 0
    while len(found) < number and tries < TRIES:
        tries += 1
        boards.clear()
        _play(boards, moves, rng)
        stones = boards.stones().reshape(-1)
        word = min(stones[view].tobytes() for view in views)
        if word not in seen:
            seen.add(word)
            found.append(boards.moves(0))
            tries = 0
    return found


def _play(boards: Boards, moves: int, rng: np.random.Generator) -> None:
    n = boards.size
    inner = np.ones((n, n), np.bool_)
    if n >= FIRST_LINE_FROM:
        inner[:] = False
        inner[1:-1, 1:-1] = True
    for _ in range(moves):
        may = boards.legal()[0, :-1] & inner.reshape(-1) & ~own_eyes(boards)[0]
        points = np.flatnonzero(may)
        if not len(points):
            raise RlabError(f"an opening of {moves} moves does not fit on {n}x{n}; take fewer --moves-random")
        boards.play([int(rng.choice(points))])
