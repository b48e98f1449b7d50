"""Search of many games in lockstep: of every game a leaf (or some), then one batch of the network for all of them.

Two rules say which way a tree grows. `Puct` is AlphaZero's, with KataGo's forced playouts; `Gumbel` draws some actions
without replacement and halves them by what they prove to be worth, which improves on a policy with any number of
simulations (Danihelka et al. 2022, "Policy improvement by planning with Gumbel"). Both are data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlab.agents.search import tree as kernels
from rlab.agents.search.selection import GumbelSelection, PuctSelection
from rlab.agents.search.tree import NONE, Simulations, Tree, make_simulations, make_tree
from rlab.envs.splitmix import GAMMA, mix, split
from rlab.errors import RlabError
from rlab.kernels import THREADS

Floats = NDArray[np.float32]
DEEPEST = 512
"""Moves that a path may have."""


class LeafBatch(NamedTuple):
    """Positions that a search has come to.

    Attributes:
        legal: bool [K, A].
        ended: bool [K]: the game is over.
        value: float32 [K]: of the ended ones, for the player to move, -1 to 1.
        positions: whatever `Evaluate` knows how to read; position k belongs to row k.
    """

    legal: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    value: Floats
    positions: Any


class Game(Protocol):
    """The rules, as a search needs them."""

    actions: int
    """A."""

    def step(
        self, states: Any, rows: NDArray[np.int64], paths: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> LeafBatch:
        """Where actions paths [K, :lengths[k]] lead to from states rows [K]; the states stay as they are."""


Evaluate = Callable[[Any, NDArray[np.int64], NDArray[np.uint64]], tuple[Floats, Floats]]
"""(`LeafBatch.positions`, which of them [J], an RNG key for each [J]) -> logits [J, A] and values [J] in -1 .. 1 for
the player to move. What it says of a position must not depend on the others."""


@dataclass(frozen=True)
class Puct:
    """AlphaZero's rule.

    Attributes:
        c_init, c_base: c(n) = log((1 + n + c_base) / c_base) + c_init.
        fpu: how much less an edge without visits is thought worth than its node, times sqrt(visited p).
        noise: part of the root's policy that is Dirichlet noise; an edge without visits has no `fpu` there then.
        concentration: the noise's alpha times the number of legal actions.
        forced: at the root an edge, once visited, has at least sqrt(forced p n) visits; those are taken off `policy`.
    """

    c_init: float = 1.25
    c_base: float = 19_652.0
    fpu: float = 0.2
    noise: float = 0.0
    concentration: float = 10.0
    forced: float = 0.0


@dataclass(frozen=True)
class Gumbel:
    """Danihelka's rule: sequential halving at the root, an improved policy below.

    Attributes:
        considered: actions that are drawn at the root at the most.
        scale: of the Gumbel noise; 0: the most probable actions, and nothing is drawn.
        value_scale, visit_init: sigma(q) = (visit_init + most visits) * value_scale * q, with q rescaled to 0 .. 1.
    """

    considered: int = 16
    scale: float = 1.0
    value_scale: float = 0.1
    visit_init: float = 50.0


@dataclass(frozen=True)
class Result:
    """What a search says of B games.

    Attributes:
        action: int64 [B]: the best one; -1 where the game is over.
        policy: float32 [B, A]: the improved policy, which a network may learn: of `Puct` the part of visits, of
            `Gumbel` softmax(log p + sigma(completed q)).
        visits: int32 [B, A].
        q: float32 [B, A]: mean values, for the player to move; where there was no visit, what is expected there.
        value: float32 [B]: of the root, for the player to move.
        raw: float32 [B]: the network's value of it.
        prior: float32 [B, A]: the network's policy (with noise, if there was any).
        tree: all of it; give it to the next search, after `advance_root`.
    """

    action: NDArray[np.int64]
    policy: Floats
    visits: NDArray[np.int32]
    q: Floats
    value: Floats
    raw: Floats
    prior: Floats
    tree: Tree


def search(
    game: Game,
    states: Any,
    evaluate: Evaluate,
    budget: NDArray[np.integer[Any]],
    keys: NDArray[np.uint64],
    rule: Puct | Gumbel | None = None,
    tree: Tree | None = None,
    leaves: int = 1,
) -> Result:
    """Search B games.

    Args:
        game: the rules.
        states: what `game.step` starts from; row b is game b.
        evaluate: the network.
        budget: simulations [B] of each game; 0: only the network is asked.
        keys: RNG keys [B]. What is found of a game depends on its state, budget and key, not on other rows.
        rule: `Gumbel` if None.
        tree: what earlier searches know of these very states (see `advance_root`); its visits do not count as budget.
            Gumbel's halving starts from nothing and takes none.
        leaves: of one game that are evaluated together; 1 is exact, more are faster where games are few.

    Raises:
        RlabError: a number that makes no sense.
    """
    rule = rule or Gumbel()
    budgets = np.ascontiguousarray(budget, np.int64)
    games, actions = len(budgets), game.actions
    if budgets.min(initial=0) < 0 or leaves < 1 or len(keys) != games:
        raise RlabError(f"a search of {games} games needs budgets of 0 or more, as many keys, and at least one leaf")
    if tree is not None and isinstance(rule, Gumbel):
        raise RlabError("a Gumbel search starts from an empty tree; nearest: Puct")
    most = int(budgets.max(initial=0))
    tree = _room(tree, games, most + 1, actions)
    sims = make_simulations(games, leaves, min(most + 1 + int(tree.size.max(initial=0)), DEEPEST))
    root_keys = keys.astype(np.uint64)

    fresh = np.flatnonzero(tree.size == 0)
    _plant(game, states, evaluate, tree, fresh, root_keys)
    selection = _selection(rule, tree, budgets, keys, most)
    for round_ in range(-(-most // leaves)):
        THREADS.share(lambda lo, hi: kernels.simulate(tree, selection, budgets, sims, lo, hi), games)
        if (sims.length < 0).all():
            break
        at, path = np.nonzero((sims.length >= 0) & (sims.leaf == NONE))
        new = game.step(states, at, sims.actions[at, path], sims.length[at, path])
        rng_keys = root_keys[at] + GAMMA * (round_ * leaves + path + 1).astype(np.uint64)
        priors, values = _ask(evaluate, new, rng_keys)
        sims.row[at, path] = np.arange(len(at))
        _expand(tree, sims, priors, values, new.ended)
    return _result(rule, tree, selection)


def advance_root(tree: Tree, actions: NDArray[np.int64]) -> Tree:
    """What a tree knows after actions [B] (-1: forget the game), in place."""
    chosen = np.ascontiguousarray(actions, np.int64)
    kernels.reroot(tree, chosen, 0, len(chosen))
    return tree


def best_line(tree: Tree, game: int, action: int, most: int = 12) -> list[int]:
    """Actions from the root on, `action` first, the most visited ones after it."""
    line, node = [action], int(tree.children[game, 0, action])
    while node >= 0 and len(line) < most and tree.node_visits[game, node]:
        chosen = int(tree.visits[game, node].argmax())
        line.append(chosen)
        node = int(tree.children[game, node, chosen])
    return line


def _expand(tree: Tree, sims: Simulations, priors: Floats, values: Floats, ended: NDArray[np.bool_]) -> None:
    kernel = kernels.expand_and_backup
    THREADS.share(lambda lo, hi: kernel(tree, sims, priors, values, ended, lo, hi), len(sims.done))


def _room(tree: Tree | None, games: int, more: int, actions: int) -> Tree:
    """A tree with room for so many more nodes."""
    if tree is None:
        return make_tree(games, more, actions)
    if tree.prior.shape[0] != games or tree.prior.shape[2] != actions:
        raise RlabError(f"a tree of {tree.prior.shape[0]} games was given for {games}")
    lack = int(tree.size.max(initial=0)) + more - tree.prior.shape[1]
    if lack <= 0:
        return tree
    wider = make_tree(games, tree.prior.shape[1] + lack, actions)
    nodes = tree.prior.shape[1]
    for name, part in tree._asdict().items():
        if name != "size":
            getattr(wider, name)[:, :nodes] = part
    wider.size[:] = tree.size
    return wider


def _ask(evaluate: Evaluate, leaves: LeafBatch, rng_keys: NDArray[np.uint64]) -> tuple[Floats, Floats]:
    """Policies [K, A] and values [K] of leaves; the network is asked only of those where the game goes on."""
    (alive,) = np.nonzero(~leaves.ended)
    priors = np.zeros(leaves.legal.shape, np.float32)
    values = leaves.value.astype(np.float32)
    if len(alive):
        logits, outputs = evaluate(leaves.positions, alive, rng_keys[alive])
        legal, some = leaves.legal[alive], np.empty((len(alive), logits.shape[1]), np.float32)
        THREADS.share(lambda lo, hi: kernels.masked_softmax(logits, legal, some, lo, hi), len(alive))
        priors[alive] = some
        values[alive] = outputs
    return priors, values


def _plant(
    game: Game, states: Any, evaluate: Evaluate, tree: Tree, rows: NDArray[np.int64], root_keys: NDArray[np.uint64]
) -> None:
    """Give games that have no tree a root."""
    if not len(rows):
        return
    start = game.step(states, rows, np.zeros((len(rows), 1), np.int32), np.zeros(len(rows), np.int32))
    priors, values = _ask(evaluate, start, root_keys[rows])
    tree.prior[rows, 0] = priors
    tree.visits[rows, 0] = 0
    tree.value_sum[rows, 0] = 0
    tree.children[rows, 0] = NONE
    tree.raw_value[rows, 0] = values
    tree.node_visits[rows, 0] = 0
    tree.ended[rows, 0] = start.ended
    tree.size[rows] = 1


def _selection(
    rule: Puct | Gumbel, tree: Tree, budget: NDArray[np.int64], keys: NDArray[np.uint64], most: int
) -> PuctSelection | GumbelSelection:
    """The rule as the compiled loop reads it; PUCT's noise is mixed into the roots' priors, Gumbel's is drawn."""
    prior = tree.prior[:, 0]
    if isinstance(rule, Puct):
        if rule.noise:
            for g, key in enumerate(keys):
                legal = np.flatnonzero(prior[g] > 0)
                if len(legal):
                    alpha = np.full(len(legal), rule.concentration / len(legal))
                    drawn = np.random.Generator(np.random.Philox(key=int(key))).dirichlet(alpha)
                    prior[g, legal] = (1 - rule.noise) * prior[g, legal] + rule.noise * drawn
        fpu = float(rule.fpu)
        return PuctSelection(
            float(rule.c_init), float(rule.c_base), fpu, 0.0 if rule.noise > 0 else fpu, float(rule.forced)
        )
    considered = np.zeros((len(budget), max(most, 1)), np.int32)
    score = np.zeros(prior.shape, np.float32)
    with np.errstate(divide="ignore"):
        score[:] = np.log(prior)
    if rule.scale:
        score += rule.scale * _gumbel(keys, prior.shape[1])
    actions = np.minimum(rule.considered, (prior > 0).sum(1))
    kinds, of = np.unique(np.stack((actions, budget)), axis=1, return_inverse=True)
    for kind, (n, number) in enumerate(kinds.T.tolist()):
        visits = considered_visits(n, number)
        considered[of.ravel() == kind, : len(visits)] = visits
    score -= np.where(np.isfinite(score), score, -np.inf).max(1, initial=-1e9, keepdims=True)
    return GumbelSelection(float(rule.value_scale), float(rule.visit_init), score, considered)


