"""`DetectionDataset`: images with boxes, and instance masks where there are such, in memory with splits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.annotations import AnnotatedImages
from rlab.data.augment import Change, augment
from rlab.data.media import refuse_shape
from rlab.data.splits import split_items
from rlab.errors import RlabError, nearest
from rlab.seeding import derive

SMALLEST = 1.0
"""Pixels that a box is wide and high at the least, or augmentation has left nothing of it."""


@dataclass(frozen=True)
class DetectionDataset:
    """Images with boxes in memory.

    A batch has ``x`` float32[B, C, H, W], ``boxes`` float32[B, M, 4] (left, top, right, bottom in pixels), ``labels``
    int64[B, M] (-1: no box, but padding), and where there are such ``masks`` int16[B, H, W] and ``proposals``
    float32[B, P, 4] (without area: padding).

    Attributes:
        name: of the set.
        x: uint8[N, C, H, W].
        boxes: float32[N, M, 4], zero where there is none.
        labels: int64[N, M], -1 where there is none.
        classes: their names.
        splits: name -> items, int64[n], ascending.
        masks: int16[N, H, W], 1 + the place of the object that a pixel belongs to, 0 for none; None: there are none.
        proposals: float32[N, P, 4], regions that may hold an object, for detectors that look at such; None: none.
        notes: what a user should know of the data, a sentence each.

    Raises:
        RlabError: a split is empty, or images are no bytes.
    """

    name: str
    x: Tensor
    boxes: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    splits: dict[str, Tensor]
    masks: Tensor | None = None
    proposals: Tensor | None = None
    notes: tuple[str, ...] = ()
    kind: str = "detection"
    columns: None = None

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.dim() != 4 or self.x.numel() == 0:
            raise RlabError(f"data set '{self.name}' has images {self.x.dtype}{list(self.x.shape)}; they must be bytes "
                            "[N, C, H, W]")  # fmt: skip
        for split, items in self.splits.items():
            if len(items) == 0:
                near = "; nearest: --validation 0" if split == "validation" else ""
                raise RlabError(f"the split '{split}' of data set '{self.name}' is empty ({len(self.x):,} items){near}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, [C, H, W]."""
        return tuple(self.x.shape[1:])

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather items int64[B]; see the class."""
        here = items.to(self.x.device)
        batch = {"x": self.x[here].float().mul_(1 / 255), "boxes": self.boxes[here], "labels": self.labels[here]}
        more = {"masks": self.masks, "proposals": self.proposals}
        return batch | {name: part[here] for name, part in more.items() if part is not None}

    def augmented(
        self, batch: dict[str, Tensor], changes: tuple[Change, ...], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Change a batch's images, and move boxes, masks and proposals with them.

        A box is clipped to the image; one that is narrower than a pixel then is left out, with its mask.
        """
        both = torch.cat([batch["boxes"], batch["proposals"]], 1) if "proposals" in batch else batch["boxes"]
        done = augment(batch["x"], changes, generator, masks=batch.get("masks"), boxes=both)
        assert done.boxes is not None
        number = batch["boxes"].shape[1]
        there = ((done.boxes[..., 2:] - done.boxes[..., :2]) >= SMALLEST).all(2)
        boxes = done.boxes * there[..., None]
        result = batch | {"x": done.images, "boxes": boxes[:, :number]}
        result["labels"] = batch["labels"].masked_fill(~there[:, :number], -1)
        if "proposals" in batch:
            result["proposals"] = boxes[:, number:]
        if done.masks is not None:
            gone = F.pad(~there[:, :number], (1, 0))  # 0 is nobody's
            owner = done.masks.flatten(1).long()
            result["masks"] = done.masks.masked_fill(gone.gather(1, owner).view_as(done.masks), 0)
        return result

    def to(self, device: torch.device) -> DetectionDataset:
        """Copy all tensors to a device, so that a batch costs no copy between devices."""
        if self.x.device == device:
            return self
        masks, proposals = (None if part is None else part.to(device) for part in (self.masks, self.proposals))
        return replace(
            self,
            x=self.x.to(device),
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            masks=masks,
            proposals=proposals,
        )

    def items(self, split: str) -> Tensor:
        """Return the items of a split, int64[n].

        Raises:
            RlabError: there is no such split.
        """
        if split not in self.splits:
            raise RlabError(f"data set '{self.name}' has no split '{split}'; {nearest(split, self.splits)}")
        return self.splits[split]

    def inputs(self, split: str) -> Tensor:
        """Return the images of a split as networks take them: float32[n, C, H, W] in 0..1."""
        return self.x[self.items(split)].float().mul_(1 / 255)

    def counts(self, split: str) -> list[int]:
        """Count the boxes of each class in a split."""
        labels = self.labels[self.items(split)]
        return torch.bincount(labels[labels >= 0], minlength=len(self.classes)).tolist()

    def subsample(self, n: int, seed: int, split: str = "train") -> DetectionDataset:
        """Keep only n of the images of a split, drawn by the seed.

        Raises:
            RlabError: there are not so many.
        """
        items = self.items(split)
        if not 1 <= n <= len(items):
            raise RlabError(f"data set '{self.name}' has {len(items):,} {split} images, so {n:,} cannot be drawn")
        drawn = np.random.default_rng(derive(seed, "fewer")).permutation(len(items))[:n]
        return replace(self, splits=self.splits | {split: items[torch.from_numpy(np.sort(drawn))]})

    def resized(self, shape: tuple[int, int, int]) -> DetectionDataset:
        """Resize images to another shape [C, H, W], and boxes and masks with them.

        Raises:
            RlabError: the shape is none.
        """
        if shape == self.shape:
            return self
        refuse_shape(shape, len(self))
        x, size = self.x.new_zeros(len(self), *shape), shape[1:]
        for items in torch.arange(len(self)).split(500):
            images = F.interpolate(self.x[items].float(), size, mode="bilinear", antialias=True, align_corners=False)
            if shape[0] != self.shape[0]:
                images = images.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
            x[items] = images.round().to(x.dtype)
        down, across = (new / old for new, old in zip(size, self.shape[1:], strict=True))
        masks = self.masks
        if masks is not None:
            masks = F.interpolate(masks[:, None].float(), size, mode="nearest")[:, 0].to(masks.dtype)
        scale = self.boxes.new_tensor([across, down, across, down])
        return replace(self, x=x, boxes=self.boxes * scale, masks=masks)


def from_annotated(
    name: str, found: AnnotatedImages, seed: int = 0, validation: float | None = None
) -> DetectionDataset:
    """Make a data set of what a reader returned; splits that are not published are drawn by the seed."""
    most = max(1, *map(len, found.boxes))
    boxes = np.zeros((len(found.x), most, 4), np.float32)
    labels = np.full((len(found.x), most), -1, np.int64)
    for item, (edges, kinds) in enumerate(zip(found.boxes, found.labels, strict=True)):
        boxes[item, : len(edges)], labels[item, : len(kinds)] = edges, kinds
    splits = split_items(name, len(found.x), found.strata, found.test, seed, validation)
    return DetectionDataset(
        name,
        torch.from_numpy(np.ascontiguousarray(found.x)),
        torch.from_numpy(boxes),
        torch.from_numpy(labels),
        found.classes,
        {split: torch.from_numpy(items) for split, items in splits.items()},
        None if found.masks is None else torch.from_numpy(found.masks),
        notes=found.notes,
    )
