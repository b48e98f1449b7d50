"""A layer that replaces vectors by the nearest one of a learned codebook (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.layers.joint import Joint

SMOOTHING = 1e-5
"""Added to the count of each entry, so that one that nothing has chosen yet divides by something."""

DISTANCES = 2**24
"""Distances that are computed together, about: 64 MB."""

REVIVED = 0.01
"""Average count an update below which an entry is put where a vector of the batch is (Dhariwal et al. 2020)."""


class Quantised(NamedTuple):
    """What a quantiser makes of a batch.

    Attributes:
        codes: [B, D], entries of the codebook; gradients pass through them as if nothing had been replaced.
        entries: int64[B, S], which ones.
        loss: what the codebook and the encoder are to make small beside the reconstruction; a scalar.
    """

    codes: Tensor
    entries: Tensor
    loss: Tensor


class VectorQuantiser(Joint, nn.Module):
    """Cut codes[B, D] into S vectors and replace each by the nearest entry of one codebook.

    Args:
        size: entries of the codebook.
        code_dim: D.
        slots: S, which divides D.
        rate: of the moving average by which entries follow the vectors that choose them (appendix A.1); 0: they learn
            by gradients from the loss of eq. 3.
        commitment: factor of the loss that keeps vectors near their entries.

    Raises:
        RlabError: slots do not divide the code, or a number is out of range.
    """

    def __init__(self, size: int, code_dim: int, slots: int = 1, rate: float = 0.99, commitment: float = 0.25):
        super().__init__()
        if size < 2:
            raise RlabError(f"a codebook of {size} says nothing; it must have at least 2 entries")
        if slots < 1 or code_dim % slots:
            near = max(n for n in range(1, code_dim + 1) if code_dim % n == 0 and n <= max(slots, 1))
            raise RlabError(f"a code of {code_dim} numbers cannot be cut into {slots} equal parts; nearest: {near}")
        if not 0 <= rate < 1:
            raise RlabError(f"a codebook follows at a rate of at least 0 and below 1, not {rate}; nearest: 0.99")
        self.slots, self.rate, self.commitment = slots, rate, commitment
        width = code_dim // slots
        entries = torch.randn(size, width) / width**0.5
        self.codebook: Tensor
        self.counts: Tensor
        self.sums: Tensor
        if rate:
            self.register_buffer("codebook", entries)
            self.register_buffer("counts", torch.ones(size))
            self.register_buffer("sums", entries.clone())
        else:
            self.codebook = nn.Parameter(entries)

    def forward(self, code: Tensor) -> Quantised:
        """code[B, D] -> entries of the codebook; in training the codebook follows, if it has a rate."""
        vectors = code.float().view(len(code) * self.slots, -1)
        some = vectors.detach().split(max(1, DISTANCES // len(self.codebook)))
        chosen = torch.cat([torch.cdist(part, self.codebook.detach()).argmin(1) for part in some])
        if self.training and self.rate:
            self._follow(vectors.detach(), chosen)
        nearest = self.codebook[chosen]
        loss = self.commitment * F.mse_loss(vectors, nearest.detach(), reduction="sum") / len(code)
        if not self.rate:
            loss = loss + F.mse_loss(nearest, vectors.detach(), reduction="sum") / len(code)
        straight = vectors + (nearest - vectors).detach()
        return Quantised(straight.view_as(code), chosen.view(len(code), self.slots), loss)

    @torch.no_grad()
    def _follow(self, vectors: Tensor, chosen: Tensor) -> None:
        size = len(self.codebook)
        counts = torch.bincount(chosen, minlength=size).to(vectors)
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        if self.total is not None:
            counts, sums = self.total(torch.cat([counts[:, None], sums], 1)).tensor_split([1], 1)
            counts = counts[:, 0]
        self.counts.lerp_(counts, 1 - self.rate)
        self.sums.lerp_(sums, 1 - self.rate)
        idle = self.counts < REVIVED
        if bool(idle.any()):
            drawn = vectors[torch.randint(len(vectors), (size,), device=vectors.device)]
            if self.total is not None:
                drawn = self.total(drawn if self.leads else torch.zeros_like(drawn))
            self.sums[idle], self.counts[idle] = drawn[idle], 1.0
        self.codebook.copy_(self.sums / (self.counts + SMOOTHING)[:, None])

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{len(self.codebook)} entries, slots={self.slots}, rate={self.rate}"
