"""The small convolutional network of Young & Tian 2019, "MinAtar", https://arxiv.org/abs/1903.03176."""

from __future__ import annotations

import math

from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS

FILTERS = 16
KERNEL = 3
WIDTH = 128
SMALLEST = 5
"""The smallest height and width at which "auto" takes this encoder; below it the convolution sees next to nothing."""


@ENCODERS.register("minatar")
class MinAtarNet(nn.Module):
    """Conv 16x3x3/1 and a layer of 128, ReLU after each: a quarter of DQN's last layers, for boards of 10x10."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < KERNEL:
            raise RlabError(
                f"encoder 'minatar' takes images [C, H, W] of at least {KERNEL}x{KERNEL}, not {list(shape)}; "
                "nearest: mlp"
            )
        self.convolution = nn.Sequential(nn.Conv2d(shape[0], FILTERS, KERNEL), nn.ReLU())
        maps = FILTERS * math.prod(side - KERNEL + 1 for side in shape[1:])
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(maps, WIDTH), nn.ReLU())
        self.out_dim = WIDTH

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 16, H-2, W-2], for dense heads."""
        return self.convolution(obs)

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 128]."""
        return self.dense(self.feature_maps(obs))
