"""The residual network of IMPALA (Espeholt et al. 2018, figure 3), and as "Beyond the Rainbow" has it (2024)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS
from rlab.nn.layers import SpectralConv2d

SMALLEST = 8
"""The smallest height and width whose third pooling is over more than one place."""


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3, `channels` kept."""

    def __init__(self, channels: int, spectral: bool):
        super().__init__()
        conv = SpectralConv2d if spectral else nn.Conv2d
        self.first = conv(channels, channels, 3, padding=1)
        self.second = conv(channels, channels, 3, padding=1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, C, h, w] -> maps[B, C, h, w]."""
        y: Tensor = self.second(self.relu2(self.first(self.relu1(x))))
        return x + y


class Impala(nn.Module):
    """Three sections of 16, 32 and 32 channels: conv 3x3, max-pool 3x3/2, two residual blocks; ReLU at the end.

    Args:
        shape: [C, H, W].
        width: factor of the channels.
        spectral: spectral norm on the convolutions of the residual blocks.
        pool: max-pool the last maps to this height and width; 0: leave them.
        dense: units of a layer with ReLU on top; 0: none, the maps are the features.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 1, spectral: bool = False, pool: int = 0, dense: int = 256):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST:
            raise RlabError(
                f"encoder 'impala' takes images [C, H, W] of at least {SMALLEST}x{SMALLEST}, not {list(shape)}; "
                "nearest: mlp"
            )
        layers: list[nn.Module] = []
        channels = shape[0]
        for out in (16 * width, 32 * width, 32 * width):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
            layers += [Residual(out, spectral), Residual(out, spectral)]
            channels = out
        layers += [nn.ReLU(), *[nn.AdaptiveMaxPool2d(pool)] * bool(pool)]
        self.convolutions = nn.Sequential(*layers)
        with torch.no_grad():
            self.out_dim = self.convolutions(torch.zeros(1, *shape)).numel()
        self.dense = nn.Sequential(nn.Flatten())
        if dense:
            self.dense.extend([nn.Linear(self.out_dim, dense), nn.ReLU()])
            self.out_dim = dense

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 32 width, h, w] (11x11 for 84x84), for dense heads."""
        maps: Tensor = self.convolutions(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, out_dim]."""
        features: Tensor = self.dense(self.feature_maps(obs))
        return features


ENCODERS.register("impala")(Impala)
ENCODERS.register("impala-btr")(partial(Impala, width=2, spectral=True, pool=6, dense=0))
