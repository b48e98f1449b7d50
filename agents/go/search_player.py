"""A network and a search as a player of Go, and as one who explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.go.network import Evaluator
from agents.go.tree_game import GoGame
from agents.search import Gumbel, Puct, search
from envs.go.boards import Boards
from envs.go.players import RESIGN


class SearchPlayer:
    """Plays the best move of a search; with no simulations the network's most probable one.

    Args:
        name: as it stands in tables.
        evaluator: the network.
        visits: simulations of a move.
        rule: of the search; without chance of its own, so that a game and a key decide a move.
        leaves: of one game that are evaluated together.
        resign: gives up when it thinks its chance to win is smaller; 0: never.
        temperature: of the moves' visits, drawn instead of the best one, for the first `opening` moves of a game.
        opening: see temperature.
    """

    def __init__(
        self,
        name: str,
        evaluator: Evaluator,
        visits: int,
        rule: Puct | Gumbel | None = None,
        leaves: int = 1,
        resign: float = 0.0,
        temperature: float = 0.0,
        opening: int = 0,
    ):
        self.name = name
        self.evaluator = evaluator
        self.visits = visits
        rule = rule or Puct()
        self.rule = replace(rule, noise=0.0, forced=0.0) if isinstance(rule, Puct) else replace(rule, scale=0.0)
        self.leaves = leaves
        self.resign = resign
        self.temperature, self.opening = temperature, opening
        self._game: GoGame | None = None

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `envs.go.players.Player`."""
        if self._game is None or self._game.setting != boards.setting:
            self._game = GoGame(boards.setting, max(64, len(rows) * self.leaves))
        here = Boards(len(rows), boards.setting, threads=1)
        here.copy(np.arange(len(rows)), boards, rows)
        budget = np.full(len(rows), self.visits)
        found = search(self._game, here, self.evaluator, budget, keys, self.rule, leaves=self.leaves)
        moves = found.action if self.visits else found.policy.argmax(1)
        drawn = (here.made < self.opening) & (self.temperature > 0)
        for k in np.flatnonzero(drawn):
            weights = found.policy[k].astype(np.float64) ** (1 / self.temperature)
            chance = np.random.Generator(np.random.Philox(key=int(keys[k]))).random()
            moves[k] = int(np.searchsorted(np.cumsum(weights / weights.sum()), chance, side="right"))
        if self.resign:
            moves = np.where(found.value < 2 * self.resign - 1, RESIGN, moves)
        return moves.astype(np.int64)

    def close(self) -> None:
        """Nothing is held open."""
