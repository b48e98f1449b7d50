"""The convolutional network of Mnih et al. 2015, "Human-level control through deep reinforcement learning"."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS
from rlab.nn.layers import ChannelNormReLU

SMALLEST = 36
"""The smallest height and width that three unpadded convolutions leave something of."""


class Nature(nn.Module):
    """Conv 32x8x8/4, 64x4x4/2, 64x3x3/1 and a layer of 512, ReLU after each (Methods, "Model architecture").

    Args:
        shape: [C, H, W].
        norm: LayerNorm before every ReLU, of maps over each position's channels (Gallici et al. 2024).
        dense: whether the layer of 512 is there, or left to the head.
    """

    def __init__(self, shape: tuple[int, ...], norm: bool = False, dense: bool = True):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST:
            raise RlabError(
                f"encoder 'nature' takes images [C, H, W] of at least {SMALLEST}x{SMALLEST}, not {list(shape)}; "
                "nearest: mlp"
            )
        layers: list[nn.Module] = []
        maps = torch.zeros(1, *shape)
        for channels, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers.append(nn.Conv2d(maps.shape[1], channels, kernel, stride))
            with torch.no_grad():
                maps = layers[-1](maps)
            layers.append(ChannelNormReLU(channels) if norm else nn.ReLU())
        self.norm = norm
        self.convolutions = nn.Sequential(*layers)
        self.out_dim = maps.numel()
        self.dense = nn.Sequential(nn.Flatten())
        if dense:
            self.dense.extend([nn.Linear(self.out_dim, 512), *[nn.LayerNorm(512)] * norm, nn.ReLU()])
            self.out_dim = 512

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 64, h, w] (7x7 for 84x84), for dense heads."""
        return self.convolutions(obs.contiguous(memory_format=torch.channels_last) if self.norm else obs)

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, out_dim]."""
        return self.dense(self.feature_maps(obs))


ENCODERS.register("nature")(Nature)
ENCODERS.register("nature-conv")(partial(Nature, dense=False))
ENCODERS.register("nature-norm")(partial(Nature, norm=True))
