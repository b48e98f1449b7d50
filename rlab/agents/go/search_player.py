"""A network and a search as a player of Go, and as one who explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from rlab.agents.go.analysis import Analysis, Candidate
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.tree_game import GoGame
from rlab.agents.search import Evaluate, Gumbel, Puct, Result, best_line, search
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import RESIGN

Decide = Literal["visits", "policy", "value"]
CHUNK, LEAVES = 64, 8
"""Of an analysis: simulations between two looks at the clock, and leaves that are evaluated together."""


class SearchPlayer:
    """Plays the best move of a search; with no simulations the network's most probable one.

    Args:
        name: as it stands in tables.
        evaluator: the network, or whatever says as much of a position.
        visits: simulations of a move.
        rule: of the search; without chance of its own, so that a game and a key decide a move.
        leaves: of one game that are evaluated together.
        resign: gives up when it thinks its chance to win is smaller; 0: never.
        temperature: of the moves' visits, drawn instead of the best one, for the first `opening` moves of a game.
        opening: see temperature.
        decide: which move a search has found: the one that it says (of `Puct` the most visited), the most probable one
            before it, or of those that were visited the one with the highest mean value.

    Attributes:
        home: size of the boards that its network learned on; None if that is not known.
    """

    home: int | None = None

    def __init__(
        self,
        name: str,
        evaluator: Evaluate,
        visits: int,
        rule: Puct | Gumbel | None = None,
        leaves: int = 1,
        resign: float = 0.0,
        temperature: float = 0.0,
        opening: int = 0,
        decide: Decide = "visits",
    ):
        self.name = name
        self.evaluator = evaluator
        self.visits = visits
        rule = rule or Puct()
        self.rule = replace(rule, noise=0.0, forced=0.0) if isinstance(rule, Puct) else replace(rule, scale=0.0)
        self.leaves = leaves
        self.resign = resign
        self.temperature, self.opening = temperature, opening
        self.decide = decide
        self._game: GoGame | None = None

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `rlab.envs.go.players.Player`."""
        if self._game is None or self._game.setting != boards.setting:
            self._game = GoGame(boards.setting, max(64, len(rows) * self.leaves))
        here = Boards(len(rows), boards.setting, threads=1)
        here.copy(np.arange(len(rows)), boards, rows)
        budget = np.full(len(rows), self.visits)
        found = search(self._game, here, self.evaluator, budget, keys, self.rule, leaves=self.leaves)
        moves = found.action if self.visits else found.policy.argmax(1)
        if self.decide == "policy":
            moves = found.prior.argmax(1)
        elif self.decide == "value" and self.visits:
            moves = np.where(found.visits > 0, found.q, -np.inf).argmax(1)
        drawn = (here.made < self.opening) & (self.temperature > 0)
        for k in np.flatnonzero(drawn):
            weights = found.policy[k].astype(np.float64) ** (1 / self.temperature)
            chance = np.random.Generator(np.random.Philox(key=int(keys[k]))).random()
            moves[k] = int(np.searchsorted(np.cumsum(weights / weights.sum()), chance, side="right"))
        if self.resign:
            moves = np.where(found.value < 2 * self.resign - 1, RESIGN, moves)
        return moves.astype(np.int64)

    def analyse(self, boards: Boards, row: int, visits: int, stop: Callable[[], bool]) -> Iterator[Analysis]:
        """See `rlab.agents.go.analysis.Analyst`: a search that goes on in one tree."""
        game, here = GoGame(boards.setting, CHUNK), Boards(1, boards.setting, threads=1)
        here.copy([0], boards, [row])
        rule = self.rule if isinstance(self.rule, Puct) else Puct()
        key, tree, done = np.zeros(1, np.uint64), None, 0
        while True:
            some = max(0, min(CHUNK, visits - done))
            found = search(game, here, self.evaluator, np.array([some]), key + np.uint64(done), rule, tree, LEAVES)
            tree, done = found.tree, done + some
            yield _analysis(found)
            if done >= visits or stop():
                return

    def close(self) -> None:
        """Nothing is held open."""


def _analysis(found: Result) -> Analysis:
    """What a search of one game says."""
    visits, prior = found.visits[0], found.prior[0]
    order = sorted(np.flatnonzero(prior > 0).tolist(), key=lambda a: (-int(visits[a]), -float(prior[a])))
    shown = [a for a in order if visits[a]] or order[:1]
    candidates = tuple(
        Candidate(a, int(visits[a]), (1 + float(found.q[0, a])) / 2, None, float(prior[a]),
                  tuple(best_line(found.tree, 0, a)))
        for a in shown
    )  # fmt: skip
    return Analysis(int(visits.sum()), (1 + float(found.value[0])) / 2, None, candidates)


class NetworkPolicy:
    """A network as a policy of observations, without search; what `rlab watch` and `rlab.load` play with.

    Args:
        network: planes -> policy.
    """

    def __init__(self, network: GoNetwork):
        self.network = network

    def policy(self, seed: int) -> NetworkPolicy:
        """Itself: nothing is drawn."""
        return self

    def act(
        self, obs: NDArray[np.float32], first: NDArray[np.bool_], mask: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """The most probable legal move [N] of planes obs [N, C, n, n]."""
        device = next(self.network.parameters()).device
        was = self.network.training
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(obs).to(device)).policy.cpu().numpy()
        self.network.train(was)
        best: NDArray[np.int64] = np.where(True if mask is None else mask, logits, -np.inf).argmax(1)
        return best
