"""Scores of detections: average precision by COCO's rules, its curve, and its interval over images."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rlab.nn.detection.boxes import iou
from rlab.nn.detection.select import Detections
from rlab.tasks.task import Metric

AP50 = Metric("AP at IoU .5 (COCO's 101 points)", "percent")
"""Average precision, the mean over classes, as COCO has it since 2014: precision at recalls 0, .01, .., 1."""

RESAMPLES = 500
"""Of the images, for the interval of a score."""

HIT = 0.5
"""Intersection over union from which on a box is a hit."""

Points = Literal["101", "11", "all"]
"""At which recalls precision is averaged: COCO's 101, the 11 of VOC until 2009, or all there are (VOC since 2010)."""


def hits_of(found: Detections, boxes: Tensor, labels: Tensor, threshold: float = HIT) -> Tensor:
    """Say which true box each detection hits: the most probable first, each takes the box of its class that it overlaps
    best and that nobody has taken.

    Args:
        found: of an image, the most probable first.
        boxes: true ones, [M, 4].
        labels: int64[M].
        threshold: of intersection over union.

    Returns:
        int64[K], -1 of a detection that hits none.
    """
    overlap = torch.where(found.classes[:, None] == labels, iou(found.boxes, boxes), -1.0).tolist()
    taken = list[int]()
    for row in overlap:
        free = [(value, -number) for number, value in enumerate(row) if number not in taken and value >= threshold]
        taken.append(-max(free)[1] if free else -1)
    return torch.tensor(taken, dtype=torch.long)


def average_precision(scores: np.ndarray, hits: np.ndarray, positives: int, points: Points = "101") -> float:
    """Compute average precision of detections of one class.

    Args:
        scores: [K].
        hits: bool[K].
        positives: true boxes.
        points: which convention.

    Returns:
        0..1; NaN where there is no true box.
    """
    if positives == 0:
        return float("nan")
    recall, precision = _curve(scores, hits, np.ones((1, len(scores))), np.array([positives]))
    return float(_averaged(recall, precision, points)[0])


def precision_recall(scores: np.ndarray, hits: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Return recall[K] and the precision[K] that is reached there or further on; both empty without a true box."""
    recall, precision = _curve(scores, hits, np.ones((1, len(scores))), np.array([max(positives, 1)]))
    return recall[0], precision[0]


def _curve(
    scores: np.ndarray, hits: np.ndarray, weights: np.ndarray, positives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and interpolated precision [R, K] of the most probable, each counted as often as weights[R, K] say."""
    order = np.argsort(-scores, kind="stable")
    weights, hits = weights[:, order], hits[order]
    right, all_ = np.cumsum(weights * hits, 1), np.cumsum(weights, 1)
    recall = right / np.maximum(positives, 1e-9)[:, None]
    precision = right / np.maximum(all_, 1e-9)
    return recall, np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]


def _averaged(recall: np.ndarray, precision: np.ndarray, points: Points) -> np.ndarray:
    """[R] of curves [R, K]."""
    if recall.shape[1] == 0:
        return np.zeros(len(recall))
    if points == "all":
        steps = np.diff(recall, axis=1, prepend=0.0)
        return np.asarray((steps * precision).sum(1))
    at = np.linspace(0, 1, 101 if points == "101" else 11)
    wanted = torch.from_numpy(at).expand(len(recall), -1).contiguous()
    places = torch.searchsorted(torch.from_numpy(np.ascontiguousarray(recall)), wanted).numpy()
    padded = np.concatenate([precision, np.zeros((len(recall), 1))], 1)
    return np.asarray(np.take_along_axis(padded, places, 1).mean(1))


