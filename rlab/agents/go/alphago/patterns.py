# mypy: allow-untyped-defs
"""Local patterns of Go and a linear softmax over them, in numba: the rollout policy of AlphaGo (Silver et al. 2016).

Features of a move, after their extended data table 4: the 3x3 pattern around it; whether it lies in the diamond of 12
points around the move before and matches a known pattern there, and which; whether it is next to that move; whether it
saves own stones from capture; whether it lies in the shape of stones that were just taken off. A pattern knows of each
point the colour and the liberties (1, 2, 3 or more) of the stone, from the side of the player to move; all eight
symmetries of a pattern are one.

A point's state is 3 bits: 0 empty, 4 beyond the board, else the liberties, plus 4 for the other player's stones. A 3x3
pattern is 8 of them (N, E, S, W, then NE, SE, SW, NW), a diamond 12 (then two steps N, E, S, W) and the state of its
middle. So a pattern's word is exact: nothing collides. From it follows, too, whether a move is suicide or fills an own
eye (`rlab.envs.go.players.own_eye`); such moves are none.

What changes with a move is looked at again and nothing else: the liberties of chains next to it and to stones that were
taken, and the 3x3 patterns around chains whose state is another one. The weights of moves are whole numbers in floats,
so that sums of them are exact in any order: what is drawn does not depend on how the weights came about.

In all functions `s`, `w`, `q`, `m`, `r`, `z` and `i` are as in `rlab.envs.go.rules`, `v` is a `PatternView` of game i,
`t` are `PatternTables`. Side 0 is Black.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.rules import (
    BLACK,
    BOARD,
    CHAIN,
    COUNT,
    DICE,
    EDGES,
    EMPTIES,
    EMPTY,
    ENDS,
    FOLLOW,
    MADE,
    ORDER,
    OVER,
    SIZE,
    TENSE,
    TURN,
    WALL,
    allowed,
    area,
    clear,
    copy_row,
    jit,
    lowest,
    play,
    within,
)
from rlab.envs.splitmix import GAMMA, mix

NONE, ABSENT, RESPONSE, BESIDE, ACROSS, SAVES, FIRST = range(7)
"""Rows of the weights: of no feature; a 3x3 pattern that is not known; a known response; next to the move before, side
by side or diagonally; stones are saved; the first row of the patterns."""
FAR = 12
"""Points of a diamond."""
LEAST_SHAPE, MOST_SHAPE = 3, 6
"""Stones of a shape that was taken off."""
FEATURES = 8
"""Of a move at the most."""
SCALE, HIGH = 2.0**20, 2.0**43
"""The whole number of a weight of 0, and the largest one: sums of 361 are below 2^53."""
OFFSETS = (
    (-1, 0), (0, 1), (1, 0), (0, -1), (-1, 1), (1, 1), (1, -1), (-1, -1), (-2, 0), (0, 2), (2, 0), (0, -2),
)  # fmt: skip
"""(rows down, columns to the right) of a pattern's points."""
_OTHER = np.int64(4)
_HASH = np.int64(0x1E3779B97F4A7C15)
_FREE = -1
_11 = np.uint64(11)
_1 = np.uint64(1)
_mix = jit(mix)


def _places() -> NDArray[np.int64]:
    """[8, 12]: where a pattern's points go under each symmetry."""
    found = np.empty((8, FAR), np.int64)
    for k in range(8):
        for j, (y, x) in enumerate(OFFSETS):
            a, b = (y, -x) if k >= 4 else (y, x)
            for _ in range(k % 4):
                a, b = -b, a
            found[k, j] = OFFSETS.index((a, b))
    return found


def _sides() -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Of N, E, S, W [4096]: 0: no stone lives there, 1: one does, 2 and 3: an eye if of the four others at most 1, or
    none, is the other's; and of these [4096] how many are."""
    kinds, hostile = np.zeros(4096, np.int8), np.zeros(4096, np.int8)
    for code in range(4096):
        states = [code >> 3 * j & 7 for j in range(4)]
        hostile[code] = sum(state > WALL_STATE for state in states)
        if all(1 <= state <= WALL_STATE for state in states):
            kinds[code] = 3 if WALL_STATE in states else 2
        if any(state in (0, 2, 3, 5) for state in states):
            kinds[code] = max(kinds[code], 1)
        else:
            kinds[code] = 0
    return kinds, hostile


WALL_STATE = 4
PLACES = _places()
PLACES.flags.writeable = False


