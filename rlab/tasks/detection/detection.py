"""Train a network to find objects in images: boxes with classes; scored by average precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import model_inputs
from rlab.data.detection import DetectionDataset
from rlab.nn.detection.select import Detections, Telling
from rlab.nn.graph import Function, Graph
from rlab.run.contract import Stop
from rlab.tasks.detection.proposals import propose
from rlab.tasks.detection.scores import AP50, detection_metrics
from rlab.tasks.task import Losses, SingleLossTask, until

TELLING = Telling()

CHUNK = 16
"""Images of an evaluation that are looked at together."""


class Detection(SingleLossTask):
    """Detection of objects by a model that has ``losses(images, boxes, labels, proposals)`` and ``detect``.

    Args:
        dataset: images with boxes; with proposals, if the model takes regions from outside.
        model: an `rlab.nn.detection.ssd.Ssd`, or one of `rlab.nn.detection.rcnn`.
        optimizer: over its parameters.
        batch_size: B.
        augment: of training images and their boxes; see `rlab.data.augment`.
        telling: which boxes are told.
        proposals: regions of an image from outside, at the most; 0: the model finds its own.
        bf16: whether the network computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of order and augmentation.
        device: torch device.
    """

    primary = AP50

    def __init__(
        self,
        dataset: DetectionDataset,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        batch_size: int,
        augment: str = "",
        telling: Telling = TELLING,
        proposals: int = 0,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        batches = Batches(dataset, batch_size, seed, device, augment)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.dataset, self.classes, self.telling, self.proposals = dataset, dataset.classes, telling, proposals
        self.model.to(memory_format=torch.channels_last)

    def forward(self, batch: Batch) -> Losses:
        """Compute the loss of a batch, and its parts; what is sampled of it comes from torch's generator."""
        x = batch.x.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            losses: Losses = self.model.losses(x, batch["boxes"], batch["labels"], batch.tensors.get("proposals"))
        return losses

    def loss(self, outputs: Losses, batch: Batch) -> Losses:
        """Return what `forward` computed."""
        return outputs

    def find(self, x: Tensor, proposals: Tensor | None) -> list[Detections]:
        """Find objects in images x[B, C, H, W] in 0..1; the results are on the CPU."""
        with self.autocast():
            found = self.model.detect(x.contiguous(memory_format=torch.channels_last), self.telling, proposals)
        return [Detections(*(part.cpu() for part in one)) for one in found]

    def graph(self) -> Graph:
        """Return the network up to suppression; see `rlab.run.contract.Exports`.

        Raises:
            RlabError: the detector chooses regions on its way.
        """
        x = torch.rand(2, *self.dataset.shape)
        self.model.candidates(x[:1])  # refused here, not in the middle of an export
        outputs = {
            "boxes": "left, top, right and bottom of a box at every anchor, in pixels, before suppression",
            "scores": "the probability of each class there",
        }
        return Graph(Function(self.model, lambda model, x: model.candidates(x)), {"x": x}, outputs, self.classes)

    def outputs(self, split: str, stop: Stop) -> tuple[list[Detections], Tensor, Tensor]:
        """Find objects in a split: (of each image what was found, true boxes[n, M, 4], their labels[n, M]).

        Raises:
            Stopped: a stop was requested.
        """
        found, boxes, labels = [], [], []
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            found += self.find(batch.x, batch.tensors.get("proposals"))
            boxes.append(batch["boxes"].cpu())
            labels.append(batch["labels"].cpu())
        return found, torch.cat(boxes), torch.cat(labels)

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by average precision in percent; see `detection_metrics`.

        Raises:
            Stopped: a stop was requested.
        """
        found, boxes, labels = self.outputs(split, stop)
        return {"split": split, "examples": len(found)} | detection_metrics(found, boxes, labels, self.classes)

    @torch.no_grad()
    def detect(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Find objects in each of images uint8[B, C, H, W]: ``boxes`` [K, 4], ``classes`` [K], ``scores`` [K].

        Raises:
            RlabError: images of another shape, type or range.
        """
        x = model_inputs(images, cast(Any, self.dataset))
        found: list[Detections] = []
        for part in x.split(CHUNK):
            regions = regions_of(part.numpy(), self.proposals).to(self.device) if self.proposals else None
            found += self.find(part.to(self.device), regions)
        return [{name: tensor.numpy() for name, tensor in one._asdict().items()} for one in found]

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw curves of precision over recall, and test images with hits and misses, as PNG by name.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.detection.pictures import curves, gallery

        found, boxes, labels = self.outputs("test", stop)
        images = self.dataset.inputs("test")
        return {
            "precision": curves(found, boxes, labels, self.classes),
            "hits": gallery(images, found, boxes, labels, self.classes),
        }


def regions_of(images: np.ndarray, most: int) -> Tensor:
    """Propose regions of images float[N, C, H, W] in 0..1: float32[N, most, 4], zeros where there are fewer."""
    result = torch.zeros(len(images), most, 4)
    for row, image in zip(result, images, strict=True):
        found = propose(image, most)
        row[: len(found)] = torch.from_numpy(found)
    return result


def with_proposals(dataset: DetectionDataset, most: int) -> DetectionDataset:
    """Propose regions of all images that a split has, so that they move with them under augmentation."""
    regions = torch.zeros(len(dataset), most, 4)
    for item in torch.cat(list(dataset.splits.values())).tolist():
        regions[item] = regions_of(dataset.x[item, None].numpy() / np.float32(255), most)[0]
    return replace(dataset, proposals=regions)
