"""DenseNet (Huang et al. 2017): every layer of a block sees the maps of all before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, he_start, scale

GROWTH = 32
"""Channels that each layer adds (k)."""

NARROW = 4
"""Each layer looks through a bottleneck of so many times k channels."""

DEPTHS = (6, 12, 24, 16)
"""Layers of each block of DenseNet-121 (table 1)."""

STEM = 2 * GROWTH
WINDOWS = (Window(7, 2, 3), Window(3, 2, 1, pool=True), *[Window(2, 2, 0, pool=True)] * (len(DEPTHS) - 1))


class Layer(nn.Module):
    """conv3x3(relu(norm(conv1x1(relu(norm(x)))))), joined to x."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, NARROW * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(NARROW * GROWTH)
        self.conv2 = nn.Conv2d(NARROW * GROWTH, GROWTH, 3, padding=1, bias=False)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, channels + 32, h, w]."""
        y = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(y)))], dim=1)


class DenseNet(nn.Module):
    """DenseNet-121: a stem, four blocks with transitions between that halve channels and maps, and the mean.

    Args:
        shape: [C, H, W]; published 224x224. Smaller ones by the rule of `small_images.scale`.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.windows = scale("densenet121", shape, WINDOWS)
        stem, pool, *halvings = self.windows
        self.features = nn.Sequential()
        add = self.features.add_module
        add("conv0", nn.Conv2d(shape[0], STEM, stem.kernel, stem.stride, stem.padding, bias=False))
        add("norm0", nn.BatchNorm2d(STEM))
        add("relu0", nn.ReLU())
        add("pool0", pool.pooling())
        channels = STEM
        for number, depth in enumerate(DEPTHS, start=1):
            block = nn.Sequential()
            for i in range(depth):
                block.add_module(f"denselayer{i + 1}", Layer(channels + i * GROWTH))
            add(f"denseblock{number}", block)
            channels += depth * GROWTH
            if number <= len(halvings):
                add(f"transition{number}", transition(channels, halvings[number - 1]))
                channels //= 2
        add("norm5", nn.BatchNorm2d(channels))
        add("relu5", nn.ReLU())
        self.out_dim = channels
        he_start(self)

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 1024, h, w] (7x7 for 224x224), for dense heads."""
        maps: Tensor = self.features(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 1024]."""
        return self.feature_maps(obs).mean((2, 3))


def transition(channels: int, window: Window) -> nn.Sequential:
    """Make the layers between two blocks, which halve channels, height and width."""
    layers = nn.Sequential()
    layers.add_module("norm", nn.BatchNorm2d(channels))
    layers.add_module("relu", nn.ReLU())
    layers.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
    layers.add_module("pool", window.pooling(nn.AvgPool2d))
    return layers


ENCODERS.register("densenet121")(DenseNet)