class PatternTables(NamedTuple):
    """What patterns are worth: to a player the factors of their weights, to a learner the numbers of their rows."""

    sides: NDArray[np.int8]
    """[4096], see `_sides`."""
    hostile: NDArray[np.int8]
    """[4096]."""
    places: NDArray[np.int64]
    """[8, 12]: where a pattern's points go under each symmetry."""
    codes: NDArray[np.int32]
    """[a power of 2]: 3x3 patterns in all views, by open addressing."""
    values: NDArray[np.float32]
    """The same: what they are worth, whole numbers; one place more for those that are not there."""
    diamonds: NDArray[np.int64]
    """[a power of 2]: diamonds in all views."""
    blocks: NDArray[np.int64]
    """The same: 8 times the place in `responses`, and which symmetry leads there."""
    responses: NDArray[np.int64]
    """[diamonds, 12]: row of a move at each point; 0: none."""
    shapes: NDArray[np.int64]
    """[a power of 2]: shapes and a point of them, in one view."""
    shape_rows: NDArray[np.int64]
    """The same: their rows."""
    factors: NDArray[np.float64]
    """[rows]: of every feature but the 3x3 pattern."""


class PatternView(NamedTuple):
    """What is kept of a game from move to move, for a size of board."""

    diamond: NDArray[np.int64]
    """[cells, 12]: the cells around each; 0 where there is no board."""
    lines: NDArray[np.int64]
    """[points]: the row of each point."""
    state: NDArray[np.int64]
    """[cells]: from Black's side."""
    values: NDArray[np.float64]
    """[2, points]: of the 3x3 pattern if Black, or White, is to move; 0: no move."""
    sums: NDArray[np.float64]
    """[2, rows of the board]."""
    marks: NDArray[np.int64]
    """[cells + 1]: when a cell was listed last; the newest time."""
    dirty: NDArray[np.int64]
    """[cells + 1]: cells whose patterns are to be looked at again; their number."""
    taken: NDArray[np.int64]
    """[cells + 2]: cells of stones that the last move took; their number; the cell of the last move, 0: none."""
    pairs: NDArray[np.int64]
    """[enough + 1, 2]: (point, row of a feature); their number."""
    undo: NDArray[np.float64]
    """[enough, 2]: (point, value before)."""


def make_view(size: int) -> PatternView:
    """For boards of a size; `begin` fills it."""
    step = size + 1
    cells, points = (size + 2) * step + 1, size * size
    pairs = 3 * FAR + MOST_SHAPE + points
    diamond = np.zeros((cells, FAR), np.int64)
    for y in range(size):
        for x in range(size):
            for j, (down, right) in enumerate(OFFSETS):
                if 0 <= y + down < size and 0 <= x + right < size:
                    diamond[(y + 1) * step + x + 1, j] = (y + down + 1) * step + x + right + 1
    return PatternView(
        diamond,
        np.arange(points) // size,
        np.zeros(cells, np.int64),
        np.zeros((2, points)),
        np.zeros((2, size)),
        np.zeros(cells + 1, np.int64),
        np.zeros(cells + 1, np.int64),
        np.zeros(cells + 2, np.int64),
        np.zeros((pairs + 1, 2), np.int64),
        np.zeros((pairs + points, 2)),
    )


# ---- Words of patterns.


@within
def swapped(code):
    """A pattern as the other player sees it."""
    stones = (code | (code >> 1)) & np.int64(0o1111111111111)
    return code ^ (stones << 2)


@jit
def moved_code(code, points, places, k):
    """A pattern of 8 or 12 points under a symmetry; what is above them stays."""
    found = (code >> (3 * points)) << (3 * points)
    for j in range(points):
        found |= ((code >> (3 * j)) & 7) << (3 * places[k, j])
    return found


@jit
def canonical(code, points, places):
    """The smallest word of a pattern's eight views."""
    best = code
    for k in range(1, 8):
        best = min(best, moved_code(code, points, places, k))
    return best


@jit
def canonical_response(code, j, places):
    """The smallest word of (diamond, its point j) in its eight views: 16 times the diamond's, and the point."""
    best = (code << 4) | j
    for k in range(1, 8):
        best = min(best, (moved_code(code, 12, places, k) << 4) | places[k, j])
    return best


