"""How published image networks are scaled down to smaller images, and how their weights start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from torch import nn

from rlab.errors import RlabError

MAPS = 4
"""The last feature maps are at least this high and wide."""

IMAGES = 3
"""Axes of an image: [C, H, W]."""


class Window(NamedTuple):
    """A layer that may change height and width: a convolution, or a pooling.

    Attributes:
        kernel, stride, padding: as torch's.
        pool: a pooling; it can be left out altogether.
        ceil: the last window may stand over the edge (torch's `ceil_mode`).
    """

    kernel: int
    stride: int
    padding: int
    pool: bool = False
    ceil: bool = False

    def side(self, side: int) -> int:
        """Height or width in front of the layer -> behind it; 0 or less: nothing is left."""
        room = side + 2 * self.padding - self.kernel
        if not self.ceil:
            return room // self.stride + 1
        places = -(-room // self.stride) + 1
        return places - ((places - 1) * self.stride >= side + self.padding)  # the last must begin inside

    def without_stride(self) -> Window:
        """The same layer where it must not reduce: a pooling goes, a large kernel becomes 3x3."""
        if self.stride == 1:
            return self
        if self.pool:
            return Window(1, 1, 0, pool=True)
        kernel = min(self.kernel, 3)
        return Window(kernel, 1, kernel // 2)

    def pooling(self, kind: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d) -> nn.Module:
        """The pooling as a module; where it was left out, one that does nothing and keeps its place in the keys."""
        if self.kernel == 1:
            return nn.Identity()
        return kind(self.kernel, self.stride, self.padding, ceil_mode=self.ceil)


def sides(shape: Sequence[int], windows: Sequence[Window]) -> tuple[int, int]:
    """Height and width of the maps behind all layers, of images [C, H, W]."""
    height, width = shape[1:]
    for window in windows:
        height, width = window.side(height), window.side(width)
    return height, width


def scale(name: str, shape: tuple[int, ...], published: Sequence[Window]) -> list[Window]:
    """Remove the earliest reductions, one at a time, until the last maps are at least 4x4.

    First the stem's pooling, then the stem's stride (its 7x7 or 11x11 becomes 3x3), then the others from the front,
    until the last maps are at least 4x4. So most of what is dropped is what was only made for large images; at the
    published size nothing changes. It is the shorter side that decides.

    Args:
        name: of the encoder, for messages.
        shape: [C, H, W].
        published: every layer that may change height and width, from the first to the last.

    Returns:
        As many layers, some of them without stride.

    Raises:
        RlabError: not an image, or too small even without any reduction.
    """
    bare = [window.without_stride() for window in published]
    smallest = next(side for side in count(1) if sides((1, side, side), bare)[0] >= MAPS)
    if len(shape) != IMAGES or shape[0] < 1 or min(shape[1:]) < smallest:
        raise RlabError(
            f"encoder '{name}' takes images [C, H, W] of at least {smallest}x{smallest}, not {list(shape)}; "
            "nearest: mlp"
        )
    windows, order = list(published), list(range(len(published)))
    if [window.pool for window in published[:2]] == [False, True]:  # a stem with its pooling
        order[:2] = 1, 0
    side = min(shape[1:])
    for i in order:
        if sides((1, side, side), windows)[0] >= MAPS:
            break
        windows[i] = bare[i]
    return windows


def he_start(network: nn.Module, linear_std: float = 0.0) -> None:
    """Convolutions as He et al. 2015 have it, by their outputs, biases 0; linear layers N(0, linear_std) if that is
    not 0, else as torch makes them.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear) and linear_std:
            nn.init.normal_(layer.weight, 0.0, linear_std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
