"""Boxes as (left, top, right, bottom) in pixels: overlap, offsets from anchors, and which anchor learns which box.

Edges are continuous numbers: pixel j covers j to j + 1, so that a box is right - left wide, without a + 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STANDARD = (10.0, 10.0, 5.0, 5.0)
"""What offsets are multiplied by, so that they vary by about 1 (SSD's variances of .1 and .2; Fast R-CNN's weights)."""

LARGEST = math.log(1000 / 16)
"""A decoded box is at most e to this many times as wide and high as its anchor, so that nothing overflows."""


def area(boxes: Tensor) -> Tensor:
    """Compute areas: boxes[..., 4] -> [...]; 0 of a box whose edges are the wrong way round."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute intersection over union of all pairs: a[..., N, 4], b[..., M, 4] -> [..., N, M].

    Two boxes without area have 0. It computes in float32 at the least: areas in half precision overflow from 256 x 256.
    """
    inter, union = _overlap(*_wide(a[..., :, None, :], b[..., None, :, :]))
    return torch.where(union > 0, inter / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Compute generalised IoU of all pairs (Rezatofighi et al. 2019): a[..., N, 4], b[..., M, 4] -> [..., N, M].

    It is IoU less the share of the smallest box around both that is neither's, in -1..1, and tells how far boxes lie
    apart that do not overlap.
    """
    a, b = _wide(a[..., :, None, :], b[..., None, :, :])
    inter, union = _overlap(a, b)
    around = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1))
    tiny = torch.finfo(union.dtype).tiny
    share = torch.where(union > 0, inter / union.clamp(min=tiny), 0.0)
    return share - torch.where(around > 0, (around - union) / around.clamp(min=tiny), 0.0)


def _wide(*boxes: Tensor) -> list[Tensor]:
    return [part if part.dtype == torch.float64 else part.float() for part in boxes]


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    # edge by edge: pairs of numbers at the end of many boxes would be slow
    across, down = (
        (torch.minimum(a[..., end], b[..., end]) - torch.maximum(a[..., end - 2], b[..., end - 2])).clamp_(min=0)
        for end in (2, 3)
    )
    inter = across * down
    return inter, area(a) + area(b) - inter


def centred(boxes: Tensor) -> Tensor:
    """Convert boxes[..., 4] from edges to (centre x, centre y, width, height)."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def edges(boxes: Tensor) -> Tensor:
    """Convert boxes[..., 4] from (centre x, centre y, width, height) to edges."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, ...] = STANDARD) -> Tensor:
    """Encode boxes[..., 4] as offsets from anchors[..., 4] (Girshick et al. 2014, eq. 6 to 9), times `weights`."""
    box, anchor = centred(boxes), centred(anchors)
    size = anchor[..., 2:].clamp(min=1e-3)
    shift = (box[..., :2] - anchor[..., :2]) / size
    scale = (box[..., 2:].clamp(min=1e-3) / size).log()
    return torch.cat([shift, scale], -1) * shift.new_tensor(weights)


def decode(offsets: Tensor, anchors: Tensor, weights: tuple[float, ...] = STANDARD) -> Tensor:
    """Decode offsets[..., 4] from anchors[..., 4] into boxes[..., 4]; the inverse of `encode`."""
    offsets, anchor = offsets.float() / offsets.new_tensor(weights).float(), centred(anchors)
    centre = anchor[..., :2] + offsets[..., :2] * anchor[..., 2:]
    return edges(torch.cat([centre, anchor[..., 2:] * offsets[..., 2:].clamp(max=LARGEST).exp()], -1))


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes[..., 4] to an image of (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)


def match(overlap: Tensor, there: Tensor, low: float, high: float, own: bool = True) -> Tensor:
    """Decide which true box each anchor learns, by their overlap.

    Args:
        overlap: IoU[B, A, M] of anchors and true boxes.
        there: bool[B, M], which of the boxes are real, the others being padding.
        low: anchors that overlap no box by as much are background.
        high: anchors that overlap a box by at least this learn it; those between are left out.
        own: give every true box an anchor that nobody else has, the one that it overlaps best (Liu et al. 2016, 2.2).
            Boxes take turns by their best overlap, and a later one cannot take an anchor away.

    Returns:
        int64[B, A]: the number of the box, -1 for background, -2 for what is left out.
    """
    batch, anchors, boxes = overlap.shape
    if boxes == 0 or anchors == 0:
        return overlap.new_full((batch, anchors), -1, dtype=torch.long)
    open_pairs = torch.where(there[:, None], overlap, -1.0)
    best, chosen = open_pairs.max(2)
    result = torch.where(best >= high, chosen, torch.where(best >= low, -2, -1))
    if not own:
        return result
    # Of each box its best free anchor is kept, and looked for anew only where another box has taken it.
    left, rows, numbers = open_pairs.clone(), torch.arange(batch, device=overlap.device), torch.arange(boxes)
    numbers = numbers.to(overlap.device)
    most, at = left.max(1)
    for _ in range(min(boxes, int(there.sum(1).max()), anchors)):
        best = most.max(1).values
        box = torch.where(most == best[:, None], at * boxes + numbers, anchors * boxes).argmin(1)
        anchor, found = at[rows, box], best >= 0  # else all boxes of this image have theirs
        result[rows[found], anchor[found]] = box[found]
        left[rows, anchor], most[rows, box] = -1.0, -1.0
        image, robbed = ((at == anchor[:, None]) & (most >= 0)).nonzero(as_tuple=True)
        if len(image):
            most[image, robbed], at[image, robbed] = left[image, :, robbed].max(1)
    return result
