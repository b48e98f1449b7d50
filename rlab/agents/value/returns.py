"""Targets of value learning: one pure function an equation."""

from __future__ import annotations

import numpy as np
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

    All have one shape, or `value` has one axis more, quantiles of the return. Where the discount is 0 the value does
    not count, whatever it is.
    """
    if value.ndim > reward.ndim:
        reward, discount = reward.unsqueeze(-1), discount.unsqueeze(-1)
    return reward + torch.where(discount == 0, torch.zeros_like(value), discount * value)


def log_policy(q: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """log pi, pi = softmax(q / temperature) over allowed actions; 0 for a forbidden one (Vieillard et al. 2020).

    Args:
        q: [B, A].
        temperature: tau.
        mask: bool[B, A] or None.

    Returns:
        [B, A]; a forbidden action counts with probability 0 in `soft_value`, whatever stands here.
    """
    if mask is None:
        return (q / temperature).log_softmax(dim=1)
    # A row without any allowed action must not become NaN: it stands for the end of a game.
    allowed = mask | ~mask.any(dim=1, keepdim=True)
    log_pi = torch.where(allowed, q / temperature, -torch.inf).log_softmax(dim=1)
    return torch.where(allowed, log_pi, torch.zeros_like(log_pi))


def soft_value(values: Tensor, log_pi: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """sum_a pi(a) (q(a) - tau log pi(a)), the bootstrap value of Munchausen DQN (Vieillard et al. 2020, section 2).

    Args:
        values: [B, A], or [B, A, K]: quantile by quantile.
        log_pi: [B, A], of `log_policy`.
        temperature: tau.
        mask: bool[B, A] or None.

    Returns:
        [B] or [B, K].
    """
    pi = log_pi.exp()
    if mask is not None:
        pi = torch.where(mask, pi, torch.zeros_like(pi))
    bonus = temperature * log_pi
    if values.ndim == 3:
        pi, bonus = pi.unsqueeze(2), bonus.unsqueeze(2)
    return (pi * (values - bonus)).sum(dim=1)


def munchausen_reward(log_pi: Tensor, action: Tensor, alpha: float, temperature: float, clip: float) -> Tensor:
    """alpha [tau log pi(a|s)] clipped to [l0, 0], added to the reward (Vieillard et al. 2020, section 2): [B].

    Args:
        log_pi: [B, A], of the target network's values of the state itself.
        action: int64[B].
        alpha: weight.
        temperature: tau.
        clip: l0.
    """
    chosen = log_pi.gather(1, action.unsqueeze(1)).squeeze(1)
    return alpha * (temperature * chosen).clamp(clip, 0)


def lambda_returns(
    reward: np.ndarray, discount: np.ndarray, last: np.ndarray, next_value: np.ndarray, lam: float
) -> np.ndarray:
    """G_t = r_t + discount_t [(1 - lam) V(s_t+1) + lam G_t+1], backwards through a rollout.

    With V = max_a Q this is Peng's Q(lambda) (Peng & Williams 1996), as in Gallici et al. 2024, section 3. Where the
    stream breaks (`last`) and at the rollout's end, the next return is not there and V stands alone.

    Args:
        reward: [T, N].
        discount: [T, N], gamma times the step's discount.
        last: bool[T, N].
        next_value: [T, N], V of the true successor.
        lam: 0 is the one-step target, 1 sums rewards to the end.

    Returns:
        float32[T, N].
    """
    returns = np.empty_like(reward, np.float32)
    following = next_value[-1]
    for t in reversed(range(len(reward))):
        mixed = np.where(last[t], next_value[t], (1 - lam) * next_value[t] + lam * following)
        returns[t] = following = reward[t] + np.where(discount[t] == 0, 0, discount[t] * mixed)
    return returns


def discounted_returns(reward: Tensor, discount: Tensor, last: Tensor, bootstrap: Tensor | None = None) -> Tensor:
    """G_t = r_t + discount_t * G_{t+1}: the reward to go (Williams 1992; Sutton & Barto 2018, 13.3).

    Args:
        reward: [T, N], N streams of T steps.
        discount: [T, N], gamma times a step's discount: 0 where bootstrapping stops.
        last: bool[T, N], the stream breaks after this step (terminated or truncated).
        bootstrap: [T, N], V of what each step led to, taken where the stream breaks or the rollout ends;
            None: 0, as without a value function.

    Returns:
        [T, N].
    """
    returns = torch.zeros_like(reward)
    follow = torch.zeros_like(reward[0]) if bootstrap is None else bootstrap[-1]
    for t in range(len(reward) - 1, -1, -1):
        end = torch.zeros_like(follow) if bootstrap is None else bootstrap[t]
        follow = reward[t] + discount[t] * torch.where(last[t], end, follow)
        returns[t] = follow
    return returns


def gae(
    reward: Tensor, discount: Tensor, last: Tensor, value: Tensor, next_value: Tensor, trace_decay: float
) -> Tensor:
    """A_t = sum_k (lambda * discount)^k delta_{t+k} (Schulman et al. 2016, eq. 16; delta is their eq. 10).

    delta_t = r_t + discount_t * V(s'_t) - V(s_t). The sum ends where `last` breaks the stream and where a discount
    is 0. Lambda = 0 leaves the one-step error of an actor-critic (Sutton & Barto 2018, 13.5), 1 the Monte-Carlo
    return less the value.

    Args:
        reward: [T, N], N streams of T steps.
        discount: [T, N], gamma times a step's discount: 0 where bootstrapping stops.
        last: bool[T, N], the stream breaks after this step (terminated or truncated).
        value: [T, N], V(s_t).
        next_value: [T, N], V of what each step led to: of the final observation at a break, never of a reset one.
        trace_decay: lambda.

    Returns:
        [T, N].
    """
    delta = bootstrap(reward, discount, next_value) - value
    decay = trace_decay * discount * ~last
    advantage = torch.zeros_like(reward)
    follow = torch.zeros_like(reward[0])
    for t in range(len(reward) - 1, -1, -1):
        follow = delta[t] + decay[t] * follow
        advantage[t] = follow
    return advantage
