"""Losses that torch does not have; cross-entropies of labels, probabilities and logits are its own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.errors import RlabError


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs and targets[B, *] -> mean over the batch of 1/2 sum (y - t)^2; a scalar.

    Raises:
        RlabError: the shapes differ: broadcast, it would be another loss.
    """
    if outputs.shape != targets.shape:
        raise RlabError(f"squared_error of outputs {list(outputs.shape)} and targets {list(targets.shape)}")
    return (outputs - targets).square().sum() / (2 * len(outputs))


def smooth_targets(
    labels: Tensor,
    classes: int,
    epsilon: float,
    over: Literal["all", "others"] = "all",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Labels[B, *] -> targets[B, K, *], the probabilities that `torch.nn.functional.cross_entropy` takes.

    over="all": 1 - epsilon + epsilon / K and epsilon / K, an equal share for every class (Szegedy et al. 2016, section
    7; torch's ``label_smoothing``). over="others": 1 - epsilon, and epsilon / (K - 1) for the other classes. The second
    with epsilon (K - 1) / K is the first with epsilon.

    Raises:
        RlabError: labels that are no integers, fewer than 2 classes, epsilon that makes another class as likely as the
            right one, an unknown convention, or (on a CPU only: elsewhere looking would wait) a label outside 0..K-1.
    """
    if over not in ("all", "others"):
        raise RlabError(f"label smoothing over '{over}'; valid: all, others")
    bound = 1.0 if over == "all" else (classes - 1) / classes if classes > 1 else 0.0
    if classes < 2 or not 0 <= epsilon < bound:
        raise RlabError(
            f"label smoothing over {over} of {classes} classes takes epsilon in [0, {bound:g}), not {epsilon}"
        )
    if labels.is_floating_point():
        raise RlabError(f"label smoothing takes labels as integers 0 to {classes - 1}, not {labels.dtype}")
    if labels.device.type == "cpu" and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise RlabError(f"label {low if low < 0 else high} is none of {classes} classes; valid: 0 to {classes - 1}")
    other = epsilon / classes if over == "all" else epsilon / (classes - 1)
    right = 1 - (classes - 1) * other
    hot = F.one_hot(labels.long(), classes).movedim(-1, 1).to(dtype or torch.get_default_dtype())
    return other + (right - other) * hot


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Logits[B, K] of both -> T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch; a scalar.

    Its gradient is that of the cross-entropy with soft targets (Hinton et al. 2015, section 2), and T^2 keeps its size
    beside a loss of labels. The teacher gets none.

    Raises:
        RlabError: the shapes differ, or the temperature is not above 0.
    """
    if not 0 < temperature < float("inf"):
        raise RlabError(f"distillation takes a temperature above 0, not {temperature}; nearest: 1")
    if student.shape != teacher.shape:
        raise RlabError(f"distillation of a teacher's logits {list(teacher.shape)} to {list(student.shape)}")
    soft, hard = ((logits / temperature).log_softmax(1) for logits in (student, teacher.detach()))
    return temperature**2 * F.kl_div(soft, hard, reduction="batchmean", log_target=True)
