# mypy: allow-untyped-defs
"""The rules of Go in numba, on arrays of many games; `rlab.envs.go.boards` makes objects of them.

The rules are Tromp and Taylor's (https://tromp.github.io/go.html) with their variants as data: positional or
situational superko or simple ko, suicide or not, any limit of moves; komi is added to a score elsewhere. A *position*
is the colour of every point. Superko is part of legality: every position of a game is kept, and a move that would
repeat one is not legal.

A board is a row of *cells*: its points with a wall around them, so that all four neighbours of a point exist. Stones of
a chain are a ring (FOLLOW) and name its head (CHAIN). At the head stand the chain's *edges*, which are its pairs of
(stone, empty neighbour): a liberty counts once for every stone that touches it, which can be kept up to date without a
search, and there are 0 when the chain has no liberty. A cell is a chain's last liberty if all its edges lead there.
With them stand their *ends*, the sum of the numbers of the cells they lead to.

A cell is *tense* if it may be some chain's last liberty; only there can stones be taken. `put` looks at the few chains
whose edges it changes: where 1 to 4 edges all lead to one cell, their ends divided by their number give it. A cell that
is tense for nothing costs a look and is corrected then; one that should be tense and is not would be a mistake. Of all
other empty cells a stone lives if an empty cell or an own stone is beside it, so that legality is a loop over the board
without branches, and a look at the few tense cells.

Positions are compared by two words of 64 bits each (Zobrist 1970, https://minds.wisconsin.edu/handle/1793/57624): the
first finds, the second, worked out only then, confirms. Most moves need neither: a position cannot have been there
before if none with as many black and as many white stones was, and that is the same for all moves that take nothing.

In all functions `s`, `w`, `q` and `m` are the arrays of `Games`, `r` and `z` those of `Rules`, `i` is a game's row, `c`
a cell. Those that Python calls loop over rows and hold no GIL. Rows know nothing of each other, so neither their number
nor the threads that share them change a game. Cells are unsigned throughout: numba asks of every signed index whether
it counts from the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from rlab.envs.splitmix import GAMMA, mix
from rlab.kernels import compiled

EMPTY, BLACK, WHITE, WALL = range(4)
POSITIONAL, SITUATIONAL, SIMPLE = range(3)
"""Ko: no position twice; no position twice with the same player to move; no stone taken back at once."""

SIZE, KO_RULE, SUICIDE, CAP = range(4)
"""First row of `Rules.numbers`."""
(BOARD, NEAR, CHAIN, FOLLOW, EDGES, ENDS, STONES, ORDER, PLACE, COUNT) = range(10)
"""Planes of `Games.cells`: the colour of a cell; how many of its neighbours are black, white, wall, and not empty (4
bits each); of a stone the head of its chain, else 0; of a stone the next one of its chain; of a head its chain's edges,
ends (modulo 2^16) and number of stones; the empty cells first, in any order; where an empty cell stands in that order;
and the following."""
(TURN, MADE, PASSES, KO, EMPTIES, BLACKS, WHITES, FRESH, OVER) = range(9)
"""Places of plane COUNT: who moves, moves made, passes in a row before now, the cell that simple ko forbids (0: none),
empty points, black and white stones, whether a stone that takes none makes a position that never was, whether the game
is over."""
PLANES = 10
DICE, TENSE = 2, 3
"""Places of `Games.words`; a bit for every cell from TENSE on."""

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without numba's run-time: nothing here makes an array, and to count references to those that exist takes nine tenths
of the time of a move."""
jit = compiled(**_OPTIONS)
within = compiled(inline="always", **_OPTIONS)
_mix = jit(mix)
_32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_1, _5, _6, _16, _63 = (np.uint64(n) for n in (1, 5, 6, 16, 63))
_PART = np.array([0, 65536, 32768, 21846, 16384, 0], np.uint64)
"""2^16 / n, rounded up, for n = 1 to 4: (k * _PART[n]) >> 16 is k // n for k < 2^14."""
_NEAR = np.array([0, 0x1001, 0x1010, 0x1100], np.uint16)
_FULL = np.uint16(0x4000)
"""Bit of NEAR: no neighbour is empty."""
_MANY = 0x4000


