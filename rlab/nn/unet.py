"""Networks of flow matching and diffusion: noisy data, time and class -> data; a small U-Net, and layers for points."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 7
"""Maps are halved once, and again if they stay at least this high and wide (28x28: to 7x7)."""

FASTEST = 1_000.0
"""Largest frequency of time, which goes from 0 to 1."""


class TimeAndClass(nn.Module):
    """Embed time (Vaswani et al. 2017, section 3.5) and, where there are classes, the class; one more stands for none.

    Args:
        dim: of the embedding.
        classes: how many; 0: none.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.pairs = dim // 2
        self.layers = nn.Sequential(nn.Linear(2 * self.pairs, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.classes = nn.Embedding(classes + 1, dim) if classes else None

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        """t[B] in 0..1, classes int64[B] or None -> [B, dim]."""
        frequencies = torch.exp(math.log(FASTEST) * torch.linspace(0, 1, self.pairs, device=t.device))
        angles = t[:, None] * frequencies
        embedded: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded if self.classes is None else embedded + self.classes(y)


class Residual(nn.Module):
    """Two convolutions with group norm and SiLU, told time and class between them; the input is added."""

    def __init__(self, n_in: int, n_out: int, told: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1))
        self.told = nn.Linear(told, n_out)
        self.second = nn.Sequential(nn.GroupNorm(8, n_out), nn.SiLU(), nn.Conv2d(n_out, n_out, 3, padding=1))
        self.skip = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)
        nn.init.zeros_(self.second[-1].weight)  # type: ignore[arg-type]  # so that a new block passes its input on

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x[B, C, H, W], told[B, D] -> [B, C', H, W]."""
        result: Tensor = self.skip(x) + self.second(self.first(x) + self.told(told)[:, :, None, None])
        return result


class Attention(nn.Module):
    """Attention of every place to every other one, added to the input."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, H, W] -> the same shape."""
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, h, w)
        result: Tensor = x + self.out(mixed)
        return result


class UNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015; Ho et al. 2020, appendix B): a residual block a level on either way.

    Images of any height and width are padded to what can be halved, and cut again.

    Args:
        shape: of an image [C, H, W].
        classes: 0: none.
        width: channels of the largest maps, a multiple of 8; of the smaller ones twice and three times as many.
        patch: so many pixels across and down are the channels of one place (Hoogeboom et al. 2023, section 3.3): maps
            are smaller, and most of a processor's time is spent on the largest ones.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0, width: int = 32, patch: int = 1):
        super().__init__()
        halvings = 2 if min(shape[1:]) >= 4 * SMALLEST * patch else 1
        channels = [width * (i + 1) for i in range(halvings + 1)]
        told, pixels = 4 * width, shape[0] * patch**2
        self.patch, self.multiple = patch, patch * 2**halvings
        self.told = TimeAndClass(told, classes)
        self.first = nn.Conv2d(pixels, width, 3, padding=1)
        self.down, self.halve = nn.ModuleList(), nn.ModuleList()
        self.up, self.enlarge = nn.ModuleList(), nn.ModuleList()
        for n_in, n_out in pairwise(channels):
            self.down.append(Residual(n_in, n_in, told))
            self.halve.append(nn.Conv2d(n_in, n_out, 3, stride=2, padding=1))
            self.enlarge.append(nn.Conv2d(n_out, n_in, 3, padding=1))
            self.up.append(Residual(2 * n_in, n_in, told))
        self.middle = nn.ModuleList([Residual(channels[-1], channels[-1], told) for _ in range(2)])
        self.attention = Attention(channels[-1])
        self.last = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, pixels, 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x[B, C, H, W], times t[B] in 0..1, classes int64[B] (K stands for none) -> [B, C, H, W]."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        maps = self.first(F.pixel_unshuffle(padded, self.patch))
        told = self.told(t, y)
        kept = []
        for block, halve in zip(self.down, self.halve, strict=True):
            maps = block(maps, told)
            kept.append(maps)
            maps = halve(maps)
        maps = self.middle[1](self.attention(self.middle[0](maps, told)), told)
        for block, enlarge in zip(reversed(self.up), reversed(self.enlarge), strict=True):
            maps = enlarge(F.interpolate(maps, scale_factor=2.0))
            maps = block(torch.cat([maps, kept.pop()], dim=1), told)
        result = F.pixel_shuffle(self.last(maps), self.patch)
        return result[:, :, :height, :width]


class PointNet(nn.Module):
    """The same for rows of a table: fully connected layers that are told time and class.

    Args:
        shape: of a row [D].
        classes: 0: none.
        width: units of a hidden layer.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0, width: int = 128):
        super().__init__()
        self.told = TimeAndClass(width, classes)
        self.first = nn.Linear(shape[0], width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.last = nn.Linear(width, shape[0])

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x[B, D], times t[B] in 0..1, classes int64[B] -> [B, D]."""
        features, told = self.first(x), self.told(t, y)
        for layer in self.hidden:
            features = features + layer(F.silu(features + told))
        result: Tensor = self.last(F.silu(features))
        return result
