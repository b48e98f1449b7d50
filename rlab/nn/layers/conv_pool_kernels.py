"""Compiled parts of `conv_pool`, around its matrix product: cutting out patches, and pooling with ReLU.

Where an index is a sum it is unsigned: numba counts negative ones from the end, and what may be negative is not loaded
as a vector. Loops over maps store to one array each, or the checks that arrays do not overlap cost more than they save.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

U = np.uint64
NUMBER = np.float32
"""Of everything, also of the places: loops over numbers of one width become vector instructions."""

NOWHERE = NUMBER(4)
"""The place of a result that was not above 0."""


@njit("void(float32[:,:,::1], float32[:,:,:,:,::1], int64, int64)", cache=True, nogil=True)
def cut(image: Any, patches: Any, tile: Any, frame: Any) -> None:
    """image[B, H, W] in a frame of zeros -> patches[B, i, j, side, side], one every `tile` rows and columns."""
    _, height, width = image.shape
    batch, high, wide, side, _ = patches.shape
    framed = np.zeros((height + 2 * frame, width + 2 * frame), NUMBER)
    for n in range(batch):
        for y in range(height):
            for x in range(width):
                framed[U(frame + y), U(frame) + U(x)] = image[n, y, x]
        for i in range(high):
            for j in range(wide):
                start = U(j * tile)
                for y in range(side):
                    row = U(i * tile + y)
                    for x in range(side):
                        patches[n, i, j, y, x] = framed[row, start + U(x)]


@njit(
    "void(float32[:,:,:,:,::1], float32[::1], float32[:,:,:,::1], float32[:,:,:,::1])", cache=True, nogil=True
)  # fmt: skip
def pool(product: Any, bias: Any, out: Any, place: Any) -> None:
    """product[B, i, j, 4, n] -> out[B, h, w, D], the largest of four and the bias, rectified; n = cells D numbers.

    And place[B, i, j, n]: which it was, the first of equal ones, or `NOWHERE`.
    """
    batch, high, wide, _, n = product.shape
    maps = out.shape[3]
    cells = out.shape[1] // high
    zero = NUMBER(0)
    biases, best = np.empty(n, NUMBER), np.empty(n, NUMBER)
    for k in range(n):
        biases[k] = bias[k % maps]
    for b in range(batch):
        for i in range(high):
            for j in range(wide):
                for k in range(n):
                    p, q = product[b, i, j, 0, k], product[b, i, j, 1, k]
                    r, s = product[b, i, j, 2, k], product[b, i, j, 3, k]
                    left, right = p >= q or p != p, r >= s or r != r  # what is not a number stays so, as torch has it
                    upper, lower = p if left else q, r if right else s
                    above = upper >= lower or upper != upper
                    largest = (upper if above else lower) + biases[k]
                    first, third = NUMBER(0) if left else NUMBER(1), NUMBER(2) if right else NUMBER(3)
                    best[k] = zero if largest <= zero else largest
                    place[b, i, j, k] = NOWHERE if largest <= zero else (first if above else third)
                for y in range(cells):
                    for x in range(cells):
                        at, row, column = U((y * cells + x) * maps), U(i * cells + y), U(j * cells + x)
                        for d in range(maps):
                            out[b, row, column, d] = best[at + U(d)]


@njit(
    "void(float32[:,:,:,::1], float32[:,:,:,::1], float32[:,:,:,:,::1], float32[::1])", cache=True, nogil=True
)  # fmt: skip
def unpool(place: Any, d_out: Any, d_product: Any, d_bias: Any) -> None:
    """Gradient of `pool`: all of d_out[B, h, w, D] goes to the place of the largest; d_bias[D] is added to."""
    batch, high, wide, n = place.shape
    maps = d_out.shape[3]
    cells = d_out.shape[1] // high
    zero = NUMBER(0)
    given, total = np.empty(n, NUMBER), np.zeros(n, NUMBER)
    for b in range(batch):
        for i in range(high):
            for j in range(wide):
                for y in range(cells):
                    for x in range(cells):
                        at, row, column = U((y * cells + x) * maps), U(i * cells + y), U(j * cells + x)
                        for d in range(maps):
                            given[at + U(d)] = d_out[b, row, column, d]
                for q in range(4):
                    here = NUMBER(q)
                    for k in range(n):
                        d_product[b, i, j, q, k] = given[k] if place[b, i, j, k] == here else zero
                for k in range(n):
                    total[k] += given[k] if place[b, i, j, k] < NOWHERE else zero
    for k in range(n):
        d_bias[k % maps] += total[k]
