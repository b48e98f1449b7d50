"""Packed tensors in a checkpoint: weights of few bits, or with most of them 0, that take as few bytes on disk.

A state may hold a `Packed` leaf; whoever loads the checkpoint gets the float tensor that it stands for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A float tensor, packed.

    Attributes:
        shape: of the tensor.
        bits: of a value: 2 to 8 are whole numbers times `scale`, 16 and 32 are floats.
        values: uint8, the kept values' bits one after the other.
        scale: float32, of a shape that broadcasts against the tensor; None for floats.
        mask: uint8, a bit for each element: whether it is kept, the others being 0; None: all are.
    """

    shape: tuple[int, ...]
    bits: int
    values: Tensor
    scale: Tensor | None = None
    mask: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in (self.values, self.scale, self.mask) if part is not None)

    def parts(self) -> dict[str, Tensor]:
        """Return the tensors that are stored."""
        named = {"values": self.values, "scale": self.scale, "mask": self.mask}
        return {name: part for name, part in named.items() if part is not None}

    def unpack(self) -> Tensor:
        """Return the tensor, float32.

        Raises:
            ValueError: there are not as many bits as it says.
        """
        total = math.prod(self.shape)
        kept = None if self.mask is None else torch.from_numpy(_bits(self.mask, total).astype(bool))
        count = total if kept is None else int(kept.sum())
        if self.bits in FLOATS:
            values = self.values.contiguous().view(FLOATS[self.bits]).float()
        else:
            bits = _bits(self.values, count * self.bits).reshape(count, self.bits)
            codes = bits.astype(np.int16) @ (1 << np.arange(self.bits, dtype=np.int16))
            values = torch.from_numpy((codes - _offset(self.bits)).astype(np.float32))
        if len(values) != count:
            raise ValueError(f"{len(values):,} values for {count:,} places")
        if kept is not None:
            values = torch.zeros(total).masked_scatter_(kept, values)
        dense = values.reshape(self.shape)
        return dense if self.scale is None else dense * self.scale


FLOATS = {16: torch.float16, 32: torch.float32}
"""Widths of floats."""


def _offset(bits: int) -> int:
    return 1 << (bits - 1)


def _bits(packed: Tensor, count: int) -> np.ndarray[Any, Any]:
    bits = np.unpackbits(packed.numpy(), bitorder="little")
    if not count <= len(bits) < count + 8:
        raise ValueError(f"{len(bits):,} bits, {count:,} expected")
    return bits[:count]


def pack(values: Tensor, bits: int, scale: Tensor | None = None, sparse: bool = False) -> Packed:
    """Pack a tensor.

    Args:
        values: whole numbers of `bits` bits with a sign where there is a `scale`, floats to be stored in 16 or 32 bits
            where there is none.
        bits: of a value.
        scale: see `Packed`.
        sparse: store which elements are not 0, and those alone.
    """
    flat = values.detach().reshape(-1).cpu()
    mask = None
    if sparse:
        kept = flat != 0
        mask = torch.from_numpy(np.packbits(kept.numpy(), bitorder="little"))
        flat = flat[kept]
    if bits in FLOATS:
        stored = flat.to(FLOATS[bits]).contiguous().view(torch.uint8)
    else:
        codes = flat.numpy().astype(np.int16) + _offset(bits)
        spread = (codes[:, None] >> np.arange(bits, dtype=np.int16) & 1).astype(np.uint8)
        stored = torch.from_numpy(np.packbits(spread, bitorder="little"))
    return Packed(tuple(values.shape), bits, stored.clone(), None if scale is None else scale.float().cpu(), mask)
