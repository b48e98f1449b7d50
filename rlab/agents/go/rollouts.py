# mypy: allow-untyped-defs
"""Monte-Carlo Go without a network: every move tried in many random games, the better ones more often (flat UCB).

Bruegmann 1993, "Monte Carlo Go", with the bandit of Auer et al. 2002 (UCB1) at the root. Random moves never fill an own
eye (see `rlab.envs.go.players.RandomPlayer`), so that games end and what lives stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.analysis import Analysis, Avoided, Candidate, never, without
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import PLAYERS, own_eye
from rlab.envs.go.rules import (
    BLACK,
    COUNT,
    DICE,
    EMPTIES,
    ORDER,
    OVER,
    PLACE,
    SIZE,
    TURN,
    allowed,
    area,
    below,
    copy,
    jit,
    play,
)
from rlab.errors import RlabError

MOST = 1_000_000
USUAL = 400


@jit
def draw(s, w, q, r, z, i):
    """A point drawn from the legal ones that are no own eye, each as probable; a pass if there is none."""
    me = np.int64(s[i, COUNT, TURN])
    n = np.int64(s[i, COUNT, EMPTIES])
    while n > 0:
        k = below(w, i, n)
        c = s[i, ORDER, k]
        if not own_eye(s, r, i, c, me) and allowed(s, w, q, r, z, i, c):
            return np.int64(r[2, c])
        n -= 1  # it goes behind those that are left
        last = s[i, ORDER, n]
        s[i, ORDER, k], s[i, PLACE, last] = last, k
        s[i, ORDER, n], s[i, PLACE, c] = c, n
    return np.int64(r[0, SIZE]) * r[0, SIZE]


@jit
def try_moves(
    s, w, q, m, rows, s2, w2, q2, m2, of, r, z, komi, explore, points, visits, wins, scores, owned, owner, scratch, n
):  # fmt: skip
    """Play n random games from game of[0] of the second arrays, copied to row rows[0] = 0 of the first.

    Of its moves points [K], that with the largest upper confidence bound is next. For the player to move, visits, wins
    and scores [K] and owned [n * n] are added up; owner [n * n] and scratch are for `area`.
    """
    me = s2[of[0], COUNT, TURN]
    total = 0
    for k in range(len(points)):
        total += visits[k]
    for _ in range(n):
        best, most = 0, -1.0
        for k in range(len(points)):
            if visits[k] == 0:
                best = k
                break
            bound = wins[k] / visits[k] + explore * math.sqrt(math.log(total) / visits[k])
            if bound > most:
                best, most = k, bound
        copy(s, w, q, m, rows, s2, w2, q2, m2, of)
        play(s, w, q, m, r, z, 0, points[best])
        while not s[0, COUNT, OVER]:
            play(s, w, q, m, r, z, 0, draw(s, w, q, r, z, 0))
        score = area(s, r, 0, owner, scratch) - komi
        if me != BLACK:
            score = -score
        visits[best] += 1
        wins[best] += 1.0 if score > 0 else 0.5 if score == 0 else 0.0
        scores[best] += score
        total += 1
        for p in range(len(owner)):
            if owner[p] != 0:
                owned[p] += 1.0 if owner[p] == me else -1.0


class Rollouts:
    """A player and analyst that needs no learning.

    Args:
        playouts: random games for a move.
        explore: of the upper confidence bound; small, for there are many moves and few games.
    """

    def __init__(self, playouts: int = USUAL, explore: float = 0.4):
        if not 1 <= playouts <= MOST:
            raise RlabError(f"a move of rollouts has 1 to {MOST} random games, not {playouts}")
        self.visits, self.explore = playouts, explore
        self.name = f"rollout:{playouts}"
        self._work: Boards | None = None

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `Player`."""
        found = np.empty(len(rows), np.int64)
        for k, row in enumerate(rows):
            for analysis in self._search(boards, int(row), self.visits, never, keys[k], self.visits):
                found[k] = analysis.candidates[0].point
        return found

    def analyse(
        self, boards: Boards, row: int, visits: int, stop: Callable[[], bool], avoided: Sequence[Avoided] = ()
    ) -> Iterator[Analysis]:
        """See `Analyst`. The same position gives the same analysis."""
        chunk = min(max(4, 1_500_000 // boards.points**2), 1_000)  # about a fiftieth of a second
        return self._search(boards, row, min(visits, MOST), stop, boards.words[row, 0], chunk, avoided)

    def _search(
        self,
        boards: Boards,
        row: int,
        games: int,
        stop: Callable[[], bool],
        key: np.uint64,
        chunk: int,
        avoided: Sequence[Avoided] = (),
    ) -> Iterator[Analysis]:
        if self._work is None or self._work.setting != boards.setting:
            self._work = Boards(1, boards.setting, threads=1)
        work = self._work
        # In an order of chance: with fewer games than moves, or where all are alike, the first ones would be favoured.
        legal = without(boards.legal()[[row]], boards.turn[[row]], np.zeros(1, np.int64), avoided)
        points = np.random.default_rng(int(key)).permutation(np.flatnonzero(legal[0]))
        n = len(points)
        visits, wins, scores = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
        owned = np.zeros(boards.points)
        owner = np.empty(boards.points, np.uint8)
        scratch = np.empty((2, boards.rules.numbers.shape[1]), np.uint16)
        rng_key = key
        zero, of = np.zeros(1, np.int64), np.array([row])
        done = 0
        while done < games and not (done and stop()):
            more = min(chunk, games - done)
            work.games.words[0, DICE] = rng_key  # not between yields: another search may have used the board
            try_moves(
                *work.games, zero, *boards.games, of, *boards.rules, boards.setting.komi, self.explore, points, visits,
                wins, scores, owned, owner, scratch, more,
            )  # fmt: skip
            rng_key = work.games.words[0, DICE]
            done += more
            yield _analysis(points, visits, wins, scores, owned / done, boards.size)

    def close(self) -> None:
        """Free memory."""
        self._work = None


def _analysis(
    points: NDArray[np.int64],
    visits: NDArray[np.int64],
    wins: NDArray[np.float64],
    scores: NDArray[np.float64],
    ownership: NDArray[np.float64],
    size: int,
) -> Analysis:
    """The most visited move is the best. The position is worth the mean of all games: the best mean of many moves is
    too high by what chance gave it."""
    rates = wins / np.maximum(1, visits)
    order = sorted(np.flatnonzero(visits), key=lambda k: (-visits[k], -rates[k]))
    prior = 1 / len(points)
    candidates = tuple(
        Candidate(
            int(points[k]), int(visits[k]), float(rates[k]), float(scores[k] / visits[k]), prior, (int(points[k]),)
        )
        for k in order
    )
    total = int(visits.sum())
    winrate, score = float(wins.sum() / total), float(scores.sum() / total)
    return Analysis(total, winrate, score, candidates, ownership.reshape(size, size))


def rollouts_named(rest: str) -> Rollouts:
    """The player ``rollout:PLAYOUTS``, or ``rollout``."""
    if not re.fullmatch(r"[0-9]{0,9}", rest):
        raise RlabError(f"'rollout:{rest}' is none; after the colon stands the number of random games, as rollout:400")
    return Rollouts(int(rest or USUAL))


PLAYERS.register("rollout")(rollouts_named)
