"""Train a sequence encoder to tell the class of a text or a series, or the label of each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import TensorDataset
from rlab.data.text.datasets import padded
from rlab.data.text.tokens import source_ids
from rlab.errors import RlabError
from rlab.nn.graph import Function, Graph
from rlab.nn.sequence.classifier import SequenceClassifier
from rlab.run.contract import Stop
from rlab.stats import wilson
from rlab.tasks.classification import ACCURACY, classification_metrics
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

CHUNK = 256
"""Sequences of an evaluation that are looked at together."""

EXACT = Metric("exact sequences", "percent")
"""Right at every step."""


class SequenceClassification(SingleLossTask):
    """Classification of whole sequences (texts, series), or of each of their steps.

    Args:
        dataset: sequences with labels.
        model: tokens or features, and a mask -> logits.
        optimizer: over its parameters.
        batch_size: B.
        loss: "cross-entropy"; of two classes "squared" or "squared-as-printed" (`PrintedSigmoid`) of one output.
        label_smoothing: share of a class that all classes have together.
        bf16: whether the model computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of sequences.
        device: torch device.

    Raises:
        RlabError: the loss does not go with the labels.
    """

    def __init__(
        self,
        dataset: Any,
        model: SequenceClassifier,
        optimizer: Optimizer,
        *,
        batch_size: int,
        loss: str = "cross-entropy",
        label_smoothing: float = 0.0,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        batches = Batches(dataset, batch_size, seed, device)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.dataset, self.classes = dataset, dataset.classes
        self.steps = dataset.kind == "labelled steps"
        self.primary = EXACT if self.steps else ACCURACY
        self.label_smoothing = label_smoothing
        self.squared = {"cross-entropy": None, "squared": torch.sigmoid, "squared-as-printed": printed_sigmoid}[loss]
        if self.squared is not None and outputs_of(loss, self.classes) != 1:
            raise RlabError(f"--loss {loss} is of two classes, and '{dataset.name}' has {len(self.classes)}; nearest: "
                            "--loss cross-entropy")  # fmt: skip

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits of a batch: [B, K], or of steps [B, T, K]."""
        with self.autocast():
            logits: Tensor = self.model(*inputs_of(batch))
        return logits.float()

    def graph(self) -> Graph:
        """Return the network; see `rlab.run.contract.Exports`."""

        def call(model: SequenceClassifier, x: Tensor, lengths: Tensor) -> Tensor:
            mask = torch.arange(x.shape[1]) < lengths[:, None]
            return self._as_classes(model(x, mask).float())

        x, mask = inputs_of(next(iter(self.data.ordered("train", 2))))
        lengths = torch.full((2,), x.shape[1]) if mask is None else mask.sum(1)
        return Graph(
            Function(self.model, call),
            {"x": x, "lengths": lengths},
            {"logits": "logits of the classes of every step" if self.steps else "logits of the classes"},
            self.classes,
            lengths={"x": getattr(self.model.encoder, "context", None)},
            tokenizers={} if self.model.embedding is None else {"x": self.dataset.tokenizer.state()},
        )

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        """Average the loss over sequences, or over all steps that count, however they lie in sequences."""
        y, counted = batch["y"], batch["mask"] if self.steps else None
        if self.squared is not None:  # of a sequence the sum over its steps, as the listing has it
            errors = (self.squared(outputs.squeeze(-1)) - y).square() / 2
            loss = (errors if counted is None else errors * counted).sum() / len(y)
        else:
            losses = F.cross_entropy(
                outputs.flatten(0, -2), y.flatten(), reduction="none", label_smoothing=self.label_smoothing
            )
            many = 1.0 if counted is None else counted.flatten()
            loss = (losses * many).sum() / (len(losses) if counted is None else counted.sum().clamp(min=1))
        right = (self.decide(outputs) == y).float()
        accuracy = right.mean() if counted is None else (right * counted).sum() / counted.sum().clamp(min=1)
        return {"loss": loss, "accuracy": accuracy}

    def denominator(self, batch: Batch) -> float:
        """Count the sequences; where the loss is a mean over steps, the steps that count."""
        return float(batch["mask"].sum()) if self.steps and self.squared is None else len(batch)

    def decide(self, logits: Tensor) -> Tensor:
        """Choose the class: logits[..., K] -> int64[...]."""
        return logits.argmax(-1) if self.squared is None else (logits.squeeze(-1) > 0).long()

    @torch.no_grad()
    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split: percent of the sequences whose class is right, or that are right at every step.

        Returns:
            Of whole sequences what `classification_metrics` has. Of steps the share of sequences with its interval,
            ``steps`` (percent of the steps), and in tests ``whole``: the same of all examples, whatever
            they are for, and ``longer``, where there are longer sequences than in training.

        Raises:
            Stopped: a stop was requested.
        """
        if not self.steps:
            logits, labels = self.outputs(split, stop)
            return {"split": split, "examples": len(labels), **classification_metrics(logits, labels, self.classes)}
        splits = self.dataset.splits
        score = self._exact(splits[split], stop) | {"split": split}
        if split == "test":
            longer = splits.get("longer", torch.zeros(0, dtype=torch.int64))
            items = torch.arange(len(self.dataset))
            whole = self._exact(items[~torch.isin(items, longer)], stop)
            score["whole"] = {"examples": whole["examples"], "exact": whole["mean"]}
            if len(longer):
                score["longer"] = self._exact(longer, stop)["mean"]
        return score

    @torch.no_grad()
    def outputs(self, split: str, stop: Stop) -> tuple[Tensor, Tensor]:
        """Compute the logits[n, K] and the classes int64[n] of a split.

        Raises:
            RlabError: every step has a label.
            Stopped: a stop was requested.
        """
        if self.steps:
            raise RlabError(f"'{self.dataset.name}' has a label for every step, not one for a sequence")
        parts = [(self._as_classes(self.forward(b)), b["y"]) for b in until(stop, self.data.ordered(split, CHUNK))]
        logits, labels = (torch.cat(list(each)).cpu() for each in zip(*parts, strict=True))
        return logits, labels

    def _exact(self, items: Tensor, stop: Stop) -> dict[str, Any]:
        right = right_steps = steps = examples = 0
        for batch in until(stop, Batches(self.dataset, CHUNK, device=self.device, shuffle=False, items=items).epoch(0)):
            hits, counted = self.decide(self.forward(batch)) == batch["y"], batch["mask"]
            right += int((hits | ~counted).all(1).sum())
            right_steps, steps = right_steps + int((hits & counted).sum()), steps + int(counted.sum())
            examples += len(batch)
        low, high = wilson(right, examples)
        return EXACT.score(
            100 * right / examples,
            100 * low,
            100 * high,
            examples=examples,
            steps=100 * right_steps / max(steps, 1),
        )

    def _as_classes(self, logits: Tensor) -> Tensor:
        """Logits of each class, [B, K], where one output tells both of two."""
        return logits if self.squared is None else torch.cat([-logits, logits], -1) / 2

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict from texts [B] or series x[B, T, C]: probabilities[B, K], or of steps [B, T, K].

        Raises:
            RlabError: these are no such inputs.
        """
        if self.dataset.kind == "labelled text":
            return self._predict_texts(x)
        shape = self.dataset.x.shape[1:]
        if x.ndim != 3 or x.shape[2] != shape[1] or x.dtype.kind not in "fiu":
            raise RlabError(f"this model takes series of shape [B, T, {shape[1]}], not {list(x.shape)} of {x.dtype}")
        logits = self.model(torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(self.device))
        probabilities: np.ndarray = self._as_classes(logits.float()).softmax(-1).cpu().numpy()
        return probabilities

    def _predict_texts(self, texts: np.ndarray) -> np.ndarray:
        if texts.ndim != 1 or not all(isinstance(text, str) for text in texts.tolist()) or not len(texts):
            raise RlabError(f"this model takes texts, in a list of at least one, not an array of {texts.dtype}")
        rows = [source_ids(self.dataset.tokenizer, text) for text in texts.tolist()]
        tokens, mask = (t.to(self.device) for t in padded(rows))
        with self.autocast():
            logits = self.model(tokens, mask)
        probabilities: np.ndarray = self._as_classes(logits.float()).softmax(-1).cpu().numpy()
        return probabilities

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw which classes of the test sequences, or of their steps, are taken for which, as PNG.

        Raises:
            Stopped: a stop was requested.
        """
        from rlab.tasks.pictures import confusion

        if not self.steps:
            return {"confusion": confusion(*self.outputs("test", stop), self.classes)}
        parts = []
        for batch in until(stop, self.data.ordered("test", CHUNK)):
            parts.append((self._as_classes(self.forward(batch))[batch["mask"]].cpu(), batch["y"][batch["mask"]].cpu()))
        logits, labels = (torch.cat(list(each)) for each in zip(*parts, strict=True))
        return {"confusion": confusion(logits, labels, self.classes)}

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of a batch's activations: those of the first batch's shape."""
        steps = next(iter(self.data.at(0, 0).tensors.values())).shape[1]
        return 4 * batch_size * steps * 60 * int(self.model.encoder.out_dim)


