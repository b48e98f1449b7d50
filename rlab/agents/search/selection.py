# mypy: allow-untyped-defs
"""Which edge of a node a simulation takes: AlphaZero's PUCT and Gumbel AlphaZero's rules, compiled.

A rule is a NamedTuple of its numbers and two functions, one for the root and one for all nodes below (`SELECTIONS`).
`select_root` and `select_inside` stand for them in a compiled loop: the type of the rule it is called with decides,
when the loop is compiled, which functions it contains. A function as an argument would do the same, but numba cannot
keep such a loop on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from rlab.kernels import compiled

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
jit = compiled(**OPTIONS)
_LOW = np.float32(-1e9)


class PuctSelection(NamedTuple):
    """The numbers of `Puct`, as the compiled loop reads them."""

    c_init: float
    c_base: float
    fpu: float
    root_fpu: float
    forced: float


class GumbelSelection(NamedTuple):
    """The numbers of `Gumbel`, and what was drawn for the roots of G games."""

    value_scale: float
    visit_init: float
    root_score: NDArray[np.float32]
    """[G, A]: Gumbel noise + log prior."""
    considered_visits: NDArray[np.int32]
    """[G, S]: the visits that the action of each simulation must have, see `mcts.considered_visits`."""


# ---- Values.


@jit
def mixed_value(tree, game, node):
    """The value of edges that were not visited: between the network's and that of those which were.

    (raw + sum N * sum over visited (p q) / sum over visited p) / (1 + sum N): Danihelka et al. 2022, equation 33.
    """
    n, p_sum, q_sum = 0, 0.0, 0.0
    for a in range(tree.prior.shape[2]):
        if tree.visits[game, node, a] > 0:
            p = max(tree.prior[game, node, a], np.float32(1e-30))
            n += tree.visits[game, node, a]
            p_sum += p
            q_sum += p * tree.value_sum[game, node, a] / tree.visits[game, node, a]
    return (tree.raw_value[game, node] + n * q_sum / p_sum) / (1 + n) if n else float(tree.raw_value[game, node])


@jit
def transform_completed_q(tree, game, node, value_scale, visit_init, out):
    """Write sigma(completed q) [A]: values rescaled to 0..1, times (visit_init + most visits) * value_scale.

    Danihelka et al. 2022, equation 8, with the rescaling and the constants of their experiments.
    """
    mixed = mixed_value(tree, game, node)
    low, high, most = np.inf, -np.inf, 0
    for a in range(tree.prior.shape[2]):
        q = tree.value_sum[game, node, a] / tree.visits[game, node, a] if tree.visits[game, node, a] > 0 else mixed
        out[a] = q
        low, high, most = min(low, q), max(high, q), max(most, tree.visits[game, node, a])
    scale = (visit_init + most) * value_scale / max(high - low, 1e-8)
    for a in range(tree.prior.shape[2]):
        out[a] = (out[a] - low) * scale


# ---- PUCT.


@jit
def _puct(tree, game, node, c_init, c_base, fpu, forced):
    """The edge with the most q + c(n) p sqrt(n) / (1 + visits) (Silver et al. 2017; c(n) as in Silver et al. 2018).

    An edge without visits has the value of the node so far, less fpu * sqrt(sum of the visited edges' p) (Wu 2019).
    With `forced` an edge that was visited less than sqrt(forced p n) comes first (Wu 2019, section 3.2).
    """
    value, visited = float(tree.raw_value[game, node]), 0.0
    for a in range(tree.prior.shape[2]):
        if tree.visits[game, node, a] > 0:
            value += tree.value_sum[game, node, a]
            visited += tree.prior[game, node, a]
    total = tree.node_visits[game, node]
    unvisited = value / (1 + total) - fpu * np.sqrt(visited)
    u = (np.log((1 + total + c_base) / c_base) + c_init) * np.sqrt(max(1, total))
    best, chosen = -np.inf, -1
    for a in range(tree.prior.shape[2]):
        p = tree.prior[game, node, a]
        if p > 0:
            n = tree.visits[game, node, a]
            score = (tree.value_sum[game, node, a] / n if n > 0 else unvisited) + u * p / (1 + n)
            if forced > 0 and 0 < n < np.sqrt(forced * p * total):
                score = np.inf
            if score > best:
                best, chosen = score, a
    return chosen


@jit
def puct_root(rule, tree, game, simulation, scratch):
    """PUCT with the root's own value of unvisited edges, and with forced playouts."""
    return _puct(tree, game, 0, rule.c_init, rule.c_base, rule.root_fpu, rule.forced)


@jit
def puct_inside(rule, tree, game, node, scratch):
    """PUCT as it is below the root."""
    return _puct(tree, game, node, rule.c_init, rule.c_base, rule.fpu, 0.0)


# ---- Gumbel.


@jit
def gumbel_root(rule, tree, game, simulation, scratch):
    """Of the edges with the simulation's considered visits that with the most root score + sigma(completed q)."""
    transform_completed_q(tree, game, 0, rule.value_scale, rule.visit_init, scratch)
    best, chosen = -np.inf, -1
    for a in range(tree.prior.shape[2]):
        if tree.prior[game, 0, a] > 0 and tree.visits[game, 0, a] == rule.considered_visits[game, simulation]:
            score = max(float(_LOW), rule.root_score[game, a] + scratch[a])
            if score > best:
                best, chosen = score, a
    if chosen < 0:  # more leaves at once than the halving had room for
        return gumbel_inside(rule, tree, game, 0, scratch)
    return chosen


@jit
def gumbel_inside(rule, tree, game, node, scratch):
    """The edge whose visits lag most behind the improved policy (Danihelka et al. 2022, equation 14).

    That policy is p exp(sigma(completed q)), normalised.
    """
    transform_completed_q(tree, game, node, rule.value_scale, rule.visit_init, scratch)
    top = -np.inf
    for a in range(tree.prior.shape[2]):
        if tree.prior[game, node, a] > 0:
            top = max(top, scratch[a])
    sum_ = 0.0
    for a in range(tree.prior.shape[2]):
        scratch[a] = tree.prior[game, node, a] * np.exp(scratch[a] - top) if tree.prior[game, node, a] > 0 else 0.0
        sum_ += scratch[a]
    best, chosen = -np.inf, -1
    for a in range(tree.prior.shape[2]):
        if tree.prior[game, node, a] > 0:
            score = scratch[a] / sum_ - tree.visits[game, node, a] / (1 + tree.node_visits[game, node])
            if score > best:
                best, chosen = score, a
    return chosen


@jit
def gumbel_policy(rule, tree, game, scratch, policy):
    """Write the root's improved policy [A] and return the best action.

    The policy is softmax(log p + sigma(completed q)); the action is, of the most visited ones, that with the most root
    score + sigma(completed q).
    """
    transform_completed_q(tree, game, 0, rule.value_scale, rule.visit_init, scratch)
    actions = tree.prior.shape[2]
    top, most = -np.inf, 0
    for a in range(actions):
        if tree.prior[game, 0, a] > 0:
            top, most = max(top, np.log(tree.prior[game, 0, a]) + scratch[a]), max(most, tree.visits[game, 0, a])
    sum_, best, chosen = 0.0, -np.inf, -1
    for a in range(actions):
        if tree.prior[game, 0, a] > 0:
            sum_ += np.exp(np.log(tree.prior[game, 0, a]) + scratch[a] - top)
            score = max(float(_LOW), rule.root_score[game, a] + scratch[a])
            if tree.visits[game, 0, a] == most and score > best:
                best, chosen = score, a
    for a in range(actions):
        policy[a] = (
            np.exp(np.log(tree.prior[game, 0, a]) + scratch[a] - top) / sum_ if tree.prior[game, 0, a] > 0 else 0.0
        )
    return chosen


# ---- A rule's functions, as a compiled loop calls them.

SELECTIONS: dict[type, tuple[Callable[..., int], Callable[..., int]]] = {
    PuctSelection: (puct_root, puct_inside),
    GumbelSelection: (gumbel_root, gumbel_inside),
}


def select_root(rule, tree, game, simulation, scratch):
    """The action that simulation number `simulation` of a game takes at its root; for compiled loops only.

    Args:
        rule: a key of `SELECTIONS`.
        tree: `Tree`.
        game, simulation: numbers.
        scratch: float64 [A], overwritten.
    """
    raise NotImplementedError


def select_inside(rule, tree, game, node, scratch):
    """The action that a simulation takes at a node below the root; for compiled loops only, see `select_root`."""
    raise NotImplementedError


@overload(select_root)
def _select_root(rule, tree, game, simulation, scratch):
    select = SELECTIONS[rule.instance_class][0]

    def impl(rule, tree, game, simulation, scratch):
        return select(rule, tree, game, simulation, scratch)

    return impl


@overload(select_inside)
def _select_inside(rule, tree, game, node, scratch):
    select = SELECTIONS[rule.instance_class][1]

    def impl(rule, tree, game, node, scratch):
        return select(rule, tree, game, node, scratch)

    return impl
