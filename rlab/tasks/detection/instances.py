"""Segment images into instances: a class for every pixel, where two objects touch, and a watershed that splits them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.batches import Batch
from rlab.data.datasets import TensorDataset
from rlab.data.detection import DetectionDataset
from rlab.errors import RlabError
from rlab.nn.graph import Graph
from rlab.run.contract import Stop
from rlab.tasks.segmentation import CHUNK, Segmentation, iou_metrics
from rlab.tasks.targets import balanced_weights, weighted_cross_entropy
from rlab.tasks.task import Losses, Metric, until

AP50 = Metric("AP50 of instances (TP / (TP + FP + FN), mean over images)", "percent")
"""As in the Data Science Bowl 2018, at IoU .5; it is not COCO's."""

THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)
RESAMPLES = 1_000

SMALLEST = 4
"""Pixels of an instance; smaller ones are noise."""

MOST_CLASSES = 255
"""Of objects in masks whose pixels are bytes."""

RARE = 3.0
"""Weight of an edge in the loss: few pixels are such."""

APART = 3
"""Pixels between two middles of objects, at the least."""


def components(foreground: np.ndarray) -> np.ndarray:
    """Number connected parts of a mask bool[H, W]: int[H, W], 0 for the background."""
    from scipy.ndimage import label

    return np.asarray(label(foreground)[0])


def watershed(foreground: np.ndarray, markers: np.ndarray | None = None, edges: np.ndarray | None = None) -> np.ndarray:
    """Split a mask into objects where it is narrow: int[H, W], 0 for the background.

    Args:
        foreground: bool[H, W].
        markers: bool[H, W]: each connected part of it becomes one object. None: the places that lie deepest inside.
        edges: bool[H, W]: where two objects touch, which counts as outside for the depth. None: that is not known.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    inside = foreground if edges is None else foreground & ~edges
    depth = gaussian_filter(distance_transform_edt(inside), 1.0)
    if markers is None:
        markers = np.zeros(foreground.shape, bool)
        markers[tuple(peak_local_max(depth, min_distance=APART, labels=components(inside)).T)] = True
    # numbered first: watershed takes Boolean markers for one and the same object
    return np.asarray(flood(-depth, components(markers), mask=foreground))


def instances_of(mask: np.ndarray, split: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Make instances of a mask of classes uint8[H, W], 0 being the background, class by class.

    Returns:
        int32[H, W], numbers from 1 on; and the class of each, int64[K], 0 being the first one after the background.
    """
    numbers, classes = np.zeros(mask.shape, np.int32), list[int]()
    for kind in np.unique(mask[mask > 0]):
        found = split(mask == kind)
        sizes = np.bincount(found.ravel())
        for number in np.flatnonzero(sizes >= SMALLEST):
            if number:
                classes.append(int(kind) - 1)
                numbers[found == number] = len(classes)
    return numbers, np.array(classes, np.int64)


