"""Train a network to tell the class of every pixel of an image; scored by intersection over union."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import TensorDataset, model_inputs
from rlab.data.preprocess import fit
from rlab.nn.graph import Function, Graph
from rlab.nn.models import Segmenter
from rlab.run.contract import Stop
from rlab.tasks.targets import balanced_weights, weighted_cross_entropy
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

CHUNK = 64
"""Images of an evaluation that are looked at together."""

RESAMPLES = 1_000
"""Of the images, for the interval of a score."""


IOU = Metric("mean IoU", "percent")


class Segmentation(SingleLossTask):
    """Segmentation of images with masks: cross-entropy over the pixels.

    Args:
        dataset: images and masks.
        model: images float[B, C, H, W] -> logits[B, K, H, W].
        optimizer: over its parameters.
        batch_size: B.
        augment: of training images and their masks; see `rlab.data.augment`.
        preprocess: fitted to the training inputs; empty: none.
        class_weights: "balanced": each class has the same weight in the loss, however many pixels it has.
        bf16: whether the encoder computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of order and augmentation.
        device: torch device.
    """

    primary = IOU

    def __init__(
        self,
        dataset: TensorDataset,
        model: Segmenter,
        optimizer: Optimizer,
        *,
        batch_size: int,
        augment: str = "",
        preprocess: str = "",
        class_weights: str = "none",
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        assert dataset.classes is not None
        self.transform = fit(preprocess, dataset.inputs("train")) if preprocess else None
        batches = Batches(dataset, batch_size, seed, device, augment, transform=self.transform)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.dataset, self.classes = dataset, dataset.classes
        balanced = class_weights == "balanced"
        self.class_weights = balanced_weights(dataset.targets("train"), len(self.classes)) if balanced else None
        self.model.to(memory_format=torch.channels_last)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits of a batch, float32[B, K, H, W]."""
        return self.logits(batch.x)

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Compute the mean (weighted) cross-entropy over all pixels, and their "accuracy"."""
        right = (outputs.detach().argmax(1) == batch.y).float().mean()
        return {"loss": weighted_cross_entropy(outputs, batch.y.long(), self.class_weights), "accuracy": right}

    def logits(self, x: Tensor) -> Tensor:
        """Compute logits from preprocessed images: x[B, C, H, W] -> float32[B, K, H, W]."""
        with self.autocast():
            logits: Tensor = self.model(x.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def graph(self) -> Graph:
        """Return the network with its preprocessing; see `rlab.run.contract.Exports`."""

        def call(model: Segmenter, x: Tensor) -> Tensor:
            return model(x if self.transform is None else self.transform(x)).float()

        outputs = {"logits": "logits of the classes of every pixel"}
        return Graph(Function(self.model, call), {"x": torch.rand(2, *self.dataset.shape)}, outputs, self.classes)

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """Predict the masks of a split: (predicted classes uint8[n, H, W], true ones uint8[n, H, W]), on the CPU.

        Raises:
            Stopped: a stop was requested.
        """
        predicted, true = [], []
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            predicted.append(self.logits(batch.x).argmax(1).to(torch.uint8).cpu())
            true.append(batch.y.cpu())
        return torch.cat(predicted), torch.cat(true)

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict from x[B, C, H, W] as in the data set (`model_inputs`): probabilities[B, K, H, W].

        Raises:
            RlabError: inputs of another shape, type or range.
        """
        inputs = model_inputs(x, self.dataset).to(self.device)
        logits = self.logits(inputs if self.transform is None else self.transform(inputs))
        return logits.softmax(1).cpu().numpy()

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by the mean intersection over union of the classes, in percent.

        Raises:
            Stopped: a stop was requested.
        """
        predicted, true = self.outputs(split, stop)
        return {"split": split, "examples": len(predicted)} | iou_metrics(predicted, true, self.classes)

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw some test images with their true and predicted masks, as PNG by name.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.pictures import masks

        predicted, true = self.outputs("test", stop)
        return {"masks": masks(self.dataset.inputs("test"), predicted, true, len(self.classes))}


def iou_metrics(predicted: Tensor, true: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Score masks [n, H, W] by true ones: intersection over union (Jaccard 1912) of each class over all pixels.

    Returns:
        mean over the classes that there are, with low and high from a bootstrap of the images (seed 0), per_class,
        and accuracy of the pixels; all in percent.
    """
    k = len(classes)
    pairs = (true.long() * k + predicted.long()).flatten(1) + torch.arange(len(predicted))[:, None] * k * k
    counts = (
        torch.bincount(pairs.flatten(), minlength=len(predicted) * k * k).view(-1, k, k).double()
    )  # [n, true, predicted]
    drawn = torch.randint(len(predicted), (RESAMPLES, len(predicted)), generator=torch.Generator().manual_seed(0))
    times = torch.zeros(RESAMPLES, len(predicted)).scatter_add_(1, drawn, torch.ones(drawn.shape)).double()
    means = _union(torch.einsum("rn,nij->rij", times, counts)).nanmean(1)
    unions = _union(counts.sum(0)[None])[0]
    low, high = means.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return IOU.score(
        unions.nanmean().item(),
        low,
        high,
        per_class={name: value for name, value in zip(classes, unions.tolist(), strict=True) if value == value},
        accuracy=100 * (predicted == true).double().mean().item(),
    )


def _union(counts: Tensor) -> Tensor:
    """counts[R, true, predicted] -> intersection over union [R, K] of each class in percent; NaN where it is absent."""
    both = counts.diagonal(dim1=1, dim2=2)
    return 100 * both / (counts.sum(1) + counts.sum(2) - both)
