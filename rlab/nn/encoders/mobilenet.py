"""MobileNet V1 (Howard et al. 2017) and V2 (Sandler et al. 2018): convolutions apart by channel, then across."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, he_start, scale

STEM = 32


class Row(NamedTuple):
    """`repeats` blocks of `out` channels, the first with a stride; `expand` times the channels inside (V2)."""

    out: int
    repeats: int
    stride: int
    expand: int = 1


V1 = (
    *(Row(64, 1, 1), Row(128, 1, 2), Row(128, 1, 1), Row(256, 1, 2), Row(256, 1, 1)),
    *(Row(512, 1, 2), Row(512, 5, 1), Row(1024, 1, 2), Row(1024, 1, 1)),
)
"""Table 1 of the paper. (Its last stride of 2 is a slip there: the maps stay 7x7.)"""

V2 = (
    *(Row(16, 1, 1, 1), Row(24, 2, 2, 6), Row(32, 3, 2, 6), Row(64, 4, 2, 6)),
    *(Row(96, 3, 1, 6), Row(160, 3, 2, 6), Row(320, 1, 1, 6)),
)
"""Table 2 of the paper."""


def unit(channels: int, out: int, kernel: int, stride: int, groups: int, rectify: type[nn.Module]) -> nn.Sequential:
    """rectify(norm(conv(x)))."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), rectify())


class Separable(nn.Module):
    """V1's block: 3x3 in each channel, then 1x1 across them, each with norm and ReLU (figure 3, right)."""

    rectify: type[nn.Module] = nn.ReLU

    def __init__(self, channels: int, out: int, stride: int, expand: int):
        super().__init__()
        each = unit(channels, channels, 3, stride, channels, self.rectify)
        self.conv = nn.Sequential(each, unit(channels, out, 1, 1, 1, self.rectify))

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, out, h / stride, w / stride]."""
        y: Tensor = self.conv(x)
        return y


class InvertedResidual(nn.Module):
    """V2's block: 1x1 to `expand` times the channels, 3x3 in each of them, 1x1 back without ReLU (figure 4d)."""

    rectify: type[nn.Module] = nn.ReLU6

    def __init__(self, channels: int, out: int, stride: int, expand: int):
        super().__init__()
        wide = channels * expand
        layers = [unit(channels, wide, 1, 1, 1, self.rectify)] if expand > 1 else []
        layers.append(unit(wide, wide, 3, stride, wide, self.rectify))
        self.conv = nn.Sequential(*layers, nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.around = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, out, h / stride, w / stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.around else y


class MobileNet(nn.Module):
    """A convolution with stride 2, the blocks of a table, and the mean over the last maps.

    Args:
        shape: [C, H, W]; published 224x224. Smaller ones by the rule of `small_images.scale`.
        rows: the table.
        block: (channels, out, stride, expand) -> one block; its `rectify` is the network's.
        last: channels of a last convolution 1x1; 0: there is none.
        name: for messages.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        rows: tuple[Row, ...],
        block: type[Separable] | type[InvertedResidual],
        last: int = 0,
        name: str = "mobilenet",
    ):
        super().__init__()
        self.windows = scale(name, shape, [Window(3, 2, 1), *(Window(3, row.stride, 1) for row in rows)])
        stem, *others = self.windows
        layers: list[nn.Module] = [unit(shape[0], STEM, 3, stem.stride, 1, block.rectify)]
        channels = STEM
        for row, window in zip(rows, others, strict=True):
            for i in range(row.repeats):
                layers.append(block(channels, row.out, 1 if i else window.stride, row.expand))
                channels = row.out
        if last:
            layers.append(unit(channels, last, 1, 1, 1, block.rectify))
        self.features = nn.Sequential(*layers)
        self.out_dim = last or channels
        he_start(self)

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, out_dim, h, w] (7x7 for 224x224), for dense heads."""
        maps: Tensor = self.features(obs)
        return maps

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, out_dim]."""
        return self.feature_maps(obs).mean((2, 3))


Build = Callable[[tuple[int, ...]], nn.Module]
v1: Build = partial(MobileNet, rows=V1, block=Separable, name="mobilenet-v1")
v2: Build = partial(MobileNet, rows=V2, block=InvertedResidual, last=1280, name="mobilenet-v2")
ENCODERS.register("mobilenet-v1")(v1)
ENCODERS.register("mobilenet-v2")(v2)
