"""Distributions of returns: how a target distribution is made, and the loss to it. Pure functions, all compilable."""

from __future__ import annotations

import torch
from torch import Tensor

from rlab.agents.value.returns import masked


def greedy(q: Tensor, mask: Tensor | None) -> Tensor:
    """argmax_a Q(s, a) over allowed actions: q[B, A], mask bool[B, A] or None -> int64[B]."""
    return masked(q, mask).argmax(dim=1)


def take(values: Tensor, action: Tensor) -> Tensor:
    """What stands under the actions int64[B]: [B, A] -> [B], or [B, A, K] -> [B, K]."""
    return values[torch.arange(len(action), device=values.device), action]


def project(probabilities: Tensor, reward: Tensor, discount: Tensor, support: Tensor) -> Tensor:
    """The distribution of r + discount * Z on the support of Z (Bellemare et al. 2017, eq. 7).

    Each atom's mass is shared between the two nearest atoms of the support, in proportion to how near they are; what
    falls outside goes to the ends.

    Args:
        probabilities: [B, K] of Z.
        reward: [B].
        discount: [B].
        support: [K], evenly spaced, ascending.

    Returns:
        [B, K].
    """
    last = len(support) - 1
    moved = reward[:, None] + discount[:, None] * support
    place = ((moved - support[0]) * (last / (support[-1] - support[0]))).clamp(0, last)  # in atoms
    below = place.floor()
    upper = probabilities * (place - below)
    index = below.long()
    shared = torch.zeros_like(probabilities).scatter_add(1, index, probabilities - upper)
    return shared.scatter_add(1, (index + 1).clamp(max=last), upper)


def categorical_loss(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(logits)), whose gradient is the cross-entropy's (Bellemare et al. 2017, algorithm 1).

    The target's entropy is taken off, so that 0 means a perfect prediction: the priority of Hessel et al. 2018.

    Args:
        logits: [B, K].
        target: probabilities [B, K].

    Returns:
        [B].
    """
    return (torch.special.xlogy(target, target) - target * logits.log_softmax(dim=1)).sum(dim=1)


def midpoints(count: int) -> Tensor:
    """(2 i + 1) / 2N for i < N: the fractions whose quantiles fit best (Dabney et al. 2018a, lemma 2): [N]."""
    return (torch.arange(count) + 0.5) / count


def quantile_huber_loss(quantiles: Tensor, taus: Tensor, target: Tensor) -> Tensor:
    """sum_i mean_j |tau_i - 1{u_ij < 0}| Huber(u_ij), u_ij = target_j - quantile_i (Dabney et al. 2018a, eq. 10).

    Huber's threshold is 1. Equation 3 of Dabney et al. 2018b is the same sum for drawn fractions.

    Args:
        quantiles: [B, N].
        taus: [N] or [B, N], the fractions they stand for.
        target: [B, M], without gradient.

    Returns:
        [B].
    """
    error = target[:, None, :] - quantiles[:, :, None]  # [B, N, M]
    size = error.abs()
    huber = torch.where(size <= 1, 0.5 * error.square(), size - 0.5)
    weight = (taus[..., None] - (error < 0).float()).abs()  # [N, 1] or [B, N, 1] against [B, N, M]
    return (weight * huber).mean(dim=2).sum(dim=1)