class Rules(NamedTuple):
    """What holds for all games."""

    numbers: NDArray[np.uint16]
    """[3, cells]: SIZE, KO_RULE, SUICIDE and CAP (moves, passes among them, after which a game is over); the cell of
    every point, row by row; the point of every cell."""
    words: NDArray[np.uint64]
    """[2, 3, cells]: random words for a stone of colour 1, 2 at a cell; [., 0, 0] is that of white's turn, [., 0, 1]
    the empty board's."""


class Games(NamedTuple):
    """All that N games are; a game is row i of every array."""

    cells: NDArray[np.uint16]
    """[N, PLANES, cells]."""
    words: NDArray[np.uint64]
    """[N, cells]: of a head, its stones' words together. In the wall's first cells the position's two words, the dice
    (SplitMix64) and which cells are tense, 64 a word."""
    seen: NDArray[np.uint64]
    """[N, 3, a power of 2]: the positions that have been by their first word (0: none here), with their second one; and
    bits for (black stones, white stones) that have been."""
    moves: NDArray[np.uint16]
    """[N, cap]: points; n * n is a pass."""


@jit
def below(w, i, n):
    """Draw from 0 .. n-1 for n < 2^16, with a bias below 2^-16 of a probability (Lemire 2019, without rejection)."""
    w[i, DICE] += GAMMA
    return np.int64(((_mix(w[i, DICE]) & _LOW) * np.uint64(n)) >> _32)


