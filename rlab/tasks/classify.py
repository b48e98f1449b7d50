"""Classes (or a number) from an input: an encoder, a linear layer, cross-entropy (or squared error)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.batches import Batch, Batches
from rlab.data.dataset import Dataset, as_float
from rlab.data.preprocess import Transform, fit
from rlab.errors import RlabError
from rlab.nn.average import Averaged
from rlab.nn.published import Classifier
from rlab.run.learner import Stop, Stopped

CHUNK = 512
"""Examples of an evaluation that are looked at together."""

BINS = 15
"""Of confidence, that calibration is measured in (Guo et al. 2017)."""

MANY = 100
"""Classes above which no confusion matrix is written."""


Term = Callable[["Classify", Batch, Tensor], dict[str, Tensor]]
"""(task, batch, logits[B, K]) -> "loss", what is added to the loss, and other scalars to be told."""


class Classify:
    """The task of a labelled data set; of one with numbers for labels, it predicts those.

    Args:
        data: inputs, labels and splits.
        model: inputs float[B, *shape] -> logits[B, K]; of numbers [B, 1].
        batch_size: B.
        augment: of training images; see `rlab.data.augment`.
        preprocess: fitted to the training inputs, with those that have no labels; empty: none.
        label_smoothing: share of a target that all classes have together.
        labels: factor of the loss by labels.
        terms: what else is learned from, added to it.
        per_epoch: updates of an epoch, however many examples there are; None: one pass over them.
        bf16: whether the model computes in bfloat16.
        seed: of order and augmentation.
        device: torch device.
    """

    def __init__(
        self,
        data: Dataset,
        model: Classifier | Averaged,
        *,
        batch_size: int,
        augment: str = "",
        preprocess: str = "",
        label_smoothing: float = 0.0,
        labels: float = 1.0,
        terms: Sequence[Term] = (),
        per_epoch: int | None = None,
        bf16: bool = False,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.data = data
        self.classes = data.classes
        self.label_smoothing = label_smoothing
        self.labels = labels
        self.terms = tuple(terms)
        self.bf16 = bf16
        self.device = torch.device(device)
        images = len(data.shape) == 3
        layout = torch.channels_last if images and bf16 else torch.contiguous_format
        self.model = model.to(self.device)
        self.model.to(memory_format=layout)  # type: ignore[call-overload]
        self._layout = layout
        shown = [data.inputs(split) for split in ("train", "unlabelled") if split in data.splits and preprocess]
        self.transform = fit(preprocess, torch.cat(shown)) if preprocess else None
        self.batches = Batches(data, batch_size, seed, device, augment, per_epoch=per_epoch)
        self.outputs_in_all = len(self.classes or "1")
        """Of the model, for one input."""
        self._ordered = {split: Batches(data, CHUNK, 0, device, split=split, shuffle=False) for split in data.splits}
        targets = data.targets("train").float() if self.classes is None else torch.zeros(2)
        self._mean, self._deviation = targets.mean().item(), targets.std().item() or 1.0

    @property
    def judged(self) -> Classifier:
        """What predicts and is scored: the model, or the average of it."""
        judged: Any = self.model.teacher if isinstance(self.model, Averaged) else self.model
        return judged

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of a training batch: "loss", what it is made of, and "accuracy" where the labels are whole."""
        logits = self.logits(batch.x)
        seen = self._by_labels(logits, batch.y)
        if self.terms:
            seen |= {"loss_labels": seen["loss"], "loss": self.labels * seen["loss"]}
        for term in self.terms:
            told = term(self, batch, logits)
            seen |= told | {"loss": seen["loss"] + told["loss"]}
        return seen

    def _by_labels(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        if self.classes is None:
            return {"loss": 0.5 * (logits[:, 0] - self._standardised(y)).square().mean()}
        seen = {"loss": F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)}
        if not y.is_floating_point():
            seen["accuracy"] = (logits.detach().argmax(1) == y).float().mean()
        return seen

    def logits(self, x: Tensor) -> Tensor:
        """x[B, *shape] as in the data set, bytes being 0..1 -> float32[B, K]."""
        return self.through(self.model, self.transform, x)

    def through(self, model: Callable[[Tensor], Tensor], transform: Transform | None, x: Tensor) -> Tensor:
        """x[B, *shape] through a preprocessing and a model, in this task's precision -> float32[B, K]."""
        if transform is not None:
            x = transform(x)
        if x.dim() == 4:
            x = x.contiguous(memory_format=self._layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(x)
        return logits.float()

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """(outputs[n, K], labels[n]) of a split, on the CPU.

        Raises:
            Stopped: a stop was requested.
        """
        outputs, labels = [], []
        for batch in self._until(stop, self._ordered[split]):
            outputs.append(self.logits(batch.x).cpu())
            labels.append(batch.y.cpu())
        return torch.cat(outputs), torch.cat(labels)

    @staticmethod
    def _until(stop: Stop, batches: Batches) -> Iterator[Batch]:
        for batch in batches.epoch(0):
            if stop.requested:
                raise Stopped
            yield batch

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """x[B, *shape] as in the data set, bytes or floats -> probabilities[B, K]; of numbers [B].

        Raises:
            RlabError: inputs of another shape.
        """
        if tuple(x.shape[1:]) != self.data.shape:
            raise RlabError(f"this model takes inputs of shape {list(self.data.shape)}, not {list(x.shape[1:])}")
        given = as_float(torch.from_numpy(np.ascontiguousarray(x))).to(self.device)
        logits = self.logits(given)
        if self.classes is None:
            return (logits[:, 0] * self._deviation + self._mean).cpu().numpy()
        return logits.softmax(1).cpu().numpy()

    def examine(self, split: str, stop: Stop) -> dict[str, Any]:
        """A score of a split; "mean" is the accuracy in percent, or the share of the variance that is explained (R^2).

        Raises:
            Stopped: a stop was requested.
        """
        outputs, labels = self.outputs(split, stop)
        score: dict[str, Any] = {"split": split, "examples": len(labels)}
        if self.classes is None:
            return score | explained(outputs[:, 0] * self._deviation + self._mean, labels)
        return score | classified(outputs, labels, self.classes)

    def memory(self, batch_size: int) -> int:
        """Bytes of the data, and of a batch's activations (estimated)."""
        data = self.data.x.numel() * self.data.x.element_size()
        return data + 200 * 4 * batch_size * math.prod(self.data.shape)

    def _standardised(self, y: Tensor) -> Tensor:
        return (y - self._mean) / self._deviation


def classified(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """logits[n, K], labels int64[n] -> accuracy in percent with Wilson's 95 % interval, and what it is made of.

    Returns:
        mean, low, high (percent), loss (nats), calibration_error (Guo et al. 2017, eq. 3, percent), per_class
        (name -> percent of its examples), and confusion [true][said] unless there are too many classes.
    """
    said = logits.argmax(1)
    right = said == labels
    n, k = len(labels), len(classes)
    low, high = wilson(int(right.sum()), n)
    counts = torch.bincount(labels * k + said, minlength=k * k).view(k, k)
    per_class = 100 * counts.diagonal() / counts.sum(1).clamp(min=1)
    confidence = logits.softmax(1).amax(1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS).index_add(0, bins, confidence - right.float()).abs().sum() / n
    score = {
        "measure": "accuracy in percent",
        "mean": 100 * int(right.sum()) / n,
        "low": 100 * low,
        "high": 100 * high,
        "loss": F.cross_entropy(logits, labels).item(),
        "calibration_error": 100 * gaps.item(),
        "per_class": dict(zip(classes, per_class.tolist(), strict=True)),
    }
    return score | ({"confusion": counts.tolist()} if k <= MANY else {})


def explained(said: Tensor, labels: Tensor) -> dict[str, Any]:
    """Numbers[n] and labels[n] -> R^2 = 1 - sum (y - t)^2 / sum (t - mean t)^2, with its root mean squared error.

    The interval is that of the mean of the examples' parts of R^2, as normal numbers.
    """
    parts = 1 - (said - labels).square() / (labels - labels.mean()).square().mean()
    mean, half = parts.mean().item(), 1.96 * parts.std().item() / math.sqrt(len(parts))
    return {
        "measure": "R^2",
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "rmse": (said - labels).square().mean().sqrt().item(),
    }


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (1927) of a probability, after `hits` in `n` trials."""
    share, spread = hits / n, z * z / n
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
