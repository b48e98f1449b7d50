"""Semi-supervised learning: methods that add a loss term for examples without labels.

Each update sees a batch of examples without labels as two views, which are two draws of the augmentation. A method is a
function (task, first view, second view) -> {"loss_unlabelled": a scalar, ...}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.data.batches import Batch, Batches
from rlab.errors import RlabError
from rlab.nn.ema import EMA
from rlab.tasks.classification import Classification
from rlab.tasks.config import SemiConfig
from rlab.tasks.task import Losses, Term

Method = Callable[[Classification, Tensor, Tensor], dict[str, Tensor]]

WEIGHTS = {"self-training": 1.0, "consistency": 10.0, "mean-teacher": 10.0}
"""What a method's loss is multiplied by where no weight is given: squares of probabilities are small."""


def ramp(progress: float, over: float) -> float:
    """Grow as exp(-5 (1 - progress / over)^2) up to `over`, then stay 1 (Laine & Aila 2017, section 2.1)."""
    return 1.0 if progress >= over else math.exp(-5 * (1 - progress / over) ** 2)


def pseudo_labels(guess: Tensor, logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Compute (cross-entropy of logits[B, K] with the class of guess[B, K], share that is sure enough).

    The mean over all B, of which the unsure count 0 (Lee 2013, eq. 15, where everybody is sure; Sohn et al. 2020, eq.
    4, with the threshold). Both are scalars; the second is a share. The guess gets no gradient.
    """
    confidence, predicted = guess.detach().softmax(1).max(1)
    sure = (confidence >= threshold).float()
    return (sure * F.cross_entropy(logits, predicted, reduction="none")).mean(), sure.mean()


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of the probabilities of two views, from logits[B, K] of each; a scalar."""
    return (first.softmax(1) - second.softmax(1)).square().mean()


def self_training(threshold: float, task: Classification, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Self-training: a class that the model is sure of in one view becomes the label of the other view (Lee 2013)."""
    with torch.no_grad():
        guess = task.logits(first)
    loss, sure = pseudo_labels(guess, task.logits(second), threshold)
    return {"loss_unlabelled": loss, "sure": sure}


def consistency(task: Classification, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Consistency: two views of an example shall get the same probabilities (the Pi-model of Laine & Aila 2017)."""
    return {"loss_unlabelled": disagreement(task.logits(first), task.logits(second))}


def mean_teacher(task: Classification, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Mean teacher: one view shall get the probabilities that the model's moving average gives the other."""
    model = task.model
    assert isinstance(model, EMA)
    with torch.no_grad():
        target = task.apply_model(model.teacher, task.transform, first)[:, : len(task.classes or ())]
    return {"loss_unlabelled": disagreement(target, task.logits(second))}


def method_of(config: SemiConfig) -> Method:
    """Return the method that a configuration names."""
    methods: dict[str, Method] = {
        "self-training": partial(self_training, config.threshold),
        "consistency": consistency,
        "mean-teacher": mean_teacher,
    }
    return methods[config.semi]


def term_of(config: SemiConfig, unlabelled: Batches, epochs: int) -> Term:
    """Make the loss term of a method, weighted by its setting and by how far the run is.

    Args:
        config: which method, and how.
        unlabelled: the examples without labels, in as many batches an epoch as the labelled ones have.
        epochs: of the whole run.
    """
    method = method_of(config)
    weight = WEIGHTS[config.semi] if config.semi_weight is None else config.semi_weight

    def term(task: Classification, batch: Batch, outputs: Tensor) -> Losses:
        epoch, number = batch.place
        first, second = (unlabelled.at(epoch, number, view=view).x for view in (0, 1))
        losses = method(task, first, second)
        factor = weight * ramp((epoch + number / len(unlabelled)) / epochs, config.ramp_up)
        return losses | {"loss": factor * losses["loss_unlabelled"]}

    return term


def refuse_useless(config: SemiConfig, data: str, classes: object, augment: str, model: nn.Module) -> None:
    """Refuse settings with which a method would learn nothing from examples without labels.

    Raises:
        RlabError: there are no classes, images are mixed, or two views would always be the same.
    """
    if classes is None:
        raise RlabError(f"--semi {config.semi} compares probabilities of classes, and '{data}' has numbers for labels")
    if any(part.strip().startswith("mixup") for part in augment.split(",")):
        raise RlabError(f"--semi {config.semi} compares two views of an image, which mixup mixes with others; leave "
                        "mixup out of --augment")  # fmt: skip
    draws = any(getattr(part, "p", 0.0) or getattr(part, "std", 0.0) for part in model.modules())
    if config.semi == "consistency" and not augment and not draws:
        raise RlabError(
            "--semi consistency compares two views, and without --augment and --dropout both are the same; nearest: "
            "--dropout 0.2"
        )
