"""How agents explore. Schedules read how far the run is, by `AgentContext.place`."""

from __future__ import annotations

import numpy as np


def linear(start: float, end: float, done: float, over: float) -> float:
    """Move linearly from `start` to `end` while `done` goes from 0 to `over`, then stay."""
    if done >= over:
        return end
    return start + (end - start) * done / over


def epsilon_greedy(
    greedy: np.ndarray, epsilon: float, mask: np.ndarray | None, num_actions: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace each environment's action by a random allowed one with probability epsilon, independently.

    Args:
        greedy: int64[N].
        epsilon: probability of a random action.
        mask: bool[N, A] of allowed actions, or None.
        num_actions: A.
        rng: advanced by the same number of draws whatever comes out.

    Returns:
        int64[N].
    """
    n = len(greedy)
    random = rng.random(n) < epsilon
    if mask is None:
        other = rng.integers(0, num_actions, n)
    else:
        other = np.where(mask, rng.random((n, num_actions)), -1.0).argmax(axis=1)
    return np.where(random, other, greedy)
