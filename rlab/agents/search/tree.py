# mypy: allow-untyped-defs
"""Trees of many games as arrays, and the kernels that walk and grow them. What is chosen by which rule: `mcts`.

Game g's nodes are numbered as they come, 0 is its root. All that is said of an edge stands at its upper node, so a node
is looked at in one place: `[game, node, action]`. Values are of -1 to 1 and from the side of the player to move at the
node; players alternate, so a value changes its sign at every edge.

Rows (games) know nothing of each other: neither their number nor the threads that share them change a tree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.kernels import compiled

NONE = -1
"""Of `Tree.child`: the edge leads to nothing yet. Below it: to a leaf of this round, which is being evaluated."""
PUCT, GUMBEL = 0, 1
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
jit = compiled(**OPTIONS)
_LOW = np.float32(-1e9)


class Tree(NamedTuple):
    """Of G games, N nodes each and A actions."""

    prior: NDArray[np.float32]
    """[G, N, A]: probabilities; 0 where an action is not legal."""
    visits: NDArray[np.int32]
    """[G, N, A]: of an edge."""
    total: NDArray[np.float32]
    """[G, N, A]: sum of the values of an edge's visits."""
    child: NDArray[np.int32]
    """[G, N, A]: the node below."""
    raw: NDArray[np.float32]
    """[G, N]: what the network, or the rules at an end, said of the node."""
    node_visits: NDArray[np.int32]
    """[G, N]: visits of all its edges."""
    ended: NDArray[np.bool_]
    """[G, N]: the game is over there."""
    size: NDArray[np.int32]
    """[G]: nodes so far."""


def make_tree(games: int, nodes: int, actions: int) -> Tree:
    """Empty trees."""
    return Tree(
        np.zeros((games, nodes, actions), np.float32),
        np.zeros((games, nodes, actions), np.int32),
        np.zeros((games, nodes, actions), np.float32),
        np.full((games, nodes, actions), NONE, np.int32),
        np.zeros((games, nodes), np.float32),
        np.zeros((games, nodes), np.int32),
        np.zeros((games, nodes), np.bool_),
        np.zeros(games, np.int32),
    )


# ---- What is thought of the edges of a node.


@jit
def mixed_value(prior, visits, total, raw):
    """The value of edges that were not visited: between the network's and that of those which were.

    (raw + sum N * sum over visited (p q) / sum over visited p) / (1 + sum N): Danihelka et al. 2022, equation 33.
    """
    n, p_sum, q_sum = 0, 0.0, 0.0
    for a in range(len(prior)):
        if visits[a] > 0:
            p = max(prior[a], np.float32(1e-30))
            n += visits[a]
            p_sum += p
            q_sum += p * total[a] / visits[a]
    return (raw + n * q_sum / p_sum) / (1 + n) if n else float(raw)


@jit
def completed(prior, visits, total, raw, value_scale, visit_init, out):
    """Write sigma(completed q) [A]: values rescaled to 0..1, times (visit_init + most visits) * value_scale.

    Danihelka et al. 2022, equation 8, with the rescaling and the constants of their experiments.
    """
    mix = mixed_value(prior, visits, total, raw)
    low, high, most = np.inf, -np.inf, 0
    for a in range(len(prior)):
        q = total[a] / visits[a] if visits[a] > 0 else mix
        out[a] = q
        low, high, most = min(low, q), max(high, q), max(most, visits[a])
    scale = (visit_init + most) * value_scale / max(high - low, 1e-8)
    for a in range(len(prior)):
        out[a] = (out[a] - low) * scale


@jit
def choose_puct(prior, visits, total, raw, count, c_init, c_base, fpu, forced):
    """The edge with the most q + c(n) p sqrt(n) / (1 + visits) (Silver et al. 2017; c(n) as in Silver et al. 2018).

    An edge without visits has the value of the node so far, less fpu * sqrt(sum of the visited edges' p) (Wu 2019).
    With `forced` an edge that was visited less than sqrt(forced p n) comes first (Wu 2019, section 3.2).
    """
    value, seen = float(raw), 0.0
    for a in range(len(prior)):
        if visits[a] > 0:
            value += total[a]
            seen += prior[a]
    unvisited = value / (1 + count) - fpu * np.sqrt(seen)
    u = (np.log((1 + count + c_base) / c_base) + c_init) * np.sqrt(max(1, count))
    best, chosen = -np.inf, -1
    for a in range(len(prior)):
        p = prior[a]
        if p > 0:
            n = visits[a]
            score = (total[a] / n if n > 0 else unvisited) + u * p / (1 + n)
            if forced > 0 and 0 < n < np.sqrt(forced * p * count):
                score = np.inf
            if score > best:
                best, chosen = score, a
    return chosen