@jit
def canonical_shape(r, cells, n, c):
    """The smallest word of (cells [n], one of them, c) in its eight views: 64 times the bits of a square of 6 by 6, and
    where c is; -1 if they do not fit in one."""
    best = np.int64(-1)
    size = np.int64(r[0, SIZE])
    for k in range(8):
        low_y = low_x = np.int64(1000)
        high_y = high_x = np.int64(-1000)
        for j in range(n):
            y, x = _turned(np.int64(r[2, cells[j]]), size, k)
            low_y, low_x, high_y, high_x = min(low_y, y), min(low_x, x), max(high_y, y), max(high_x, x)
        if high_y - low_y > 5 or high_x - low_x > 5:
            return np.int64(-1)
        bits, at = np.int64(0), np.int64(0)
        for j in range(n):
            y, x = _turned(np.int64(r[2, cells[j]]), size, k)
            place = (y - low_y) * 6 + x - low_x
            bits |= np.int64(1) << place
            if cells[j] == c:
                at = place
        word = (bits << 6) | at
        if best < 0 or word < best:
            best = word
    return best


@jit
def _turned(point, size, k):
    y, x = point // size, point % size
    if k >= 4:
        x = -x
    for _ in range(k % 4):
        y, x = -x, y
    return y, x


@within
def slot(keys, key):
    """Where a word stands in a table of a power of 2 places, or the free place where it would."""
    last = np.int64(len(keys) - 1)
    k = ((key * _HASH) >> 32) & last
    while keys[k] != key and keys[k] != _FREE:
        k = (k + 1) & last
    return k


@jit
def fill(keys, values, new, what):
    """Put words new [K] and what they are worth [K] into a table."""
    for k in range(len(new)):
        at = slot(keys, new[k])
        keys[at] = new[k]
        values[at] = what[k]


@jit
def count(keys, numbers, new, n):
    """Count words new [:n] in a table; returns how many of them were not there."""
    fresh = 0
    for k in range(n):
        at = slot(keys, new[k])
        fresh += keys[at] == _FREE
        keys[at] = new[k]
        numbers[at] += 1
    return fresh


# ---- What is kept from move to move.


@within
def _pattern(v, c, step):
    """The 3x3 pattern around a cell, from Black's side."""
    u = v.state
    near = u[c - step] | (u[c + 1] << 3) | (u[c + step] << 6) | (u[c - 1] << 9)
    far = u[c - step + 1] | (u[c + step + 1] << 3) | (u[c + step - 1] << 6) | (u[c - step - 1] << 9)
    return near | (far << 12)


@within
def _worth(t, code):
    """What the 3x3 pattern is worth to the player who sees it so; 0: no move."""
    kind = t.sides[code & 4095]
    if kind == 0 or (kind >= 2 and t.hostile[code >> 12] <= 3 - kind):
        worth = 0.0
    else:
        at = slot(t.codes, code)
        worth = np.float64(t.values[at] if t.codes[at] == code else t.values[len(t.codes)])
    return worth


@jit
def _refresh(s, i, r, v, t, c):
    """Look at an empty cell's pattern again, or at what is none any more."""
    p, black, white = np.int64(r[2, c]), 0.0, 0.0
    if s[i, BOARD, c] == EMPTY:
        code = _pattern(v, c, np.int64(r[0, SIZE]) + 1)
        black, white = _worth(t, code), _worth(t, swapped(code))
    y = v.lines[p]
    v.sums[0, y] += black - v.values[0, p]
    v.sums[1, y] += white - v.values[1, p]
    v.values[0, p] = black
    v.values[1, p] = white


@jit
def _liberties(s, i, r, head):
    """Of a chain: 1, 2, or 3 if there are more."""
    if s[i, EDGES, head] > 8:  # a liberty has four neighbours at the most
        return 3
    step = np.int64(r[0, SIZE]) + 1
    one, two = np.int64(0), np.int64(0)
    c = head
    while True:
        for e in (c - step, c + 1, c + step, c - 1):
            if s[i, BOARD, e] == EMPTY and e != one and e != two:
                if one == 0:
                    one = e
                elif two == 0:
                    two = e
                else:
                    return 3
        c = np.int64(s[i, FOLLOW, c])
        if c == head:
            return 1 if two == 0 else 2


@jit
def _list(v, c):
    """List a cell, once."""
    last = len(v.dirty) - 1
    if v.marks[c] != v.marks[last]:
        v.marks[c] = v.marks[last]
        v.dirty[v.dirty[last]] = c
        v.dirty[last] += 1


