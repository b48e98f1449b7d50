"""Non-maximum suppression: of boxes that overlap, the most probable one stays."""

from __future__ import annotations

import torch
from torch import Tensor

from rlab.nn.detection.boxes import iou

MANY = 400
"""Boxes from which on each class is gone through by itself."""


def nms(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None = None) -> Tensor:
    """Suppress boxes that overlap one with a higher score by more than `threshold`.

    It compares pairs of the same class only, rather than moving classes apart by an offset, which half precision
    cannot hold; overlaps are computed in float32. Equal scores go by their order.

    Args:
        boxes: [K, 4].
        scores: [K].
        threshold: of intersection over union.
        classes: int64[K]; boxes of different classes leave each other alone. None: all are of one.

    Returns:
        Which stay, int64[k], the highest score first.
    """
    order = scores.argsort(descending=True, stable=True)
    if classes is not None and len(order) > MANY:  # pairs of different classes would be most of all pairs
        stays = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
        for kind in classes.unique():
            mine = (classes == kind).nonzero()[:, 0]
            stays[mine[nms(boxes[mine], scores[mine], threshold)]] = True
        return order[stays[order]]
    ranked = boxes[order]
    covers = (iou(ranked, ranked) > threshold).triu(1)  # [K, K]: the first would suppress the second
    if classes is not None:
        ranked_classes = classes[order]
        covers &= ranked_classes[:, None] == ranked_classes
    # A box goes if one that stays covers it. Repeated from "all stay", the first k boxes are right after k rounds at
    # the latest, usually after a few: where nothing changes, it is what going through them one by one gives.
    # How many cover a box is a product of 0s and 1s, which is faster than any(0) of a table of "and".
    table, stays = covers.float(), torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    while True:
        now = stays.float() @ table == 0
        if torch.equal(now, stays):
            return order[stays]
        stays = now