def inputs_of(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """(tokens or features, mask bool[B, T] of what is no padding) of a batch of texts, series or labelled steps."""
    if "tokens" in batch.tensors:
        return batch["tokens"], batch["mask"]
    x = batch.x
    if "lengths" not in batch.tensors:
        return x, None
    return x, torch.arange(x.shape[1], device=x.device) < batch["lengths"][:, None]


def channel_scale(data: TensorDataset) -> Tensor:
    """Mean and deviation of each channel over the steps of the training series, float32[2, C]; of constant ones 1."""
    batch = Batch(data.collate(data.items("train")), data.items("train"))
    x, mask = inputs_of(batch)
    steps = (x.flatten(0, 1) if mask is None else x[mask]).double()
    deviation = steps.std(0, correction=0)
    return torch.stack([steps.mean(0), torch.where(deviation > 0, deviation, 1.0)]).float()


def outputs_of(loss: str, classes: tuple[str, ...] | None) -> int:
    """How many outputs a loss wants for these classes."""
    n = len(classes or ())
    return 1 if loss != "cross-entropy" and n == 2 else n


class PrintedSigmoid(torch.autograd.Function):
    """A sigmoid with the wrong gradient of a known listing: its slope is taken at its output, not at its input.

    With y = sigmoid(u), the listing multiplies by sigmoid'(y) where sigmoid'(u) = y (1 - y) is right. For y = 0.5, 0.9
    and 0.99 it is 0.94, 2.28 and 19.95 times as large. A check by finite differences finds it at once; training finds a
    way all the same.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        """Compute sigmoid(u)."""
        y = torch.sigmoid(u)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Multiply by the slope at y."""
        (y,) = ctx.saved_tensors
        at_output = torch.sigmoid(y)
        return gradients[0] * at_output * (1 - at_output)


printed_sigmoid: Callable[[Tensor], Tensor] = PrintedSigmoid.apply
"""`PrintedSigmoid` as a function."""