@jit
def _around(s, i, r, v, c):
    """List the empty cells around one."""
    step = np.int64(r[0, SIZE]) + 1
    for e in (c - step, c + 1, c + step, c - 1, c - step + 1, c + step + 1, c + step - 1, c - step - 1):
        if s[i, BOARD, e] == EMPTY:
            _list(v, e)


@jit
def _label(s, i, r, v, c):
    """See how many liberties the chain of the stone on a cell has; where that is news, list what is around."""
    head = np.int64(s[i, CHAIN, c])
    state = np.int64(_liberties(s, i, r, head))
    if s[i, BOARD, c] != BLACK:
        state += _OTHER
    x = head
    while True:
        if v.state[x] != state:
            v.state[x] = state
            _around(s, i, r, v, x)
        x = np.int64(s[i, FOLLOW, x])
        if x == head:
            break


@jit
def begin(s, i, r, v, t):
    """Look at the whole board; of the stones that the last move took nothing is known."""
    last = len(v.dirty) - 1
    for c in range(s.shape[2]):
        v.state[c] = WALL_STATE if s[i, BOARD, c] == WALL else 0
        v.marks[c] = 0
    v.marks[last] = 1
    v.dirty[last] = 0
    v.taken[last] = 0
    v.taken[last + 1] = 0
    points = np.int64(r[0, SIZE]) * np.int64(r[0, SIZE])
    for p in range(points):
        c = np.int64(r[1, p])
        if s[i, BOARD, c] != EMPTY and s[i, CHAIN, c] == c:
            _label(s, i, r, v, c)
    for y in range(v.sums.shape[1]):
        v.sums[0, y] = 0.0
        v.sums[1, y] = 0.0
    for p in range(points):
        v.values[0, p] = 0.0
        v.values[1, p] = 0.0
        _refresh(s, i, r, v, t, np.int64(r[1, p]))


@jit
def latest(s, m, i, r, v):
    """Note which move was the last one, for a view that begins in the middle of a game."""
    made = np.int64(s[i, COUNT, MADE])
    if made > 0 and m[i, made - 1] < np.int64(r[0, SIZE]) * r[0, SIZE]:
        c = np.int64(r[1, m[i, made - 1]])
        if s[i, BOARD, c] != EMPTY:  # it was suicide
            v.taken[len(v.taken) - 1] = c


@jit
def follow(s, w, q, m, r, z, i, v, t, point):
    """A legal move, and what the view sees of it."""
    last = len(v.dirty) - 1
    first = np.int64(s[i, COUNT, EMPTIES]) - 1
    play(s, w, q, m, r, z, i, point)
    v.taken[last] = 0
    v.taken[last + 1] = 0
    if point == np.int64(r[0, SIZE]) * np.int64(r[0, SIZE]):
        return
    c = np.int64(r[1, point])
    step = np.int64(r[0, SIZE]) + 1
    v.marks[last] += 1
    v.dirty[last] = 0
    _list(v, c)
    n = np.int64(s[i, COUNT, EMPTIES]) - first
    for k in range(n):  # the engine has put them behind the cells that were empty
        x = np.int64(s[i, ORDER, first + k])
        v.taken[k] = x
        v.state[x] = 0
    v.taken[last] = n
    if s[i, BOARD, c] != EMPTY:
        v.taken[last + 1] = c
        _label(s, i, r, v, c)
    for e in (c - step, c + 1, c + step, c - 1):
        if s[i, CHAIN, e] != 0 and s[i, CHAIN, e] != s[i, CHAIN, c]:
            _label(s, i, r, v, e)
    for k in range(n):
        x = v.taken[k]
        _list(v, x)
        _around(s, i, r, v, x)
        for e in (x - step, x + 1, x + step, x - 1):
            if s[i, CHAIN, e] != 0:
                _label(s, i, r, v, e)
    for k in range(v.dirty[last]):
        _refresh(s, i, r, v, t, v.dirty[k])


# ---- Features beside the 3x3 pattern.


@within
def _pair(v, p, row):
    end = len(v.pairs) - 1
    n = v.pairs[end, 0]
    v.pairs[n, 0] = p
    v.pairs[n, 1] = row
    v.pairs[end, 0] = n + 1


@within
def diamond_code(v, c, black):
    """The diamond around the stone on a cell, from a player's side."""
    code = v.state[c] << 36
    for j in range(12):
        x = v.diamond[c, j]
        code |= (v.state[x] if x != 0 else WALL_STATE) << (3 * j)
    return code if black else swapped(code)


