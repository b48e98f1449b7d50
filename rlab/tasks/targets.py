"""Targets that a model can learn beside the label, as functions of (x, y), and a head for each with its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.datasets import TensorDataset
from rlab.errors import RlabError, nearest
from rlab.registry import Registry


@dataclass(frozen=True)
class Target:
    """A quantity that a model learns to predict from an example.

    Attributes:
        summary: what it is.
        of: (x[B, *shape] as in the data set, bytes being 0..1, and labels y[B], or shares of classes [B, K]) -> classes
            int64[B], shares of classes [B, C], or numbers float32[B, M], as many as the model is to tell.
        classes: their names, made of the data set's; None for numbers.
        labels: "classes" or "numbers" if the data set must have such labels.
        images: whether it is of images only.
    """

    summary: str
    of: Callable[[Tensor, Tensor], Tensor]
    classes: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None
    labels: str = ""
    images: bool = False


TARGETS: Registry[Target] = Registry("task")
"""name -> target; one line more is one task more."""


def group(x: Tensor, y: Tensor) -> Tensor:
    """Return the class modulo 2; of shares of classes the shares of both groups."""
    return torch.stack([y[:, 0::2].sum(1), y[:, 1::2].sum(1)], 1) if y.is_floating_point() else y % 2


def centre(x: Tensor, y: Tensor) -> Tensor:
    """Return the centre of mass of images[B, C, H, W], [B, 2]: row and column as shares 0..1; 1/2 of an empty image."""
    mass = x.mean(1) + torch.finfo(x.dtype).tiny
    rows, columns = (torch.linspace(0, 1, side, device=x.device) for side in mass.shape[1:])
    whole = mass.sum((1, 2))
    return torch.stack([(mass.sum(2) * rows).sum(1) / whole, (mass.sum(1) * columns).sum(1) / whole], 1)


for _name, _target in {
    "class": Target("the label, of classes", lambda x, y: y, lambda names: names, labels="classes"),
    "number": Target("the label: a number, or several", lambda x, y: y.reshape(len(y), -1), labels="numbers"),
    "group": Target("the class's place modulo 2", group, lambda names: ("even", "odd"), labels="classes"),
    "ink": Target("mean brightness; of tables the mean of a row", lambda x, y: x.flatten(1).mean(1, keepdim=True)),
    "spread": Target("standard deviation of an input's numbers", lambda x, y: x.flatten(1).std(1, keepdim=True)),
    "centre": Target("centre of mass, row and column", centre, images=True),
}.items():
    TARGETS.register(_name)(_target)


class Head:
    """A head for one target: it knows its part of a model's outputs, its loss, and the scale of its numbers.

    Args:
        name: of the target.
        weight: of its loss.
        first: the place of its first output.
        data: numbers are standardised by those of its training examples.
        class_weights: "balanced": each class has the same weight in the loss, however many examples it has.

    Raises:
        RlabError: the data set has no such target, or one of which the loss or R^2 has no meaning.
    """

    def __init__(self, name: str, weight: float, first: int, data: TensorDataset, class_weights: str = "none"):
        self.name, self.weight = name, weight
        self.target = TARGETS.get(name)
        kind = "numbers" if data.classes is None else "classes"
        if self.target.labels not in ("", kind):
            raise RlabError(f"task '{name}' is of labels that are {self.target.labels}, and '{data.name}' has {kind}")
        if self.target.images and data.kind != "images":
            raise RlabError(f"task '{name}' is of images, and '{data.name}' is of kind {data.kind}")
        self.classes = None if self.target.classes is None else self.target.classes(data.classes or ())
        self.mean, self.deviation = torch.zeros(1), torch.ones(1)
        number = len(self.classes or ())
        self.class_weights: Tensor | None = None
        if self.classes is not None and class_weights == "balanced":
            labels = self.target.of(data.inputs("train"), data.targets("train"))
            self.class_weights = balanced_weights(labels, number)
        if self.classes is None:
            targets = {split: self._numbers(data, split) for split in data.splits if split != "unlabelled"}
            number = targets["train"].shape[1]
            self.mean, deviation = targets["train"].mean(0), targets["train"].std(0)
            self.deviation = torch.where(deviation > 0, deviation, 1.0)
        self.outputs = slice(first, first + number)

    def _numbers(self, data: TensorDataset, split: str) -> Tensor:
        """Of a split: float32[n, M]."""
        targets = self.target.of(data.inputs(split), data.targets(split))
        if targets.dim() != 2:  # broadcast, its loss would be another one
            raise RlabError(f"task '{self.name}' gives numbers of shape {list(targets.shape)}; they must be [B, M]")
        if split != "train":
            refuse_constant(targets, f"task '{self.name}' of '{data.name}': the split '{split}'")
        return targets

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Outputs[B, all] and what `target.of` said -> cross-entropy, or half the mean squared error of standardised
        numbers; a scalar."""
        mine = outputs[:, self.outputs]
        if self.classes is not None:
            return weighted_cross_entropy(mine, targets, self.class_weights, label_smoothing)
        mean, deviation = self.mean.to(targets), self.deviation.to(targets)
        return 0.5 * (mine - (targets - mean) / deviation).square().mean()

    def decode(self, outputs: Tensor) -> Tensor:
        """Take this head's part of outputs[B, all]: logits[B, C], or numbers[B, M] on their own scale."""
        mine = outputs[:, self.outputs]
        return mine if self.classes is not None else mine * self.deviation.to(mine) + self.mean.to(mine)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Compute the weights of classes from labels int64[*]: float32[K], n / (k n_c) as in scikit-learn.

    n is the number of labels, n_c that of class c, and k that of classes which occur; one that does not has weight 0.
    Over the labels their mean is 1.
    """
    counts = torch.bincount(labels.flatten().long(), minlength=classes).float()
    weights = counts.sum() / ((counts > 0).sum() * counts)
    return torch.where(counts > 0, weights, 0.0)


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of logits[B, K, *] with classes int64[B, *] or shares [B, K]: the mean over the batch of each
    example's loss times its class's weight; a scalar.

    It is not divided by the weights in the batch, as torch does: an example counts the same in every batch.
    """
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    weights = class_weights.to(logits)
    return F.cross_entropy(logits, targets, weights, label_smoothing=label_smoothing, reduction="none").mean()


