"""VGG (Simonyan & Zisserman 2015), configurations A, B, D and E, and each with BatchNorm."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, he_start, scale, sides

CHANNELS = (64, 128, 256, 512, 512)
DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions in each of the five stages (table 1)."""

WIDTH = 4096
POOLED = 7
"""Height and width of the maps that the dense layers take."""


class VGG(nn.Module):
    """Five stages of convolutions 3x3 with ReLU, a pooling after each, and two layers of 4096 with dropout.

    Args:
        shape: [C, H, W]; published 224x224. Smaller ones by the rule of `small_images.scale`.
        depths: convolutions in each stage.
        norm: BatchNorm before every ReLU of the stages.
        name: for messages.
    """

    def __init__(self, shape: tuple[int, ...], depths: tuple[int, ...], norm: bool = False, name: str = "vgg"):
        super().__init__()
        self.windows = scale(name, shape, [Window(2, 2, 0, pool=True)] * len(CHANNELS))
        layers: list[nn.Module] = []
        channels = shape[0]
        for out, depth, window in zip(CHANNELS, depths, self.windows, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, out, 3, padding=1), *[nn.BatchNorm2d(out)] * norm, nn.ReLU()]
                channels = out
            layers.append(window.pooling())
        self.features = nn.Sequential(*layers)
        height, width = (min(POOLED, side) for side in sides(shape, self.windows))
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        into_first = [nn.Linear(channels * height * width, WIDTH), nn.ReLU(), nn.Dropout()]
        self.dense = nn.Sequential(*into_first, nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout())
        self.out_dim = WIDTH
        he_start(self, linear_std=0.01)

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 512, h, w] (7x7 for 224x224), for dense heads."""
        maps: Tensor = self.features(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 4096]."""
        features: Tensor = self.dense(self.pool(self.feature_maps(obs)).flatten(1))
        return features


for name, depths in DEPTHS.items():
    ENCODERS.register(name)(partial(VGG, depths=depths, name=name))
    ENCODERS.register(f"{name}-bn")(partial(VGG, depths=depths, norm=True, name=f"{name}-bn"))