@jit
def _liberties_after(s, i, r, v, c, own):
    """Of the chain that a stone makes on a cell: 0, 1, or 2 if there are more; its player's states are own + 1 to 3."""
    step = np.int64(r[0, SIZE]) + 1
    other = _OTHER - own
    found, one = 0, np.int64(0)
    for e in (c - step, c + 1, c + step, c - 1):
        if v.state[e] == 0 or v.state[e] == other + 1:  # empty, or about to be
            if e != one:
                found += 1
                one = e
            if found == 2:
                return 2
    for e in (c - step, c + 1, c + step, c - 1):
        if v.state[e] - own < 1 or v.state[e] - own > 3:
            continue
        x = e
        while True:
            for y in (x - step, x + 1, x + step, x - 1):
                gone = v.state[y] == other + 1 and _last_liberty(s, i, y) == c
                if ((v.state[y] == 0 and y != c) or gone) and y != one:
                    found += 1
                    one = y
                    if found == 2:
                        return 2
            x = np.int64(s[i, FOLLOW, x])
            if x == e:
                break
    return found


@within
def _last_liberty(s, i, c):
    """Of the chain of a stone that has only one."""
    head = np.int64(s[i, CHAIN, c])
    return np.int64(s[i, ENDS, head]) // np.int64(s[i, EDGES, head])


@jit
def _saves(s, w, i, r, v, side):
    """Moves after which a chain of the player that has one liberty has two or more."""
    own = np.int64(0) if side == 0 else _OTHER
    step = np.int64(r[0, SIZE]) + 1
    last = len(v.marks) - 1
    v.marks[last] += 1
    for word in range(TENSE, TENSE + ((s.shape[2] + 63) >> 6)):
        bits = w[i, word]
        while bits != 0:
            c = np.int64((word - TENSE) << 6) + np.int64(lowest(bits))
            bits &= bits - _1
            hit = False
            for e in (c - step, c + 1, c + step, c - 1):
                if v.state[e] != own + 1:
                    continue
                hit = True
                x = e
                while True:  # or what holds it is taken
                    for y in (x - step, x + 1, x + step, x - 1):
                        if v.state[y] == _OTHER - own + 1:
                            d = _last_liberty(s, i, y)
                            if d != c and v.marks[d] != v.marks[last] and v.values[side, r[2, d]] != 0.0:
                                v.marks[d] = v.marks[last]
                                _pair(v, np.int64(r[2, d]), SAVES)
                    x = np.int64(s[i, FOLLOW, x])
                    if x == e:
                        break
            fresh = hit and v.marks[c] != v.marks[last] and v.values[side, r[2, c]] != 0.0
            if fresh and _liberties_after(s, i, r, v, c, own) >= 2:
                v.marks[c] = v.marks[last]
                _pair(v, np.int64(r[2, c]), SAVES)


@jit
def find_pairs(s, w, i, r, v, t):
    """List (point, row) of all features of the moves but their 3x3 patterns."""
    side = 0 if s[i, COUNT, TURN] == BLACK else 1
    v.pairs[len(v.pairs) - 1, 0] = 0
    last = len(v.taken) - 2
    c = v.taken[last + 1]
    if c != 0:
        code = diamond_code(v, c, side == 0)
        at = slot(t.diamonds, code)
        known = t.diamonds[at] == code
        block, k = t.blocks[at] >> 3, t.blocks[at] & 7
        for j in range(12):
            x = v.diamond[c, j]
            if x == 0:
                continue
            p = np.int64(r[2, x])
            if v.values[side, p] == 0.0:
                continue
            if j < 8:
                _pair(v, p, BESIDE if j < 4 else ACROSS)
            if known:
                row = t.responses[block, t.places[k, j]]
                if row != 0:
                    _pair(v, p, RESPONSE)
                    _pair(v, p, row)
    _saves(s, w, i, r, v, side)
    n = v.taken[last]
    if LEAST_SHAPE <= n <= MOST_SHAPE:
        for k in range(n):
            x = v.taken[k]
            if s[i, BOARD, x] != EMPTY or v.values[side, r[2, x]] == 0.0:
                continue
            word = canonical_shape(r, v.taken, n, x)
            at = slot(t.shapes, word)
            if word >= 0 and t.shapes[at] == word:
                _pair(v, np.int64(r[2, x]), t.shape_rows[at])


# ---- Playing.


