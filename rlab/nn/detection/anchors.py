"""Anchors: boxes of a few sizes and shapes at every place of a feature map, from which detectors count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (1.0, 2.0, 0.5)
"""Height over width of the anchors of a place."""


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


def pyramid_anchors(
    maps: Sequence[tuple[int, int]], image: tuple[int, int], cells: float, squares: Sequence[float] = ()
) -> Tensor:
    """Place anchors on each of several maps, larger ones on the coarser maps.

    Args:
        maps: (height, width) of each map.
        image: (height, width) of the image, in pixels.
        cells: of its own map that an anchor is wide and high, the root of its area; one of each of `RATIOS`.
        squares: factors of that for further anchors, which are square.

    Returns:
        float32[A, 4], those of a map after each other, as `grid_anchors` gives them.
    """
    placed = []
    for size in maps:
        base = cells * image[0] / size[0]
        shapes = torch.cat([shapes_of([base], RATIOS), *(shapes_of([base * factor], [1.0]) for factor in squares)])
        placed.append(grid_anchors(size, image, shapes))
    return torch.cat(placed)