@jit
def choose_inside(prior, visits, total, raw, count, value_scale, visit_init, scratch):
    """The edge whose visits lag most behind the improved policy (Danihelka et al. 2022, equation 14).

    That policy is p exp(sigma(completed q)), normalised.
    """
    completed(prior, visits, total, raw, value_scale, visit_init, scratch)
    top = -np.inf
    for a in range(len(prior)):
        if prior[a] > 0:
            top = max(top, scratch[a])
    sum_ = 0.0
    for a in range(len(prior)):
        scratch[a] = prior[a] * np.exp(scratch[a] - top) if prior[a] > 0 else 0.0
        sum_ += scratch[a]
    best, chosen = -np.inf, -1
    for a in range(len(prior)):
        if prior[a] > 0:
            score = scratch[a] / sum_ - visits[a] / (1 + count)
            if score > best:
                best, chosen = score, a
    return chosen


@jit
def choose_at_root(prior, visits, total, raw, base, considered, value_scale, visit_init, scratch):
    """Of the edges with `considered` visits that with the most base + sigma(completed q); base is Gumbel + log p."""
    completed(prior, visits, total, raw, value_scale, visit_init, scratch)
    best, chosen = -np.inf, -1
    for a in range(len(prior)):
        if prior[a] > 0 and visits[a] == considered:
            score = max(float(_LOW), base[a] + scratch[a])
            if score > best:
                best, chosen = score, a
    return chosen


# ---- A round: down to leaves, and back.


@jit
def descend_rows(
    prior, visits, total, child, raw, count, ended, size, rule, numbers, base, plan, done, budget, path, nodes, length,
    found, scratch, lo, hi,
):  # fmt: skip
    """From the roots of games lo .. hi-1 to as many leaves each as `length` [G, L] has places.

    Writes path and nodes [G, L, D] (actions, and the nodes they were chosen at), length (of the path; -1: nothing is to
    be done) and found [G, L]: an ended node that was met again, NONE for a new leaf, or NONE - 1 - k if it is that of
    place k. Edges on the way are given a visit that was lost, until `attach_rows` says what it was worth.
    """
    c_init, c_base, fpu, forced = numbers[0], numbers[1], numbers[2], numbers[3]
    for g in range(lo, hi):
        for k in range(length.shape[1]):
            length[g, k] = -1
            if done[g] + k >= budget[g] or ended[g, 0]:
                continue
            node, depth = 0, 0
            while True:
                p, n, t, r = prior[g, node], visits[g, node], total[g, node], raw[g, node]
                if rule == PUCT:
                    a = choose_puct(p, n, t, r, count[g, node], c_init, c_base, fpu if node or not numbers[4] else 0.0,
                                    forced if node == 0 else 0.0)  # fmt: skip
                elif node == 0:
                    a = choose_at_root(p, n, t, r, base[g], plan[g, done[g] + k], c_init, c_base, scratch)
                    if a < 0:  # more leaves at once than the halving had room for
                        a = choose_inside(p, n, t, r, count[g, node], c_init, c_base, scratch)
                else:
                    a = choose_inside(p, n, t, r, count[g, node], c_init, c_base, scratch)
                path[g, k, depth] = a
                nodes[g, k, depth] = node
                depth += 1
                visits[g, node, a] += 1
                total[g, node, a] -= np.float32(1)
                count[g, node] += 1
                below = child[g, node, a]
                if below <= NONE:
                    found[g, k] = below
                    if below == NONE:
                        child[g, node, a] = NONE - 1 - k
                    break
                if ended[g, below]:
                    found[g, k] = below
                    break
                if depth == path.shape[2]:  # the deepest path there is room for: its last node is looked at again
                    found[g, k] = below
                    break
                node = below
            length[g, k] = depth


@jit
def set_node(prior, visits, total, child, raw, count, ended, g, node, p, v, over):
    """A new node, of which p [A] (1 in sum over what is legal), the value v and whether the game is over are known."""
    for a in range(len(p)):
        prior[g, node, a] = np.float32(0) if over else p[a]
        visits[g, node, a] = 0
        total[g, node, a] = 0
        child[g, node, a] = NONE
    raw[g, node] = v
    count[g, node] = 0
    ended[g, node] = over


