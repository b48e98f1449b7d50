# mypy: allow-untyped-defs
"""Trees of many games as arrays, and the compiled loops that walk and grow them.

Game g's nodes are numbered as they come, 0 is its root. All that is known of an edge stands at its upper node, so a
node is looked at in one place: `[game, node, action]`. Values are of -1 to 1 and from the side of the player to move at
the node; players alternate, so a value changes its sign at every edge.

Games know nothing of each other: neither their number nor the threads that share them change a tree. Every loop is over
games (or rows) lo .. hi-1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.agents.search.selection import gumbel_policy, jit, mixed_value, select_inside, select_root

NONE = -1
"""Of `Tree.children`: the edge leads to nothing yet. Below it: to a leaf of this round, which is being evaluated."""


class Tree(NamedTuple):
    """Search trees of G games, with room for N nodes each and A actions at every node.

    Shapes and kinds of the fields: prior, value_sum float32 [G, N, A]; visits, children int32 [G, N, A]; raw_value
    float32 [G, N]; node_visits int32 [G, N]; ended bool [G, N]; size int32 [G].
    """

    prior: NDArray[np.float32]
    """[G, N, A]: probabilities; 0 where an action is not legal."""
    visits: NDArray[np.int32]
    """[G, N, A]: of an edge."""
    value_sum: NDArray[np.float32]
    """[G, N, A]: sum of the values of an edge's visits."""
    children: NDArray[np.int32]
    """[G, N, A]: the node below, or `NONE`."""
    raw_value: NDArray[np.float32]
    """[G, N]: the network's value of the node, or the rules' at an end."""
    node_visits: NDArray[np.int32]
    """[G, N]: visits of all its edges."""
    ended: NDArray[np.bool_]
    """[G, N]: the game is over there."""
    size: NDArray[np.int32]
    """[G]: nodes so far."""


class Simulations(NamedTuple):
    """A round of simulations: of G games L paths each, from the root to a leaf, of at most D actions.

    Shapes and kinds of the fields: done int64 [G]; actions, nodes int32 [G, L, D]; length, leaf int32 [G, L]; row
    int64 [G, L].
    """

    done: NDArray[np.int64]
    """[G]: simulations of earlier rounds."""
    actions: NDArray[np.int32]
    """[G, L, D]: of a path."""
    nodes: NDArray[np.int32]
    """[G, L, D]: the nodes at which they were chosen."""
    length: NDArray[np.int32]
    """[G, L]: of a path; -1: nothing is to be done."""
    leaf: NDArray[np.int32]
    """[G, L]: a node that was met again, NONE for a new leaf, or NONE - 1 - k if it is that of path k."""
    row: NDArray[np.int64]
    """[G, L]: where a new leaf stands among those that were evaluated."""


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


def make_simulations(games: int, paths: int, deepest: int) -> Simulations:
    """The arrays of a round, with nothing done yet."""
    return Simulations(
        np.zeros(games, np.int64),
        np.zeros((games, paths, deepest), np.int32),
        np.zeros((games, paths, deepest), np.int32),
        np.zeros((games, paths), np.int32),
        np.zeros((games, paths), np.int32),
        np.zeros((games, paths), np.int64),
    )


# ---- A round: down to leaves, and back.


@jit
def simulate(tree, rule, budget, sims, lo, hi):
    """Walk from the roots to as many leaves each as `sims` has paths, by a rule of `selection.SELECTIONS`.

    Edges on the way are given a visit that was lost, until `expand_and_backup` corrects its value.
    """
    scratch = np.empty(tree.prior.shape[2], np.float64)
    for g in range(lo, hi):
        for k in range(sims.length.shape[1]):
            sims.length[g, k] = -1
            if sims.done[g] + k >= budget[g] or tree.ended[g, 0]:
                continue
            node, depth = 0, 0
            while True:
                if node == 0:
                    a = select_root(rule, tree, g, sims.done[g] + k, scratch)
                else:
                    a = select_inside(rule, tree, g, node, scratch)
                sims.actions[g, k, depth] = a
                sims.nodes[g, k, depth] = node
                depth += 1
                tree.visits[g, node, a] += 1
                tree.value_sum[g, node, a] -= np.float32(1)
                tree.node_visits[g, node] += 1
                below = tree.children[g, node, a]
                if below <= NONE:
                    sims.leaf[g, k] = below
                    if below == NONE:
                        tree.children[g, node, a] = NONE - 1 - k
                    break
                if tree.ended[g, below]:
                    sims.leaf[g, k] = below
                    break
                if depth == sims.actions.shape[2]:  # the deepest path there is room for: its last node is met again
                    sims.leaf[g, k] = below
                    break
                node = below
            sims.length[g, k] = depth


