"""The residual network of AlphaGo Zero (Silver et al. 2017, methods), for boards of any size."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS

SIZES = {
    "go-resnet": (6, 64),
    **{f"go-resnet-{b}x{c}": (b, c) for b, c in ((2, 32), (3, 32), (4, 48), (10, 96))},
}
"""Name -> blocks of two convolutions each, channels."""


class GlobalPool(nn.Module):
    """Mean and maximum over the board, of some channels, as a bias of the others (Wu 2019, "Accelerating self-play
    learning in Go", section 3.2)."""

    def __init__(self, channels: int, pooled: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, pooled, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(pooled)
        self.relu = nn.ReLU()
        self.bias = nn.Linear(2 * pooled, channels)

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, n, n] -> biases[B, channels, 1, 1]."""
        maps = self.relu(self.norm(self.conv(x)))
        bias: Tensor = self.bias(pooled(maps))
        return bias[:, :, None, None]


def pooled(maps: Tensor) -> Tensor:
    """maps[B, C, n, n] -> their means and maxima over the board [B, 2C]."""
    return torch.cat((maps.mean((2, 3)), maps.amax((2, 3))), 1)


class Block(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)) + what is pooled)))), 3x3."""

    def __init__(self, channels: int, pool: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pool = GlobalPool(channels, max(8, channels // 4)) if pool else None
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, n, n] -> the same shape."""
        y = self.norm1(self.conv1(x))
        if self.pool is not None:
            y = y + self.pool(x)
        out: Tensor = self.relu2(self.norm2(self.conv2(self.relu1(y))) + x)
        return out


class GoResNet(nn.Module):
    """A convolution and residual blocks, all 3x3 with batch normalisation, on the whole board.

    Args:
        shape: [C, H, W].
        blocks: of two convolutions each.
        channels: of all maps.
        global_pool: every third block adds what is pooled over the board (`GlobalPool`), so that what happens in one
            corner is known in the other at once.
    """

    def __init__(self, shape: tuple[int, ...], blocks: int, channels: int, global_pool: bool = False):
        super().__init__()
        if len(shape) != 3:
            raise RlabError(f"encoder 'go-resnet' takes boards [C, H, W], not {list(shape)}; nearest: mlp")
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Block(channels, global_pool and k % 3 == 1) for k in range(blocks)))
        self.channels = channels
        self.out_dim = channels * shape[1] * shape[2]

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, channels, H, W]."""
        maps: Tensor = self.blocks(self.stem(obs))
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, channels * H * W]."""
        return self.feature_maps(obs).flatten(1)


for _name, (_blocks, _channels) in SIZES.items():
    ENCODERS.register(_name)(partial(GoResNet, blocks=_blocks, channels=_channels))
    ENCODERS.register(_name.replace("resnet", "resnet-pool"))(
        partial(GoResNet, blocks=_blocks, channels=_channels, global_pool=True)
    )
