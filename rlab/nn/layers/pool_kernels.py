"""Max-pooling 2x2 of bfloat16 maps that lie channels last, for CPUs: a row's pairs at once instead of place by place.

A bfloat16's bits, read as a signed integer, order as the number does once those of negative numbers are turned round;
so nothing needs to be converted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(inline="always")
def _turned(bits: Any) -> Any:
    """int16 bits of a bfloat16 <-> an int16 of the same order."""
    return np.int16(bits ^ ((bits >> 15) & 0x7FFF))


@njit("void(int16[:,:,::1], int16[:,:,::1], uint8[:,:,::1])", cache=True, nogil=True)
def forward(x: Any, out: Any, which: Any) -> None:
    """x[rows, 2, W C] (pairs of rows) -> out[rows, W / 2, C] and which of 0 1 / 2 3 was the largest; the first of equal
    ones in that order.
    """
    rows, _, n = x.shape
    _, wide, channels = out.shape
    top, lower = np.empty(n, np.int16), np.empty(n, np.uint8)
    for r in range(rows):
        for j in range(n):
            a, b = _turned(x[r, 0, j]), _turned(x[r, 1, j])
            lower[j] = 2 if b > a else 0
            top[j] = max(a, b)
        for j in range(wide):
            left, right = 2 * j * channels, (2 * j + 1) * channels
            for c in range(channels):
                a, b, i, k = top[left + c], top[right + c], lower[left + c], lower[right + c] + np.uint8(1)
                second = b > a or (b == a and i > k)
                out[r, j, c] = _turned(max(a, b))
                which[r, j, c] = k if second else i


@njit("void(int16[:,:,::1], uint8[:,:,::1], int16[:,:,::1])", cache=True, nogil=True)
def backward(d_out: Any, which: Any, d_x: Any) -> None:
    """Gradient of `forward`: all of it goes to the largest."""
    rows, wide, channels = d_out.shape
    zero = np.int16(0)
    for r in range(rows):
        for j in range(wide):
            left, right = 2 * j * channels, (2 * j + 1) * channels
            for c in range(channels):
                g, k = d_out[r, j, c], which[r, j, c]
                d_x[r, 0, left + c] = g if k == 0 else zero
                d_x[r, 0, right + c] = g if k == 1 else zero
                d_x[r, 1, left + c] = g if k == 2 else zero
                d_x[r, 1, right + c] = g if k == 3 else zero
