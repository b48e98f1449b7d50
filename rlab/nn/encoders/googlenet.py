"""GoogLeNet (Szegedy et al. 2015), as its weights are published: with BatchNorm, and 3x3 in the "5x5" branch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, he_start, scale, sides


class Widths(NamedTuple):
    """Channels of one inception module (table 1): what comes in, and the four branches."""

    inside: int
    single: int
    reduce3: int
    wide3: int
    reduce5: int
    wide5: int
    pooled: int


INCEPTIONS = {
    "3a": Widths(192, 64, 96, 128, 16, 32, 32),
    "3b": Widths(256, 128, 128, 192, 32, 96, 64),
    "4a": Widths(480, 192, 96, 208, 16, 48, 64),
    "4b": Widths(512, 160, 112, 224, 24, 64, 64),
    "4c": Widths(512, 128, 128, 256, 24, 64, 64),
    "4d": Widths(512, 112, 144, 288, 32, 64, 64),
    "4e": Widths(528, 256, 160, 320, 32, 128, 128),
    "5a": Widths(832, 256, 160, 320, 32, 128, 128),
    "5b": Widths(832, 384, 192, 384, 48, 128, 128),
}
POOL = Window(3, 2, 0, pool=True, ceil=True)
WINDOWS = (Window(7, 2, 3), POOL, Window(3, 1, 1), POOL, POOL, Window(2, 2, 0, pool=True, ceil=True))
BEFORE_4A = 5
"""So many of them stand before 4a, whose maps and those of 4d the auxiliary classifiers see."""

WIDTH = 1024
POOLED = 4
"""Height and width of the maps that the dense layers of an auxiliary classifier take."""


class Unit(nn.Module):
    """relu(norm(conv(x)))."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, out, h', w']."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Inception(nn.Module):
    """Four branches beside each other, their channels joined (figure 2b)."""

    def __init__(self, w: Widths):
        super().__init__()
        self.branch1 = Unit(w.inside, w.single, 1)
        self.branch2 = nn.Sequential(Unit(w.inside, w.reduce3, 1), Unit(w.reduce3, w.wide3, 3, padding=1))
        self.branch3 = nn.Sequential(Unit(w.inside, w.reduce5, 1), Unit(w.reduce5, w.wide5, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Unit(w.inside, w.pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, inside, h, w] -> maps[B, single + wide3 + wide5 + pooled, h, w]."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class Auxiliary(nn.Module):
    """A classifier on maps in the middle, which helps the gradient when training (section 5)."""

    def __init__(self, channels: int, height: int, width: int, classes: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        self.conv = Unit(channels, 128, 1)
        self.fc1 = nn.Linear(128 * height * width, WIDTH)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.7)
        self.fc2 = nn.Linear(WIDTH, classes)

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> logits[B, classes]."""
        hidden = self.relu(self.fc1(self.conv(self.pool(maps)).flatten(1)))
        logits: Tensor = self.fc2(self.drop(hidden))
        return logits


class GoogLeNet(nn.Module):
    """A stem of three convolutions, nine inception modules, and the mean over the last maps.

    The published weights are for images scaled to -1..1.

    Args:
        shape: [C, H, W]; published 224x224. Smaller ones by the rule of `small_images.scale`.
        auxiliary: classes of the two auxiliary classifiers; 0: there are none.
    """

    def __init__(self, shape: tuple[int, ...], auxiliary: int = 0):
        super().__init__()
        self.windows = scale("googlenet", shape, WINDOWS)
        stem, pool1, middle, pool2, pool3, pool4 = self.windows
        self.conv1 = Unit(shape[0], 64, stem.kernel, stem.stride, stem.padding)
        self.pool1 = pool1.pooling()
        self.conv2 = Unit(64, 64, 1)
        self.conv3 = Unit(64, 192, middle.kernel, middle.stride, middle.padding)
        self.pool2, self.pool3, self.pool4 = pool2.pooling(), pool3.pooling(), pool4.pooling()
        for key, widths in INCEPTIONS.items():
            self.add_module(f"inception{key}", Inception(widths))
        self.auxiliary = auxiliary
        if auxiliary:
            height, width = (min(POOLED, side) for side in sides(shape, self.windows[:BEFORE_4A]))
            self.aux1 = Auxiliary(INCEPTIONS["4b"].inside, height, width, auxiliary)
            self.aux2 = Auxiliary(INCEPTIONS["4e"].inside, height, width, auxiliary)
        self.out_dim = WIDTH
        he_start(self)

    def _stages(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """obs[B, C, H, W] -> maps of 4a [B, 512, h, w], 4d [B, 528, h, w] and 5b [B, 1024, h', w']."""
        x = self.pool2(self.conv3(self.conv2(self.pool1(self.conv1(obs)))))
        at = {}
        for key in INCEPTIONS:
            x = self.pool3(x) if key == "4a" else self.pool4(x) if key == "5a" else x
            x = at[key] = self.get_submodule(f"inception{key}")(x)
        return at["4a"], at["4d"], x

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, 1024, h, w] (7x7 for 224x224), for dense heads."""
        return self._stages(obs)[2]

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, 1024]."""
        return self.feature_maps(obs).mean((2, 3))

    def with_auxiliary(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """obs[B, C, H, W] -> features[B, 1024] and the logits[B, classes] of both auxiliary classifiers.

        In training the loss of each counts 0.3 (section 5).

        Raises:
            RlabError: it was built without.
        """
        if not self.auxiliary:
            raise RlabError("this googlenet has no auxiliary classifiers; nearest: GoogLeNet(shape, auxiliary=classes)")
        first, second, last = self._stages(obs)
        return last.mean((2, 3)), self.aux1(first), self.aux2(second)


ENCODERS.register("googlenet")(GoogLeNet)
