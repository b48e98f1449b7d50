"""Targets of value learning: one pure function an equation."""

from __future__ import annotations

import torch
from torch import Tensor

FORBIDDEN = torch.finfo(torch.float32).min
"""Stands for the value of an action that must not be taken."""


def masked(q: Tensor, mask: Tensor | None) -> Tensor:
    """q[B, A] with forbidden actions at the lowest value; mask[B, A] is True where an action is allowed."""
    return q if mask is None else torch.where(mask, q, FORBIDDEN)


def next_value(q_target: Tensor, mask: Tensor | None) -> Tensor:
    """max_a Q_target(s', a) over allowed actions (Watkins 1989; Mnih et al. 2015, algorithm 1).

    Args:
        q_target: [B, A], the target network's values of the successor.
        mask: bool[B, A] or None.

    Returns:
        [B].
    """
    return masked(q_target, mask).amax(dim=1)


def double_next_value(q_target: Tensor, q_online: Tensor, mask: Tensor | None) -> Tensor:
    """Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, eq. 4).

    Args:
        q_target: [B, A], the target network's values of the successor.
        q_online: [B, A], the online network's values of it.
        mask: bool[B, A] or None.

    Returns:
        [B].
    """
    best = masked(q_online, mask).argmax(dim=1, keepdim=True)
    return q_target.gather(1, best).squeeze(1)


def bootstrap(reward: Tensor, discount: Tensor, value: Tensor) -> Tensor:
    """r + discount * V(s'): the n-step target when `reward` and `discount` span n steps (Sutton & Barto 2018, 7.1).

    All are [B]. Where the discount is 0 the value does not count, whatever it is.
    """
    return reward + torch.where(discount == 0, torch.zeros_like(value), discount * value)
