# mypy: allow-untyped-defs
"""The newest positions of many games, to learn from: as moves, from which a position is made again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go import rules as go
from rlab.envs.go.boards import Boards, Setting
from rlab.envs.go.planes import PLANES, planes_row
from rlab.envs.go.symmetry import gather_planes, inverses
from rlab.run.contract import Log, Rows

LOG = "positions"


class Sample(NamedTuple):
    """J positions and what is known of them by now; `move` and what is of points is turned as the planes are.

    Attributes:
        planes: float32 [J, n * n, C], channels last.
        move: int64 [J]: what was played.
        policy: float32 [J, n * n + 1]: what the search recommended.
        full: float32 [J]: 1 if that is worth learning.
        reply: float32 [J, n * n + 1]: the same of the next move; 0 where there was none.
        outcome: float32 [J]: 1 won, 0 drawn, -1 lost, for the player to move.
        root: float32 [J]: the search's value.
        score: float32 [J]: points more than the other's at the end, komi counted.
        owner: float32 [J, n * n]: 1 own, 0 other's, 0.5 nobody's at the end.
    """

    planes: NDArray[np.float32]
    move: NDArray[np.int64]
    policy: NDArray[np.float32]
    full: NDArray[np.float32]
    reply: NDArray[np.float32]
    outcome: NDArray[np.float32]
    root: NDArray[np.float32]
    score: NDArray[np.float32]
    owner: NDArray[np.float32]


def empty_rows(number: int, size: int) -> Rows:
    """Columns of the log: a row is a position of a game, in order, games one after the other.

    move and ply; policy (half precision, 1 in sum) and whether it is worth learning; root, the search's value for the
    player to move; score, Black's points less White's and komi at the end; owner, whose each point is then.
    """
    return {
        "move": np.zeros(number, np.uint16),
        "ply": np.zeros(number, np.uint16),
        "policy": np.zeros((number, size * size + 1), np.float16),
        "full": np.zeros(number, np.bool_),
        "root": np.zeros(number, np.float16),
        "score": np.zeros(number, np.float32),
        "owner": np.zeros((number, size * size), np.uint8),
    }


class PositionWindow:
    """A ring of the newest positions.

    Args:
        setting: of the games.
        capacity: positions.
    """

    def __init__(self, setting: Setting, capacity: int):
        self.setting = setting
        self.capacity = capacity
        self.end = 0
        """Positions so far."""
        self.rows = empty_rows(capacity, setting.size)
        self._board = Boards(1, setting, threads=1)
        self._found = np.empty((2, self._board.rules.numbers.shape[1]), np.uint16)

    @property
    def start(self) -> int:
        """The oldest position that is kept."""
        return max(0, self.end - self.capacity)

    def __len__(self) -> int:
        return self.end - self.start

    def add(self, rows: Rows) -> None:
        """Append rows of whole games."""
        number = len(rows["move"])
        at = np.arange(self.end, self.end + number) % self.capacity
        for name, column in self.rows.items():
            column[at[-self.capacity :]] = rows[name][-self.capacity :]
        self.end += number

    def refill(self, log: Log) -> None:
        """Become what a log holds."""
        self.end = log.start
        for rows in log.rows():
            self.add(rows)

    def usable(self) -> int:
        """The first position whose game is here from its start."""
        start = self.start
        if not len(self) or start == 0:
            return start
        ply = int(self.rows["ply"][start % self.capacity])
        if ply == 0:
            return start
        ahead = np.arange(start, min(self.end, start + self.setting.most + 1)) % self.capacity
        begins = np.flatnonzero(self.rows["ply"][ahead] == 0)
        return start + int(begins[0]) if len(begins) else self.end

    def sample(self, rng: np.random.Generator, number: int, symmetries: bool) -> Sample:
        """Draw positions, with replacement.

        Args:
            chance: draws.
            number: J.
            symmetries: turn and mirror each at random.
        """
        rows = rng.integers(self.usable(), self.end, number)
        kinds = rng.integers(0, 8, number) if symmetries else np.zeros(number, np.int64)
        return self.take(rows, kinds)

    def take(self, rows: NDArray[np.int64], kinds: NDArray[np.int64]) -> Sample:
        """Positions rows [J], counted from the first that there ever was, turned by symmetries kinds [J]."""
        size, points = self.setting.size, self.setting.size**2
        at = rows % self.capacity
        planes = np.empty((len(rows), len(PLANES), points), np.float32)
        planes_again(
            *self._board.games, *self._board.rules, self.setting.komi, self.rows["move"], self.rows["ply"][at], rows,
            self.capacity, planes, self._found,
        )  # fmt: skip
        turned = np.empty((len(rows), points, len(PLANES)), np.float32)
        sources = inverses(size)
        gather_planes(planes, np.arange(len(rows)), kinds, sources, turned, 0, len(rows))
        ply = self.rows["ply"][at].astype(np.int64)
        white = ply % 2 == 1
        after = (rows + 1) % self.capacity
        goes_on = (rows + 1 < self.end) & (self.rows["ply"][after] == ply + 1)

        def moved(policies: NDArray[Any]) -> NDArray[np.float32]:
            return np.take_along_axis(policies, sources[kinds], 1).astype(np.float32)

        score = np.where(white, -1, 1) * self.rows["score"][at]
        owner = self.rows["owner"][at]
        own = np.where(owner == 0, 0.5, owner == np.where(white, 2, 1)[:, None]).astype(np.float32)
        moves = np.zeros((len(rows), points + 1), np.float32)
        moves[np.arange(len(rows)), self.rows["move"][at]] = 1
        return Sample(
            turned,
            moved(moves).argmax(1),
            moved(self.rows["policy"][at]),
            self.rows["full"][at].astype(np.float32),
            moved(np.where(goes_on[:, None], self.rows["policy"][after], 0)),
            np.sign(score).astype(np.float32),
            self.rows["root"][at].astype(np.float32),
            score.astype(np.float32),
            np.take_along_axis(own, sources[kinds, :-1], 1),
        )


@go.jit
def planes_again(s, w, q, m, r, z, komi, moves, plies, rows, capacity, planes, found):
    """Play positions' games again up to them, and write down what they look like.

    What follows position k is moves [rows[k] % capacity], and its game's plies [k] moves stand before that.
    """
    for k in range(len(rows)):
        go.clear(s, w, q, m, r, z, 0)
        ply = np.int64(plies[k])
        for back in range(ply, 0, -1):
            go.play(s, w, q, m, r, z, 0, np.int64(moves[(rows[k] - back) % capacity]))
        planes_row(s, w, q, m, r, z, 0, komi, planes[k], found)
