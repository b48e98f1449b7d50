"""Quantisation of weights: real numbers as small whole numbers and a scale, for a tensor or for each output channel.

Symmetric and linear (Jacob et al. 2018, eq. 1 with zero point 0; Nagel et al. 2021, section 2): w = scale * q with q in
-(2^(b-1) - 1) .. 2^(b-1) - 1. The scale is the one of a few candidates with the least squared error, for at 4 bits and
fewer the largest weight is too expensive to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlab.errors import RlabError

BITS = (2, 3, 4, 5, 6, 7, 8)
"""Widths of whole numbers; 16 is half precision, 1 would need another scheme."""

CANDIDATES = 20
"""Scales that are tried, from the one that keeps the largest weight down to `SMALLEST` of it."""

SMALLEST = 0.3


@dataclass(frozen=True)
class Quantised:
    """A tensor as whole numbers.

    Attributes:
        codes: int8, in the tensor's shape.
        scale: float32[channels, 1, ...] or a scalar; ``scale * codes`` is the tensor.
        bits: width of a code.
    """

    codes: Tensor
    scale: Tensor
    bits: int

    def dequantise(self) -> Tensor:
        """Return the tensor that the codes stand for, float32."""
        return self.codes.float() * self.scale


def quantise(weight: Tensor, bits: int, per_channel: bool = True) -> Quantised:
    """Quantise a tensor of weights.

    Args:
        weight: any shape; the first axis is that of output channels.
        bits: 2 to 8.
        per_channel: a scale for each output channel; else one for all.

    Raises:
        RlabError: a width out of range, or a weight that is not finite.
    """
    if bits not in BITS:
        raise RlabError(f"weights cannot be quantised to {bits} bits; valid: {', '.join(map(str, BITS))}, or 16")
    w = weight.detach().float()
    if not torch.isfinite(w).all():
        raise RlabError("weights that are not finite cannot be quantised")
    rows = w.reshape(w.shape[0], -1) if per_channel and w.dim() > 1 else w.reshape(1, -1)
    top = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1, keepdim=True)
    best_scale, best_error = torch.ones_like(largest), torch.full_like(largest, torch.inf)
    for share in torch.linspace(1, SMALLEST, CANDIDATES):
        scale = (share * largest / top).clamp_min(torch.finfo(torch.float32).tiny)
        error = ((rows / scale).round().clamp(-top, top) * scale - rows).square().sum(1, keepdim=True)
        better = error < best_error
        best_scale, best_error = torch.where(better, scale, best_scale), torch.where(better, error, best_error)
    codes = (rows / best_scale).round().clamp(-top, top).to(torch.int8).reshape(w.shape)
    shape = (w.shape[0], *(1,) * (w.dim() - 1)) if per_channel and w.dim() > 1 else ()
    return Quantised(codes, best_scale.reshape(shape), bits)


def fixed_point(
    x: Tensor, fraction: int = 8, whole: int = 8, rounding: Literal["nearest", "truncate"] = "nearest"
) -> Tensor:
    """Write numbers in fixed point of ``whole + fraction`` bits with a sign, as Q8.8 has them.

    Cutting the bits off, as one of the texts does, turns 0.12492940522023 into 0.12109375; to the nearest it is 0.125,
    54 times nearer (item 286).

    Args:
        x: any shape.
        fraction: bits after the point.
        whole: bits before it, the sign among them; larger numbers become the largest one.
        rounding: "nearest" or "truncate" (towards minus infinity, as cut off bits of two's complement are).
    """
    steps = x.double() * 2**fraction
    codes = steps.round() if rounding == "nearest" else steps.floor()
    limit = 2 ** (whole + fraction - 1)
    return (codes.clamp(-limit, limit - 1) / 2**fraction).to(x.dtype)