@jit
def _lean(r, v, t, side):
    """Multiply moves' weights by the factors of their features; returns how many can be undone."""
    n, k, number = 0, 0, v.pairs[len(v.pairs) - 1, 0]
    while k < number:
        p = v.pairs[k, 0]
        factor = 1.0
        while k < number and v.pairs[k, 0] == p:
            factor *= t.factors[v.pairs[k, 1]]
            k += 1
        n = _set(v, side, p, min(HIGH, max(1.0, np.floor(v.values[side, p] * factor))), n)
    return n


@within
def _set(v, side, p, value, n):
    """Set a move's weight, noting what it was."""
    was = v.values[side, p]
    v.undo[n, 0] = p
    v.undo[n, 1] = was
    v.sums[side, v.lines[p]] += value - was
    v.values[side, p] = value
    return n + 1


@jit
def _back(v, side, n):
    """Undo the last n settings."""
    for k in range(n - 1, -1, -1):
        p = np.int64(v.undo[k, 0])
        v.sums[side, v.lines[p]] += v.undo[k, 1] - v.values[side, p]
        v.values[side, p] = v.undo[k, 1]


@jit
def draw(s, w, q, r, z, i, v, t, greedy):
    """A move drawn from the softmax over the legal ones that fill no own eye, or the most probable one; if there is
    none, a pass."""
    side = 0 if s[i, COUNT, TURN] == BLACK else 1
    points = np.int64(r[0, SIZE]) * np.int64(r[0, SIZE])
    find_pairs(s, w, i, r, v, t)
    n = _lean(r, v, t, side)
    chosen = points
    while True:
        total = 0.0
        for y in range(v.sums.shape[1]):
            total += v.sums[side, y]
        if total <= 0.0:
            break
        if greedy:
            p = np.int64(0)
            for k in range(1, points):
                if v.values[side, k] > v.values[side, p]:
                    p = k
        else:
            w[i, DICE] += GAMMA
            left = min(np.floor(np.float64(_mix(w[i, DICE]) >> _11) * 2.0**-53 * total), total - 1.0)
            y = 0
            while left >= v.sums[side, y]:
                left -= v.sums[side, y]
                y += 1
            p = np.int64(y * np.int64(r[0, SIZE]))
            while left >= v.values[side, p]:
                left -= v.values[side, p]
                p += 1
        if allowed(s, w, q, r, z, i, np.uint64(r[1, p])):
            chosen = p
            break
        n = _set(v, side, p, 0.0, n)  # ko
    _back(v, side, n)
    return chosen


@jit
def outcome_rows(s, w, q, m, s2, w2, q2, m2, rows, keys, r, z, v, t, komi, owner, scratch, out):
    """Write out [K]: who wins one playout of games rows [K] of the second arrays, 1, 0 or -1 for the player to move.

    It is played on row 0 of the first ones; keys [K] are what is drawn by. Returns the number of moves.
    """
    number = 0
    for k in range(len(rows)):
        copy_row(s, w, q, m, 0, s2, w2, q2, m2, rows[k])
        w[0, DICE] = _mix(keys[k] + GAMMA)
        black = s[0, COUNT, TURN] == BLACK
        begin(s, 0, r, v, t)
        latest(s, m, 0, r, v)
        while s[0, COUNT, OVER] == 0:
            follow(s, w, q, m, r, z, 0, v, t, draw(s, w, q, r, z, 0, v, t, False))
            number += 1
        score = area(s, r, 0, owner, scratch) - komi
        won = 1.0 if score > 0 else -1.0 if score < 0 else 0.0
        out[k] = won if black else -won
    return number


# ---- Learning.


class Scratch(NamedTuple):
    """What a learner works with; the tables' values are rows then."""

    rows: NDArray[np.int64]
    """[points, FEATURES]: of each move."""
    number: NDArray[np.int64]
    """[points]: how many; 0: no move."""
    score: NDArray[np.float64]
    """[points]: sums of weights; then probabilities."""
    gradient: NDArray[np.float64]
    """[rows]."""
    marks: NDArray[np.int64]
    """[rows + 1]: when a row was touched last; the time."""
    touched: NDArray[np.int64]
    """[points * FEATURES + 1]: rows of the gradient that are not 0; their number."""


@jit
def find_features(s, w, q, r, z, i, v, t, x):
    """The rows of all moves of the player to move; returns the number of moves."""
    side = 0 if s[i, COUNT, TURN] == BLACK else 1
    n = 0
    for p in range(len(x.number)):
        row = np.int64(v.values[side, p])
        x.number[p] = 0
        if row != 0 and allowed(s, w, q, r, z, i, np.uint64(r[1, p])):
            x.rows[p, 0] = row
            x.number[p] = 1
            n += 1
    find_pairs(s, w, i, r, v, t)
    for k in range(v.pairs[len(v.pairs) - 1, 0]):
        p = v.pairs[k, 0]
        if x.number[p] > 0:
            x.rows[p, x.number[p]] = v.pairs[k, 1]
            x.number[p] += 1
    return n


