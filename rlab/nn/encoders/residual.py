"""The published residual networks (He et al. 2016, "Deep residual learning"), for ImageNet and for CIFAR.

The small one for games, with GroupNorm and a dense layer, is in `resnet.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.encoders import ENCODERS
from rlab.nn.encoders.small_images import Window, he_start, scale

Norm = Callable[[int], nn.Module]
"""channels -> a layer that normalises maps[B, channels, h, w]."""

Shortcut = Callable[[int, int, int, Norm], nn.Module]
"""(channels in, channels out, stride, norm) -> what goes around a block."""


def projection(channels: int, out: int, stride: int, norm: Norm) -> nn.Module:
    """Option B (section 3.3): as it is, or a convolution 1x1 where the shape changes."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))


class Padded(nn.Module):
    """Option A: every `stride`-th place, and channels of zeros on both sides of those there are; no parameters."""

    def __init__(self, channels: int, out: int, stride: int, norm: Norm):
        super().__init__()
        self.stride, self.before = stride, (out - channels) // 2
        self.after = out - channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, out, h / stride, w / stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class Cut(nn.Module):
    """The shortcut of a plain network: nothing goes around the block."""

    def __init__(self, channels: int, out: int, stride: int, norm: Norm):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> 0."""
        return x.new_zeros(())


class Basic(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))), 3x3 (figure 5, left)."""

    widening = 1

    def __init__(self, channels: int, width: int, stride: int, norm: Norm, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.downsample = shortcut(channels, width, stride, norm)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, width, h / stride, w / stride]."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.downsample(x))
        return out


class Bottleneck(nn.Module):
    """1x1 to `width` channels, 3x3, 1x1 to four times as many (figure 5, right), the stride in the 3x3.

    The paper has the stride in the first 1x1; the published weights are for the 3x3, which sees every place.
    """

    widening = 4

    def __init__(self, channels: int, width: int, stride: int, norm: Norm, shortcut: Shortcut):
        super().__init__()
        out = self.widening * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = norm(out)
        self.downsample = shortcut(channels, out, stride, norm)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """maps[B, channels, h, w] -> maps[B, 4 width, h / stride, w / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(y)))))
        out: Tensor = self.relu3(y + self.downsample(x))
        return out


class Layout(NamedTuple):
    """What makes one residual network: its blocks, how many in each stage, the first width, what goes around."""

    block: type[Basic] | type[Bottleneck]
    depths: tuple[int, ...]
    width: int
    stem: tuple[Window, ...]
    shortcut: Shortcut = projection


IMAGENET = (Window(7, 2, 3), Window(3, 2, 1, pool=True))
CIFAR = (Window(3, 1, 1),)
LAYOUTS = {
    "resnet18": Layout(Basic, (2, 2, 2, 2), 64, IMAGENET),
    "resnet34": Layout(Basic, (3, 4, 6, 3), 64, IMAGENET),
    "resnet50": Layout(Bottleneck, (3, 4, 6, 3), 64, IMAGENET),
    "resnet101": Layout(Bottleneck, (3, 4, 23, 3), 64, IMAGENET),
    **{f"resnet{6 * n + 2}": Layout(Basic, (n, n, n), 16, CIFAR, Padded) for n in (3, 5, 9, 18)},
    **{f"plain{6 * n + 2}": Layout(Basic, (n, n, n), 16, CIFAR, Cut) for n in (3, 9)},
}
"""Table 1 and section 4.2; every stage after the first halves the maps and doubles the width."""


class ResidualNet(nn.Module):
    """A stem, stages of residual blocks, and the mean over the last maps.

    Args:
        shape: [C, H, W]; published 224x224, or 32x32 for CIFAR. Smaller ones by the rule of `small_images.scale`.
        layout: which network.
        norm: makes the normalisation; its parameters are called bn1, bn2, ... whatever it is.
        name: for messages.
    """

    def __init__(self, shape: tuple[int, ...], layout: Layout, norm: Norm = nn.BatchNorm2d, name: str = "resnet"):
        super().__init__()
        halvings = [Window(3, 2, 1)] * (len(layout.depths) - 1)
        self.windows = scale(name, shape, [*layout.stem, *halvings])
        stem, *others = self.windows
        channels = width = layout.width
        self.conv1 = nn.Conv2d(shape[0], width, stem.kernel, stem.stride, stem.padding, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU()
        self.pool = nn.Sequential(*[w.pooling() for w in others if w.pool])
        strides = [1, *(w.stride for w in others if not w.pool)]
        self.stages = [f"layer{i}" for i in range(1, len(strides) + 1)]
        for stage, depth, stride in zip(self.stages, layout.depths, strides, strict=True):
            blocks = []
            for i in range(depth):
                blocks.append(layout.block(channels, width, 1 if i else stride, norm, layout.shortcut))
                channels = width * layout.block.widening
            self.add_module(stage, nn.Sequential(*blocks))
            width *= 2
        self.out_dim = channels
        he_start(self)

    def feature_maps(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> maps[B, out_dim, h, w] (7x7 for 224x224; CIFAR's: 8x8 for 32x32), for dense heads."""
        x = self.pool(self.relu(self.bn1(self.conv1(obs))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, C, H, W] -> [B, out_dim]."""
        return self.feature_maps(obs).mean((2, 3))


for name, layout in LAYOUTS.items():
    ENCODERS.register(name)(partial(ResidualNet, layout=layout, name=name))
# For reinforcement learning, where a batch is no sample of what is seen when acting (Wu & He 2018).
for name, groups in (("resnet18", 32), ("resnet20", 4)):
    norm = partial(nn.GroupNorm, groups)
    ENCODERS.register(f"{name}-gn")(partial(ResidualNet, layout=LAYOUTS[name], norm=norm, name=f"{name}-gn"))
