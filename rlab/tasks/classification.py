"""Train a network to tell the class of an input by cross-entropy, or a number by squared error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import TensorDataset, model_inputs
from rlab.data.preprocess import Transform, fit
from rlab.errors import NonFinite, RlabError
from rlab.nn.ema import EMA
from rlab.nn.graph import Function, Graph
from rlab.nn.models import Classifier
from rlab.run.contract import Stop
from rlab.stats import wilson
from rlab.tasks.targets import Head, parse, refuse_constant
from rlab.tasks.task import Losses, Metric, SingleLossTask, Term, until

CHUNK = 512
"""Examples of an evaluation that are looked at together."""

BINS = 15
"""Of confidence, that calibration is measured in (Guo et al. 2017)."""

OF_EACH = ("measure", "mean", "low", "high", "loss", "rmse")
"""What a score has of each of several heads."""

MANY = 100
"""Classes above which no confusion matrix is written."""


ACCURACY = Metric("accuracy", "percent")
R_SQUARED = Metric("R^2")


class Classification(SingleLossTask):
    """Classification of a labelled data set, or regression where its labels are numbers.

    Args:
        dataset: inputs, labels and splits.
        model: inputs float[B, *shape] -> the outputs of all heads side by side.
        optimizer: over its parameters.
        batch_size: B.
        augment: of training images; see `rlab.data.augment`.
        preprocess: fitted to the training inputs, with those that have no labels; empty: none.
        label_smoothing: share of a class that all classes have together.
        heads: what is asked of an input, the first being what is scored and predicted; None: the label.
        weight: factor of the loss of these, beside the terms.
        terms: what else is learned from, added to it.
        per_epoch: updates of an epoch, however many examples there are; None: one pass over them.
        items: the training examples in place of those of the split, some several times; None: the split's.
        bf16: whether the model computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of order and augmentation.
        device: torch device.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        model: Classifier | EMA,
        optimizer: Optimizer,
        *,
        batch_size: int,
        augment: str = "",
        preprocess: str = "",
        label_smoothing: float = 0.0,
        heads: Sequence[Head] | None = None,
        weight: float = 1.0,
        terms: Sequence[Term] = (),
        per_epoch: int | None = None,
        items: Tensor | None = None,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        batches = Batches(dataset, batch_size, seed, device, augment, per_epoch=per_epoch, items=items)
        super().__init__(
            model,
            batches,
            optimizer,
            device=device,
            bf16=bf16,
            max_grad_norm=max_grad_norm,
            weight=weight,
            terms=terms,
        )
        self.dataset = dataset
        self.heads = tuple(heads or parse("", dataset))
        self.classes = self.heads[0].classes
        self.primary = R_SQUARED if self.classes is None else ACCURACY
        self.label_smoothing = label_smoothing
        if len(dataset.shape) == 3:
            self.model.to(memory_format=torch.channels_last)
        fitted = [dataset.inputs(split) for split in ("train", "unlabelled") if split in dataset.splits and preprocess]
        self.transform = fit(preprocess, torch.cat(fitted)) if preprocess else None

    @property
    def predictor(self) -> Classifier:
        """The network that predicts and is scored: the model, or its moving average where there is one."""
        predictor: Any = self.model.teacher if isinstance(self.model, EMA) else self.model
        return predictor

    def forward(self, batch: Batch) -> Tensor:
        """Compute the outputs of all heads for a batch, float32[B, K]."""
        return self.apply_model(self.model, self.transform, batch.x)

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Sum the heads' losses by their weights; has each head's, too, and "accuracy" where labels are classes."""
        targets = [head.target.of(batch.x, batch.y) for head in self.heads]
        losses = [head.loss(outputs, t, self.label_smoothing) for head, t in zip(self.heads, targets, strict=True)]
        weighted = [head.weight * loss for head, loss in zip(self.heads, losses, strict=True)]
        metrics = {"loss": torch.stack(weighted).sum()}
        if len(self.heads) > 1:
            metrics |= {f"loss_{head.name}": loss for head, loss in zip(self.heads, losses, strict=True)}
        if self.classes is not None and not targets[0].is_floating_point():
            predicted = outputs.detach()[:, self.heads[0].outputs].argmax(1)
            metrics["accuracy"] = (predicted == targets[0]).float().mean()
        return metrics

    def graph(self) -> Graph:
        """Return the network that predicts, with its preprocessing; see `rlab.run.contract.Exports`."""

        def call(model: Classifier, x: Tensor) -> Tensor:
            return self.heads[0].decode(model(x if self.transform is None else self.transform(x))).float()

        draw = torch.rand if self.dataset.kind == "images" else torch.randn
        outputs = {"logits": "logits of the classes"} if self.classes else {"y": "the predicted numbers"}
        return Graph(Function(self.predictor, call), {"x": draw(2, *self.dataset.shape)}, outputs, self.classes)

    def logits(self, x: Tensor) -> Tensor:
        """Compute the first head's outputs: x[B, *shape] as in the data set, bytes being 0..1 -> float32[B, K]."""
        return self.apply_model(self.model, self.transform, x)[:, self.heads[0].outputs]

    def apply_model(self, model: Callable[[Tensor], Tensor], transform: Transform | None, x: Tensor) -> Tensor:
        """Apply a preprocessing and a model in this task's precision: x[B, *shape] -> float32[B, K]."""
        if transform is not None:
            x = transform(x)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            logits = model(x)
        return logits.float()

    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """Compute the first head's outputs and targets of a split: logits[n, K] and int64[n], or numbers[n, M].

        Raises:
            Stopped: a stop was requested.
        """
        return self._outputs_by_head(split, stop)[0]

    def _outputs_by_head(self, split: str, stop: Stop) -> list[tuple[Tensor, Tensor]]:
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.heads]
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            outputs = self.forward(batch)
            for head, part in zip(self.heads, parts, strict=True):
                part.append((head.decode(outputs).cpu(), head.target.of(batch.x, batch.y).cpu()))
        return [(torch.cat([out for out, _ in part]), torch.cat([true for _, true in part])) for part in parts]

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict from x[B, *shape] as in the data set (`model_inputs`): probabilities[B, K], or numbers [B] or [B, M].

        Raises:
            RlabError: inputs of another shape, type or range.
        """
        inputs = model_inputs(x, self.dataset).to(self.device)
        outputs = self.heads[0].decode(self.apply_model(self.model, self.transform, inputs))
        if self.classes is None:
            return (outputs[:, 0] if outputs.shape[1] == 1 else outputs).cpu().numpy()
        return outputs.softmax(1).cpu().numpy()

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by accuracy in percent, or by the share of the variance that is explained (R^2).

        The score is that of the first head; "tasks" has the scores of all heads, if there are several.

        Raises:
            Stopped: a stop was requested.
        """
        scores = [
            regression_metrics(out, true) if head.classes is None else classification_metrics(out, true, head.classes)
            for head, (out, true) in zip(self.heads, self._outputs_by_head(split, stop), strict=True)
        ]
        score: dict[str, Any] = {"split": split, "examples": len(self.dataset.items(split)), **scores[0]}
        if len(scores) > 1:
            score["tasks"] = {
                head.name: {name: one[name] for name in OF_EACH if name in one}
                for head, one in zip(self.heads, scores, strict=True)
            }
        return score

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw confusions, misclassified examples and heat maps of the test split, as PNG by name; nothing for numbers.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks import pictures

        if self.classes is None:
            return {}
        logits, labels = self.outputs("test", stop)
        drawn = {"confusion": pictures.confusion(logits, labels, self.classes)}
        if len(self.dataset.shape) != 3:
            return drawn
        images = self.dataset.inputs("test")
        drawn["wrong"] = pictures.misclassified(images, logits, labels, self.classes)
        if hasattr(self.predictor.encoder, "feature_maps"):
            first = pictures.one_of_each(labels, len(self.classes))[: pictures.HEAT_MAPS]
            x = images[first] if self.transform is None else self.transform(images[first])
            predicted = logits[first].argmax(1).to(self.device)
            maps = pictures.class_activation(self.predictor, x.to(self.device), predicted).cpu()
            drawn["looked"] = pictures.heat_maps(images[first], maps, logits[first], labels[first], self.classes)
        return drawn


