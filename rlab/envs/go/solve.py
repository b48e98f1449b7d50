# mypy: allow-untyped-defs
"""Go on tiny boards of any shape, solved: what Black gets by area, without komi, if both play their best.

A *position* is a number in base 3, point 0 its lowest digit. All of a board are enumerated once, with what a stone of
either colour on any point makes of them, so that a move is a look into a table. Two passes in a row end a game.

Under superko a position's value depends on those before it, and no value is carried over from one way to a position to
another: the search knows all that has been on its way and makes exactly the moves that superko leaves. It asks whether
Black can get at least so much, to a depth that grows until the answer is yes or no. What shortens it are *sure* wins,
found beforehand by going backwards from the ends of games: a state (position, player to move, passes) is won by a side
in k moves whatever superko forbids either, if

- the other side wins no ko by it: all its moves count, also such as superko may forbid;
- all that the side itself makes has a smaller k, and so has not been before in these k moves. As k falls with every
  move, a position could only come back that has a state of a larger k, as when it was the same stones' but the other's
  turn: so the side may only make positions none of whose won states is larger than k.

Such a win holds on the way of the search if the side makes no position of that way, which is so if none of that has a
smaller k with the other to move. With the sure wins left out the answers are the same (a test says so).

Under simple ko nothing but the last move matters; values are the fixed point of going backwards from the value that is
agreed for a game that never ends, which is reached from above and below, whatever the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlab.errors import RlabError, nearest

KO = ("positional", "situational", "simple")
LARGEST = 12
"""Points: there are 3^12 = 531,441 positions then."""
MOST = 2_000_000_000
NEVER = 30_000
"""In the place of a number of moves: not won."""
_POS, _TURN, _PASSES, _LOW, _LOW2, _HAD, _KEY, _NEXT, _END, _OPEN, _MOVES = range(11)
"""Columns of the stack of the search."""

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
jit = njit(**_OPTIONS)


class Tables(NamedTuple):
    """All positions of a board of n points."""

    after: NDArray[np.int32]
    """[3^n, 2, n]: the position after a stone of black, white on a point; -1: not legal, ko aside."""
    score: NDArray[np.int8]
    """[3^n]: black's points less white's."""
    stands: NDArray[np.bool_]
    """[3^n]: whether every chain has a liberty."""


class Solution(NamedTuple):
    """What is known of a position."""

    value: int
    """Black's points less White's."""
    moves: tuple[int, ...]
    """All moves with which the player to move gets it: points, and n for the pass."""
    looked: int
    """States that were searched; under simple ko, states of the table."""


# ---- Tables.


@jit
def _border(region, near):
    """The points beside those of a set of bits."""
    border, p = 0, 0
    while region:
        if region & 1:
            border |= near[p]
        region >>= 1
        p += 1
    return border


@jit
def _connected(seed, among, near):
    """All points of a set that are reached from a seed within it."""
    while True:
        grown = seed | _border(seed, near) & among
        if grown == seed:
            return seed
        seed = grown


@jit
def _standing(stones, free, near):
    """The stones of a colour whose chains touch a free point."""
    kept = 0
    while stones:
        chain = _connected(stones & -stones, stones, near)
        stones &= ~chain
        if _border(chain, near) & free:
            kept |= chain
    return kept


@jit
def _fill(near, code, suicide, after, score, stands):
    n = len(near)
    board = (1 << n) - 1
    for pos in range(len(score)):
        black, white, rest = 0, 0, pos
        for p in range(n):
            black |= (rest % 3 == 1) << p
            white |= (rest % 3 == 2) << p
            rest //= 3
        free = board & ~(black | white)
        stands[pos] = _standing(black, free, near) == black and _standing(white, free, near) == white
        if not stands[pos]:
            continue
        rest = free
        while rest:
            region = _connected(rest & -rest, free, near)
            rest &= ~region
            beside = _border(region, near)
            if beside & black and not beside & white:
                black |= region
            elif beside & white and not beside & black:
                white |= region
        for p in range(n):
            score[pos] += (black >> p & 1) - (white >> p & 1)
        rest = pos
        black, white = 0, 0
        for p in range(n):
            black |= (rest % 3 == 1) << p
            white |= (rest % 3 == 2) << p
            rest //= 3
        for turn in range(2):
            for p in range(n):
                if free >> p & 1:
                    me = (white if turn else black) | 1 << p
                    other = black if turn else white
                    other = _standing(other, free & ~(1 << p), near)
                    left = _standing(me, board & ~(me | other), near)
                    if left == me or suicide:
                        after[pos, turn, p] = code[left] * (turn + 1) + code[other] * (2 - turn)


def make_tables(rows: int, columns: int, suicide: bool = False) -> Tables:
    """All positions of a board.

    Raises:
        RlabError: it has too few or too many points.
    """
    n = rows * columns
    if min(rows, columns) < 1 or not 2 <= n <= LARGEST:
        raise RlabError(f"a board to solve has 2 to {LARGEST} points, not {rows} x {columns}")
    near = np.zeros(n, np.int64)
    for p in range(n):
        for q in range(n):
            if abs(p // columns - q // columns) + abs(p % columns - q % columns) == 1:
                near[p] |= 1 << q
    code = np.array([sum(3**p for p in range(n) if bits >> p & 1) for bits in range(1 << n)], np.int64)
    tables = Tables(np.full((3**n, 2, n), -1, np.int32), np.zeros(3**n, np.int8), np.zeros(3**n, np.bool_))
    _fill(near, code, suicide, *tables)
    return tables


# ---- Superko.


@jit
def _sure(after, score, stands, goal, moves):
    """Write to moves [2, 3^n, 2, 2] (side, position, player to move, passes) in how many a side surely wins.

    Black (0) wins with a score of at least the goal, White (1) with less.
    """
    k = np.int16(0)
    changed = True
    while changed:
        k += np.int16(1)
        changed = False
        for pos in range(len(score)):
            if not stands[pos]:
                continue
            for side in range(2):
                other = 1 - side
                won = (score[pos] >= goal) == (side == 0)
                for passes in range(2):
                    if moves[side, pos, side, passes] == NEVER:
                        good = won if passes else moves[side, pos, other, 1] < k
                        for p in range(after.shape[2]):
                            new = after[pos, side, p]
                            if good:
                                break
                            if new >= 0 and new != pos and moves[side, new, other, 0] < k:
                                held = moves[side, new, other, 1] <= k or (score[new] >= goal) != (side == 0)
                                good = held and moves[side, new, side, 0] <= k and moves[side, new, side, 1] <= k
                        if good:
                            moves[side, pos, side, passes] = k
                            changed = True
                    if moves[side, pos, other, passes] == NEVER:
                        good = won if passes else moves[side, pos, side, 1] < k
                        for p in range(after.shape[2]):
                            new = after[pos, other, p]
                            if new >= 0 and moves[side, new, side, 0] >= k:
                                good = False
                                break
                        if good:
                            moves[side, pos, other, passes] = k
                            changed = True


@jit
def _expand(after, score, goal, sure, situational, visited, stack, top):
    """Note the legal moves of the state at the top, in an order that hopes: sure wins, then the unknown, then lost."""
    pos, turn, passes = stack[top, _POS], stack[top, _TURN], stack[top, _PASSES]
    n = after.shape[2]
    end = _MOVES
    for move in range(n + 1):
        new, passed = pos, 1
        if move < n:
            new, passed = after[pos, turn, move], 0
            if new < 0 or visited[new, (1 - turn) * situational]:
                continue
        if passed and passes:
            rank = 0 if (score[pos] >= goal) == (turn == 0) else 2 * NEVER
        else:
            rank = np.int64(sure[turn, new, 1 - turn, passed])
            if rank == NEVER:
                rank = 2 * NEVER - np.int64(sure[1 - turn, new, 1 - turn, passed])
        k = end
        key = rank * 16 + move
        while k > _MOVES and stack[top, k - 1] > key:
            stack[top, k] = stack[top, k - 1]
            k -= 1
        stack[top, k] = key
        end += 1
    stack[top, _NEXT] = _MOVES
    stack[top, _END] = end
    stack[top, _OPEN] = 0


@jit
def _search(after, score, goal, sure, situational, visited, stack, limit, most):
    """(1: Black gets the goal, -1: he does not, 0: not known within the limit of moves; states that were searched).

    The stack's first row is the state to be searched, visited what has been up to it. Without recursion: numba cannot
    keep compiled functions that call themselves.
    """
    n = after.shape[2]
    top, looked = 0, 0
    while True:
        looked += 1
        pos, turn, passes = stack[top, _POS], stack[top, _TURN], stack[top, _PASSES]
        result, decided = 0, True
        if passes == 2:
            result = 1 if score[pos] >= goal else -1
        elif min(sure[0, pos, turn, passes], NEVER - 1) <= stack[top, _LOW] and sure[0, pos, turn, passes] < NEVER:
            result = 1
        elif min(sure[1, pos, turn, passes], NEVER - 1) <= stack[top, _LOW2] and sure[1, pos, turn, passes] < NEVER:
            result = -1
        elif top < limit and looked < most:
            _expand(after, score, goal, sure, situational, visited, stack, top)
            decided = False
        while True:
            turn = stack[top, _TURN]
            if not decided and stack[top, _NEXT] == stack[top, _END]:
                result = 0 if stack[top, _OPEN] else 2 * turn - 1
                decided = True
            if not decided:
                break
            if top == 0:
                return result, looked
            key = stack[top, _KEY]
            visited[key >> 1, key & 1] = stack[top, _HAD]
            top -= 1
            decided = result == 1 - 2 * stack[top, _TURN]
            stack[top, _OPEN] |= result == 0
        pos, turn, passes = stack[top, _POS], stack[top, _TURN], stack[top, _PASSES]
        move = stack[top, stack[top, _NEXT]] & 15
        stack[top, _NEXT] += 1
        new = np.int64(after[pos, turn, move]) if move < n else pos
        up = top + 1
        key = new << 1 | (1 - turn) * situational
        stack[up, _POS], stack[up, _TURN] = new, 1 - turn
        stack[up, _PASSES] = 0 if move < n else passes + 1
        stack[up, _LOW] = min(stack[top, _LOW], np.int64(sure[0, new, 1, 0]))
        stack[up, _LOW2] = min(stack[top, _LOW2], np.int64(sure[1, new, 0, 0]))
        stack[up, _KEY], stack[up, _HAD] = key, visited[key >> 1, key & 1]
        visited[key >> 1, key & 1] = 1
        top = up


# ---- Simple ko.


@jit
def _ko(after, pos, turn, new):
    """Where the next player, not `turn`, may not play, as that brings back the position before; n: nowhere."""
    n = after.shape[2]
    for p in range(n):
        if new != pos and after[new, 1 - turn, p] == pos:
            return p
    return n


@jit
def _settle(after, score, stands, values):
    """Values [3^n, 2, n + 2] (position, player to move, forbidden point, n: none, n + 1: none and a pass before)."""
    n = after.shape[2]
    changed = True
    while changed:
        changed = False
        for pos in range(len(score)):
            if not stands[pos]:
                continue
            for turn in range(2):
                for state in range(n + 2):
                    if state < n and after[pos, turn, state] < 0:
                        continue
                    best = score[pos] if state == n + 1 else values[pos, 1 - turn, n + 1]
                    for p in range(n):
                        new = after[pos, turn, p]
                        if new >= 0 and p != state:
                            value = values[new, 1 - turn, _ko(after, pos, turn, new)]
                            best = max(best, value) if turn == 0 else min(best, value)
                    if best != values[pos, turn, state]:
                        values[pos, turn, state] = best
                        changed = True


# ---- For Python.


class Solver:
    """A board and its rules, with what was found of it.

    Args:
        rows, columns: of the board, at most 12 points.
        ko: positional, situational, simple.
        suicide: whether a move may take its own chain off the board.
        cycles: the score of a game that never ends, as some do under simple ko.
        sure: whether the search is shortened by sure wins.
        most: states that may be searched for one answer.
    """

    def __init__(
        self, rows: int, columns: int, *, ko: str = "positional", suicide: bool = False, cycles: int = 0,
        sure: bool = True, most: int = MOST,
    ):  # fmt: skip
        if ko not in KO:
            raise RlabError(f"there is no ko rule '{ko}'; {nearest(ko, KO)}")
        self.tables = make_tables(rows, columns, suicide)
        self.points = rows * columns
        if not -self.points <= cycles <= self.points:
            raise RlabError(f"a game without end may count -{self.points} to {self.points}, not {cycles}")
        self.ko, self.sure, self.most, self.looked = ko, sure, most, 0
        self._wins: dict[int, NDArray[np.int16]] = {}
        if ko == "simple":
            self._values = np.full((3**self.points, 2, self.points + 2), cycles, np.int8)
            _settle(*self.tables, self._values)
            self.looked = int(self.tables.stands.sum()) * 2 * (self.points + 2)

    def reaches(self, goal: int, moves: Sequence[int] = ()) -> bool:
        """Whether Black gets at least the goal after moves from the empty board.

        Raises:
            RlabError: a move is not legal, or the search became too long.
        """
        visited = np.zeros((3**self.points, 2), np.uint8)
        pos, turn, passes, forbidden, been = self._after(moves, visited)
        if passes == 2:
            return bool(self.tables.score[pos] >= goal)
        if self.ko == "simple":
            return bool(self._values[pos, turn, self.points + 1 if passes else forbidden] >= goal)
        sure = self._won(goal)
        limit = 8
        while True:
            stack = np.zeros((limit + 2, _MOVES + self.points + 1), np.int64)
            low = min(sure[0, p, 1, 0] for p in been), min(sure[1, p, 0, 0] for p in been)
            stack[0, : _LOW2 + 1] = pos, turn, passes, *low
            result, looked = _search(
                *self.tables[:2], goal, sure, int(self.ko == "situational"), visited, stack, limit, self.most
            )
            self.looked += looked
            if result:
                return bool(result > 0)
            if looked >= self.most:
                raise RlabError(f"not solved within {self.most} states and {limit} moves")
            limit += max(2, limit // 4)

    def legal(self, moves: Sequence[int], move: int) -> bool:
        """Whether a move is legal after others, which are."""
        try:
            self._after([*moves, move], np.zeros((3**self.points, 2), np.uint8))
        except _NotLegal:
            return False
        return True

    def value(self, moves: Sequence[int] = ()) -> int:
        """Black's points less White's after moves from the empty board, by bisection."""
        low, high = -self.points, self.points
        while low < high:
            middle = (low + high + 1) // 2
            if self.reaches(middle, moves):
                low = middle
            else:
                high = middle - 1
        return low

    def best(self, moves: Sequence[int] = ()) -> Solution:
        """The value after moves, and all next moves that keep it."""
        value, black = self.value(moves), len(moves) % 2 == 0
        kept = []
        for move in range(self.points + 1):
            if self.legal(moves, move) and self.reaches(value if black else value + 1, [*moves, move]) == black:
                kept.append(move)
        return Solution(value, tuple(kept), self.looked)

    def _won(self, goal: int) -> NDArray[np.int16]:
        if goal not in self._wins:
            self._wins[goal] = np.full((2, 3**self.points, 2, 2), NEVER, np.int16)
            if self.sure:
                _sure(*self.tables, goal, self._wins[goal])
        return self._wins[goal]

    def _after(self, moves: Sequence[int], visited: NDArray[np.uint8]) -> tuple[int, int, int, int, list[int]]:
        """(position, player to move, passes, point that simple ko forbids, positions), with visited filled."""
        pos, turn, passes, forbidden, been = 0, 0, 0, self.points, [0]
        visited[0, 0] = 1
        for move in moves:
            new = pos
            if not 0 <= move <= self.points or passes == 2:
                raise _NotLegal(f"move {move} cannot be made: points are 0 to {self.points - 1}, before two passes")
            if move < self.points:
                new = int(self.tables.after[pos, turn, move])
                back = move == forbidden if self.ko == "simple" else visited[new, self._side(1 - turn)] != 0
                if new < 0 or back:
                    raise _NotLegal(f"a stone on point {move} is not legal")
                forbidden = int(_ko(self.tables.after, pos, turn, new))
                passes = 0
            else:
                forbidden, passes = self.points, passes + 1
            pos, turn = new, 1 - turn
            visited[pos, self._side(turn)] = 1
            been.append(pos)
        return pos, turn, passes, forbidden, been

    def _side(self, turn: int) -> int:
        return turn if self.ko == "situational" else 0


class _NotLegal(RlabError):
    pass


def solve(rows: int, columns: int, *, ko: str = "positional", suicide: bool = False, cycles: int = 0) -> Solution:
    """The value of the empty board and all best first moves; see `Solver`."""
    return Solver(rows, columns, ko=ko, suicide=suicide, cycles=cycles).best()
