"""SSD: boxes and classes from feature maps of several sizes in one pass (Liu et al. 2016)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.detection.anchors import RATIOS, pyramid_anchors
from rlab.nn.detection.boxes import decode, encode, iou, match
from rlab.nn.detection.pyramid import FeaturePyramid, Stages
from rlab.nn.detection.select import Detections, Telling, box_loss, hard_negatives, tell
from rlab.nn.layers.joint import Joint

SQUARES = (math.sqrt(2),)
"""Further anchors of a place, between the sizes of its own map and of the next (Liu et al. 2016, section 2.2)."""

Mining = Literal["hard", "random", "none"]


class SsdHead(nn.Module):
    """What an `Ssd` has above its encoder."""

    def __init__(self, stages: Stages, pyramid: FeaturePyramid, width: int, anchors: int, classes: int):
        super().__init__()
        self.stages, self.pyramid = stages, pyramid
        levels = len(pyramid.sizes)
        self.classes = nn.ModuleList([nn.Conv2d(width, anchors * (classes + 1), 3, padding=1) for _ in range(levels)])
        self.offsets = nn.ModuleList([nn.Conv2d(width, anchors * 4, 3, padding=1) for _ in range(levels)])


class Ssd(Joint, nn.Module):
    """SSD on any image encoder: images -> logits of classes, and offsets, at every anchor.

    Args:
        name: of the encoder, for messages.
        encoder: with feature maps.
        shape: of an image [C, H, W].
        classes: K, without the background.
        stride: pixels of a cell of the finest map.
        levels: maps with anchors; 1: all anchors of one scale.
        width: channels of those maps.
        top_down: a feature pyramid (`FeaturePyramid`); SSD as published has none.
        negatives: background anchors for each one with a box.
        mining: which they are: hard, those that are most wrong; random; or none: all of them.
        cells: of its map that an anchor is wide and high.

    Raises:
        RlabError: the encoder has no feature maps.
    """

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        shape: tuple[int, ...],
        classes: int,
        *,
        stride: int,
        levels: int,
        width: int,
        top_down: bool = False,
        negatives: int = 3,
        mining: Mining = "hard",
        cells: float = 3.0,
    ):
        super().__init__()
        self.size, self.classes, self.negatives, self.mining = (shape[1], shape[2]), classes, negatives, mining
        self.encoder = encoder
        stages = Stages(name, encoder, shape, "detection")
        pyramid = FeaturePyramid([level[1:] for level in stages.levels], self.size, stride, levels, width, top_down)
        self.head = SsdHead(stages, pyramid, width, len(RATIOS) + len(SQUARES), classes)
        self.anchors: Tensor
        anchors = pyramid_anchors(pyramid.sizes, self.size, cells, SQUARES)
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images[B, C, H, W] in 0..1 -> logits[B, A, K + 1], the background first, and offsets[B, A, 4]."""
        maps = self.head.pyramid(self.head.stages(self.encoder, images))

        def flat(layers: Any, size: int) -> Tensor:
            parts = [layer(part).permute(0, 2, 3, 1).flatten(1) for layer, part in zip(layers, maps, strict=True)]
            return torch.cat(parts, 1).view(images.shape[0], -1, size).float()

        return flat(self.head.classes, self.classes + 1), flat(self.head.offsets, 4)

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images[B, C, H, W] in 0..1 -> boxes[B, A, 4] and probabilities[B, A, K], before any suppression."""
        logits, offsets = self(images)
        return decode(offsets, self.anchors), logits.softmax(2)[..., 1:]

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor, proposals: Tensor | None) -> dict[str, Tensor]:
        """Compute the loss of images[B, C, H, W] with boxes[B, M, 4] and labels int64[B, M], -1 being padding."""
        logits, offsets = self(images)
        there = labels >= 0
        matched = match(iou(self.anchors.expand(len(boxes), -1, -1), boxes), there, 0.5, 0.5)
        positive = matched >= 0
        chosen = matched.clamp(min=0)
        target = torch.where(positive, labels.gather(1, chosen) + 1, 0) if boxes.shape[1] else chosen
        errors = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        learned = positive | self._background(logits, matched)
        count = self.divisor(positive.sum(), len(images))
        image, anchor = positive.nonzero(as_tuple=True)
        wanted = encode(boxes[image, chosen[image, anchor]], self.anchors[anchor])
        located = box_loss(offsets[image, anchor], wanted) / count
        classified = (errors * learned).sum() / count
        return {"loss": classified + located, "loss_class": classified, "loss_box": located}

    def _background(self, logits: Tensor, matched: Tensor) -> Tensor:
        if self.mining == "none":
            return matched == -1
        wrong = -logits.detach().log_softmax(2)[..., 0]
        return hard_negatives(wrong if self.mining == "hard" else torch.rand_like(wrong), matched, self.negatives)

    def detect(self, images: Tensor, how: Telling, proposals: Tensor | None = None) -> list[Detections]:
        """Find objects in images[B, C, H, W] in 0..1."""
        return [tell(*one, self.size, how) for one in zip(*self.candidates(images), strict=True)]
