"""Detectors in two stages: R-CNN, Fast and Faster R-CNN (Girshick et al. 2014; Girshick 2015; Ren et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.detection.anchors import RATIOS, pyramid_anchors
from rlab.nn.detection.boxes import area, clip, decode, encode, iou, match
from rlab.nn.detection.nms import nms
from rlab.nn.detection.pyramid import FeaturePyramid, Stages
from rlab.nn.detection.regions import pyramid_align, roi_align, roi_pool
from rlab.nn.detection.select import SMALLEST, Detections, Telling, box_loss, sample, tell
from rlab.nn.layers.joint import Joint
from rlab.nn.models import keep_maps

BINS = 5
"""Bins of a region along each axis."""

CROP = 32
"""Side in pixels to which R-CNN resizes every region."""

HIDDEN = 128
"""Units of the layers that judge a region."""

FOREGROUND = 0.25
"""Share of the regions learned from that have a box, at the most (Girshick 2015, section 2.3)."""

ANCHORED = 64
"""Anchors of an image that the region proposal network learns from; up to half of them have a box."""

CELLS = 3.0
"""Of its own map that an anchor is wide and high."""


class RegionHead(nn.Module):
    """Judge regions: features[R, C, s, s] -> logits[R, K + 1], the background first, and offsets[R, K, 4]."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * BINS * BINS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
        )
        self.logits = nn.Linear(HIDDEN, classes + 1)
        self.offsets = nn.Linear(HIDDEN, 4 * classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        hidden = self.layers(features)
        offsets = self.offsets(hidden).float()
        return self.logits(hidden).float(), offsets.view(len(hidden), offsets.shape[1] // 4, 4)


class RegionDetector(Joint, nn.Module):
    """What detectors by regions share: a subclass says where regions come from, and what their features are.

    Args:
        size: (height, width) of the images.
        classes: K, without the background.
        regions: of each image that are learned from.
    """

    head: Any

    def __init__(self, size: tuple[int, int], classes: int, regions: int):
        super().__init__()
        self.size, self.classes, self.regions = size, classes, regions

    def encode_images(self, images: Tensor) -> Any:
        """images[B, C, H, W] -> what the features of regions are taken from."""
        raise NotImplementedError

    def features(self, encoded: Any, boxes: Tensor, owners: Tensor) -> Tensor:
        """what `encode_images` gave, boxes[R, 4] and the image of each int64[R] -> features[R, C, s, s]."""
        raise NotImplementedError

    def propose(
        self, encoded: Any, proposals: Tensor | None, boxes: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return regions[B, P, 4] (without area: padding), and losses of finding them: here those from outside."""
        assert proposals is not None, "regions come from outside"
        return proposals, {}

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor, proposals: Tensor | None) -> dict[str, Tensor]:
        """Compute the loss of images[B, C, H, W] with boxes[B, M, 4] and labels int64[B, M], -1 being padding."""
        encoded = self.encode_images(images)
        regions, losses = self.propose(encoded, proposals, boxes, labels)
        with torch.no_grad():
            regions = torch.cat([regions, boxes], 1)  # true boxes are good regions, too
            matched = match(iou(regions, boxes), labels >= 0, 0.5, 0.5, own=False)
            matched = torch.where(area(regions) >= SMALLEST, matched, -2)
            chosen = sample(matched, self.regions, FOREGROUND)
            owners, number = chosen.nonzero(as_tuple=True)
            box = matched[owners, number]
            target = torch.where(box >= 0, labels[owners, box.clamp(min=0)] + 1, 0) if boxes.shape[1] else box + 1
        logits, offsets = self.head.judge(self.features(encoded, regions[owners, number], owners))
        positive = (box >= 0).nonzero()[:, 0]
        wanted = encode(boxes[owners[positive], box[positive]], regions[owners[positive], number[positive]])
        count = self.divisor(len(target), len(images))
        classified = F.cross_entropy(logits, target, reduction="sum") / count
        located = box_loss(offsets[positive, target[positive] - 1], wanted) / count
        total = classified + located + sum(losses.values(), logits.new_zeros(()))
        return {"loss": total, "loss_class": classified, "loss_box": located, **losses}

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Ssd.candidates`; regions are chosen image by image, so that there is no such function of a batch.

        Raises:
            RlabError: always.
        """
        raise RlabError(
            "a detector by regions cannot be exported, for suppression chooses the regions of each image in the middle "
            "of its network; nearest: ssd"
        )

    def detect(self, images: Tensor, how: Telling, proposals: Tensor | None = None) -> list[Detections]:
        """Find objects in images[B, C, H, W] in 0..1, of regions[B, P, 4] where those come from outside."""
        encoded = self.encode_images(images)
        regions, _ = self.propose(encoded, proposals, None, None)
        there = area(regions) >= SMALLEST
        owners = there.nonzero(as_tuple=True)[0]
        logits, offsets = self.head.judge(self.features(encoded, regions[there], owners))
        probabilities, boxes = logits.softmax(1)[:, 1:], decode(offsets, regions[there][:, None])
        mine = [owners == image for image in range(len(images))]
        return [tell(boxes[part], probabilities[part], self.size, how) for part in mine]


class CropHead(nn.Module):
    """What an `Rcnn` has above its encoder."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.channels = channels
        self.judge = RegionHead(channels, classes)


class Rcnn(RegionDetector):
    """R-CNN: each region is cut out of the image, resized to CROP x CROP pixels, and goes through the whole encoder.

    Classes and offsets are learned together with the encoder, in place of the support vector machines of the paper.

    Args:
        name: of the encoder, for messages.
        encoder: for images [C, CROP, CROP].
        shape: of an image [C, H, W].
        classes: K.
        regions: of each image that are learned from.
    """

    def __init__(self, name: str, encoder: nn.Module, shape: tuple[int, ...], classes: int, *, regions: int):
        super().__init__((shape[1], shape[2]), classes, regions)
        self.encoder = encoder
        maps = keep_maps(name, encoder, (shape[0], CROP, CROP), "detection")
        self.head = CropHead(maps.shape[1], classes)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the images themselves."""
        return images

    def features(self, encoded: Tensor, boxes: Tensor, owners: Tensor) -> Tensor:
        """See `RegionDetector.features`."""
        if len(boxes) == 0:  # not every encoder takes a batch of none
            return encoded.new_zeros(0, self.head.channels, BINS, BINS)
        crops = roi_align(encoded, boxes, owners, CROP, self.size)
        return F.adaptive_avg_pool2d(self.encoder.feature_maps(crops), BINS)  # type: ignore[operator]


class SharedHead(nn.Module):
    """What detectors with shared maps have above their encoder; `network` finds regions where they are its own."""

    def __init__(self, stages: Stages, pyramid: FeaturePyramid, width: int, classes: int, network: nn.Module | None):
        super().__init__()
        self.stages, self.pyramid, self.network = stages, pyramid, network
        self.judge = RegionHead(width, classes)


class FastRcnn(RegionDetector):
    """Fast R-CNN: the encoder sees the image once, and regions from outside are pooled from its maps.

    Args:
        name: of the encoder, for messages.
        encoder: with feature maps.
        shape: of an image [C, H, W].
        classes: K.
        stride: pixels of a cell of the finest map.
        levels: maps that regions are taken from, each from the one on which it is nearest to 6 cells wide.
        width: channels of those maps.
        top_down: a feature pyramid.
        regions: of each image that are learned from.
    """

    pool = staticmethod(roi_pool)

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
        top_down: bool = True,
        regions: int = 32,
    ):
        super().__init__((shape[1], shape[2]), classes, regions)
        self.encoder = encoder
        stages = Stages(name, encoder, shape, "detection")
        pyramid = FeaturePyramid([level[1:] for level in stages.levels], self.size, stride, levels, width, top_down)
        self.head = SharedHead(stages, pyramid, width, classes, self._network(width))

    def _network(self, width: int) -> nn.Module | None:
        return None

    def encode_images(self, images: Tensor) -> list[Tensor]:
        """images[B, C, H, W] -> maps[B, width, h, w] of each level."""
        maps: list[Tensor] = self.head.pyramid(self.head.stages(self.encoder, images))
        return maps

    def features(self, encoded: list[Tensor], boxes: Tensor, owners: Tensor) -> Tensor:
        """See `RegionDetector.features`."""
        return pyramid_align(encoded, boxes, owners, BINS, self.size, pool=self.pool)


class ProposalNetwork(nn.Module):
    """Tell at each anchor whether there is an object, and where: maps[B, C, h, w] -> scores[B, A], offsets[B, A, 4]."""

    def __init__(self, width: int, anchors: int):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.objectness, self.offsets = nn.Conv2d(width, anchors, 1), nn.Conv2d(width, 4 * anchors, 1)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See the class; the levels' anchors follow each other."""
        hidden = [self.layer(part) for part in maps]
        scores = [self.objectness(part).permute(0, 2, 3, 1).flatten(1) for part in hidden]
        offsets = [self.offsets(part).permute(0, 2, 3, 1).flatten(1).view(len(part), -1, 4) for part in hidden]
        return torch.cat(scores, 1).float(), torch.cat(offsets, 1).float()


class FasterRcnn(FastRcnn):
    """Faster R-CNN: regions are proposed by a network on the same maps; RoI align.

    Args:
        proposals: regions of an image that are judged.
        more: see `FastRcnn`.
    """

    pool = staticmethod(roi_align)

    def __init__(self, *args: Any, proposals: int, **more: Any):
        super().__init__(*args, **more)
        self.proposals = proposals
        self.anchors: Tensor
        anchors = pyramid_anchors(self.head.pyramid.sizes, self.size, CELLS)
        self.register_buffer("anchors", anchors, persistent=False)

    def _network(self, width: int) -> nn.Module:
        return ProposalNetwork(width, len(RATIOS))

    def propose(
        self, encoded: Any, proposals: Tensor | None, boxes: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Propose regions[B, P, 4]; with true boxes, compute the losses of that, too."""
        scores, offsets = self.head.network(encoded)
        losses = {}
        if boxes is not None and labels is not None:
            anchors = self.anchors.expand(len(boxes), -1, -1)
            matched = match(iou(anchors, boxes), labels >= 0, 0.3, 0.7)
            chosen = sample(matched, ANCHORED, 0.5)
            target = (matched >= 0).float()
            image, anchor = (chosen & (matched >= 0)).nonzero(as_tuple=True)
            wanted = encode(boxes[image, matched[image, anchor]], self.anchors[anchor])
            count = self.divisor(chosen.sum(), len(boxes))
            losses["loss_object"] = (
                F.binary_cross_entropy_with_logits(scores, target, reduction="none") * chosen
            ).sum() / count
            losses["loss_region"] = box_loss(offsets[image, anchor], wanted) / count
        with torch.no_grad():
            regions = [self._best(*one) for one in zip(scores, decode(offsets, self.anchors), strict=True)]
            return nn.utils.rnn.pad_sequence(regions, batch_first=True), losses

    def _best(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """Of an image: scores[A], boxes[A, 4] -> the regions [p, 4] that are judged."""
        best = scores.topk(min(len(scores), 4 * self.proposals)).indices
        found = clip(boxes[best], self.size)
        large = ((found[:, 2:] - found[:, :2]) >= SMALLEST).all(1)
        found, best = found[large], best[large]
        return found[nms(found, scores[best], 0.7)[: self.proposals]]