def refuse_constant(targets: Tensor, whose: str) -> None:
    """Refuse numbers[n, *] of which one is the same in all examples: R^2 would divide by their variance, which is 0.

    Raises:
        RlabError: it begins with `whose`.
    """
    if bool((targets == targets[:1]).all(0).any()):
        which = "the number does" if targets[0].numel() == 1 else "one of the numbers does"
        raise RlabError(
            f"{whose}: {which} not vary ({len(targets):,} examples), so that R^2 has no meaning; it takes two examples "
            f"that differ"
        )


def parse(text: str, data: TensorDataset, class_weights: str = "none") -> list[Head]:
    """Read ``"class,ink:0.1"``: names, each with the weight of its loss after a colon (1); empty: the label.

    Raises:
        RlabError: an unknown task, one twice, a weight that is none, or one that the data set does not have.
    """
    tasks: list[Head] = []
    if class_weights != "none" and data.classes is None:
        raise RlabError(f"--class-weights is {class_weights}, and what is learned of '{data.name}' is numbers")
    for part in text.split(",") if text.strip() else ["number" if data.classes is None else "class"]:
        name, _, weight = part.strip().partition(":")
        if name not in TARGETS:
            raise RlabError(f"unknown task '{name}' of --tasks; {nearest(name, TARGETS)}")
        if any(task.name == name for task in tasks):
            raise RlabError(f"--tasks names '{name}' twice")
        tasks.append(
            Head(name, _weight(part.strip(), weight), tasks[-1].outputs.stop if tasks else 0, data, class_weights)
        )
    return tasks


def _weight(part: str, text: str) -> float:
    try:
        weight = float(text) if text else 1.0
    except ValueError:
        raise RlabError(f"--tasks has '{part}', whose weight '{text}' is no number; nearest: 0.1") from None
    if not 0 <= weight < float("inf"):
        raise RlabError(f"--tasks has '{part}'; a weight is a number of at least 0")
    return weight
