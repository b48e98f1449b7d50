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
from rlab.tasks.targets import Head, parse

CHUNK = 512
"""Examples of an evaluation that are looked at together."""

BINS = 15
"""Of confidence, that calibration is measured in (Guo et al. 2017)."""

TOLD = ("measure", "mean", "low", "high", "loss", "rmse")
"""What is told of each of several tasks."""

MANY = 100
"""Classes above which no confusion matrix is written."""


Term = Callable[["Classify", Batch, Tensor], dict[str, Tensor]]
"""(task, batch, logits[B, K]) -> "loss", what is added to the loss, and other scalars to be told."""


class Classify:
    """The task of a labelled data set; of one with numbers for labels, it predicts those.

    Args:
        data: inputs, labels and splits.
        model: inputs float[B, *shape] -> the outputs of all heads side by side.
        batch_size: B.
        augment: of training images; see `rlab.data.augment`.
        preprocess: fitted to the training inputs, with those that have no labels; empty: none.
        label_smoothing: share of a class that all classes have together.
        heads: what is asked of an input, the first being what is scored and predicted; None: the label.
        labels: factor of the loss of these.
        terms: what else is learned from, added to it.
        per_epoch: updates of an epoch, however many examples there are; None: one pass over them.
        items: the training examples in place of those of the split, some several times; None: the split's.
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
        heads: Sequence[Head] | None = None,
        labels: float = 1.0,
        terms: Sequence[Term] = (),
        per_epoch: int | None = None,
        items: Tensor | None = None,
        bf16: bool = False,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.data = data
        self.heads = tuple(heads or parse("", data))
        self.classes = self.heads[0].classes
        self.label_smoothing = label_smoothing
        self.labels = labels
        self.terms = tuple(terms)
        self.bf16 = bf16
        self.device = torch.device(device)
        self.model = model.to(self.device)
        if len(data.shape) == 3:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shown = [data.inputs(split) for split in ("train", "unlabelled") if split in data.splits and preprocess]
        self.transform = fit(preprocess, torch.cat(shown)) if preprocess else None
        self.batches = Batches(data, batch_size, seed, device, augment, per_epoch=per_epoch, items=items)
        self._ordered = {split: Batches(data, CHUNK, 0, device, split=split, shuffle=False) for split in data.splits}

    @property
    def judged(self) -> Classifier:
        """What predicts and is scored: the model, or the average of it."""
        judged: Any = self.model.teacher if isinstance(self.model, Averaged) else self.model
        return judged

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of a training batch: "loss", what it is made of, and "accuracy" where the labels are whole."""
        outputs = self.through(self.model, self.transform, batch.x)
        seen = self._by_heads(outputs, batch)
        if self.terms:
            seen |= {"loss_labels": seen["loss"], "loss": self.labels * seen["loss"]}
        for term in self.terms:
            told = term(self, batch, outputs[:, self.heads[0].outputs])
            seen |= told | {"loss": seen["loss"] + told["loss"]}
        return seen

    def _by_heads(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        targets = [head.target.of(batch.x, batch.y) for head in self.heads]
        losses = [head.loss(outputs, t, self.label_smoothing) for head, t in zip(self.heads, targets, strict=True)]
        weighted = [head.weight * loss for head, loss in zip(self.heads, losses, strict=True)]
        seen = {"loss": torch.stack(weighted).sum()}
        if len(self.heads) > 1:
            seen |= {f"loss_{head.name}": loss for head, loss in zip(self.heads, losses, strict=True)}
        if self.classes is not None and not targets[0].is_floating_point():
            said = outputs.detach()[:, self.heads[0].outputs].argmax(1)
            seen["accuracy"] = (said == targets[0]).float().mean()
        return seen

    def logits(self, x: Tensor) -> Tensor:
        """x[B, *shape] as in the data set, bytes being 0..1 -> float32[B, K] of the first head."""
        return self.through(self.model, self.transform, x)[:, self.heads[0].outputs]

    def through(self, model: Callable[[Tensor], Tensor], transform: Transform | None, x: Tensor) -> Tensor:
        """x[B, *shape] through a preprocessing and a model, in this task's precision -> float32[B, K]."""
        if transform is not None:
            x = transform(x)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(x)
        return logits.float()

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """What the first head says of a split and what is true: logits[n, K], int64[n], or numbers[n, M]; on the CPU.

        Raises:
            Stopped: a stop was requested.
        """
        return self._said(split, stop)[0]

    def _said(self, split: str, stop: Stop) -> list[tuple[Tensor, Tensor]]:
        """Of each head."""
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.heads]
        for batch in self._until(stop, self._ordered[split]):
            outputs = self.through(self.model, self.transform, batch.x)
            for head, part in zip(self.heads, parts, strict=True):
                part.append((head.said(outputs).cpu(), head.target.of(batch.x, batch.y).cpu()))
        return [(torch.cat([said for said, _ in part]), torch.cat([true for _, true in part])) for part in parts]

    @staticmethod
    def _until(stop: Stop, batches: Batches) -> Iterator[Batch]:
        for batch in batches.epoch(0):
            if stop.requested:
                raise Stopped
            yield batch

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """x[B, *shape] as in the data set, bytes or floats -> probabilities[B, K]; of numbers [B], or [B, M].

        Raises:
            RlabError: inputs of another shape.
        """
        if tuple(x.shape[1:]) != self.data.shape:
            raise RlabError(f"this model takes inputs of shape {list(self.data.shape)}, not {list(x.shape[1:])}")
        given = as_float(torch.from_numpy(np.ascontiguousarray(x))).to(self.device)
        said = self.heads[0].said(self.through(self.model, self.transform, given))
        if self.classes is None:
            return (said[:, 0] if said.shape[1] == 1 else said).cpu().numpy()
        return said.softmax(1).cpu().numpy()

    def examine(self, split: str, stop: Stop) -> dict[str, Any]:
        """A score of a split; "mean" is the accuracy in percent, or the share of the variance that is explained (R^2).

        It is that of the first head; "tasks" has the scores of all, if there are several.

        Raises:
            Stopped: a stop was requested.
        """
        found = [
            explained(said, true) if head.classes is None else classified(said, true, head.classes)
            for head, (said, true) in zip(self.heads, self._said(split, stop), strict=True)
        ]
        score: dict[str, Any] = {"split": split, "examples": len(self.data.items(split)), **found[0]}
        if len(found) > 1:
            score["tasks"] = {
                head.name: {name: one[name] for name in TOLD if name in one}
                for head, one in zip(self.heads, found, strict=True)
            }
        return score

    def memory(self, batch_size: int) -> int:
        """Bytes of the data, and of a batch's activations (estimated)."""
        data = self.data.x.numel() * self.data.x.element_size()
        return data + 200 * 4 * batch_size * math.prod(self.data.shape)


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

    Of several numbers an example, [n, M], the mean of their R^2. The interval is that of the mean of the examples'
    parts of R^2, as normal numbers.
    """
    parts = 1 - (said - labels).square() / (labels - labels.mean(0)).square().mean(0)
    parts = parts.view(len(labels), -1).mean(1)
    mean, half = parts.mean().item(), 1.96 * parts.std().item() / math.sqrt(len(parts))
    return {
        "measure": "R^2",
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "rmse": (said - labels).square().mean().sqrt().item(),
    }


def wilson(hits: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval (1927) of a probability, after `hits` in `n` trials."""
    share, spread = hits / n, z * z / n
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
