"""The small convolutional network of Young & Tian 2019, "MinAtar", https://arxiv.org/abs/1903.03176."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS
from rlab.nn.layers import ChannelNormReLU

FILTERS = 16
KERNEL = 3
WIDTH = 128


class MinAtarNet(nn.Module):
    """Conv 16x3x3/1 and a layer of 128, ReLU after each: a quarter of DQN's last layers, for boards of 10x10.

    Args:
        shape: [C, H, W].
        norm: LayerNorm before every ReLU, of maps over each position's channels (Gallici et al. 2024).
    """

    def __init__(self, shape: tuple[int, ...], norm: bool = False):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < KERNEL:
            raise RlabError(
                f"encoder 'minatar' takes images [C, H, W] of at least {KERNEL}x{KERNEL}, not {list(shape)}; "
                "nearest: mlp"
            )
        maps = (FILTERS, *(side - KERNEL + 1 for side in shape[1:]))
        convolution, dense = nn.Conv2d(shape[0], FILTERS, KERNEL), nn.Linear(math.prod(maps), WIDTH)
        self.norm = norm
        self.convolution = nn.Sequential(convolution, ChannelNormReLU(FILTERS) if norm else nn.ReLU())
        self.dense = nn.Sequential(dense, *[nn.LayerNorm(WIDTH)] * norm, nn.ReLU())
        self.out_dim = WIDTH

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 16, H-2, W-2], for dense heads."""
        return self.convolution(obs.contiguous(memory_format=torch.channels_last) if self.norm else obs)

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 128]."""
        maps = self.feature_maps(obs)
        return self.dense((maps.permute(0, 2, 3, 1) if self.norm else maps).flatten(1))  # as they lie, without a copy


ENCODERS.register("minatar")(MinAtarNet)
ENCODERS.register("minatar-norm")(partial(MinAtarNet, norm=True))
