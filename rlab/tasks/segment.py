"""A class for every pixel of an image: an encoder's maps, enlarged; cross-entropy; intersection over union."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.batches import Batch, Batches
from rlab.data.dataset import Dataset, as_float
from rlab.data.preprocess import fit
from rlab.errors import RlabError
from rlab.nn.published import Segmenter
from rlab.run.learner import Stop, Stopped

CHUNK = 64
"""Images of an evaluation that are looked at together."""

RESAMPLES = 1_000
"""Of the images, for the interval of a score."""


class Segment:
    """The task of images with masks.

    Args:
        data: images and masks.
        model: images float[B, C, H, W] -> logits[B, K, H, W].
        batch_size: B.
        augment: of training images and their masks; see `rlab.data.augment`.
        preprocess: fitted to the training inputs; empty: none.
        bf16: whether the encoder computes in bfloat16.
        seed: of order and augmentation.
        device: torch device.
    """

    def __init__(
        self,
        data: Dataset,
        model: Segmenter,
        *,
        batch_size: int,
        augment: str = "",
        preprocess: str = "",
        bf16: bool = False,
        seed: int = 0,
        device: str = "cpu",
    ):
        assert data.classes is not None
        self.data, self.classes, self.bf16 = data, data.classes, bf16
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.transform = fit(preprocess, data.inputs("train")) if preprocess else None
        self.batches = Batches(data, batch_size, seed, device, augment, transform=self.transform)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of a training batch: "loss", and "accuracy" of the pixels."""
        logits = self.logits(batch.x)
        right = (logits.detach().argmax(1) == batch.y).float().mean()
        return {"loss": F.cross_entropy(logits, batch.y.long()), "accuracy": right}

    def logits(self, x: Tensor) -> Tensor:
        """x[B, C, H, W] -> float32[B, K, H, W]."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.model(x.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """(classes that are said uint8[n, H, W], masks uint8[n, H, W]) of a split, on the CPU.

        Raises:
            Stopped: a stop was requested.
        """
        said, true = [], []
        ordered = Batches(self.data, CHUNK, 0, self.device, split=split, shuffle=False, transform=self.transform)
        for batch in ordered.epoch(0):
            if stop.requested:
                raise Stopped
            said.append(self.logits(batch.x).argmax(1).to(torch.uint8).cpu())
            true.append(batch.y.cpu())
        return torch.cat(said), torch.cat(true)

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """x[B, C, H, W] as in the data set, bytes or floats -> probabilities[B, K, H, W].

        Raises:
            RlabError: inputs of another shape.
        """
        if tuple(x.shape[1:]) != self.data.shape:
            raise RlabError(f"this model takes inputs of shape {list(self.data.shape)}, not {list(x.shape[1:])}")
        given = as_float(torch.from_numpy(np.ascontiguousarray(x))).to(self.device)
        logits = self.logits(given if self.transform is None else self.transform(given))
        return logits.softmax(1).cpu().numpy()

    def examine(self, split: str, stop: Stop) -> dict[str, Any]:
        """A score of a split; "mean" is the mean intersection over union of the classes, in percent.

        Raises:
            Stopped: a stop was requested.
        """
        said, true = self.outputs(split, stop)
        return {"split": split, "examples": len(said)} | overlap(said, true, self.classes)

    def memory(self, batch_size: int) -> int:
        """Bytes of the data, and of a batch's activations (estimated)."""
        data = self.data.x.numel() * self.data.x.element_size()
        return data + 200 * 4 * batch_size * math.prod(self.data.shape)


def overlap(said: Tensor, true: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Masks said and true, [n, H, W], -> intersection over union (Jaccard 1912) of each class over all pixels.

    Returns:
        mean over the classes that there are, with low and high from a bootstrap of the images (seed 0), per_class,
        and accuracy of the pixels; all in percent.
    """
    k = len(classes)
    pairs = (true.long() * k + said.long()).flatten(1) + torch.arange(len(said))[:, None] * k * k
    counts = torch.bincount(pairs.flatten(), minlength=len(said) * k * k).view(-1, k, k).double()  # [n, true, said]
    drawn = torch.randint(len(said), (RESAMPLES, len(said)), generator=torch.Generator().manual_seed(0))
    times = torch.zeros(RESAMPLES, len(said)).scatter_add_(1, drawn, torch.ones(drawn.shape)).double()
    means = _union(torch.einsum("rn,nij->rij", times, counts)).nanmean(1)
    found = _union(counts.sum(0)[None])[0]
    low, high = means.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return {
        "measure": "mean IoU in percent",
        "mean": found.nanmean().item(),
        "low": low,
        "high": high,
        "per_class": {name: value for name, value in zip(classes, found.tolist(), strict=True) if value == value},
        "accuracy": 100 * (said == true).double().mean().item(),
    }


def _union(counts: Tensor) -> Tensor:
    """counts[R, true, said] -> intersection over union of each class [R, K] in percent; NaN where there is none."""
    both = counts.diagonal(dim1=1, dim2=2)
    return 100 * both / (counts.sum(1) + counts.sum(2) - both)
