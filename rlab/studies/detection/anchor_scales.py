"""SSD with anchors of one scale, small or large, and with both on maps of their own sizes."""

from __future__ import annotations

from typing import Any

from rlab.studies.plots import column, columns, curves, dots
from rlab.studies.scenes import SMOKE, Scenes, outputs, trained
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

PARTS = 3
"""Of the true boxes by size, equally many in each."""

SUREST = 10
"""Boxes of an image that may find a digit: anchors say where, so that neither class nor probability counts."""


def measure(settings: Scenes, variant: Any, seed: int) -> Numbers:
    """AP at IoU .5 (0..1), and the share of the true boxes that one of the surest covers, of any class: by size."""
    import numpy as np
    import torch

    from rlab.nn.detection.select import Detections
    from rlab.tasks.detection.scores import detection_metrics, hits_of

    with trained("ssd", settings, seed, outputs, score=settings.score, **variant) as (built, ((found, boxes, labels),)):
        ap = detection_metrics(found, boxes, labels, built.task.classes)["mean"] / 100
    sizes, hit = [], []
    for one, box, label in zip(found, boxes, labels, strict=True):
        true = box[label >= 0]
        boxed = Detections(one.boxes[:SUREST], torch.zeros_like(one.classes[:SUREST]), one.scores[:SUREST])
        taken = set(hits_of(boxed, true, torch.zeros(len(true), dtype=torch.long)).tolist())
        hit += [number in taken for number in range(len(true))]
        sizes += ((true[:, 2] - true[:, 0]) * (true[:, 3] - true[:, 1])).sqrt().tolist()
    parts = np.array_split(np.argsort(sizes, kind="stable"), PARTS)
    recall = [float(np.mean(np.array(hit)[part])) for part in parts]
    middles = [float(np.mean(np.array(sizes)[part])) for part in parts]
    return {
        "ap": ap,
        "small": recall[0],
        "large": recall[-1],
        "recall": recall,
        "sizes": middles,
    }


def draw(figure: Any, results: Results) -> None:
    """AP, and what is found by size."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "ap"), "AP at IoU .5")
    sizes = column(next(iter(results.values())), "sizes")[0]
    curves(right, sizes, columns(results, "recall"), ("pixels across a digit", "share that is covered"))


STUDIES.register("anchor-scales")(
    Study(
        claim="SSD with anchors of several scales, each on a map of its own fineness, finds more than with anchors of "
        "one scale: small anchors find small objects, large ones the large.",
        claim_ja="解像度の異なる特徴マップごとに大きさの違うアンカーを置いた SSD は、"
        "1 種類の大きさのアンカーだけの SSD より多くの物体を検出する。小さいアンカーは小さい物体を、"
        "大きいアンカーは大きい物体を検出する。",
        source="item 292; Liu et al. 2016, sections 2.2 and 3.2",
        settings=Scenes(),
        smoke=SMOKE,
        small={"examples": 144, "epochs": 20},
        small_seeds=3,
        variants={
            "small": {"stride": 4, "levels": 1},
            "large": {"stride": 8, "levels": 1},
            "both": {"stride": 4, "levels": 2},
        },
        measure=measure,
        contrasts=(
            Contrast("both scales beat small anchors alone (AP)", {"both/ap": 1, "small/ap": -1}),
            Contrast("both scales beat large anchors alone (AP)", {"both/ap": 1, "large/ap": -1}),
            Contrast(
                "of the smallest digits, small anchors find more than large", {"small/small": 1, "large/small": -1}
            ),
            Contrast(
                "of the largest digits, large anchors find more than small", {"large/large": 1, "small/large": -1}
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
