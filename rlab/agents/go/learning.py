"""What a network of Go is taught: the terms of its loss, as functions of what it says and what is known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.agents.go.position_buffer import Sample
from rlab.envs.go.planes import PLANES
from rlab.nn.heads import PolicyValue

OWNERSHIP_WEIGHT = 0.15
SCORE_WEIGHT = 0.0015
REPLY_WEIGHT = 0.15


class Targets(NamedTuple):
    """Tensors of a `Sample`, on the device; `planes` [J, C, n, n], channels last."""

    planes: Tensor
    policy: Tensor
    full: Tensor
    reply: Tensor
    value: Tensor
    score: Tensor
    owner: Tensor


def targets_of(sample: Sample, root_share: float, device: torch.device) -> Targets:
    """Take a sample to a device; its value is the outcome, with a share of what the search had thought."""
    n = round(sample.owner.shape[1] ** 0.5)
    planes = torch.from_numpy(sample.planes).view(-1, n, n, len(PLANES)).permute(0, 3, 1, 2)
    value = (1 - root_share) * torch.from_numpy(sample.outcome) + root_share * torch.from_numpy(sample.root)
    parts = planes, *(torch.from_numpy(part) for part in (sample.policy, sample.full, sample.reply)), value
    rest = torch.from_numpy(sample.score), torch.from_numpy(sample.owner)
    return Targets(*(part.to(device) for part in (*parts, *rest)))


def losses(outputs: PolicyValue, known: Targets) -> dict[str, Tensor]:
    """The terms, each a mean over the batch, and "loss", their weighted sum.

    policy: cross-entropy with the search's policy, where it is worth learning. value: cross-entropy with the outcome
    (AlphaGo Zero's equation 1 has a squared error). ownership, score (Huber's), reply: Wu 2019, section 4.
    """
    terms = {
        "policy_loss": policy_loss(outputs.policy, known.policy, known.full),
        "value_loss": value_loss(outputs.value, known.value),
    }
    total = terms["policy_loss"] + terms["value_loss"]
    if outputs.ownership is not None:
        terms["ownership_loss"] = F.binary_cross_entropy_with_logits(outputs.ownership, known.owner)
        total = total + OWNERSHIP_WEIGHT * terms["ownership_loss"]
    if outputs.score is not None:
        terms["score_loss"] = F.huber_loss(outputs.score, known.score, delta=10.0)
        total = total + SCORE_WEIGHT * terms["score_loss"]
    if outputs.reply is not None:
        weight = known.full * known.reply.sum(1).clamp(max=1)
        terms["reply_loss"] = policy_loss(outputs.reply, known.reply, weight)
        total = total + REPLY_WEIGHT * terms["reply_loss"]
    return {"loss": total, **terms}


def policy_loss(logits: Tensor, policy: Tensor, weight: Tensor) -> Tensor:
    """Mean of -sum_a pi(a) log p(a) over rows with a weight[B]: logits[B, A], policy[B, A]."""
    each = -(policy * torch.log_softmax(logits, 1)).sum(1)
    return (each * weight).sum() / weight.sum().clamp(min=1)


def value_loss(logits: Tensor, value: Tensor) -> Tensor:
    """Cross-entropy of (loss, win) logits[B, 2] with values[B] in -1 .. 1, which are 2 P(win) - 1."""
    won = (value + 1) / 2
    log_p = torch.log_softmax(logits, 1)
    return -(won * log_p[:, 1] + (1 - won) * log_p[:, 0]).mean()