@jit
def softmax(x, weights):
    """Write the moves' probabilities to score; returns the most probable one, -1 if there is none."""
    best, most = -1, -np.inf
    for p in range(len(x.number)):
        if x.number[p] > 0:
            score = 0.0
            for k in range(x.number[p]):
                score += weights[x.rows[p, k]]
            x.score[p] = score
            if score > most:
                best, most = p, score
    total = 0.0
    for p in range(len(x.number)):
        x.score[p] = np.exp(x.score[p] - most) if x.number[p] > 0 else 0.0
        total += x.score[p]
    for p in range(len(x.number)):
        x.score[p] /= total
    return best


@jit
def find_gradient(x, move):
    """Of the log-probability of a move: for every feature, how often the move has it less how often it is expected."""
    last, time = len(x.touched) - 1, len(x.marks) - 1
    x.touched[last] = 0
    x.marks[time] += 1
    for p in range(len(x.number)):
        if x.number[p] == 0:
            continue
        change = (1.0 if p == move else 0.0) - x.score[p]
        for k in range(x.number[p]):
            row = x.rows[p, k]
            if x.marks[row] != x.marks[time]:
                x.marks[row] = x.marks[time]
                x.touched[x.touched[last]] = row
                x.touched[last] += 1
                x.gradient[row] = 0.0
            x.gradient[row] += change


@jit
def look_row(s, w, q, m, r, z, v, t, x, moves, n, weights, key, greedy, features):
    """Of game 0 after moves [:n] the move that is drawn by a key; with `features` none, but the rows of all moves, and
    their probabilities as the score."""
    for k in range(n - 1):
        play(s, w, q, m, r, z, 0, moves[k])
    begin(s, 0, r, v, t)
    if n > 0:
        follow(s, w, q, m, r, z, 0, v, t, moves[n - 1])
    if features:
        if find_features(s, w, q, r, z, 0, v, t, x) > 0:
            softmax(x, weights)
        return np.int64(-1)
    w[0, DICE] = _mix(key + GAMMA)
    return draw(s, w, q, r, z, 0, v, t, greedy)


@jit
def learn_games(s, w, q, m, r, z, v, t, x, moves, starts, ends, weights, squares, rate, sums):
    """Replay games (moves starts[g] .. ends[g]-1) and after each position go up the log-probability of its move.

    AdaGrad (Duchi et al. 2011): a weight's step is rate * gradient / sqrt(sum of its gradients' squares). Adds to sums
    [5]: positions, those whose move is one that the policy knows, sum of -log p of these, first guesses that were
    right, moves that were passes. With a rate of 0 nothing is learned.
    """
    points = np.int64(r[0, SIZE]) * np.int64(r[0, SIZE])
    last = len(x.touched) - 1
    for g in range(len(starts)):
        clear_view(s, w, q, m, r, z, v, t)
        for k in range(starts[g], ends[g]):
            move = np.int64(moves[k])
            sums[0] += 1
            n = find_features(s, w, q, r, z, 0, v, t, x)
            guess = softmax(x, weights) if n > 0 else points
            sums[3] += guess == move
            sums[4] += move == points
            if move < points and x.number[move] > 0:
                sums[1] += 1
                sums[2] -= np.log(max(x.score[move], 1e-300))
                if rate > 0.0:
                    find_gradient(x, move)
                    for j in range(x.touched[last]):
                        row = x.touched[j]
                        change = x.gradient[row]
                        squares[row] += change * change
                        weights[row] += rate * change / (np.sqrt(squares[row]) + 1e-8)
            follow(s, w, q, m, r, z, 0, v, t, move)


@jit
def clear_view(s, w, q, m, r, z, v, t):
    """The empty board in row 0 and in the view."""
    clear(s, w, q, m, r, z, 0)
    begin(s, 0, r, v, t)


