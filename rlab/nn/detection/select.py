"""What detectors share: which anchors or regions are learned from, and which boxes are told."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.nn.detection.boxes import clip
from rlab.nn.detection.nms import nms

SMALLEST = 1.0
"""Pixels that a box is wide and high at the least."""


class Detections(NamedTuple):
    """Objects found in one image, the most probable first: boxes[K, 4], classes int64[K], scores[K] in 0..1."""

    boxes: Tensor
    classes: Tensor
    scores: Tensor


class Telling(NamedTuple):
    """Which boxes are told: with a score of at least `score`, after suppression at `overlap`, `most` of an image."""

    score: float = 0.05
    overlap: float = 0.45
    most: int = 100


CANDIDATES = 400
"""Boxes of each class in an image that go into suppression at the most."""


def tell(boxes: Tensor, probabilities: Tensor, size: tuple[int, int], how: Telling) -> Detections:
    """Choose the boxes of an image that are told.

    Args:
        boxes: [A, 4], or [A, K, 4] where each class has its own.
        probabilities: [A, K] of the classes, without the background.
        size: (height, width) of the image, to which boxes are clipped.
        how: the limits.
    """
    scores, classes = probabilities.float().flatten(), probabilities.shape[1]
    enough = scores >= how.score
    if len(probabilities) > CANDIDATES:  # of each class by itself, lest one with many objects crowds out the others
        best = probabilities.float().topk(CANDIDATES, 0).indices
        enough &= torch.zeros_like(probabilities, dtype=torch.bool).scatter_(0, best, True).flatten()
    chosen = enough.nonzero()[:, 0]
    own = boxes.dim() == 3
    found = clip(boxes.reshape(-1, 4)[chosen if own else chosen // classes].float(), size)
    large = ((found[:, 2:] - found[:, :2]) >= SMALLEST).all(1)
    found, chosen = found[large], chosen[large]
    kept = nms(found, scores[chosen], how.overlap, chosen % classes)[: how.most]
    return Detections(found[kept], chosen[kept] % classes, scores[chosen[kept]])


def hard_negatives(losses: Tensor, matched: Tensor, ratio: int) -> Tensor:
    """Mine the background that is most wrongly told (Liu et al. 2016, section 2.2).

    Args:
        losses: [B, A], of each anchor as background.
        matched: int64[B, A] as `match` gives it.
        ratio: so many for each anchor that learns a box; of an image without objects as many as for one.

    Returns:
        bool[B, A]: which anchors are learned as background; none that has a box or is left out.
    """
    background = matched == -1
    number = (ratio * (matched >= 0).sum(1).clamp(min=1))[:, None]
    rank = (
        losses.detach().masked_fill(~background, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    )
    return (rank < number) & background


def sample(matched: Tensor, number: int, share: float) -> Tensor:
    """Draw up to `number` anchors or regions of each image: at most this share with a box, the rest background.

    Draws on torch's generator. matched int64[B, A] as `match` gives it -> bool[B, A].
    """
    draws = torch.rand(matched.shape, device=matched.device)

    def first(of: Tensor, count: Tensor | int) -> Tensor:
        rank = draws.masked_fill(~of, 2.0).argsort(dim=1).argsort(dim=1)
        return (rank < count) & of

    positive = first(matched >= 0, round(share * number))
    return positive | first(matched == -1, number - positive.sum(1, keepdim=True))


def box_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """Compute the sum of smooth L1 over offsets[n, 4] (Girshick 2015, eq. 3)."""
    return F.smooth_l1_loss(offsets.float(), targets, reduction="sum", beta=1.0)
