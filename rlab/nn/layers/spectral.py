"""Spectral normalisation (Miyato et al. 2018): a convolution whose weight matrix has a largest singular value of 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.precision import autocast

START = 15
"""Power iterations on new weights."""


class SpectralConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with its weight divided by the largest singular value, estimated by power iteration.

    The estimate moves only when `iterate` is called (before a gradient step), not in `forward` as in torch's
    parametrization: so looking at values alters nothing, and a run resumes exactly.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0):
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        self.u: Tensor  # [out_channels], the left singular vector
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        for _ in range(START):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of power iteration (algorithm 1)."""
        matrix = self.weight.flatten(1)
        v = F.normalize(matrix.T @ self.u, dim=0)
        self.u.copy_(F.normalize(matrix @ v, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, C, H, W] -> maps[B, C', H', W']."""
        with autocast(x.device, bf16=False):
            # sigma = u' W v with v = W' u / |W' u|, so sigma = |W' u|; u carries no gradient (section 2.1)
            sigma = (self.weight.flatten(1).T @ self.u).norm()
            weight = self.weight / sigma
        return self._conv_forward(x, weight, self.bias)