@jit
def patterns_of_game(s, w, q, m, r, z, v, t, x, moves, start, end, squares, responses, shapes):
    """Write the words of the patterns of all moves in a game: 3x3, responses and shapes [enough]; returns how many."""
    places = t.places
    points = np.int64(r[0, SIZE]) * np.int64(r[0, SIZE])
    step = np.int64(r[0, SIZE]) + 1
    last = len(v.taken) - 2
    a, b, d = 0, 0, 0
    clear_view(s, w, q, m, r, z, v, t)
    for k in range(start, end):
        black = s[0, COUNT, TURN] == BLACK
        n = find_features(s, w, q, r, z, 0, v, t, x)
        if moves[k] < points and n > 0:
            for p in range(points):
                if x.number[p] > 0:
                    code = _pattern(v, np.int64(r[1, p]), step)
                    squares[a] = canonical(code if black else swapped(code), 8, places)
                    a += 1
            c = v.taken[last + 1]
            if c != 0:
                code = diamond_code(v, c, black)
                for j in range(12):
                    y = v.diamond[c, j]
                    if y != 0 and x.number[r[2, y]] > 0:
                        responses[b] = canonical_response(code, j, places)
                        b += 1
            taken = v.taken[last]
            if LEAST_SHAPE <= taken <= MOST_SHAPE:
                for j in range(taken):
                    y = v.taken[j]
                    if x.number[r[2, y]] > 0:
                        word = canonical_shape(r, v.taken, taken, y)
                        if word >= 0:
                            shapes[d] = word
                            d += 1
        follow(s, w, q, m, r, z, 0, v, t, moves[k])
    return a, b, d


# ---- Tables.


@jit
def view_words(codes, points, places, out):
    """Write out [8, K]: the words of patterns [K] under each symmetry."""
    for k in range(8):
        for n in range(len(codes)):
            out[k, n] = moved_code(codes[n], points, places, k)


@jit
def response_words(diamonds, places, out):
    """Write out [K, 12]: the words of diamonds [K], each with each of its points."""
    for n in range(len(diamonds)):
        for j in range(12):
            out[n, j] = canonical_response(diamonds[n], j, places)


def table_of(words: NDArray[np.int64], what: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words and what they are worth, by open addressing, at most half full."""
    keys = np.full(1 << max(4, (2 * len(words)).bit_length()), _FREE, np.int64)
    values = np.zeros(len(keys), np.int64)
    fill(keys, values, words, what)
    return keys, values


def make_tables(
    squares: NDArray[np.int64], responses: NDArray[np.int64], shapes: NDArray[np.int64]
) -> tuple[PatternTables, NDArray[np.int64]]:
    """Tables for a learner, whose values are rows; and those rows, int64, for `worth`.

    Args:
        squares: words of 3x3 patterns, from `canonical`; their rows begin with `FIRST`.
        responses: from `canonical_response`, sorted; their rows come next.
        shapes: from `canonical_shape`; their rows come last.
    """
    after = FIRST + len(squares)
    views = np.empty((8, len(squares)), np.int64)
    view_words(squares, 8, PLACES, views)
    codes, rows = table_of(views.ravel(), np.tile(np.arange(FIRST, after), 8))
    rows = np.append(rows, ABSENT)
    diamonds = np.unique(responses >> 4)
    views = np.empty((8, len(diamonds)), np.int64)
    view_words(diamonds, FAR, PLACES, views)
    back = np.array([next(k for k in range(8) if (PLACES[k, PLACES[j]] == np.arange(FAR)).all()) for j in range(8)])
    words, blocks = table_of(
        views.ravel(), (8 * np.arange(len(diamonds))[None, :] + back[:, None]).ravel().astype(np.int64)
    )
    each = np.empty((len(diamonds), FAR), np.int64)
    response_words(diamonds, PLACES, each)
    at = np.minimum(np.searchsorted(responses, each), max(len(responses) - 1, 0))
    found = np.where(responses[at] == each, after + at, NONE) if len(responses) else each
    shape_keys, shape_rows = table_of(shapes, after + len(responses) + np.arange(len(shapes)))
    total = after + len(responses) + len(shapes)
    sides, hostile = _sides()
    return PatternTables(
        sides, hostile, PLACES, codes.astype(np.int32), rows.astype(np.float32), words, blocks, found, shape_keys,
        shape_rows, np.ones(total),
    ), rows  # fmt: skip


def worth(tables: PatternTables, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> PatternTables:
    """The same tables for a player: factors in the place of rows."""
    factors = np.exp(np.clip(weights, -20, 20))
    values = np.clip(np.floor(SCALE * factors[rows]), 1.0, HIGH)
    return tables._replace(values=values.astype(np.float32), factors=factors)
