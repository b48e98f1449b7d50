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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.kernels import compiled

Floats = NDArray[np.float32]

LANES = 128
"""Values of a pixel of a strip; a constant, so that compilers see that rows do not overlap."""
TILE, POINTS = 5, 7
_ROW = POINTS * LANES
_L1, _L2, _L3, _L4, _L5, _L6 = (k * LANES for k in range(1, POINTS))
_ROWS, MOST = 48, 2**18
"""Rows of matrices that a product is worth, more fill the cache; and the most multiplications of one, above which BLAS
begins threads of its own."""
_WASTE = 1.4
"""Pixels computed for each that counts; with more a plain convolution is faster."""
jit = compiled(nogil=True, error_model="numpy", fastmath={"contract"})


def fits(size: int, channels: int) -> bool:
    """Whether maps of a board are read faster in this way."""
    padded = TILE * -(-size // TILE)
    return LANES % channels == 0 and padded**2 <= _WASTE * size**2


class Memory(NamedTuple):
    """What convolutions of C channels work in, one thread at a time.

    Attributes:
        x, y: float32 [strips, pixels, LANES]: maps, in turn read and written; zeros around the board.
        nothing: [1, pixels, LANES]: a strip of zeros.
        points, products: float32 [49, rows, C]: tiles at the points, and what matrices make of them.
        row: of a tile, on its way.
    """

    x: Floats
    y: Floats
    nothing: Floats
    points: Floats
    products: Floats
    row: Floats


def make_memory(size: int, channels: int, positions: int) -> Memory:
    """For so many positions."""
    tiles = -(-size // TILE)
    strips, pixels = -(-positions * channels // LANES), (TILE * tiles + 2) ** 2
    strip = tiles**2 * LANES // channels
    # Of a single row BLAS would round otherwise.
    rows = strip * max(2 if strip == 1 else 1, min(-(-_ROWS // strip), MOST // (strip * channels**2)))
    x, y, nothing = (np.zeros((number, pixels, LANES), np.float32) for number in (strips, strips, 1))
    points, products = (np.empty((POINTS**2, rows, channels), np.float32) for _ in range(2))
    return Memory(x, y, nothing, points, products, np.empty((POINTS + 1) * _ROW, np.float32))


def transform(weight: Floats, bias: Floats, channels: int) -> tuple[Floats, Floats]:
    """Of weights [D, E, 3, 3] and biases [D], D and E at most C: what is multiplied [49, C, C], and of all lanes
    [LANES]."""
    outs, ins = weight.shape[:2]
    found = weight.reshape(-1, 9).astype(np.float64) @ np.kron(_FILTER, _FILTER).T
    whole, lanes = np.zeros((POINTS**2, channels, channels), np.float32), np.zeros(channels, np.float32)
    whole[:, :ins, :outs] = found.reshape(outs, ins, POINTS**2).transpose(2, 1, 0)
    lanes[:outs] = bias
    return whole, np.tile(lanes, LANES // channels)


def _matrices() -> tuple[Floats, NDArray[np.float64]]:
    """Of tiles [7, 7] and filters [7, 3], by Lagrange's interpolation through the points.

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
    return np.array(tiles, np.float32), np.array(filters)


TILES, _FILTER = _matrices()
_TWO, _FOUR, _EIGHT, _SIXTEEN = (np.float32(2**k) for k in range(1, 5))
_HALF, _FOURTH, _EIGHTH, _SIXTEENTH = (np.float32(0.5**k) for k in range(1, 5))


# ---- Kernels.


@jit
def convolve(x, weight, bias, more, add, y, memory, t, n, strips):
    """y = relu(conv(x) + bias + more + add) of so many strips, on boards of n.

    Args: more [strips, LANES]; add, which is like y, and may be it, or one strip for all; t, which is `TILES`.
    """
    tiles = (n + TILE - 1) // TILE
    channels, row = weight.shape[1], memory.row
    per, size = tiles * tiles, memory.points.shape[1] * channels // LANES
    u, m = memory.points.reshape(POINTS * POINTS, size, LANES), memory.products.reshape(POINTS * POINTS, size, LANES)
    side, many = tiles * TILE + 2, size // per
    biases = bias.copy()
    for low in range(0, strips, many):
        high = min(low + many, strips)
        for s in range(low, high):
            for k in range(per):
                _to_points(x[s], t, u, (s - low) * per + k, row, side, k // tiles * TILE, k % tiles * TILE)
        rows = max(2, (high - low) * per * LANES // channels)
        for k in range(POINTS * POINTS):
            np.dot(memory.points[k, :rows], weight[k], memory.products[k, :rows])
        for s in range(low, high):
            for e in range(LANES):
                biases[e] = bias[e] + more[s, e]
            for k in range(per):
                _from_points(m, (s - low) * per + k, row)
                _write(row, biases, add[min(s, len(add) - 1)], y[s], side, n, k // tiles * TILE, k % tiles * TILE)


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
def _outputs(m0, m1, m2, m3, m4, m5, m6):
    """Of products at the points the five outputs: sums over the points p of p^k times the product, k = 0 .. 4."""
    even1, even2, even3 = m1 + m2, m3 + m4, m5 + m6
    odd1, odd2, odd3 = m1 - m2, m3 - m4, m5 - m6
    return (
        m0 + even1 + even2 + even3,
        odd1 + _TWO * odd2 + _HALF * odd3,
        even1 + _FOUR * even2 + _FOURTH * even3,
        odd1 + _EIGHT * odd2 + _EIGHTH * odd3,
        even1 + _SIXTEEN * even2 + _SIXTEENTH * even3,
    )


@jit
def _from_points(m, k, row):
    """Products m [49, tile k, LANES] -> the five rows of outputs, still at points across: row [5, 7, LANES]."""
    for j in range(POINTS):
        m0, m1, m2, m3 = m[j, k], m[7 + j, k], m[14 + j, k], m[21 + j, k]
        m4, m5, m6 = m[28 + j, k], m[35 + j, k], m[42 + j, k]
        to = row[j * LANES : j * LANES + 4 * _ROW + LANES]
        for e in range(LANES):
            v0, v1, v2, v3, v4 = _outputs(m0[e], m1[e], m2[e], m3[e], m4[e], m5[e], m6[e])
            to[e] = v0
            to[_ROW + e] = v1
            to[2 * _ROW + e] = v2
            to[3 * _ROW + e] = v3
            to[4 * _ROW + e] = v4


@jit
def _positive(v):
    return v if v > np.float32(0) else np.float32(0)


@jit
def _write(row, bias, add, y, side, n, i0, j0):
    """relu of the outputs row [5, 7, LANES] + bias + add -> y [side^2, LANES]; what is not on the board stays 0."""
    for i in range(min(TILE, n - i0)):
        of = row[i * _ROW : (i + 1) * _ROW]
        at = (i0 + i + 1) * side + j0 + 1
        to = y[at : at + TILE].reshape(-1)
        more = add[at : at + TILE].reshape(-1)
        for e in range(LANES):
            v0, v1, v2, v3, v4 = _outputs(
                of[e], of[_L1 + e], of[_L2 + e], of[_L3 + e], of[_L4 + e], of[_L5 + e], of[_L6 + e]
            )
            to[e] = _positive(v0 + bias[e] + more[e])
            to[_L1 + e] = _positive(v1 + bias[e] + more[_L1 + e])
            to[_L2 + e] = _positive(v2 + bias[e] + more[_L2 + e])
            to[_L3 + e] = _positive(v3 + bias[e] + more[_L3 + e])
            to[_L4 + e] = _positive(v4 + bias[e] + more[_L4 + e])
        for j in range(n - j0, TILE):
            to[j * LANES : (j + 1) * LANES] = np.float32(0)