@jit
def add_node(tree, g, node, prior, value, ended):
    """Write a new node: its prior [A] (1 in sum over what is legal), its value, and whether the game is over there."""
    for a in range(len(prior)):
        tree.prior[g, node, a] = np.float32(0) if ended else prior[a]
        tree.visits[g, node, a] = 0
        tree.value_sum[g, node, a] = 0
        tree.children[g, node, a] = NONE
    tree.raw_value[g, node] = value
    tree.node_visits[g, node] = 0
    tree.ended[g, node] = ended


@jit
def expand_and_backup(tree, sims, priors, values, ended, lo, hi):
    """Make nodes of the new leaves and add the values of all leaves to the edges above them.

    Args:
        tree, sims: after `simulate`.
        priors, values, ended: [K, A], [K], [K] of the new leaves, see `Simulations.row`.
        lo, hi: games.
    """
    for g in range(lo, hi):
        for k in range(sims.length.shape[1]):
            depth = sims.length[g, k]
            if depth < 0:
                continue
            sims.done[g] += 1
            above, a = sims.nodes[g, k, depth - 1], sims.actions[g, k, depth - 1]
            if sims.leaf[g, k] == NONE:
                node = tree.size[g]
                tree.size[g] = node + 1
                tree.children[g, above, a] = node
                row = sims.row[g, k]
                add_node(tree, g, node, priors[row], values[row], ended[row])
            else:  # met before, in this round (then its edge has the number by now) or in an earlier one
                node = tree.children[g, above, a]
            value = tree.raw_value[g, node]
            for d in range(depth - 1, -1, -1):
                value = -value
                tree.value_sum[g, sims.nodes[g, k, d], sims.actions[g, k, d]] += np.float32(1) + value


@jit
def masked_softmax(logits, legal, out, lo, hi):
    """Softmax of logits [K, A] over legal [K, A] -> out [K, A]; a legal action keeps a trace of probability."""
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


# ---- What a search says of the roots; rows of games that are over stay as they are.


@jit
def root_q_values(tree, q_values, lo, hi):
    """Write q_values [G, A] of the roots' legal actions: mean values, and where there was no visit the mixed value."""
    for g in range(lo, hi):
        if tree.ended[g, 0]:
            continue
        mixed = mixed_value(tree, g, 0)
        for a in range(tree.prior.shape[2]):
            if tree.prior[g, 0, a] > 0:
                n = tree.visits[g, 0, a]
                q_values[g, a] = tree.value_sum[g, 0, a] / n if n > 0 else mixed


@jit
def root_gumbel_policy(tree, rule, policy, action, lo, hi):
    """Write the improved policy [G, A] and the best action [G] of the roots, see `selection.gumbel_policy`."""
    scratch = np.empty(tree.prior.shape[2], np.float64)
    for g in range(lo, hi):
        if not tree.ended[g, 0]:
            action[g] = gumbel_policy(rule, tree, g, scratch, policy[g])


# ---- The tree goes on with the game.


@jit
def reroot(tree, action, lo, hi):
    """Make what lies below action [G] the tree; after -1, or an edge that leads nowhere, the tree is empty.

    Nodes keep their order, and the new number of one is never above its old one, so all is done in place.
    """
    new = np.empty(tree.prior.shape[1], np.int32)
    for g in range(lo, hi):
        root = tree.children[g, 0, action[g]] if action[g] >= 0 and tree.size[g] > 0 else NONE
        if root < 0:
            tree.size[g] = 0
            continue
        for node in range(tree.size[g]):
            new[node] = NONE
        new[root] = 0
        n = 1
        for node in range(root, tree.size[g]):  # a node comes after the one above it
            if new[node] >= 0:
                for a in range(tree.children.shape[2]):
                    if tree.children[g, node, a] >= 0:
                        new[tree.children[g, node, a]] = 0  # a number comes when its turn does
        for node in range(root + 1, tree.size[g]):
            if new[node] >= 0:
                new[node] = n
                n += 1
        for node in range(root, tree.size[g]):
            to = new[node]
            if to < 0:
                continue
            for a in range(tree.children.shape[2]):
                tree.prior[g, to, a] = tree.prior[g, node, a]
                tree.visits[g, to, a] = tree.visits[g, node, a]
                tree.value_sum[g, to, a] = tree.value_sum[g, node, a]
                below = tree.children[g, node, a]
                tree.children[g, to, a] = new[below] if below >= 0 else NONE
            tree.raw_value[g, to] = tree.raw_value[g, node]
            tree.node_visits[g, to] = tree.node_visits[g, node]
            tree.ended[g, to] = tree.ended[g, node]
        tree.size[g] = n
