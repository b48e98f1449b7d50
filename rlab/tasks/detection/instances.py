"""Segment images into instances: a class for every pixel, and a watershed that splits objects which touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.data.datasets import TensorDataset
from rlab.data.detection import DetectionDataset
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.tasks.segmentation import Segmentation, iou_metrics
from rlab.tasks.task import Metric

AP50 = Metric("AP50 of instances (TP / (TP + FP + FN), mean over images)", "percent")
"""As in the Data Science Bowl 2018, at IoU .5; it is not COCO's."""

THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)
RESAMPLES = 1_000

SMALLEST = 4
"""Pixels of an instance; smaller ones are noise."""

MOST_CLASSES = 255
"""Of objects in masks whose pixels are bytes."""

APART = 3
"""Pixels between two middles of objects, at the least."""


def components(foreground: np.ndarray) -> np.ndarray:
    """Number connected parts of a mask bool[H, W]: int[H, W], 0 for the background."""
    from scipy.ndimage import label

    return np.asarray(label(foreground)[0])


def watershed(foreground: np.ndarray, markers: np.ndarray | None = None) -> np.ndarray:
    """Split a mask into objects where it is narrow: int[H, W], 0 for the background.

    Args:
        foreground: bool[H, W].
        markers: bool[H, W]: each connected part of it becomes one object. None: the places that lie deepest inside.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed as flood

    depth = gaussian_filter(distance_transform_edt(foreground), 1.0)
    if markers is None:
        markers = np.zeros(foreground.shape, bool)
        markers[tuple(peak_local_max(depth, min_distance=APART, labels=components(foreground)).T)] = True
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


def semantic(data: DetectionDataset) -> TensorDataset:
    """Make a data set of classes of pixels, the background first, of one with instance masks.

    Raises:
        RlabError: it has none.
    """
    if data.masks is None:
        raise RlabError(f"data set '{data.name}' has boxes, but no masks, from which a class for every pixel could be "
                        "learned; nearest: ssd")  # fmt: skip
    if len(data.classes) > MOST_CLASSES:
        raise RlabError(f"data set '{data.name}' has {len(data.classes):,} classes, and the bytes of masks hold "
                        f"{MOST_CLASSES} beside the background; nearest: ssd")  # fmt: skip
    kinds = torch.cat([torch.zeros(len(data), 1, dtype=torch.long), data.labels + 1], 1)
    y = kinds.gather(1, data.masks.flatten(1).long()).view(data.masks.shape).to(torch.uint8)
    return TensorDataset(data.name, "segmentation", data.x, y, ("background", *data.classes), data.splits)


class InstanceSegmentation(Segmentation):
    """Segmentation whose masks are split into instances, by which it is scored.

    Args:
        source: images with instance masks.
        more: see `Segmentation`; its data set is made of `source`.
    """

    primary = AP50

    def __init__(self, source: DetectionDataset, *args: Any, **more: Any):
        super().__init__(semantic(source), *args, **more)
        self.source = source

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
        predicted, true = self.outputs(split, stop)
        ways = [self._compared(split, predicted, how) for how in (watershed, components)]
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

        predicted, _ = self.outputs("test", stop)
        compared = self._compared("test", predicted, watershed)
        hits = [
            [1 + np.flatnonzero((overlap >= THRESHOLDS[0]).any(axis)) for axis in (1, 0)] for *_, overlap in compared
        ]
        found, true = [part[0] for part in compared], [part[1] for part in compared]
        return super().draw(stop) | {"instances": instances(self.dataset.inputs("test"), found, true, hits)}

    def _compared(
        self, split: str, predicted: Tensor, how: Callable[[np.ndarray], np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each image: numbers of instances found, those of true ones, and their IoU[K, M], 0 of other classes."""
        items, masks = self.dataset.items(split), self.source.masks
        assert masks is not None
        result = []
        for mask, true, labels in zip(
            predicted.numpy(), masks[items].numpy(), self.source.labels[items].numpy(), strict=True
        ):
            numbers, classes = instances_of(mask, how)
            seen, kinds = visible(true, labels)
            result.append((numbers, seen, overlaps(numbers, seen) * (classes[:, None] == kinds)))
        return result


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean over images, by a bootstrap with seed 0."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)