def refuse_nan(outputs: Tensor) -> None:
    """Refuse outputs that are no numbers: of those a class is no better than any other.

    Raises:
        NonFinite: there is one.
    """
    if outputs.isnan().any():
        raise NonFinite("output", math.nan, "an evaluation")


def classification_metrics(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Score logits[n, K] by labels int64[n]: accuracy in percent with Wilson's 95 % interval, and more metrics.

    Returns:
        mean, low, high (percent), loss (nats), calibration_error (Guo et al. 2017, eq. 3, percent), per_class
        (name -> percent of its examples), and confusion [true][predicted] unless there are too many classes.

    Raises:
        NonFinite: an output is NaN.
    """
    refuse_nan(logits)
    right = (predicted := logits.argmax(1)) == labels
    n, k = len(labels), len(classes)
    low, high = wilson(int(right.sum()), n)
    counts = torch.bincount(labels * k + predicted, minlength=k * k).view(k, k)
    per_class = 100 * counts.diagonal() / counts.sum(1).clamp(min=1)
    confidence = logits.softmax(1).amax(1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS).index_add(0, bins, confidence - right.float()).abs().sum() / n
    score = ACCURACY.score(
        100 * int(right.sum()) / n,
        100 * low,
        100 * high,
        loss=F.cross_entropy(logits, labels).item(),
        calibration_error=100 * gaps.item(),
        per_class=dict(zip(classes, per_class.tolist(), strict=True)),
    )
    return score | ({"confusion": counts.tolist()} if k <= MANY else {})


def regression_metrics(predicted: Tensor, labels: Tensor) -> dict[str, Any]:
    """Score predicted[n] by labels[n]: R^2 = 1 - sum (y - t)^2 / sum (t - mean t)^2, and the root mean squared error.

    Of several numbers an example, [n, M], the mean of their R^2. The interval is that of the mean of the examples'
    parts of R^2, as normal numbers.

    Raises:
        RlabError: all labels are the same, or shapes differ: broadcast, it would be another number.
        NonFinite: an output is NaN.
    """
    refuse_nan(predicted)
    if predicted.shape != labels.shape:
        raise RlabError(f"R^2 of outputs {list(predicted.shape)} and labels {list(labels.shape)}")
    refuse_constant(labels, "what is predicted")
    predicted, labels = predicted.double(), labels.double()
    parts = 1 - (predicted - labels).square() / (labels - labels.mean(0)).square().mean(0)
    parts = parts.view(len(labels), -1).mean(1)
    mean, half = parts.mean().item(), 1.96 * parts.std().item() / math.sqrt(len(parts))
    return R_SQUARED.score(mean, mean - half, mean + half, rmse=(predicted - labels).square().mean().sqrt().item())
