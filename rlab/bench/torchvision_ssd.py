"""Our SSD beside torchvision's with the same encoder, maps and anchors: how long detection and an update take."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from rlab.errors import RlabError


def measure(data: str, encoder: str, images: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Time both on one thread of the CPU, as they are before training, from the same weights below the heads.

    Args:
        data: a data set of images with boxes.
        encoder: of both.
        images: of a batch.
        rounds: the median of so many counts, in turn.
        say: told what is measured.

    Returns:
        JSON: ``rows`` with model, images_per_s and training_images_per_s; whether its suppression is torchvision's own.

    Raises:
        RlabError: torchvision is not installed.
    """
    import torch

    from rlab.studies.rl import learner

    own = _suppression()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    took: dict[str, dict[str, list[float]]] = {}
    try:
        with learner("ssd", data, 0, encoder=encoder, examples=images, augment="") as built:
            task = built.task
            batch = task.data.dataset.collate(task.data.dataset.items("train")[:images])
            pairs = {"ours": _ours(task, batch), "torchvision": _theirs(task, batch)}
            for number in range(rounds + 1):  # the first one warms up
                for name, works in pairs.items():
                    say(f"round {number} of {rounds}: {name}")
                    for what, work in works.items():
                        began = time.process_time()
                        work()
                        seconds = (time.process_time() - began) / images
                        took.setdefault(name, {}).setdefault(what, []).extend([seconds] if number else [])
    finally:
        torch.set_num_threads(threads)
    rows = [
        {
            "model": name,
            "images_per_s": 1 / statistics.median(times["detection"]),
            "training_images_per_s": 1 / statistics.median(times["training"]),
        }
        for name, times in took.items()
    ]
    return {"data": data, "encoder": encoder, "images": images, "rounds": rounds, "own_nms": own, "rows": rows}


def _suppression() -> bool:
    """Import torchvision; where its compiled part does not fit this torch, ours stands in for its suppression."""
    import torch

    try:
        import torchvision

        return bool(torchvision.ops.nms is not None)
    except ImportError:
        raise RlabError("torchvision is not installed; install one that fits this torch to measure beside it") from None
    except RuntimeError:  # operator torchvision::nms does not exist
        from rlab.nn.detection.nms import nms

        library = torch.library.Library("torchvision", "DEF")
        KEPT.append(library)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.ops.boxes

        torchvision.ops.boxes.nms = nms
        return False


KEPT: list[Any] = []
"""Operators live as long as the library that defines them."""


def _ours(task: Any, batch: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    model, x = task.model, batch["x"]
    return {
        "detection": _detecting(model, lambda: model.detect(x, task.telling)),
        "training": _updating(model, lambda: model.losses(x, batch["boxes"], batch["labels"], None)["loss"]),
    }


def _theirs(task: Any, batch: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    import copy

    from torch import nn
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD, SSDHead

    ours = copy.deepcopy(task.model)
    (height, width), sizes = ours.size, ours.head.pyramid.sizes

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.stages, self.pyramid = ours.encoder, ours.head.stages, ours.head.pyramid

        def forward(self, images: Any) -> Any:
            return OrderedDict(enumerate(self.pyramid(self.stages(self.encoder, images))))

    steps = [height // rows for rows, _ in sizes]
    scales = [3 * step / height for step in steps]
    anchors = DefaultBoxGenerator([[2]] * len(sizes), scales=[*scales, scales[-1] * 2], steps=steps, clip=False)
    channels = [layer.in_channels for layer in ours.head.classes]
    classes = len(task.classes) + 1
    told = task.telling
    model = SSD(
        Maps(), anchors, (width, height), classes,
        image_mean=[0.0] * batch["x"].shape[1], image_std=[1.0] * batch["x"].shape[1],
        head=SSDHead(channels, anchors.num_anchors_per_location(), classes),
        score_thresh=told.score, nms_thresh=told.overlap, detections_per_img=told.most,
    )  # fmt: skip
    images = list(batch["x"])
    there = [labels >= 0 for labels in batch["labels"]]
    targets = [
        {"boxes": boxes[real], "labels": labels[real] + 1}
        for boxes, labels, real in zip(batch["boxes"], batch["labels"], there, strict=True)
    ]
    return {
        "detection": _detecting(model, lambda: model(images)),
        "training": _updating(model, lambda: sum(model(images, targets).values())),
    }


def _detecting(model: Any, detect: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    def work() -> None:
        model.eval()
        with torch.no_grad():
            detect()

    return work


def _updating(model: Any, loss: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def work() -> None:
        model.train()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return work
