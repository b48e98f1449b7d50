# mypy: allow-untyped-defs
"""Residual blocks of 3x3 convolutions by Winograd's filtering F(5x5, 3x3), for fast reading in fp32 on a CPU.

A tile of 5x5 outputs needs 49 products for each pair of channels instead of 225 (Lavin and Gray 2016, "Fast algorithms
for convolutional neural networks", section 4): what is multiplied are values at the points 0, 1, -1, 2, -2, 1/2 and
-1/2 of the polynomials that tile and filter stand for. Each pair of a point and its opposite shares the even and the
odd half of its sum. In fp32 an output is off by some 2e-5 of the maps' size; a plain convolution by 1e-6.

Maps are float32 [strip, pixel, lane]: a strip is as many positions as make up `LANES` with their channels, its pixels
are those of the board, padded to whole tiles and a border of zeros. Every transform is then one operation on long rows,
and what is multiplied as matrices, [tiles and positions, channels], lies in one piece.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.kernels import THREADS, compiled

Floats = NDArray[np.float32]

LANES = 128
"""Values of a pixel of a strip; a constant, so that compilers see that rows do not overlap."""
TILE, POINTS = 5, 7
_ROW = POINTS * LANES
_L1, _L2, _L3, _L4, _L5, _L6 = (k * LANES for k in range(1, POINTS))
_ROWS, _MOST = 48, 2**18
"""Rows of matrices that a product is worth, more fill the cache; and the most multiplications of one, above which BLAS
begins threads of its own."""
_WASTE = 1.4
"""Pixels computed for each that counts; with more a plain convolution is faster."""
jit = compiled(nogil=True, error_model="numpy", fastmath={"contract"})


def fits(size: int, channels: int) -> bool:
    """Whether maps of a board are read faster in this way."""
    padded = TILE * -(-size // TILE)
    return LANES % channels == 0 and padded**2 <= _WASTE * size**2


class Filters(NamedTuple):
    """A convolution 3x3 of C to C channels.

    Attributes:
        weight: float32 [49, C, C]: transformed.
        bias: float32 [LANES]: of all positions of a strip.
    """

    weight: Floats
    bias: Floats


class Blocks:
    """Residual blocks on boards of one size.

    Args:
        size: of the board.
        channels: of the maps.
    """

    def __init__(self, size: int, channels: int):
        self.size, self.channels = size, channels
        self.positions = LANES // channels
        """Of a strip."""
        self._tiles = -(-size // TILE)
        self._side = TILE * self._tiles + 2
        self._x = self._y = np.zeros((0, self._side**2, LANES), np.float32)
        self._nothing = np.zeros((1, self._side**2, LANES), np.float32)
        self._scratch: list[tuple[Floats, ...]] = []
        """Of threads, while they need none."""

    def put(self, maps: Floats) -> None:
        """Begin with maps [B, n, n, C]."""
        strips = -(-len(maps) // self.positions)
        if strips > len(self._x):
            self._x, self._y = (np.zeros((strips, self._side**2, LANES), np.float32) for _ in range(2))
        x = self._x
        self._share(lambda lo, hi: put_rows(maps, x, lo, hi), len(maps))

    def go_on(self, first: Filters, second: Filters, bias: Floats | None, number: int) -> None:
        """relu(x + second(relu(first(x) + bias [B, C]))), of so many positions."""
        x, y, tiles, n = self._x, self._y, self._tiles, self.size
        biases = None
        if bias is not None:
            biases = np.zeros((len(x), LANES), np.float32)
            biases.reshape(-1, self.channels)[:number] = bias

        def block(lo: int, hi: int) -> None:
            try:
                scratch = self._scratch.pop()
            except IndexError:
                scratch = self._room()
            convolve_rows(x, *first, biases, self._nothing, y, *_TO, *scratch, tiles, n, lo, hi)
            convolve_rows(y, *second, None, x, x, *_TO, *scratch, tiles, n, lo, hi)
            self._scratch.append(scratch)

        self._share(block, number)

    def get(self, out: Floats) -> None:
        """Write the maps [B, n, n, C]."""
        x = self._x
        self._share(lambda lo, hi: get_rows(x, out, lo, hi), len(out))

    def _room(self) -> tuple[Floats, ...]:
        """What `convolve_rows` writes in: tiles at points, products of matrices, and a tile on its way."""
        strip = self._tiles**2 * self.positions
        rows = strip * max(2 if strip == 1 else 1, min(-(-_ROWS // strip), _MOST // (strip * self.channels**2)))
        matrices = (np.empty((POINTS**2, rows, self.channels), np.float32) for _ in range(2))
        return *matrices, np.empty((POINTS + 1) * _ROW, np.float32)

    def _share(self, kernel: Any, number: int) -> None:
        """Share positions among threads, in whole strips."""
        per = self.positions
        THREADS.share(lambda lo, hi: kernel(-(-lo // per), -(-hi // per)), number)


def transform(weight: Floats, bias: Floats) -> Filters:
    """Of weights [C, C, 3, 3] and biases [C]: what products of matrices see."""
    channels = len(weight)
    found = weight.reshape(-1, 9).astype(np.float64) @ np.kron(_FILTER, _FILTER).T
    ordered = found.reshape(channels, channels, POINTS**2).transpose(2, 1, 0)
    return Filters(np.ascontiguousarray(ordered, np.float32), np.tile(bias.astype(np.float32), LANES // channels))


def _matrices() -> tuple[Floats, NDArray[np.float64], Floats]:
    """Of tiles [7, 7], filters [7, 3] and outputs [5, 7], by Lagrange's interpolation through the points.

    Tiles' rows are divided by their largest entry, and filters' multiplied by it, which keeps values of one size.
    """
    points = [Fraction(0), *(sign * p for p in (Fraction(1), Fraction(2), Fraction(1, 2)) for sign in (1, -1))]
    tiles, filters = [], []
    for i, p in enumerate(points):
        basis, scale = [Fraction(1)], Fraction(1)
        for j, q in enumerate(points):
            if j != i:
                basis = [a - q * b for a, b in zip([Fraction(0), *basis], [*basis, Fraction(0)], strict=True)]
                scale *= p - q
        most = max(map(abs, basis))
        tiles.append([float(a / most) for a in basis])
        filters.append([float(p**k * most / scale) for k in range(3)])
    outputs = [[float(p**k) for p in points] for k in range(TILE)]
    return np.array(tiles, np.float32), np.array(filters), np.array(outputs, np.float32)


_TILES, _FILTER, _OUTPUTS = _matrices()
_TO = (_TILES, _OUTPUTS)


# ---- Kernels, on strips lo .. hi-1.


@jit
def put_rows(maps, x, lo, hi):
    """Positions [B, n, n, C] into strips."""
    n, channels = maps.shape[1], maps.shape[3]
    side, per = int(np.sqrt(x.shape[1])), LANES // channels
    for s in range(lo, hi):
        for k in range(per):
            b = s * per + k
            for i in range(n):
                for j in range(n):
                    to = x[s, (i + 1) * side + j + 1, k * channels : (k + 1) * channels]
                    if b < len(maps):
                        of = maps[b, i, j]
                        for c in range(channels):
                            to[c] = of[c]
                    else:
                        for c in range(channels):
                            to[c] = np.float32(0)


@jit
def get_rows(x, out, lo, hi):
    """Strips into positions [B, n, n, C]."""
    n, channels = out.shape[1], out.shape[3]
    side, per = int(np.sqrt(x.shape[1])), LANES // channels
    for s in range(lo, hi):
        for k in range(min(per, len(out) - s * per)):
            for i in range(n):
                for j in range(n):
                    of = x[s, (i + 1) * side + j + 1, k * channels : (k + 1) * channels]
                    to = out[s * per + k, i, j]
                    for c in range(channels):
                        to[c] = of[c]


@jit
def convolve_rows(x, weight, bias, more, add, y, t, o, tiles_of, products, row, tiles, n, lo, hi):
    """y = relu(conv(x) + bias + more + add), more [strips, LANES], if there is any; add is like y, and may be it, or
    one strip for all.

    Args of the transforms: t [7, 7], o [5, 7]; tiles_of and products [49, rows, C], for so many strips as there is room
    for; row, for one tile.
    """
    per, size = tiles * tiles, tiles_of.shape[1] * tiles_of.shape[2] // LANES
    u, m = tiles_of.reshape(POINTS * POINTS, size, LANES), products.reshape(POINTS * POINTS, size, LANES)
    side, many = tiles * TILE + 2, size // per
    biases = bias.copy()
    for low in range(lo, hi, many):
        high = min(low + many, hi)
        for s in range(low, high):
            for k in range(per):
                _to_points(x[s], t, u, (s - low) * per + k, row, side, k // tiles * TILE, k % tiles * TILE)
        rows = max(2, (high - low) * per * LANES // tiles_of.shape[2])  # of a single one BLAS would round otherwise
        for k in range(POINTS * POINTS):
            np.dot(tiles_of[k, :rows], weight[k], products[k, :rows])
        for s in range(low, high):
            if more is not None:
                for e in range(LANES):
                    biases[e] = bias[e] + more[s, e]
            for k in range(per):
                _from_points(m, (s - low) * per + k, o, row)
                _write(row, o, biases, add[min(s, len(add) - 1)], y[s], side, n, k // tiles * TILE,
                       k % tiles * TILE)  # fmt: skip


@jit
def _to_points(x, t, u, tile, row, side, i0, j0):
    """The 7x7 pixels of x [side^2, LANES] from (i0, j0) on, at the 49 points -> u [49, tile, LANES].

    t's rows of a point and its opposite differ in the signs of odd powers only, and that of 0 has even powers only.
    """
    z0, z2, z4, z6 = t[0, 0], t[0, 2], t[0, 4], t[0, 6]
    for c in range(POINTS):
        at = i0 * side + j0 + c
        x0, x1, x2, x3 = x[at], x[at + side], x[at + 2 * side], x[at + 3 * side]
        x4, x5, x6 = x[at + 4 * side], x[at + 5 * side], x[at + 6 * side]
        to = row[c * LANES : c * LANES + LANES]
        for e in range(LANES):
            to[e] = z0 * x0[e] + z2 * x2[e] + z4 * x4[e] + z6 * x6[e]
        for p in range(1, POINTS, 2):
            t1, t2, t3, t4, t5, t6 = t[p, 1], t[p, 2], t[p, 3], t[p, 4], t[p, 5], t[p, 6]
            to = row[p * _ROW + c * LANES : p * _ROW + c * LANES + _ROW + LANES]
            for e in range(LANES):
                odd = t1 * x1[e] + t3 * x3[e] + t5 * x5[e]
                even = t2 * x2[e] + t4 * x4[e] + t6 * x6[e]
                to[e] = even + odd
                to[_ROW + e] = even - odd
    for i in range(POINTS):
        of, to = row[i * _ROW : (i + 1) * _ROW], u[i * POINTS, tile]
        for e in range(LANES):
            to[e] = z0 * of[e] + z2 * of[_L2 + e] + z4 * of[_L4 + e] + z6 * of[_L6 + e]
        for p in range(1, POINTS, 2):
            t1, t2, t3, t4, t5, t6 = t[p, 1], t[p, 2], t[p, 3], t[p, 4], t[p, 5], t[p, 6]
            to, opposite = u[i * POINTS + p, tile], u[i * POINTS + p + 1, tile]
            for e in range(LANES):
                odd = t1 * of[_L1 + e] + t3 * of[_L3 + e] + t5 * of[_L5 + e]
                even = t2 * of[_L2 + e] + t4 * of[_L4 + e] + t6 * of[_L6 + e]
                to[e] = even + odd
                opposite[e] = even - odd


@jit
def _from_points(m, k, o, row):
    """Products m [49, tile k, LANES] -> the five rows of outputs, still at points across: row [5, 7, LANES]."""
    a1, a2, a3 = o[1, 1], o[1, 3], o[1, 5]
    b1, b2, b3 = o[2, 1], o[2, 3], o[2, 5]
    c1, c2, c3 = o[3, 1], o[3, 3], o[3, 5]
    d1, d2, d3 = o[4, 1], o[4, 3], o[4, 5]
    for j in range(POINTS):
        m0, m1, m2, m3 = m[j, k], m[7 + j, k], m[14 + j, k], m[21 + j, k]
        m4, m5, m6 = m[28 + j, k], m[35 + j, k], m[42 + j, k]
        to = row[j * LANES : j * LANES + 4 * _ROW + LANES]
        for e in range(LANES):
            even1, even2, even3 = m1[e] + m2[e], m3[e] + m4[e], m5[e] + m6[e]
            odd1, odd2, odd3 = m1[e] - m2[e], m3[e] - m4[e], m5[e] - m6[e]
            to[e] = m0[e] + even1 + even2 + even3
            to[_ROW + e] = a1 * odd1 + a2 * odd2 + a3 * odd3
            to[2 * _ROW + e] = b1 * even1 + b2 * even2 + b3 * even3
            to[3 * _ROW + e] = c1 * odd1 + c2 * odd2 + c3 * odd3
            to[4 * _ROW + e] = d1 * even1 + d2 * even2 + d3 * even3


@jit
def _write(row, o, bias, add, y, side, n, i0, j0):
    """relu of the outputs row [5, 7, LANES] + bias + add -> y [side^2, LANES]; what is not on the board stays 0."""
    a1, a2, a3 = o[1, 1], o[1, 3], o[1, 5]
    b1, b2, b3 = o[2, 1], o[2, 3], o[2, 5]
    c1, c2, c3 = o[3, 1], o[3, 3], o[3, 5]
    d1, d2, d3 = o[4, 1], o[4, 3], o[4, 5]
    zero = np.float32(0)
    for i in range(min(TILE, n - i0)):
        of = row[i * _ROW : (i + 1) * _ROW]
        at = (i0 + i + 1) * side + j0 + 1
        to = y[at : at + TILE].reshape(-1)
        more = add[at : at + TILE].reshape(-1)
        for e in range(LANES):
            even1, even2, even3 = of[_L1 + e] + of[_L2 + e], of[_L3 + e] + of[_L4 + e], of[_L5 + e] + of[_L6 + e]
            odd1, odd2, odd3 = of[_L1 + e] - of[_L2 + e], of[_L3 + e] - of[_L4 + e], of[_L5 + e] - of[_L6 + e]
            v0 = of[e] + even1 + even2 + even3 + bias[e] + more[e]
            v1 = a1 * odd1 + a2 * odd2 + a3 * odd3 + bias[e] + more[_L1 + e]
            v2 = b1 * even1 + b2 * even2 + b3 * even3 + bias[e] + more[_L2 + e]
            v3 = c1 * odd1 + c2 * odd2 + c3 * odd3 + bias[e] + more[_L3 + e]
            v4 = d1 * even1 + d2 * even2 + d3 * even3 + bias[e] + more[_L4 + e]
            to[e] = v0 if v0 > zero else zero
            to[_L1 + e] = v1 if v1 > zero else zero
            to[_L2 + e] = v2 if v2 > zero else zero
            to[_L3 + e] = v3 if v3 > zero else zero
            to[_L4 + e] = v4 if v4 > zero else zero
        for j in range(n - j0, TILE):
            to[j * LANES : (j + 1) * LANES] = zero
