"""Features of regions: RoI pooling (Girshick 2015) and RoI align (He et al. 2017), over one map or a pyramid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 2
"""Points of a bin along each axis, of which RoI align takes the mean."""


def roi_align(maps: Tensor, boxes: Tensor, owners: Tensor, size: int, image: tuple[int, int]) -> Tensor:
    """Take the mean of bilinear samples in each of size x size bins of a box, nothing rounded.

    Map cell j covers j to j + 1 in units of cells, so that its value lies at j + 1/2 (the "aligned" convention).

    Args:
        maps: [B, C, h, w].
        boxes: [R, 4] in pixels of the image.
        owners: int64[R], which of the B images each lies in.
        size: bins along each axis.
        image: (height, width) of the images.

    Returns:
        [R, C, size, size].
    """
    if len(boxes) == 0:
        return maps.new_zeros(0, maps.shape[1], size, size)
    units = boxes.float() / boxes.new_tensor([image[1], image[0], image[1], image[0]]).float() * 2 - 1
    step = (torch.arange(size * SAMPLES, device=boxes.device) + 0.5) / (size * SAMPLES)
    x, y = (units[:, k, None] + (units[:, k + 2] - units[:, k])[:, None] * step for k in (0, 1))  # [R, size * S]
    grid = torch.stack([x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])], -1)
    result = maps.new_zeros(len(boxes), maps.shape[1], size, size)
    for owner in owners.unique().tolist():
        mine = (owners == owner).nonzero()[:, 0]
        # all regions of an image are one tall grid, so that its map is not copied for each
        rows = grid[mine].view(1, -1, size * SAMPLES, 2).to(maps.dtype)
        sampled = F.grid_sample(maps[owner, None], rows, "bilinear", "border", align_corners=False)[0]  # [C, r*s, s]
        sampled = sampled.view(len(sampled), len(mine), size, SAMPLES, size, SAMPLES).mean((3, 5))
        result = result.index_put((mine,), sampled.transpose(0, 1).to(result.dtype))
    return result


def roi_pool(maps: Tensor, boxes: Tensor, owners: Tensor, size: int, image: tuple[int, int]) -> Tensor:
    """Take the maximum in each of size x size bins of a box, which is rounded to whole cells of the map.

    A box covers the cells from floor(left) to ceil(right), at least one; bin i of n cells those from floor(i n / size)
    to ceil((i + 1) n / size), as in Fast R-CNN. Arguments and result are those of `roi_align`.
    """
    if len(boxes) == 0:
        return maps.new_zeros(0, maps.shape[1], size, size)
    height, width = maps.shape[2:]
    pooled = []
    for owner, (left, top, right, bottom) in zip(owners.tolist(), boxes.tolist(), strict=True):
        x0, x1 = _cells(left * width / image[1], right * width / image[1], width)
        y0, y1 = _cells(top * height / image[0], bottom * height / image[0], height)
        pooled.append(F.adaptive_max_pool2d(maps[owner, :, y0:y1, x0:x1], size))
    return torch.stack(pooled)


def _cells(low: float, high: float, most: int) -> tuple[int, int]:
    first = min(max(math.floor(low), 0), most - 1)
    return first, min(max(math.ceil(high), first + 1), most)


def levels_of(boxes: Tensor, strides: Sequence[float], cells: float) -> Tensor:
    """Choose a level of a pyramid for each box[R, 4] (Lin et al. 2017, eq. 1): int64[R].

    The one on which the box is nearest to `cells` cells wide and high (the root of its area), on a log scale.
    """
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3).prod(1).sqrt()
    distance = (side[:, None] / side.new_tensor(strides) / cells).log2().abs()
    return distance.argmin(1)


def pyramid_align(
    maps: Sequence[Tensor],
    boxes: Tensor,
    owners: Tensor,
    size: int,
    image: tuple[int, int],
    cells: float = 6.0,
    pool: Callable[..., Tensor] = roi_align,
) -> Tensor:
    """Pool each box from its own level of a pyramid maps[l][B, C, h_l, w_l]; see `roi_align` and `levels_of`."""
    if len(maps) == 1:
        return pool(maps[0], boxes, owners, size, image)
    level = levels_of(boxes, [image[0] / part.shape[2] for part in maps], cells)
    result = maps[0].new_zeros(len(boxes), maps[0].shape[1], size, size)
    for number, part in enumerate(maps):
        mine = (level == number).nonzero()[:, 0]
        if len(mine):
            result = result.index_put((mine,), pool(part, boxes[mine], owners[mine], size, image).to(result.dtype))
    return result