def _gumbel(keys: NDArray[np.uint64], actions: int) -> NDArray[np.float64]:
    """Gumbel's noise [B, A]: -log(-log u), u drawn by each game's RNG key."""
    children = split(mix(keys.astype(np.uint64))[:, None], np.arange(1, actions + 1))
    u = ((children >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: NDArray[np.float64] = -np.log(-np.log(u))
    return noise


@lru_cache(4096)
def considered_visits(actions: int, simulations: int) -> tuple[int, ...]:
    """How many visits an action must have to be the next one, for each simulation: sequential halving.

    Rounds of simulations / ceil(log2 actions) each; in every one all actions that are left get the same number of
    visits, then the better half of them goes on, two at the least (Karnin et al. 2013; Danihelka et al. 2022, fig. 1).
    """
    if actions <= 1:
        return tuple(range(simulations))
    rounds, left = math.ceil(math.log2(actions)), actions
    visits, asked = [0] * actions, list[int]()
    while len(asked) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            asked += visits[:left]
            for a in range(left):
                visits[a] += 1
        left = max(2, left // 2)
    return tuple(asked[:simulations])


def _result(rule: Puct | Gumbel, tree: Tree, selection: PuctSelection | GumbelSelection) -> Result:
    prior, visits, raw = tree.prior[:, 0].copy(), tree.visits[:, 0].copy(), tree.raw_value[:, 0].copy()
    games, actions = prior.shape
    ended = tree.ended[:, 0]
    q, policy, action = np.zeros_like(prior), np.zeros_like(prior), np.full(games, -1, np.int64)
    THREADS.share(lambda lo, hi: kernels.root_q_values(tree, q, lo, hi), games)
    if isinstance(rule, Gumbel):
        THREADS.share(lambda lo, hi: kernels.root_gumbel_policy(tree, selection, policy, action, lo, hi), games)
    else:
        counted = visits.astype(np.float32)
        if rule.forced:
            for g in np.flatnonzero(~ended):
                counted[g] = _unforced(rule, prior[g], visits[g], q[g])
        sums = counted.sum(1, keepdims=True)
        policy = np.where(sums > 0, counted / np.maximum(sums, 1), prior)
        best = np.where((prior > 0) & (visits == visits.max(1, keepdims=True)), prior, -1)
        action = np.where(ended, -1, actions - 1 - best[:, ::-1].argmax(1))  # the last one of those alike
    value = ((raw + tree.value_sum[:, 0].sum(1)) / (1 + tree.node_visits[:, 0])).astype(np.float32)
    return Result(action, policy, visits, q, value, raw, prior, tree)


def _unforced(rule: Puct, prior: Floats, visits: NDArray[np.int32], q: Floats) -> Floats:
    """Visits without those that only `forced` gave: off each but the most visited edge up to sqrt(forced p n).

    As long as its score stays below that of the most visited one; of single visits nothing is left (Wu 2019, section
    3.2, "policy target pruning").
    """
    n = visits.sum()
    best = int(visits.argmax())
    u = (math.log((1 + n + rule.c_base) / rule.c_base) + rule.c_init) * math.sqrt(max(1, n)) * prior
    top = q[best] + u[best] / (1 + visits[best])
    counted = visits.astype(np.float32)
    for a in np.flatnonzero(visits):
        if a == best:
            continue
        spare = math.ceil(math.sqrt(rule.forced * prior[a] * n))
        needed = u[a] / (top - q[a]) - 1 if top > q[a] else np.inf  # visits at which it would be as good as the best
        counted[a] = max(visits[a] - spare, min(visits[a], math.ceil(needed))) if needed < visits[a] else visits[a]
        if counted[a] <= 1:
            counted[a] = 0
    return counted
