"""Exact dynamic programming: the values of a policy and the best values of a finite MDP, from its table.

The environment's own table is all they read; what an agent has learned is compared with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from rlab.envs.tabular import MDP
from rlab.errors import RlabError

Values = NDArray[np.float64]

SWEEPS = 1_000_000
"""Sweeps after which value iteration gives up."""


def action_values(mdp: MDP, v: Values, gamma: float) -> Values:
    """q(s, a) = sum over outcomes of p (r + gamma v(s')), with v(s') = 0 where the episode is over.

    Sutton & Barto 2018, eq. 4.6.

    Args:
        mdp: S states, A actions.
        v: values of the states, [S].
        gamma: discount per step.

    Returns:
        [S, A].
    """
    after = np.where(mdp.terminated, 0.0, v[mdp.next_state])
    q: Values = (mdp.probability * (mdp.reward + gamma * after)).sum(axis=-1)
    return q


def greedy_policy(q: Values) -> Values:
    """Each state's best actions [S, A], equally likely where several are exactly as good."""
    best = q == q.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)


def epsilon_greedy_policy(q: Values, epsilon: float) -> Values:
    """pi(a | s) = epsilon / A + (1 - epsilon) greedy(a | s), [S, A]; Sutton & Barto 2018, section 5.4."""
    return epsilon / q.shape[1] + (1 - epsilon) * greedy_policy(q)


def policy_evaluation(mdp: MDP, policy: Values, gamma: float) -> Values:
    """v of a policy, from the linear system (I - gamma P_pi) v = r_pi (Sutton & Barto 2018, eq. 4.4).

    Args:
        mdp: S states, A actions.
        policy: pi(a | s), [S, A].
        gamma: discount per step; 1 only if the policy ends from everywhere.

    Returns:
        [S].

    Raises:
        RlabError: gamma is outside 0..1, the policy is no policy, or with gamma = 1 it never ends.
    """
    _check_gamma(gamma)
    if policy.shape != (mdp.states, mdp.actions) or not np.allclose(policy.sum(axis=1), 1) or (policy < 0).any():
        raise RlabError(f"a policy of '{mdp.name}' is probabilities [{mdp.states}, {mdp.actions}] that add up to 1")
    weight = policy[:, :, None] * mdp.probability
    rewards = (weight * mdp.reward).sum(axis=(1, 2))
    goes_on = (weight * ~mdp.terminated).reshape(mdp.states, -1)
    rows, columns = np.nonzero(goes_on)
    after = mdp.next_state.reshape(mdp.states, -1)[rows, columns]
    ones = np.arange(mdp.states)
    entries = np.concatenate([np.ones(mdp.states), -gamma * goes_on[rows, columns]])
    shape = (mdp.states, mdp.states)
    system = csc_array((entries, (np.concatenate([ones, rows]), np.concatenate([ones, after]))), shape)
    try:
        v: Values = splu(system).solve(rewards)
    except RuntimeError:  # what scipy says of a singular matrix
        v = np.full(mdp.states, np.nan)
    # Nearly singular is singular: then the residual, or the size of the values, tells.
    if not np.isfinite(v).all() or np.abs(system @ v - rewards).max() > 1e-6 * max(1.0, np.abs(rewards).max()):
        raise RlabError(f"this policy never ends in '{mdp.name}', so it has no values with gamma {gamma:g}; use 0.99")
    return v


def value_iteration(mdp: MDP, gamma: float, tolerance: float = 1e-10) -> Values:
    """q* by sweeps of q(s, a) <- sum p (r + gamma max q(s', .)) (Sutton & Barto 2018, section 4.4).

    Args:
        mdp: S states, A actions.
        gamma: discount per step.
        tolerance: how far the result may be from q* (with gamma = 1: how little the last sweep changed).

    Returns:
        [S, A].

    Raises:
        RlabError: gamma is outside 0..1, or the values grow without end.
    """
    _check_gamma(gamma)
    v = np.zeros(mdp.states)
    enough = tolerance if gamma == 1 else tolerance * (1 - gamma) / max(gamma, 1e-12)
    for _ in range(SWEEPS):
        better = action_values(mdp, v, gamma).max(axis=1)
        change = np.abs(better - v).max()
        v = better
        # Near large values a sweep cannot settle closer than rounding.
        if change <= max(enough, 4 * np.finfo(float).eps * np.abs(v).max()):
            return action_values(mdp, v, gamma)
    raise RlabError(f"value iteration of '{mdp.name}' with gamma {gamma:g} did not settle; use 0.99")


def policy_iteration(mdp: MDP, gamma: float) -> tuple[Values, NDArray[np.int64]]:
    """q* and an optimal policy by evaluating and improving in turn (Sutton & Barto 2018, section 4.3).

    Returns:
        (q* [S, A], best action of each state int64[S]).

    Raises:
        RlabError: gamma is outside 0..1, or with gamma = 1 a policy on the way never ends.
    """
    states = np.arange(mdp.states)
    policy = action_values(mdp, np.zeros(mdp.states), gamma).argmax(axis=1)
    while True:
        q = action_values(mdp, policy_evaluation(mdp, np.eye(mdp.actions)[policy], gamma), gamma)
        # An action is only changed for a better one, beyond rounding, so this ends.
        better = q.max(axis=1) > q[states, policy] + 1e-10 * np.maximum(1.0, np.abs(q).max(axis=1))
        if not better.any():
            return q, policy
        policy = np.where(better, q.argmax(axis=1), policy)


def _check_gamma(gamma: float) -> None:
    if not 0 <= gamma <= 1:
        raise RlabError(f"gamma is {gamma}; it must lie between 0 and 1")
