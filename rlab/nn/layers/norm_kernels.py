"""LayerNorm and ReLU in one pass over rows of bfloat16, for CPUs.

torch takes four passes over the maps (normalise, rectify, and both backward), and its LayerNorm is made for rows of
hundreds of numbers: over 32 or 64 channels its own bookkeeping costs most. numpy has no bfloat16; here it is the upper
half of a float32's bits, rounded to nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


def _reinterpret(given: Any, wanted: Any, wanted_in_llvm: Any) -> Any:
    """A compiled function from a number of one type to the number of another type that has the same bits."""

    def typed(context: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], wanted_in_llvm)

        return wanted(given), generate

    return intrinsic(typed)


_float = _reinterpret(types.uint32, types.float32, ir.FloatType())
_bits = _reinterpret(types.float32, types.uint32, ir.IntType(32))


@njit(inline="always")
def _widen(half: Any) -> Any:
    return _float(np.uint32(half) << np.uint32(16))


@njit(inline="always")
def _round(number: Any) -> Any:
    bits = _bits(number)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@njit(
    "void(uint16[:,::1], float32[::1], float32[::1], float32, uint16[:,::1], float32[:,::1])",
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def forward(x: Any, weight: Any, bias: Any, eps: Any, out: Any, moments: Any) -> None:
    """out = relu(weight * (x - mean) / sqrt(var + eps) + bias) over each row of x[R, C]; moments[R, 2]: mean, 1/std."""
    rows, n = x.shape
    part, zero = np.float32(1 / n), np.float32(0)
    for i in range(rows):
        total = zero
        for c in range(n):
            total += _widen(x[i, c])
        mean = total * part
        squares = zero
        for c in range(n):
            d = _widen(x[i, c]) - mean
            squares += d * d
        scale = np.float32(1) / np.sqrt(squares * part + eps)
        moments[i, 0], moments[i, 1] = mean, scale
        for c in range(n):
            y = (_widen(x[i, c]) - mean) * scale * weight[c] + bias[c]
            out[i, c] = _round(y if not y <= zero else zero)  # NaN stays NaN


@njit(
    "void(uint16[:,::1], uint16[:,::1], float32[::1], float32[::1], float32[:,::1], uint16[:,::1], float32[:,::1])",
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def backward(x: Any, d_out: Any, weight: Any, bias: Any, moments: Any, d_x: Any, d_affine: Any) -> None:
    """Gradients of `forward`: d_x[R, C], and d_affine[2, C] of weight and bias (which must come in as zeros)."""
    rows, n = x.shape
    part, zero = np.float32(1 / n), np.float32(0)
    centred, slope = np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(rows):
        mean, scale = moments[i, 0], moments[i, 1]
        along, across = zero, zero
        for c in range(n):
            unit = (_widen(x[i, c]) - mean) * scale
            g = _widen(d_out[i, c])
            g = g if unit * weight[c] + bias[c] > zero else zero
            d_affine[0, c] += g * unit
            d_affine[1, c] += g
            g *= weight[c]
            along += g
            across += g * unit
            centred[c], slope[c] = unit, g
        along *= part
        across *= part
        for c in range(n):
            d_x[i, c] = _round(scale * (slope[c] - along - centred[c] * across))