@jit
def attach_rows(
    prior, visits, total, child, raw, count, ended, size, done, path, nodes, length, found, place, p, v, over, lo, hi
):  # fmt: skip
    """Make nodes of the new leaves and tell the edges above what all leaves were worth.

    Args of leaves: place [G, L], where a new one stands in p [K, A], v [K] and over [K].
    """
    for g in range(lo, hi):
        for k in range(length.shape[1]):
            depth = length[g, k]
            if depth < 0:
                continue
            done[g] += 1
            above, a = nodes[g, k, depth - 1], path[g, k, depth - 1]
            if found[g, k] == NONE:
                node = size[g]
                size[g] = node + 1
                child[g, above, a] = node
                at = place[g, k]
                set_node(prior, visits, total, child, raw, count, ended, g, node, p[at], v[at], over[at])
            else:  # met before, in this round (then its edge says where by now) or in an earlier one
                node = child[g, above, a]
            value = raw[g, node]
            for d in range(depth - 1, -1, -1):
                value = -value
                total[g, nodes[g, k, d], path[g, k, d]] += np.float32(1) + value


@jit
def priors_rows(logits, legal, out, lo, hi):
    """Softmax of rows lo .. hi-1 of logits [K, A] over legal [K, A] -> out [K, A]; no legal action is left without a
    trace of it."""
    for k in range(lo, hi):
        top = -np.inf
        for a in range(logits.shape[1]):
            if legal[k, a]:
                top = max(top, logits[k, a])
        sum_ = 0.0
        for a in range(logits.shape[1]):
            out[k, a] = max(np.exp(logits[k, a] - top), np.float32(1e-12)) if legal[k, a] else np.float32(0)
            sum_ += out[k, a]
        for a in range(logits.shape[1]):
            out[k, a] = np.float32(out[k, a] / sum_)


@jit
def result_rows(prior, visits, total, raw, ended, base, value_scale, visit_init, q, policy, action, scratch, lo, hi):
    """What is known of the roots of games lo .. hi-1 (arrays [G, A], [G]): q, and what Gumbel's rule makes of it.

    Writes q [G, A], the improved policy [G, A] and the action [G]: of the most visited ones that with the most base +
    sigma(completed q).
    """
    for g in range(lo, hi):
        if ended[g]:
            continue
        mix = mixed_value(prior[g], visits[g], total[g], raw[g])
        for a in range(prior.shape[1]):
            if prior[g, a] > 0:
                q[g, a] = total[g, a] / visits[g, a] if visits[g, a] > 0 else mix
        completed(prior[g], visits[g], total[g], raw[g], value_scale, visit_init, scratch)
        top, most = -np.inf, 0
        for a in range(prior.shape[1]):
            if prior[g, a] > 0:
                top, most = max(top, np.log(prior[g, a]) + scratch[a]), max(most, visits[g, a])
        sum_, best = 0.0, -np.inf
        for a in range(prior.shape[1]):
            if prior[g, a] > 0:
                sum_ += np.exp(np.log(prior[g, a]) + scratch[a] - top)
                if visits[g, a] == most and max(float(_LOW), base[g, a] + scratch[a]) > best:
                    best, action[g] = max(float(_LOW), base[g, a] + scratch[a]), a
        for a in range(prior.shape[1]):
            policy[g, a] = np.exp(np.log(prior[g, a]) + scratch[a] - top) / sum_ if prior[g, a] > 0 else 0.0


# ---- The tree goes on with the game.


@jit
def reroot_rows(prior, visits, total, child, raw, count, ended, size, action, new, lo, hi):
    """What lies below action [G] becomes the tree; -1, or an edge that leads nowhere: the tree is empty then.

    Nodes keep their order, and the new number of one is never above its old one, so all is done in place. `new` is
    int32 [N] to note numbers in.
    """
    for g in range(lo, hi):
        root = child[g, 0, action[g]] if action[g] >= 0 and size[g] > 0 else NONE
        if root < 0:
            size[g] = 0
            continue
        for node in range(size[g]):
            new[node] = NONE
        new[root] = 0
        n = 1
        for node in range(root, size[g]):  # a node comes after the one above it
            if new[node] >= 0:
                for a in range(child.shape[2]):
                    if child[g, node, a] >= 0:
                        new[child[g, node, a]] = 0  # a number comes when its turn does
        for node in range(root + 1, size[g]):
            if new[node] >= 0:
                new[node] = n
                n += 1
        for node in range(root, size[g]):
            to = new[node]
            if to < 0:
                continue
            for a in range(child.shape[2]):
                prior[g, to, a] = prior[g, node, a]
                visits[g, to, a] = visits[g, node, a]
                total[g, to, a] = total[g, node, a]
                below = child[g, node, a]
                child[g, to, a] = new[below] if below >= 0 else NONE
            raw[g, to] = raw[g, node]
            count[g, to] = count[g, node]
            ended[g, to] = ended[g, node]
        size[g] = n
