"""A network and a search as a player of Go, and as one who explains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from rlab.agents.go.analysis import Analysis, Avoided, Candidate, without
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.tree_game import GoGame
from rlab.agents.search import Evaluate, Gumbel, LeafBatch, Puct, Result, best_line, search
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import RESIGN
from rlab.envs.go.rules import COUNT, TURN
from rlab.envs.splitmix import GAMMA

Decide = Literal["visits", "policy", "value"]
CHUNK, LEAVES = 64, 8
"""Of an analysis: simulations between two answers at the most, and leaves that are evaluated together."""
ANSWER_SECONDS = 0.1
"""Between two answers of an analysis, unless fewer than `LEAVES` simulations take longer."""
POLL_SECONDS = 0.05
"""Between two looks at the clock."""


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
        self._seconds: dict[int, float] = {}  # size of the board -> what the network takes for a position

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

    def analyse(
        self, boards: Boards, row: int, visits: int, stop: Callable[[], bool], avoided: Sequence[Avoided] = ()
    ) -> Iterator[Analysis]:
        """See `rlab.agents.go.analysis.Analyst`: a search that goes on in one tree.

        How often it answers depends on the machine's speed; what it finds with so many visits does not.
        """
        game, here = GoGame(boards.setting, CHUNK), Boards(1, boards.setting, threads=1)
        here.copy([0], boards, [row])
        rules: Any = _WithoutSome(game, avoided) if avoided else game
        rule = self.rule if isinstance(self.rule, Puct) else Puct()
        evaluate = _Polled(self.evaluator, self._seconds, boards.size)
        key, done, some = np.zeros(1, np.uint64), 0, LEAVES
        found = search(rules, here, evaluate, np.zeros(1, np.int64), key, rule)
        answer = _analysis(found)  # the network's own, to which a stop can always come back
        evaluate.stop = stop
        while done < visits:
            began, some = time.perf_counter(), min(some, visits - done)
            drawn = key + GAMMA * np.array([done], np.uint64)  # as in one search of all visits
            try:
                found = search(rules, here, evaluate, np.array([some]), drawn, rule, found.tree, LEAVES)
            except _StoppedSearch:
                break
            done += some
            answer = _analysis(found)
            yield answer
            if stop():
                return
            seconds = time.perf_counter() - began
            if 2 * seconds < ANSWER_SECONDS:
                some = min(CHUNK, 2 * some)
            elif seconds > ANSWER_SECONDS:
                some = max(LEAVES, some // 2 // LEAVES * LEAVES)
        if not answer.visits:
            yield answer

    def close(self) -> None:
        """Nothing is held open."""


class _StoppedSearch(Exception):
    """The clock has run out in the middle of a round; what the tree holds since the last answer is of no use."""


class _Polled:
    """An evaluator that is asked of a few positions at a time, with a look at the clock between.

    Threads of torch wait for each other, which beside other work takes many times as long as one alone: if a single
    position takes too long, there is only one from then on.

    Args:
        evaluate: the network.
        seconds: size of the board -> what a position took; kept up to date.
        size: of the board.

    Attributes:
        stop: polled; true raises `_StoppedSearch`.
    """

    def __init__(self, evaluate: Evaluate, seconds: dict[int, float], size: int):
        self.evaluate, self.seconds, self.size = evaluate, seconds, size
        self.stop: Callable[[], bool] = lambda: False

    def __call__(
        self, positions: Any, rows: NDArray[np.int64], keys: NDArray[np.uint64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found, done = [], 0
        while done < len(rows):
            if self.stop():
                raise _StoppedSearch
            each = self.seconds.get(self.size, POLL_SECONDS)
            some = slice(done, done + max(1, int(POLL_SECONDS / each)))
            began = time.perf_counter()
            found.append(self.evaluate(positions, rows[some], keys[some]))
            number, now = len(found[-1][1]), time.perf_counter()
            before, self.seconds[self.size] = self.seconds.get(self.size, 0.0), (now - began) / number
            if number == 1 and min(before, now - began) > 2 * POLL_SECONDS:  # the first time may be compiling
                torch.set_num_threads(1)
            done += number
        logits, values = zip(*found, strict=True)
        return np.concatenate(logits), np.concatenate(values)


class _WithoutSome:
    """A game in whose positions some moves are left out; see `rlab.agents.search.Game`."""

    def __init__(self, game: GoGame, avoided: Sequence[Avoided]):
        self.game, self.avoided, self.actions = game, avoided, game.actions

    def step(
        self, states: Boards, rows: NDArray[np.int64], paths: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> LeafBatch:
        leaves = self.game.step(states, rows, paths, lengths)
        turn = self.game.boards.games.cells[: len(rows), COUNT, TURN].astype(np.int64)
        return leaves._replace(legal=without(leaves.legal, turn, lengths.astype(np.int64), self.avoided))


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