def visible(true: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number true instances anew, int[H, W], without those that have no pixel, with the classes int64[M] of the others.

    A smaller image may have lost some, which nobody could find in it.
    """
    seen = np.unique(true[true > 0])
    return np.searchsorted(seen, true, side="right") * (true > 0), labels[seen - 1]


def overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute IoU of all instances 1 to K of one mask and 1 to M of another: float64[K, M]."""
    rows, columns = int(found.max(initial=0)) + 1, int(true.max(initial=0)) + 1
    both = np.bincount(found.ravel().astype(np.int64) * columns + true.ravel(), minlength=rows * columns)
    both = both.reshape(rows, columns)
    union = both.sum(1, keepdims=True) + both.sum(0) - both
    return np.asarray((both / np.maximum(union, 1))[1:, 1:])


def instance_precision(overlap: np.ndarray, threshold: float) -> float:
    """Compute TP / (TP + FP + FN) of an image: overlap[K, M] of found and true instances, 0 for other classes.

    Above one half no instance overlaps two. Without any, found or true, it is 1.
    """
    found, true = overlap.shape
    if found + true == 0:
        return 1.0
    # at exactly one half two could share one; >= then counts each true instance once
    hits = int((overlap >= threshold).any(0).sum()) if found else 0
    return hits / (found + true - hits)


def dice(predicted: Tensor, true: Tensor) -> Tensor:
    """Compute Dice's coefficient of foregrounds bool[n, H, W]: float64[n]; of two empty ones it is 1."""
    both, all_ = (predicted & true).sum((1, 2)).double(), (predicted.sum((1, 2)) + true.sum((1, 2))).double()
    return torch.where(all_ > 0, 2 * both / all_.clamp(min=1), 1.0)


def touching(masks: Tensor) -> Tensor:
    """Find pixels of an object beside one of another object.

    Args:
        masks: int[n, H, W], numbers of objects, 0 for the background.

    Returns:
        bool[n, H, W].
    """
    found = torch.zeros(masks.shape, dtype=torch.bool)
    for axis in (1, 2):
        size = masks.shape[axis] - 1
        here, there = masks.narrow(axis, 0, size), masks.narrow(axis, 1, size)
        meet = (here != there) & (here > 0) & (there > 0)
        for place in (0, 1):
            found.narrow(axis, place, size).logical_or_(meet)
    return found


def semantic(data: DetectionDataset, edges: bool = False) -> TensorDataset:
    """Make a data set of classes of pixels, the background first, of one with instance masks.

    Args:
        data: K - 1 classes of objects.
        edges: give pixels where an object touches another one classes of their own, K to 2 K - 2 in place of 1 to
            K - 1, so that an augmentation moves edges with the mask.

    Raises:
        RlabError: it has none.
    """
    if data.masks is None:
        raise RlabError(f"data set '{data.name}' has boxes, but no masks, from which a class for every pixel could be "
                        "learned; nearest: ssd")  # fmt: skip
    if len(data.classes) * (1 + edges) > MOST_CLASSES:
        raise RlabError(f"data set '{data.name}' has {len(data.classes):,} classes, and the bytes of masks hold "
                        f"{MOST_CLASSES // (1 + edges)} beside the background; nearest: ssd")  # fmt: skip
    kinds = torch.cat([torch.zeros(len(data), 1, dtype=torch.long), data.labels + 1], 1)
    y = kinds.gather(1, data.masks.flatten(1).long()).view(data.masks.shape).to(torch.uint8)
    classes = ["background", *data.classes]
    if edges:
        y += len(data.classes) * touching(data.masks)
        classes += [f"edge of {name}" for name in data.classes]
    return TensorDataset(data.name, "segmentation", data.x, y, tuple(classes), data.splits)


class InstanceSegmentation(Segmentation):
    """Segmentation whose masks are split into instances, by which it is scored.

    Args:
        source: images with instance masks.
        edges: whether the model also learns where two objects touch, by one more logit than there are classes, for the
            watershed to split them there.
        more: see `Segmentation`; its data set is made of `source`.
    """

    primary = AP50

    def __init__(self, source: DetectionDataset, *args: Any, edges: bool = False, **more: Any):
        super().__init__(semantic(source, edges), *args, **more)  # batches are made of it
        self.source, self.edges = source, edges
        self.dataset, self.classes = semantic(source), ("background", *source.classes)
        if self.class_weights is not None:
            self.class_weights = balanced_weights(self.dataset.targets("train"), len(self.classes))

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits of a batch, float32[B, K, H, W], with that of an edge after those of the classes."""
        return super().logits(batch.x)

    def graph(self) -> Graph:
        """See `Segmentation.graph`; the last logit is that of an edge, where those are learned."""
        graph = super().graph()
        return replace(graph, classes=(*self.classes, "edge")) if self.edges else graph

    def logits(self, x: Tensor) -> Tensor:
        """See `Segmentation.logits`."""
        return super().logits(x)[:, : len(self.classes)]

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Compute the cross-entropy of classes and of edges, summed, and the "accuracy" of the classes."""
        if not self.edges:
            return super().loss(outputs, batch)
        kinds, edges = self._parted(batch.y)
        chosen, edge = outputs[:, :-1], outputs[:, -1]
        loss = weighted_cross_entropy(chosen, kinds.long(), self.class_weights)
        loss = loss + F.binary_cross_entropy_with_logits(edge, edges.float(), pos_weight=edge.new_tensor(RARE))
        return {"loss": loss, "accuracy": (chosen.detach().argmax(1) == kinds).float().mean()}

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """See `Segmentation.outputs`."""
        predicted, _, true = self._seen(split, stop)
        return predicted, true

    def _seen(self, split: str, stop: Stop) -> tuple[Tensor, Tensor, Tensor]:
        """Of a split: classes that are predicted, uint8[n, H, W], edges, bool[n, H, W], and true classes."""
        found, edges, true = [], [], []
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            logits = self.forward(batch).cpu()
            found.append(logits[:, : len(self.classes)].argmax(1).to(torch.uint8))
            edges.append(logits[:, -1] > 0 if self.edges else torch.zeros(found[-1].shape, dtype=torch.bool))
            true.append(self._parted(batch.y.cpu())[0])
        return torch.cat(found), torch.cat(edges), torch.cat(true)

    def _parted(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Classes of pixels and whether they are edges, of what `semantic` has made of both."""
        edges = y >= len(self.classes)
        return y - (len(self.classes) - 1) * edges, edges

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by instances that a watershed makes of the predicted mask.

        Returns:
            mean: AP50 of instances in percent, with low and high from a bootstrap of the images (seed 0); ap: the mean
            over IoU .5 to .95; components: AP50 where connected parts are instances, with ``watershed_gain``, its
            difference; iou, per_class and accuracy as of a class for every pixel; dice of the foreground, the mean over
            images.

        Raises:
            Stopped: a stop was requested.
        """
        predicted, edges, true = self._seen(split, stop)
        ways = [self._compared(split, predicted, where) for where in (edges, None)]
        rows = [
            [[instance_precision(overlap, threshold) for threshold in THRESHOLDS] for _, _, overlap in way]
            for way in zip(*ways, strict=True)
        ]
        values = 100 * np.array(rows)  # [n, way, threshold]
        ap50, gain = values[:, 0, 0], values[:, 0, 0] - values[:, 1, 0]
        classes_ = iou_metrics(predicted, true, self.classes)
        low, high = _interval(ap50)
        least, most = _interval(gain)
        return {"split": split, "examples": len(predicted)} | self.primary.score(
            float(ap50.mean()),
            low,
            high,
            ap=float(values[:, 0].mean()),
            components=float(values[:, 1, 0].mean()),
            watershed_gain={"mean": float(gain.mean()), "low": least, "high": most},
            iou=classes_["mean"],
            dice=100 * dice(predicted > 0, true > 0).mean().item(),
            per_class=classes_["per_class"],
            accuracy=classes_["accuracy"],
        )

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw masks as `Segmentation.draw` does, and instances of test images with hits and misses, as PNG by name.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.detection.pictures import instances

        predicted, edges, _ = self._seen("test", stop)
        compared = self._compared("test", predicted, edges)
        hits = [
            [1 + np.flatnonzero((overlap >= THRESHOLDS[0]).any(axis)) for axis in (1, 0)] for *_, overlap in compared
        ]
        found, true = [part[0] for part in compared], [part[1] for part in compared]
        return super().draw(stop) | {"instances": instances(self.dataset.inputs("test"), found, true, hits)}

    def _compared(
        self, split: str, predicted: Tensor, edges: Tensor | None
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each image: numbers of instances found, those of true ones, and their IoU[K, M], 0 of other classes.

        Without edges, which may be all False, instances are connected parts.
        """
        items, masks = self.dataset.items(split), self.source.masks
        assert masks is not None
        result = []
        for i, (mask, true, labels) in enumerate(
            zip(predicted.numpy(), masks[items].numpy(), self.source.labels[items].numpy(), strict=True)
        ):
            how = components if edges is None else partial(watershed, edges=edges[i].numpy())
            numbers, classes = instances_of(mask, how)
            seen, kinds = visible(true, labels)
            result.append((numbers, seen, overlaps(numbers, seen) * (classes[:, None] == kinds)))
        return result


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean over images, by a bootstrap with seed 0."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)
