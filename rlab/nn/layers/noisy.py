"""Linear layers that explore by noise in their weights (Fortunato et al. 2018, "Noisy networks for exploration")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """y = (W + S * e_w) x + b + s * e_b with learned W, S, b, s and factorised Gaussian noise e (eq. 9 to 11).

    e_w[j, i] = f(e_j) f(e_i) and e_b[j] = f(e_j), where f(e) = sign(e) sqrt|e|. The noise changes only in `resample`;
    it is no part of the state dict, since whoever learns or explores draws it anew first. While `noise` is False the
    layer computes with its mean weights.

    Args:
        in_dim: inputs, p.
        out_dim: outputs.
        sigma: S and s start at sigma / sqrt(p), W and b uniform within 1 / sqrt(p) (section 3.2).
    """

    def __init__(self, in_dim: int, out_dim: int, sigma: float = 0.5):
        super().__init__()
        bound = 1 / math.sqrt(in_dim)
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_dim).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_dim, in_dim), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((out_dim,), sigma * bound))
        self.e_in: Tensor  # f(e_i) [in_dim]
        self.e_out: Tensor  # f(e_j) [out_dim]
        self.register_buffer("e_in", torch.zeros(in_dim), persistent=False)
        self.register_buffer("e_out", torch.zeros(out_dim), persistent=False)
        self.noise = True

    def resample(self, generator: torch.Generator) -> None:
        """Draw new noise; the generator is the CPU's, so that every device sees the same numbers."""
        drawn = torch.randn(len(self.e_in) + len(self.e_out), generator=generator)
        shaped = drawn.sign() * drawn.abs().sqrt()
        self.e_in.copy_(shaped[: len(self.e_in)])
        self.e_out.copy_(shaped[len(self.e_in) :])

    def forward(self, x: Tensor) -> Tensor:
        """x[..., in_dim] -> [..., out_dim]."""
        if not self.noise:
            return F.linear(x, self.weight, self.bias)
        weight = self.weight + self.weight_sigma * torch.outer(self.e_out, self.e_in)
        return F.linear(x, weight, self.bias + self.bias_sigma * self.e_out)