@dataclass(frozen=True)
class Judged:
    """Detections of some images, each judged against the true boxes.

    Attributes:
        images: int64[K], where each detection is.
        classes: int64[K].
        scores: float64[K].
        hits: bool[K].
        overlaps: float64[K], IoU with the true box that is hit, 0 without one.
        positives: int64[images, classes], true boxes.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    overlaps: np.ndarray
    positives: np.ndarray


def judged(found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: int) -> Judged:
    """Judge detections of images by true boxes[N, M, 4] with labels int64[N, M], -1 being padding."""
    hits, overlaps = [], []
    for one, box, label in zip(found, boxes, labels, strict=True):
        true = box[label >= 0]
        hit = hits_of(one, true, label[label >= 0])
        hits.append(hit)
        with_none = torch.cat([iou(one.boxes, true), torch.zeros(len(hit), 1)], 1)
        overlaps.append(with_none.gather(1, hit.where(hit >= 0, len(true))[:, None])[:, 0])
    positives = np.zeros((len(found), classes), np.int64)
    image, place = (labels >= 0).nonzero(as_tuple=True)
    np.add.at(positives, (image.numpy(), labels[image, place].numpy()), 1)
    return Judged(
        np.repeat(np.arange(len(found)), [len(one.boxes) for one in found]),
        torch.cat([one.classes for one in found]).numpy(),
        torch.cat([one.scores for one in found]).double().numpy(),
        torch.cat(hits).numpy() >= 0,
        torch.cat(overlaps).double().numpy(),
        positives,
    )


def detection_metrics(
    found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Score detections of images by true boxes[N, M, 4] with labels int64[N, M], -1 being padding.

    Returns:
        mean: AP at IoU .5 in percent, by faster-coco-eval, with low and high from a bootstrap of the images (seed 0),
        less its bias; per_class; ap: the mean over IoU .5, .55, .., .95; iou: how much hits overlap their boxes,
        the mean over classes of their means, in percent; boxes: true ones; detections: told ones.
    """
    judgement = judged(found, boxes, labels, len(classes))
    whole = _means(judgement, np.ones((1, len(found))))[0]
    draws = np.random.default_rng(0).integers(len(found), size=(RESAMPLES, len(found)))
    times = np.zeros((RESAMPLES, len(found)))
    np.add.at(times, (np.arange(RESAMPLES)[:, None], draws), 1)
    resampled = 100 * _nanmean(_means(judgement, times))
    ap50, ap = coco_metrics(found, boxes, labels, classes)
    # Images that are drawn twice raise precision, so that resampled values lie too high by this much.
    resampled = resampled[~np.isnan(resampled)]
    bias = resampled.mean() - 100 * ap50 if len(resampled) else 0.0
    low, high = np.quantile(resampled - bias, [0.025, 0.975]).clip(0, 100) if len(resampled) else (0.0, 0.0)
    of_class = [judgement.overlaps[judgement.hits & (judgement.classes == kind)] for kind in range(len(classes))]
    means = [mine.mean() for mine in of_class if len(mine)]
    return AP50.score(
        100 * ap50,
        float(low),
        float(high),
        ap=100 * ap,
        iou=100 * float(np.mean(means)) if means else 0.0,
        per_class={name: 100 * float(v) for name, v in zip(classes, whole, strict=True) if v == v},
        boxes=int(judgement.positives.sum()),
        detections=len(judgement.scores),
    )


def _means(judgement: Judged, times: np.ndarray) -> np.ndarray:
    """AP of each class [R, K], each image counted as often as times[R, N] say; NaN of a class without true boxes."""
    columns = []
    for number in range(judgement.positives.shape[1]):
        mine = judgement.classes == number
        positives = times @ judgement.positives[:, number]
        weights = times[:, judgement.images[mine]]
        value = _averaged(*_curve(judgement.scores[mine], judgement.hits[mine], weights, positives), "101")
        columns.append(np.where(positives > 0, value, np.nan))
    return np.stack(columns, 1)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """The mean over columns without NaN; NaN where there is nothing else."""
    there = ~np.isnan(values)
    return np.where(there.any(1), np.where(there, values, 0).sum(1) / np.maximum(there.sum(1), 1), np.nan)


def coco_documents(
    found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write true boxes and detections as COCO's evaluators take them; classes and images count from 1."""
    truth, told = list[dict[str, Any]](), list[dict[str, Any]]()
    for image, (one, box, label) in enumerate(zip(found, boxes, labels, strict=True), 1):
        for (left, top, right, bottom), kind in zip(box.tolist(), label.tolist(), strict=True):
            if kind >= 0:
                width, height = right - left, bottom - top
                truth.append({"id": len(truth) + 1, "image_id": image, "category_id": kind + 1, "iscrowd": 0,
                              "bbox": [left, top, width, height], "area": width * height})  # fmt: skip
        for (left, top, right, bottom), kind, score in zip(
            one.boxes.tolist(), one.classes.tolist(), one.scores.tolist(), strict=True
        ):
            told.append({"image_id": image, "category_id": kind + 1, "score": score,
                         "bbox": [left, top, right - left, bottom - top]})  # fmt: skip
    document = {
        "images": [{"id": image + 1} for image in range(len(found))],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(classes)],
        "annotations": truth,
    }
    return document, told


def coco_metrics(
    found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> tuple[float, float]:
    """Compute (AP at IoU .5, AP over IoU .5 to .95) by faster-coco-eval, 0..1; 0 where nothing is told or true."""
    from faster_coco_eval import COCO, COCOeval_faster

    document, told = coco_documents(found, boxes, labels, classes)
    if not told or not document["annotations"]:
        return 0.0, 0.0
    logging.getLogger("faster_coco_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(document)
        evaluator = COCOeval_faster(truth, truth.loadRes(told), "bbox", print_function=lambda *text: None)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return max(float(evaluator.stats[1]), 0.0), max(float(evaluator.stats[0]), 0.0)
