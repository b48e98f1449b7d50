"""N games of Go as one object, with checks, and threads that share the rows; the rules are in `rlab.envs.go.rules`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
from numba import typeof
from numpy.typing import ArrayLike, NDArray

from rlab.envs.go import rules as go
from rlab.envs.splitmix import rng_key, split
from rlab.errors import RlabError, nearest
from rlab.machine import cores

KO = {"positional": go.POSITIONAL, "situational": go.SITUATIONAL, "simple": go.SIMPLE}
LETTERS = "ABCDEFGHJKLMNOPQRST"
"""Of columns, without I."""
MOST_KOMI = 400
CHUNK = 64
"""Games below which a thread of its own does not pay."""


@dataclass(frozen=True)
class Setting:
    """What is agreed before a game.

    Attributes:
        size: rows and columns, 2 to 19.
        komi: points that White has from the start.
        ko: positional (no position twice), situational (no position twice with the same player to move) or simple (no
            single stone taken back at once, as in most programs; long cycles then only end with `cap`).
        suicide: whether a move may take its own chain off the board.
        cap: moves, passes among them, after which the board is counted as it stands; 0: three for every point.
    """

    size: int = 9
    komi: float = 7.0
    ko: str = "positional"
    suicide: bool = False
    cap: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.size <= len(LETTERS):
            raise RlabError(f"a Go board is 2 to {len(LETTERS)} wide, not {self.size}")
        if self.ko not in KO:
            raise RlabError(f"there is no ko rule '{self.ko}'; {nearest(self.ko, KO)}")
        if not abs(self.komi) <= MOST_KOMI or self.komi * 2 != round(self.komi * 2):
            raise RlabError(f"komi is {self.komi}; it is a half or whole number from -{MOST_KOMI} to {MOST_KOMI}")
        if not 0 <= self.cap <= 30_000:
            raise RlabError(f"a game may have 1 to 30000 moves, or 0 for three of every point, not {self.cap}")

    @property
    def most(self) -> int:
        """The longest game in moves."""
        return self.cap or 3 * self.size**2


def name_of(point: int, size: int) -> str:
    """As people write it: C3, or pass."""
    y, x = divmod(point, size)
    return "pass" if point == size * size else f"{LETTERS[x]}{size - y}"


def point_of(name: str, size: int) -> int:
    """The point of a name, in any case.

    Raises:
        RlabError: there is none on this board.
    """
    text = name.strip().upper()
    if text == "PASS":
        return size * size
    column, row = LETTERS[:size].find(text[:1]), text[1:]
    if not text[:1] or column < 0 or not (row.isascii() and row.isdigit()) or not 1 <= int(row) <= size:
        raise RlabError(f"'{name}' is no point of a {size}x{size} board; A1 to {LETTERS[size - 1]}{size}, or pass")
    return (size - int(row)) * size + column


def make_rules(setting: Setting) -> go.Rules:
    """The setting as numbers; the random words of a hash are the same everywhere."""
    size, step = setting.size, setting.size + 1
    cells = np.array([(y + 1) * step + x + 1 for y in range(size) for x in range(size)], np.uint16)
    numbers = np.zeros((3, (size + 2) * step + 1), np.uint16)
    numbers[0, :4] = size, KO[setting.ko], setting.suicide, setting.most
    numbers[1, : size * size] = cells
    numbers[2] = size * size
    numbers[2, cells] = np.arange(size * size)
    words = split(np.uint64(0), np.arange(1, 6 * numbers.shape[1] + 1))
    return go.Rules(numbers, words.reshape(2, 3, -1))


def make_games(number: int, setting: Setting) -> go.Games:
    """Arrays for so many games, which `clear` must fill."""
    cells = (setting.size + 2) * (setting.size + 1) + 1
    kept = 1 if setting.ko == "simple" else 1 << (2 * setting.most + 1).bit_length()
    return go.Games(
        np.zeros((number, go.PLANES, cells), np.uint16),
        np.zeros((number, cells), np.uint64),
        np.zeros((number, 3, kept), np.uint64),
        np.zeros((number, setting.most), np.uint16),
    )


class Boards:
    """N games.

    Points are numbered row by row from the upper left corner, 0 .. n * n - 1; n * n is a pass.

    Args:
        number: N.
        setting: what holds for all of them.
        seed: of the moves by chance of `playout`; a game's depend on its row and this alone.
        threads: that share the rows; 0: one per core, fewer where N is small. Results do not depend on it.

    Attributes:
        games: all arrays: whoever puts these back has the games back (with `starts`).
        starts: [N, n * n + 1]: the stones with which a game began, and who moved first.
    """

    def __init__(self, number: int, setting: Setting | None = None, *, seed: int = 0, threads: int = 0):
        if number < 1:
            raise RlabError(f"there must be at least one game, not {number}")
        self.setting = setting or Setting()
        self.number, self.size = number, self.setting.size
        self.points = self.pass_ = self.size**2
        self.rules = make_rules(self.setting)
        self.games = make_games(number, self.setting)
        self.starts = np.zeros((number, self.points + 1), np.uint8)
        self.games.words[:, go.DICE] = rng_key(seed % 2**32, np.arange(1, number + 1))
        parts = max(1, min(threads or cores(), number // CHUNK))
        self._chunks = list(pairwise(np.linspace(0, number, parts + 1).astype(int).tolist()))
        self._pool = ThreadPoolExecutor(parts, "go") if parts > 1 else None
        self._stepped: Callable[..., int] | None = None
        self._before: tuple[Any, ...] = ()
        self._after: tuple[NDArray[Any], ...] = ()
        self.clear()

    # ---- What stands.

    @property
    def turn(self) -> NDArray[np.int64]:
        """[N]: 1 black, 2 white."""
        return self.games.cells[:, go.COUNT, go.TURN].astype(np.int64)

    @property
    def over(self) -> NDArray[np.bool_]:
        """[N]: after two passes in a row, or as many moves as there may be."""
        return self.games.cells[:, go.COUNT, go.OVER] != 0

    @property
    def made(self) -> NDArray[np.int64]:
        """[N]: moves made."""
        return self.games.cells[:, go.COUNT, go.MADE].astype(np.int64)

    @property
    def words(self) -> NDArray[np.uint64]:
        """[N, 2]: the words of the positions."""
        return self.games.words[:, :2].copy()

    def stones(self) -> NDArray[np.uint8]:
        """[N, n, n]: 0 empty, 1 black, 2 white."""
        cells = self.rules.numbers[1, : self.points]
        return self.games.cells[:, go.BOARD, cells].astype(np.uint8).reshape(self.number, self.size, self.size)

    def moves(self, row: int) -> list[int]:
        """Of one game, from its start."""
        return [int(point) for point in self.games.moves[row, : self.games.cells[row, go.COUNT, go.MADE]]]

    def legal(self) -> NDArray[np.bool_]:
        """[N, n * n + 1]: which moves are legal; none when a game is over."""
        masks = np.empty((self.number, self.points + 1), np.bool_)
        cells = self.rules.numbers.shape[1]
        self._share(lambda lo, hi: go.legal_rows(
            *self.games, *self.rules, masks, np.empty((2, cells), np.uint16), lo, hi))  # fmt: skip
        return masks

    def owners(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """[N, n, n], whose every point is, and [N], Black's points less White's and komi, by area."""
        owners = np.empty((self.number, self.points), np.uint8)
        scores = np.empty(self.number, np.float64)
        self._share(lambda lo, hi: go.area_rows(
            *self.games, *self.rules, owners, scores, np.empty((2, self.rules.numbers.shape[1]), np.uint16), lo, hi,
        ))  # fmt: skip
        return owners.reshape(self.number, self.size, self.size), scores - self.setting.komi

    def score(self) -> NDArray[np.float64]:
        """[N]: as `owners` has it; above 0 Black has won."""
        return self.owners()[1]

    # ---- What is done.

    def play(self, points: ArrayLike) -> None:
        """A move [N] in every game; -1 is none.

        Raises:
            RlabError: one is not legal. Moves of the rows below it have been made.
        """
        chosen = np.ascontiguousarray(points, np.int64)
        if chosen.shape != (self.number,):
            raise RlabError(f"there are {self.number} games, and moves of shape {chosen.shape}")
        bad = [row for row in self._share(
            lambda lo, hi: go.play_rows(*self.games, *self.rules, chosen, lo, hi)) if row >= 0]  # fmt: skip
        if bad:
            raise RlabError(f"game {bad[0]}: {self.why_not(bad[0], int(chosen[bad[0]]))}")

    def step(self, point: int) -> NDArray[np.int64]:
        """A move in a single game (-1: none), and what is legal then, in one call that does little else.

        Where one board goes step by step the calls of numba take the time, and of these most looking up the types of
        the arguments, which are always the same here.

        Returns:
            The legal points [K], the pass as the last of them; none when the game is over. The next call overwrites it.

        Raises:
            RlabError: the move is not legal, or there are several games.
        """
        number = (self._stepped or self._make_step())(*self._before, index(point), *self._after)
        if number < 0:
            raise RlabError(self.why_not(0, point))
        legal: NDArray[np.int64] = self._after[0][:number]
        return legal

    def _make_step(self) -> Callable[..., int]:
        if self.number > 1:
            raise RlabError(f"step() is for one game, not {self.number}; play() and legal() are for many")
        scratch = np.empty((2, self.rules.numbers.shape[1]), np.uint16)
        self._before, self._after = (*self.games, *self.rules, 0), (np.empty(self.points + 1, np.int64), scratch)
        stepped: Callable[..., int] = go.step_row.compile(tuple(map(typeof, (*self._before, 0, *self._after))))
        self._stepped = stepped
        return stepped

    def why_not(self, row: int, point: int) -> str:
        """In a sentence, why a point is not legal in a game; empty if it is."""
        counts = self.games.cells[row, go.COUNT]
        if counts[go.OVER]:
            return "the game is over"
        if not 0 <= point <= self.points:
            return f"{point} is no point of a {self.size}x{self.size} board"
        if point == self.pass_:
            return ""
        name, who = name_of(point, self.size), ("black", "white")[counts[go.TURN] - 1]
        if self.games.cells[row, go.BOARD, self.rules.numbers[1, point]] != go.EMPTY:
            return f"there is a stone on {name}"
        one = Boards(1, self.setting, threads=1)
        one.copy([0], self, [row])
        if one.legal()[0, point]:
            return ""
        go.forget(*(one.games[k] for k in range(3)), *one.rules, 0)
        one.games.cells[0, go.COUNT, go.KO] = 0
        if one.legal()[0, point]:
            return f"{who} may not take back at {name}: ko" if self.setting.ko == "simple" else (
                f"a {who} stone on {name} would repeat a position: superko")  # fmt: skip
        return f"a {who} stone on {name} would have no liberty: suicide"

    def playout(self) -> int:
        """Moves by chance, all legal ones as probable, until every game is over; returns their number."""
        return sum(self._share(lambda lo, hi: go.playout_rows(*self.games, *self.rules, lo, hi)))

    def clear(self, rows: Sequence[int] | NDArray[np.integer[Any]] | None = None) -> None:
        """Begin games anew, all or those of rows."""
        chosen = self._rows(range(self.number) if rows is None else rows)
        go.clear_rows(*self.games, *self.rules, chosen)
        self.starts[chosen] = 0
        self.starts[chosen, -1] = go.BLACK

    def arrange(self, row: int, stones: ArrayLike, turn: int) -> None:
        """Begin a game with stones [n, n] of 0, 1, 2 on the board and who is to move, 1 or 2.

        Raises:
            RlabError: a chain has no liberty; the game is the empty board then.
        """
        colours = np.ascontiguousarray(stones, np.uint8).reshape(-1)
        if len(colours) != self.points or colours.max() > go.WHITE or turn not in (go.BLACK, go.WHITE):
            raise RlabError(f"a position is {self.points} numbers of 0, 1, 2 and a turn of 1 or 2")
        (chosen,) = self._rows([row])
        if not go.arrange(*self.games, *self.rules, chosen, colours, turn):
            self.clear([row])
            raise RlabError(f"game {row} cannot begin with a chain that has no liberty")
        self.starts[row, :-1] = colours
        self.starts[row, -1] = turn

    def undo(self, row: int, moves: int = 1) -> None:
        """Take back the last moves of a game, exactly: the others are made again from its start."""
        made = self.moves(row)
        if not 0 <= moves <= len(made):
            raise RlabError(f"{len(made)} moves were made, so {moves} cannot be taken back")
        start = self.starts[row].copy()
        go.arrange(*self.games, *self.rules, row, start[:-1], int(start[-1]))
        for point in made[: len(made) - moves]:
            go.play(*self.games, *self.rules, row, point)

    def copy(
        self, to: Sequence[int] | NDArray[np.integer[Any]], other: Boards, of: Sequence[int] | NDArray[np.integer[Any]]
    ) -> None:
        """Games of[k] of others of the same setting become games to[k] of these; what chance does next stays."""
        if other.setting != self.setting:
            raise RlabError(f"games of {other.setting} cannot become games of {self.setting}")
        mine, theirs = self._rows(to), other._rows(of)
        if len(mine) != len(theirs):
            raise RlabError(f"{len(theirs)} games cannot become {len(mine)}")
        go.copy(*self.games, mine, *other.games, theirs)
        self.starts[mine] = other.starts[theirs]

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _rows(self, rows: Sequence[int] | NDArray[np.integer[Any]] | range) -> NDArray[np.int64]:
        chosen = np.asarray(rows, np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= self.number):
            raise RlabError(f"games are 0 to {self.number - 1}, not {chosen.min()} to {chosen.max()}")
        return chosen

    def share(self, kernel: Callable[[int, int], Any], number: int) -> list[Any]:
        """What kernel(lo, hi) says of parts of 0 .. number - 1, in threads where that pays."""
        parts = min(len(self._chunks), number // CHUNK)
        if self._pool is None or parts < 2:
            return [kernel(0, number)]
        bounds = pairwise(np.linspace(0, number, parts + 1).astype(int).tolist())
        return list(self._pool.map(lambda part: kernel(*part), bounds))

    def _share(self, kernel: Callable[[int, int], Any]) -> list[Any]:
        if self._pool is None:
            return [kernel(0, self.number)]
        return list(self._pool.map(lambda part: kernel(*part), self._chunks))
