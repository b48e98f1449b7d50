"""The convolutional network of Mnih et al. 2015, "Human-level control through deep reinforcement learning"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS

SMALLEST = 36
"""The smallest height and width that three unpadded convolutions leave something of."""


@ENCODERS.register("nature")
class Nature(nn.Module):
    """Conv 32x8x8/4, 64x4x4/2, 64x3x3/1 and a layer of 512, ReLU after each (Methods, "Model architecture")."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST:
            raise RlabError(
                f"encoder 'nature' takes images [C, H, W] of at least {SMALLEST}x{SMALLEST}, not {list(shape)}; "
                "nearest: mlp"
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
        )
        with torch.no_grad():
            maps = self.convolutions(torch.zeros(1, *shape))
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(maps.numel(), 512), nn.ReLU())
        self.out_dim = 512

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 64, h, w] (7x7 for 84x84), for dense heads."""
        return self.convolutions(obs)

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 512]."""
        return self.dense(self.feature_maps(obs))