@intrinsic
def lowest(typing, bits):
    """The number of the lowest bit that is set; one must be."""

    def build(context, builder, signature, values):
        return builder.cttz(values[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), build


@within
def _tense(c):
    """(place in `Games.words`, number of the bit) of a cell."""
    return np.uint64(TENSE) + (c >> _6), c & _63


# ---- A row begins, or becomes another's.


@jit
def clear(s, w, q, m, r, z, i):
    """The empty board, black to move."""
    size = np.int64(r[0, SIZE])
    for c in range(s.shape[2]):
        s[i, BOARD, c] = WALL
        s[i, NEAR, c] = 0
        s[i, CHAIN, c] = 0
        s[i, COUNT, c] = 0
    for p in range(size * size):
        c = r[1, p]
        s[i, BOARD, c] = EMPTY
        s[i, ORDER, p] = c
        s[i, PLACE, c] = p
    for k in range(size):
        for c in (r[1, k], r[1, k * size], r[1, k * size + size - 1], r[1, size * size - 1 - k]):
            s[i, NEAR, c] += _NEAR[WALL]
    for k in range((s.shape[2] + 63) >> 6):
        w[i, TENSE + k] = 0
    s[i, EDGES, 0] = _MANY
    s[i, COUNT, TURN] = BLACK
    s[i, COUNT, EMPTIES] = size * size
    w[i, 0] = z[0, 0, 1]
    w[i, 1] = z[1, 0, 1]
    forget(s, w, q, r, z, i)


@jit
def forget(s, w, q, r, z, i):
    """Of the positions that have been, keep only this one."""
    if r[0, KO_RULE] == SIMPLE:
        return
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    for k in range(q.shape[2]):
        q[i, 0, k] = 0
    for k in range(min(q.shape[2], ((points + 1) * (points + 1) >> 6) + 1)):
        q[i, 2, k] = 0
    keep(s, w, q, r, z, i)


@jit
def copy_row(s, w, q, m, i, s2, w2, q2, m2, j):
    """Row j of the second games becomes row i of the first; the dice stay where they are."""
    for plane in range(PLANES):
        for c in range(s.shape[2]):
            s[i, plane, c] = s2[j, plane, c]
    for c in range(w.shape[1]):
        if c != DICE:
            w[i, c] = w2[j, c]
    for part in range(3):
        for c in range(q.shape[2]):
            q[i, part, c] = q2[j, part, c]
    for move in range(s2[j, COUNT, MADE]):
        m[i, move] = m2[j, move]


@jit
def copy(s, w, q, m, to, s2, w2, q2, m2, of):
    """Rows of[k] of the second games become rows to[k] of the first."""
    for k in range(len(to)):
        copy_row(s, w, q, m, to[k], s2, w2, q2, m2, of[k])


# ---- Positions that have been.


@within
def slot(q, i, word):
    """Where a first word stands among the kept, or the free place where it would."""
    last = np.uint64(q.shape[2] - 1)
    k = word & last
    while q[i, 0, k] != 0 and q[i, 0, k] != word:
        k = (k + _1) & last
    return k


@within
def _bit(q, r, blacks, whites):
    """(word, bit) of a pair of counts; pairs may share one if the limit of moves is small."""
    points = np.uint64(r[0, SIZE]) * np.uint64(r[0, SIZE])
    n = np.uint64(blacks) * (points + _1) + np.uint64(whites)
    return (n >> _6) & np.uint64(q.shape[2] - 1), _1 << (n & _63)


@jit
def keep(s, w, q, r, z, i):
    """Note this position, and whether a stone that takes none makes one that never was."""
    me = s[i, COUNT, TURN]
    word, second = w[i, 0], w[i, 1]
    if r[0, KO_RULE] == SITUATIONAL and me == WHITE:
        word ^= z[0, 0, 0]
        second ^= z[1, 0, 0]
    k = slot(q, i, word)
    if q[i, 0, k] == 0:
        q[i, 0, k] = word
        q[i, 1, k] = second
    blacks, whites = s[i, COUNT, BLACKS], s[i, COUNT, WHITES]
    where, bit = _bit(q, r, blacks, whites)
    q[i, 2, where] |= bit
    if me == BLACK:
        where, bit = _bit(q, r, blacks + 1, whites)
    else:
        where, bit = _bit(q, r, blacks, whites + 1)
    s[i, COUNT, FRESH] = (q[i, 2, where] & bit) == 0


# ---- Legality of a point.


@within
def _calm(near, me):
    """Whether a stone lives on an empty cell that is no chain's last liberty, and so takes nothing."""
    return (near & _FULL == 0) | (near & (0x0F if me == BLACK else 0xF0) != 0)


@within
def _look(s, i, c, me, step):
    """Of a stone of `me` on the empty cell c: whether it has a liberty without taking any, whether it takes stones, and
    whether c is a chain's last liberty.

    It has a liberty beside it, or joins a chain with another one. A chain whose edges are as many as its stones beside
    c has its last liberty there; the edges of chain 0, which is no chain, are too many. There are no branches to guess.
    """
    hn, hs, hw, he = s[i, CHAIN, c - step], s[i, CHAIN, c + step], s[i, CHAIN, c - _1], s[i, CHAIN, c + _1]
    bn, bs, bw, be = s[i, BOARD, c - step], s[i, BOARD, c + step], s[i, BOARD, c - _1], s[i, BOARD, c + _1]
    ns, nw, ne, sw, se, we = hn == hs, hn == hw, hn == he, hs == hw, hs == he, hw == he
    last_n = np.int64(s[i, EDGES, hn]) - ns - nw - ne == 1
    last_s = np.int64(s[i, EDGES, hs]) - ns - sw - se == 1
    last_w = np.int64(s[i, EDGES, hw]) - nw - sw - we == 1
    last_e = np.int64(s[i, EDGES, he]) - ne - se - we == 1
    free = (bn == EMPTY) | (bs == EMPTY) | (bw == EMPTY) | (be == EMPTY)
    joins = ((bn == me) & (not last_n)) | ((bs == me) & (not last_s))
    joins |= ((bw == me) & (not last_w)) | ((be == me) & (not last_e))
    other = np.int64(3) - me
    takes = ((bn == other) & last_n) | ((bs == other) & last_s) | ((bw == other) & last_w) | ((be == other) & last_e)
    return free | joins, takes, last_n | last_s | last_w | last_e


@within
def _may(s, w, q, r, z, i, c, lives, takes):
    """Whether a stone on cell c, which lives without that, or takes stones, or dies, is no forbidden suicide or ko."""
    if not (lives | takes) and r[0, SUICIDE] == 0:
        good = False
    elif r[0, KO_RULE] == SIMPLE:
        good = c != s[i, COUNT, KO]
    elif lives and not takes and s[i, COUNT, FRESH] != 0:
        good = True
    else:
        good = not _repeats(s, w, q, r, z, i, c, takes, lives)
    return good


@within
def allowed(s, w, q, r, z, i, c):
    """Whether the player to move may put a stone on cell c, which is empty: it lives, takes or may die, and no ko."""
    me = np.int64(s[i, COUNT, TURN])
    lives, takes = _calm(s[i, NEAR, c], me), False
    word, bit = _tense(c)
    if w[i, word] >> bit & _1:
        lives, takes, _ = _look(s, i, c, me, r[0, SIZE] + _1)
    return _may(s, w, q, r, z, i, c, lives, takes)


@jit
def _repeats(s, w, q, r, z, i, c, takes, lives):
    """Whether the position after a stone on c has been, if it takes stones, or lives without that, or dies."""
    me = np.int64(s[i, COUNT, TURN])
    step = r[0, SIZE] + _1
    word = w[i, 0]
    if takes or lives:
        word ^= z[0, me, c]
    if r[0, KO_RULE] == SITUATIONAL and me == BLACK:
        word ^= z[0, 0, 0]
    gone = me
    a = b = d = e = np.uint16(0)
    if takes or not lives:
        gone = 3 - me if takes else me
        a, b, d, e = _last(s, i, c, step, gone)
        if a != 0:
            word ^= w[i, a]
        if b != 0:
            word ^= w[i, b]
        if d != 0:
            word ^= w[i, d]
        if e != 0:
            word ^= w[i, e]
    k = slot(q, i, word)
    if q[i, 0, k] == 0:
        return False
    second = w[i, 1]
    if takes or lives:
        second ^= z[1, me, c]
    if r[0, KO_RULE] == SITUATIONAL and me == BLACK:
        second ^= z[1, 0, 0]
    for head in (a, b, d, e):
        if head != 0:
            stone = head
            while True:
                second ^= z[1, gone, stone]
                stone = s[i, FOLLOW, stone]
                if stone == head:
                    break
    return q[i, 1, k] == second


@within
def _last(s, i, c, step, colour):
    """The chains of a colour at c that have no liberty but it, each once; 0: none."""
    a, b = s[i, CHAIN, c - step], s[i, CHAIN, c + step]
    d, e = s[i, CHAIN, c - _1], s[i, CHAIN, c + _1]
    s[i, EDGES, a] -= 1
    s[i, EDGES, b] -= 1
    s[i, EDGES, d] -= 1
    s[i, EDGES, e] -= 1
    last_a = s[i, EDGES, a] == 0 and s[i, BOARD, a] == colour
    last_b = s[i, EDGES, b] == 0 and s[i, BOARD, b] == colour and b != a
    last_d = s[i, EDGES, d] == 0 and s[i, BOARD, d] == colour and d != a and d != b
    last_e = s[i, EDGES, e] == 0 and s[i, BOARD, e] == colour and e != a and e != b and e != d
    s[i, EDGES, a] += 1
    s[i, EDGES, b] += 1
    s[i, EDGES, d] += 1
    s[i, EDGES, e] += 1
    zero = np.uint16(0)
    return (a if last_a else zero), (b if last_b else zero), (d if last_d else zero), (e if last_e else zero)


@jit
def legal(s, w, q, r, z, i, found):
    """Write to found [0], uint16 [2, cells], which cells are legal (0 or 1); return their number, without the pass.

    First as if no cell were tense, all at once; then the tense ones, and ko where stones are taken. Only if suicide is
    allowed, or the position might have been, each is asked by itself.
    """
    me = np.int64(s[i, COUNT, TURN])
    if r[0, SUICIDE] != 0 or (r[0, KO_RULE] != SIMPLE and s[i, COUNT, FRESH] == 0):
        n = 0
        for c in range(s.shape[2]):
            found[0, c] = 0
        for k in range(s[i, COUNT, EMPTIES]):
            c = s[i, ORDER, k]
            good = allowed(s, w, q, r, z, i, c)
            found[0, c] = good
            n += good
        return n
    number = np.uint16(0)  # of the cells' own type, so that many are added at once
    for c in range(s.shape[2]):
        good = np.uint16((s[i, BOARD, c] == EMPTY) & _calm(s[i, NEAR, c], me))
        found[0, c] = good
        number = np.uint16(number + good)
    n = np.int64(number)
    for word in range(np.uint64(TENSE), (s.shape[2] + 63 >> 6) + np.uint64(TENSE)):
        bits = w[i, word]
        while bits != 0:
            bit = lowest(bits)
            bits &= bits - _1
            c = (word - np.uint64(TENSE) << _6) + bit
            lives, takes, last = _look(s, i, c, me, r[0, SIZE] + _1)
            w[i, word] ^= np.uint64(not last) << bit
            good = lives
            if takes:
                good = _may(s, w, q, r, z, i, c, lives, takes)
            n += np.int64(good) - np.int64(found[0, c])
            found[0, c] = good
    return n


# ---- A move.


@jit
def _take(s, w, q, r, z, i, head):
    """Take a chain off the board and return how many stones it had."""
    colour = s[i, BOARD, head]
    step = r[0, SIZE] + _1
    c = head
    n = 0
    first = s[i, COUNT, EMPTIES]
    while True:
        s[i, BOARD, c] = EMPTY
        w[i, 1] ^= z[1, colour, c]
        # The chain's own edges go wrong by this and are not read again; those of head 0 mean nothing.
        for e in (c - step, c + step, c - _1, c + _1):
            s[i, EDGES, s[i, CHAIN, e]] += 1
            s[i, ENDS, s[i, CHAIN, e]] += c
            s[i, NEAR, e] -= _NEAR[colour]
        s[i, ORDER, first + n] = c
        s[i, PLACE, c] = first + n
        n += 1
        c = s[i, FOLLOW, c]
        if c == head:
            break
    for k in range(first, first + n):  # not before: above, its stones must still be known as of one chain
        s[i, CHAIN, s[i, ORDER, k]] = 0
    s[i, COUNT, EMPTIES] = first + n
    s[i, COUNT, BLACKS + colour - BLACK] -= n
    w[i, 0] ^= w[i, head]
    return n


@jit
def _join(s, w, i, a, b):
    """Two chains become one; the larger one's head stays."""
    if s[i, STONES, a] < s[i, STONES, b]:
        a, b = b, a
    c = b
    while True:
        s[i, CHAIN, c] = a
        c = s[i, FOLLOW, c]
        if c == b:
            break
    s[i, FOLLOW, a], s[i, FOLLOW, b] = s[i, FOLLOW, b], s[i, FOLLOW, a]
    s[i, EDGES, a] += s[i, EDGES, b]
    s[i, ENDS, a] += s[i, ENDS, b]
    s[i, STONES, a] += s[i, STONES, b]
    w[i, a] ^= w[i, b]


@within
def _note(s, w, i, head):
    """If a chain's edges all lead to one cell, this is tense. There are no branches to guess."""
    edges = np.uint64(s[i, EDGES, head])
    ends = np.uint64(s[i, ENDS, head])
    c = (ends * _PART[min(edges, _5)]) >> _16
    word, bit = _tense(c)
    w[i, word] |= np.uint64((c * edges == ends) & (s[i, BOARD, c] == EMPTY)) << bit


@jit
def put(s, w, q, r, z, i, c, me):
    """Put a stone on an empty cell with all that follows from it, and return the cell that simple ko forbids now."""
    other = 3 - me
    step = r[0, SIZE] + _1
    k = s[i, PLACE, c]
    last = s[i, COUNT, EMPTIES] - 1
    moved = s[i, ORDER, last]
    s[i, ORDER, k] = moved
    s[i, PLACE, moved] = k
    s[i, COUNT, EMPTIES] = last
    s[i, COUNT, BLACKS + me - BLACK] += 1
    near = s[i, NEAR, c]
    s[i, BOARD, c] = me
    s[i, CHAIN, c] = c
    s[i, FOLLOW, c] = c
    s[i, STONES, c] = 1
    s[i, EDGES, c] = 4 - (near >> 12)
    w[i, c] = z[0, me, c]
    w[i, 0] ^= z[0, me, c]
    w[i, 1] ^= z[1, me, c]
    word, bit = _tense(c)
    w[i, word] &= ~(_1 << bit)
    ends = np.uint64(0)
    for e in (c - step, c + step, c - _1, c + _1):
        s[i, EDGES, s[i, CHAIN, e]] -= 1
        s[i, ENDS, s[i, CHAIN, e]] -= c
        s[i, NEAR, e] += _NEAR[me]
        ends += e if s[i, BOARD, e] == EMPTY else np.uint64(0)
    s[i, ENDS, c] = ends
    taken = 0
    ko = np.uint64(0)
    if near != 0:
        for e in (c - step, c + step, c - _1, c + _1):
            there = s[i, BOARD, e]
            if there == other:
                if s[i, EDGES, s[i, CHAIN, e]] == 0:
                    taken += _take(s, w, q, r, z, i, s[i, CHAIN, e])
                    ko = e
                else:
                    _note(s, w, i, s[i, CHAIN, e])
            elif there == me and s[i, CHAIN, e] != s[i, CHAIN, c]:
                _join(s, w, i, s[i, CHAIN, e], s[i, CHAIN, c])
        head = s[i, CHAIN, c]
        if s[i, EDGES, head] == 0:
            _take(s, w, q, r, z, i, head)
        else:
            _note(s, w, i, head)
        if taken != 1 or s[i, STONES, head] != 1 or s[i, EDGES, head] != 1:
            ko = np.uint64(0)
    s[i, EDGES, 0] = _MANY
    return ko


@jit
def play(s, w, q, m, r, z, i, point):
    """A legal move of the player to move; n * n is a pass. Whether it is legal is not looked at."""
    me = s[i, COUNT, TURN]
    made = s[i, COUNT, MADE]
    m[i, made] = point
    s[i, COUNT, MADE] = made + 1
    s[i, COUNT, TURN] = 3 - me
    if point == r[0, SIZE] * r[0, SIZE]:
        s[i, COUNT, PASSES] += 1
        s[i, COUNT, KO] = 0
    else:
        s[i, COUNT, PASSES] = 0
        s[i, COUNT, KO] = put(s, w, q, r, z, i, r[1, point], me)
    if r[0, KO_RULE] != SIMPLE:
        keep(s, w, q, r, z, i)
    if s[i, COUNT, PASSES] >= 2 or made + 1 >= r[0, CAP]:
        s[i, COUNT, OVER] = 1


@jit
def chance(s, w, q, r, z, i):
    """A point that is drawn from all legal moves, the pass among them, each as probable."""
    n = s[i, COUNT, EMPTIES]
    while True:
        k = below(w, i, n + 1)
        if k == n:
            return np.int64(r[0, SIZE]) * r[0, SIZE]
        c = s[i, ORDER, k]
        if allowed(s, w, q, r, z, i, c):
            return np.int64(r[2, c])


# ---- The score.


@jit
def area(s, r, i, owner, scratch):
    """Write to owner [n * n] whose each point is, EMPTY if nobody's, and return black's points less white's.

    A point is the player's whose stone is on it, or whose stones alone are reached from it over empty points. The
    scratch is uint16 [2, cells].
    """
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    step = r[0, SIZE] + _1
    known, region = 0, 1
    for c in range(s.shape[2]):
        scratch[known, c] = 0
    sum = 0
    for p in range(points):
        c = r[1, p]
        colour = s[i, BOARD, c]
        if colour != EMPTY:
            owner[p] = colour
            sum += 1 if colour == BLACK else -1
        elif scratch[known, c] == 0:
            scratch[known, c] = 1
            scratch[region, 0] = c
            n, done, touched = 1, 0, 0
            while done < n:
                here = scratch[region, done]
                done += 1
                for e in (here - step, here + step, here - _1, here + _1):
                    there = s[i, BOARD, e]
                    if there == EMPTY:
                        if scratch[known, e] == 0:
                            scratch[known, e] = 1
                            scratch[region, n] = e
                            n += 1
                    elif there != WALL:
                        touched |= there
            whose = EMPTY if touched == BLACK + WHITE else touched
            for k in range(n):
                owner[r[2, scratch[region, k]]] = whose
            if whose == BLACK:
                sum += n
            elif whose == WHITE:
                sum -= n
    return sum


@jit
def arrange(s, w, q, m, r, z, i, stones, turn):
    """The board with stones [n * n] and who is to move, and nothing before; whether every chain has a liberty."""
    clear(s, w, q, m, r, z, i)
    good = True
    n = 0
    for p in range(np.int64(r[0, SIZE]) * r[0, SIZE]):
        if stones[p] != EMPTY:
            put(s, w, q, r, z, i, r[1, p], stones[p])
            n += 1
    good = s[i, COUNT, BLACKS] + s[i, COUNT, WHITES] == n
    s[i, COUNT, TURN] = turn
    forget(s, w, q, r, z, i)
    return good


# ---- Loops over rows lo .. hi-1, for Python.


@jit
def clear_rows(s, w, q, m, r, z, rows):
    """Begin games anew."""
    for i in rows:
        clear(s, w, q, m, r, z, i)


@jit
def legal_rows(s, w, q, m, r, z, masks, found, lo, hi):
    """Write masks [N, n * n + 1]; a game that is over has no legal move."""
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    for i in range(lo, hi):
        goes_on = s[i, COUNT, OVER] == 0
        legal(s, w, q, r, z, i, found)
        for p in range(points):
            masks[i, p] = (found[0, r[1, p]] != 0) & goes_on
        masks[i, points] = goes_on


@jit
def play_rows(s, w, q, m, r, z, points, lo, hi):
    """Moves [N], of which each is legal or -1 (no move), are made; returns the first row whose move is not, or -1."""
    for i in range(lo, hi):
        if points[i] != -1 and not _played(s, w, q, m, r, z, i, points[i]):
            return i
    return -1


@within
def _played(s, w, q, m, r, z, i, point):
    """Make a move if it is legal, and say whether it is."""
    pass_ = np.int64(r[0, SIZE]) * r[0, SIZE]
    good = s[i, COUNT, OVER] == 0 and 0 <= point <= pass_
    if good and point < pass_:
        good = s[i, BOARD, r[1, point]] == EMPTY and allowed(s, w, q, r, z, i, r[1, point])
    if good:
        play(s, w, q, m, r, z, i, point)
    return good


@jit
def step_row(s, w, q, m, r, z, i, point, choices, found):
    """A move (-1: none), and the points that are legal then, written to choices [n * n + 1]; returns their number, 0
    when the game is over, or -1 if the move is not legal."""
    if point != -1 and not _played(s, w, q, m, r, z, i, point):
        return -1
    if s[i, COUNT, OVER]:
        return 0
    legal(s, w, q, r, z, i, found)
    n = 0
    points = np.int64(r[0, SIZE]) * r[0, SIZE]
    for p in range(points):
        choices[n] = p
        n += found[0, r[1, p]] != 0
    choices[n] = points
    return n + 1


@jit
def area_rows(s, w, q, m, r, z, owners, scores, scratch, lo, hi):
    """Write owners [N, n * n] and scores [N] without komi."""
    for i in range(lo, hi):
        scores[i] = area(s, r, i, owners[i], scratch)


@jit
def playout_rows(s, w, q, m, r, z, lo, hi):
    """Moves by chance until each game is over; returns their number."""
    n = 0
    for i in range(lo, hi):
        while not s[i, COUNT, OVER]:
            play(s, w, q, m, r, z, i, chance(s, w, q, r, z, i))
            n += 1
    return n


@jit
def random_rows(s, w, q, m, r, z, found, lo, hi):
    """As `playout_rows`, each move drawn from the full legal set; returns their number."""
    n = 0
    for i in range(lo, hi):
        while not s[i, COUNT, OVER]:
            legal(s, w, q, r, z, i, found)
            empties = np.int64(s[i, COUNT, EMPTIES])
            point = np.int64(r[0, SIZE]) * r[0, SIZE]
            k = below(w, i, empties + 1)
            while k < empties and found[0, s[i, ORDER, k]] == 0:
                k = below(w, i, empties + 1)
            if k < empties:
                point = np.int64(r[2, s[i, ORDER, k]])
            play(s, w, q, m, r, z, i, point)
            n += 1
    return n
