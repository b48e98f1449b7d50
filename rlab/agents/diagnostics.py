"""What training health reads of an agent, from a look at its network now and then (see `rlab.run.health`).

A look is one forward of a batch. It uses no random number of the agent's and changes nothing, and comes so rarely
that it costs a few thousandths of the updates between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from rlab.agents.value.returns import FORBIDDEN
from rlab.nn.dead_units import watch

EVERY = 256
"""Updates from one look to the next; a policy gradient, whose updates are few and see all that is new, is looked at
every 32."""

ROWS = 128
"""Observations of a look, at the most."""

ENOUGH = 64
"""Observations without which silence says nothing: units of a healthy network are silent on many of them."""


def due(before: int, after: int, every: int = EVERY) -> bool:
    """Whether a look is due after the updates number `before` (exclusive) to `after`."""
    return before // every != after // every


def value_diagnostics(
    network: nn.Module,
    values: Callable[[], np.ndarray],
    rows: int,
    mask: Tensor | None,
    gamma: float,
    bonus: float = 0.0,
) -> dict[str, float]:
    """Diagnostics of a network that values actions or states.

    Args:
        network: whose units are looked at.
        values: looks at B observations and returns Q[B, A] or V[B, 1] through `network`; [0, 1] if it has no values.
        rows: B, `ROWS` or a little more.
        mask: bool[B, A], True where an action is allowed, or None.
        gamma: discount per step.
        bonus: size of what an agent adds to every reward.

    Returns:
        value_rate: the largest value as the reward at every step that it stands for, (1 - gamma) |Q|, less the bonus.
        action_gap: how far the best action's value lies above the next one's, on average (Bellemare et al. 2016);
            absent where there is no choice.
        dead_units: share of ReLU units that are silent on the whole batch; absent without such units, and if the
            batch is smaller than `ENOUGH`.
    """
    with watch(network) as activity:
        q = values()
    dead = activity.dead()
    diagnostics = {} if dead is None or rows < ENOUGH else {"dead_units": dead}
    allowed = np.ones(q.shape, bool) if mask is None else mask.cpu().numpy()
    if allowed.any():
        diagnostics["value_rate"] = max(0.0, (1 - gamma) * float(np.abs(q[allowed]).max()) - bonus)
    choice = allowed.sum(axis=1) > 1
    if choice.any():
        best = np.sort(np.where(allowed, q, FORBIDDEN)[choice], axis=1)
        diagnostics["action_gap"] = float((best[:, -1] - best[:, -2]).mean())
    return diagnostics


def policy_spread(entropy: float, numbers: int) -> float:
    """How widely a policy still acts: 0 is always the same, whatever the kind of action.

    Args:
        entropy: of the policy, in nats.
        numbers: of a continuous action, K; 0 for a choice among actions.

    Returns:
        The geometric mean of K normal distributions' standard deviations, or the number of actions that are
        effectively chosen from (the entropy's exponential) less one.
    """
    return math.exp(entropy / numbers - 0.5 * math.log(2 * math.pi * math.e)) if numbers else math.expm1(entropy)
