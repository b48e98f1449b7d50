"""A small residual network after the CIFAR ones of He et al. 2016 ("Deep residual learning", section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS

SMALLEST = 5
"""The smallest height and width: below it nothing is left to see after the stages' halvings."""

CHANNELS = (16, 32, 64)
WIDTH = 256
LARGEST = 32
"""Height and width that the stages are made for (CIFAR's): larger images are halved by the first convolution."""


class Block(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))), 3x3, with projection where the shape changes.

    GroupNorm (Wu & He 2018) stands for BatchNorm, so that no image of a batch depends on the others.
    """

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(4, out), nn.GroupNorm(4, out)])
        changes = stride != 1 or channels != out
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False) if changes else nn.Identity()
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, C, h, w] -> maps[B, out, h / stride, w / stride]."""
        y = self.norms[1](self.second(self.relu1(self.norms[0](self.first(x)))))
        out: Tensor = self.relu2(self.shortcut(x) + y)
        return out


class ResNet(nn.Module):
    """Conv 3x3, three stages of two blocks with 16, 32 and 64 channels, and a layer of 256 with ReLU.

    A layer in place of He et al.'s mean over the maps: where something is matters in a game. The stages halve the maps
    as long as they are larger than 4x4; images above 32x32 start with strides of 2 until they are not (84x84 becomes
    21x21).

    Args:
        shape: [C, H, W].
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST:
            raise RlabError(
                f"encoder 'resnet' takes images [C, H, W] of at least {SMALLEST}x{SMALLEST}, not {list(shape)}; "
                "nearest: mlp"
            )
        side, channels = min(shape[1:]), shape[0]
        layers: list[nn.Module] = []
        while side > LARGEST or not layers:
            stride = 2 if side > LARGEST else 1
            layers += [nn.Conv2d(channels, CHANNELS[0], 3, stride, padding=1, bias=False)]
            layers += [nn.GroupNorm(4, CHANNELS[0]), nn.ReLU()]
            side, channels = -(-side // stride), CHANNELS[0]
        for out in CHANNELS:
            stride = 2 if out != CHANNELS[0] and side > 4 else 1
            layers += [Block(channels, out, stride), Block(out, out, 1)]
            side, channels = -(-side // stride), out
        self.convolutions = nn.Sequential(*layers)
        with torch.no_grad():
            places = self.convolutions(torch.zeros(1, *shape)).numel()
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(places, WIDTH), nn.ReLU())
        self.out_dim = WIDTH

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 64, h, w] (6x6 for 84x84, 3x3 for 10x10), for dense heads."""
        maps: Tensor = self.convolutions(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 256]."""
        features: Tensor = self.dense(self.feature_maps(obs))
        return features


ENCODERS.register("resnet")(ResNet)
