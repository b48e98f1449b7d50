"""Many copies of a finite MDP, stepped as arrays by compiled code: tens of millions of steps a second on one core.

Each copy has its own random numbers, one word of `rlab.envs.splitmix`, so that the state of everything is a few arrays,
and what copy i does does not depend on how many others there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.splitmix import uniform
from rlab.envs.tabular import MDP
from rlab.kernels import compiled


class Model(NamedTuple):
    """An `MDP` as the compiled code reads it. The sums along the last axis end in exactly 1."""

    chances: NDArray[np.float64]  # [S, A, K], running sums of the probabilities
    next_state: NDArray[np.int64]  # [S, A, K]
    reward: NDArray[np.float64]  # [S, A, K]
    terminated: NDArray[np.bool_]  # [S, A, K]
    start: NDArray[np.float64]  # [S], running sums
    limit: int  # steps of an episode at the most; 0: no limit


class Now(NamedTuple):
    """Where N copies stand; changed in place."""

    state: NDArray[np.int64]  # [N]
    steps: NDArray[np.int64]  # [N], of the present episode
    random: NDArray[np.uint64]  # [N], words of SplitMix64


def compile_model(mdp: MDP, limit: int = 0, exploring_starts: bool = False) -> Model:
    """An MDP for the compiled code.

    Args:
        mdp: the process.
        limit: truncates episodes in place of the MDP's own limit; 0: leave that.
        exploring_starts: begin each episode in any reachable state, all equally likely.
    """
    start = mdp.reachable() / mdp.reachable().sum() if exploring_starts else mdp.start
    return Model(
        _running(mdp.probability), mdp.next_state, mdp.reward, mdp.terminated, _running(start), limit or mdp.limit
    )


def begin(model: Model, num_copies: int, seed: int) -> Now:
    """N copies at the start of an episode; the same seed gives the same copies."""
    words = np.random.SeedSequence(seed).generate_state(num_copies, np.uint64).astype(np.uint64)
    now = Now(np.zeros(num_copies, np.int64), np.zeros(num_copies, np.int64), words)
    for i in range(num_copies):
        restart(model, now, i)
    return now


def _running(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.cumsum(probability, axis=-1)
    last = probability.shape[-1] - 1 - (probability[..., ::-1] > 0).argmax(axis=-1)  # the last that can happen
    sums[np.arange(probability.shape[-1]) >= last[..., None]] = 1.0  # rounding must not leave a gap below 1
    return sums


@compiled()
def restart(model: Any, now: Any, i: int) -> None:
    """Begin an episode of copy i."""
    u, low, high = uniform(now.random, i), 0, model.start.shape[0] - 1
    while low < high:  # the first state whose running sum is above u
        middle = (low + high) // 2
        if u >= model.start[middle]:
            low = middle + 1
        else:
            high = middle
    now.state[i], now.steps[i] = low, 0


@compiled()
def advance(model: Any, now: Any, i: int, action: int) -> Any:
    """Take one step of copy i; an episode that ends is not restarted.

    Returns:
        (next state, reward, terminated, truncated).
    """
    # No slices here: a view costs more than the step.
    s, u, k = now.state[i], uniform(now.random, i), 0
    while u >= model.chances[s, action, k]:
        k += 1
    now.state[i] = model.next_state[s, action, k]
    now.steps[i] += 1
    over = model.terminated[s, action, k]
    cut = (not over) and model.limit > 0 and now.steps[i] >= model.limit
    return now.state[i], model.reward[s, action, k], over, cut


@compiled()
def step_all(model: Any, now: Any, actions: Any) -> Any:
    """Take one step of every copy; those that end restart in the same step (SAME_STEP).

    Args:
        model: what `compile_model` returned.
        now: N copies, changed in place.
        actions: int64[N].

    Returns:
        (states int64[N], rewards float64[N], terminated bool[N], truncated bool[N], final states int64[N]: what the
        actions led to, never the state of a restart).
    """
    n = now.state.shape[0]
    reward, over, cut = np.empty(n), np.empty(n, np.bool_), np.empty(n, np.bool_)
    final = np.empty(n, np.int64)
    for i in range(n):
        final[i], reward[i], over[i], cut[i] = advance(model, now, i, actions[i])
        if over[i] or cut[i]:
            restart(model, now, i)
    return now.state.copy(), reward, over, cut, final
