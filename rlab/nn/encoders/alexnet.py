"""AlexNet (Krizhevsky et al. 2012), in the form without groups of Krizhevsky 2014, "One weird trick"."""

from __future__ import annotations

from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, scale, sides

CHANNELS = (64, 192, 384, 256, 256)
WIDTH = 4096
POOLED = 6
"""Height and width of the maps that the dense layers take."""

POOL = Window(3, 2, 0, pool=True)
WINDOWS = (Window(11, 4, 2), POOL, Window(5, 1, 2), POOL, Window(3, 1, 1), Window(3, 1, 1), Window(3, 1, 1), POOL)


class AlexNet(nn.Module):
    """Five convolutions with ReLU, three poolings, and two layers of 4096 with dropout.

    Args:
        shape: [C, H, W]; published 224x224. Smaller ones by the rule of `small_images.scale`.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.windows = scale("alexnet", shape, WINDOWS)
        layers: list[nn.Module] = []
        channels, widths = shape[0], iter(CHANNELS)
        for window in self.windows:
            if window.pool:
                layers.append(window.pooling())
                continue
            out = next(widths)
            layers += [nn.Conv2d(channels, out, window.kernel, window.stride, window.padding), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        height, width = (min(POOLED, side) for side in sides(shape, self.windows))
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        into_first = [nn.Dropout(), nn.Linear(channels * height * width, WIDTH), nn.ReLU()]
        self.dense = nn.Sequential(*into_first, nn.Dropout(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.out_dim = WIDTH

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 256, h, w] (6x6 for 224x224), for dense heads."""
        maps: Tensor = self.features(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 4096]."""
        features: Tensor = self.dense(self.pool(self.feature_maps(obs)).flatten(1))
        return features


ENCODERS.register("alexnet")(AlexNet)
