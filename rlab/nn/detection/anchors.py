"""Anchors: boxes of a few sizes and shapes at every place of a feature map, from which detectors count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shapes_of(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Make (width, height)[n, 2] of every size (the root of the area) and every ratio (height over width)."""
    size, ratio = torch.tensor(sizes)[:, None], torch.tensor(ratios)[None].sqrt()
    return torch.stack([size / ratio, size * ratio], -1).view(-1, 2)


def grid_anchors(maps: tuple[int, int], image: tuple[int, int], shapes: Tensor) -> Tensor:
    """Place anchors in the middle of every cell of a feature map.

    Args:
        maps: (height, width) of the feature map.
        image: (height, width) of the image, in pixels.
        shapes: (width, height)[n, 2] of the anchors, in pixels.

    Returns:
        float32[h * w * n, 4], row by row, all anchors of a cell together; they may reach over the image's edge.
    """
    y, x = ((torch.arange(n) + 0.5) * (side / n) for n, side in zip(maps, image, strict=True))
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 1, 2)
    return torch.cat([centres - shapes / 2, centres + shapes / 2], -1).view(-1, 4)
