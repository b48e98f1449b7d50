"""AlphaGo's fourth part: a policy so fast that whole games are played by it (Silver et al. 2016, extended table 4).

A linear softmax over local patterns (`rlab.agents.go.alphago.patterns`), learned from game records by their
log-likelihood.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.alphago import patterns as kernels
from rlab.agents.go.alphago.config import GamesConfig, RolloutExperiment
from rlab.agents.go.alphago.patterns import (
    FEATURES,
    FIRST,
    PatternTables,
    PatternView,
    Scratch,
    make_tables,
    make_view,
    worth,
)
from rlab.agents.go.alphago.supervised_policy import read_games
from rlab.envs.go import rules as go
from rlab.envs.go.boards import Boards, Setting
from rlab.errors import RlabError
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.run.folder import RunFolder
from rlab.run.lifecycle import configuration_of, find_checkpoint, of_this_version
from rlab.seeding import derive
from rlab.stats import wilson

Words = NDArray[np.int64]
GAMES = 100
"""Of a step."""
TIMED = 400
"""Games by which a rollout's speed is measured."""


class RolloutPolicy:
    """Patterns, and what they are worth.

    Args:
        squares, responses, shapes: words of patterns, each sorted; see `patterns.make_tables`.
        weights: float64 [rows]; None: all 0.
    """

    def __init__(self, squares: Words, responses: Words, shapes: Words, weights: NDArray[np.float64] | None = None):
        self.squares, self.responses, self.shapes = squares, responses, shapes
        self.tables, self.rows = make_tables(squares, responses, shapes)
        self.weights = np.zeros(len(self.tables.factors)) if weights is None else weights
        if len(self.weights) != FIRST + len(squares) + len(responses) + len(shapes):
            raise RlabError(f"a rollout policy of {len(self.tables.factors)} patterns has {len(self.weights)} weights")

    def scratch(self, size: int) -> Scratch:
        """For `patterns.learn_games` on boards of a size."""
        points, rows = size * size, len(self.weights)
        return Scratch(
            np.zeros((points, FEATURES), np.int64),
            np.zeros(points, np.int64),
            np.zeros(points),
            np.zeros(rows),
            np.zeros(rows + 1, np.int64),
            np.zeros(points * FEATURES + 1, np.int64),
        )

    def features(self, boards: Boards, row: int) -> tuple[dict[int, list[int]], NDArray[np.float64]]:
        """Of a game: point -> numbers of its weights, of every move that the policy knows; and probabilities [n * n].

        A move is known that is legal, no suicide, and fills no own eye.
        """
        scratch = self.scratch(boards.size)
        look(
            Boards(1, boards.setting, threads=1),
            make_view(boards.size),
            self.tables,
            boards,
            row,
            scratch,
            self.weights,
        )
        known = np.flatnonzero(scratch.number)
        return {int(p): scratch.rows[p, : scratch.number[p]].tolist() for p in known}, scratch.score

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        return {
            "squares": self.squares,
            "responses": self.responses,
            "shapes": self.shapes,
            "weights": self.weights.copy(),
        }

    @staticmethod
    def of(arrays: dict[str, Any]) -> RolloutPolicy:
        """What `arrays` says."""
        words = [np.asarray(arrays[name], np.int64) for name in ("squares", "responses", "shapes")]
        return RolloutPolicy(words[0], words[1], words[2], np.array(arrays["weights"], np.float64))


def look(
    work: Boards,
    view: PatternView,
    tables: PatternTables,
    boards: Boards,
    row: int,
    scratch: Scratch,
    weights: NDArray[np.float64],
    key: int = -1,
    greedy: bool = False,
) -> int:
    """Make a game again in work's game 0, and see what there is to say of its moves; with a key, choose one."""
    start, moves = boards.starts[row], np.array([*boards.moves(row), 0], np.int64)
    go.arrange(*work.games, *work.rules, 0, start[:-1], max(1, int(start[-1])))
    return int(kernels.look_row(
        *work.games, *work.rules, view, tables, scratch, moves, len(moves) - 1, weights, np.uint64(max(key, 0)), greedy,
        key < 0,
    ))  # fmt: skip


class Playouts:
    """Games that are played to their ends by a rollout policy.

    Args:
        policy: whose weights as they are now.

    Attributes:
        moves: that were played so far.
    """

    def __init__(self, policy: RolloutPolicy):
        self.policy = policy
        self.tables = worth(policy.tables, policy.rows, policy.weights)
        self.moves = 0
        self._board: Boards | None = None

    def _room(self, setting: Setting) -> Boards:
        if self._board is None or self._board.setting != setting:
            self._board = Boards(1, setting, threads=1)
            self._view = make_view(setting.size)
            self._found = self.policy.scratch(setting.size)
            self._owner = np.empty(setting.size**2, np.uint8)
            self._scratch = np.empty((2, self._board.rules.numbers.shape[1]), np.uint16)
        return self._board

    def outcomes(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Who wins one playout of each game of rows [K]: 1, 0 or -1 for the player to move.

        Each is drawn by its key [K] alone, and the games stay as they are. Of the stones that the last move took, which
        a game does not keep, a playout's first move does not know.
        """
        work, values = self._room(boards.setting), np.empty(len(rows), np.float32)
        self.moves += kernels.outcome_rows(
            *work.games, *boards.games, np.asarray(rows, np.int64), np.asarray(keys, np.uint64), *work.rules,
            self._view, self.tables, boards.setting.komi, self._owner, self._scratch, values,
        )  # fmt: skip
        return values

    def choose(self, boards: Boards, row: int, key: np.uint64, greedy: bool) -> int:
        """A move in a game; it and the key decide."""
        work, weights = self._room(boards.setting), self.policy.weights
        return look(work, self._view, self.tables, boards, row, self._found, weights, int(key), greedy)


class RolloutPlayer:
    """A rollout policy as a player.

    Args:
        name: as it stands in tables.
        policy: whose.
        greedy: play the most probable move, not one that is drawn.
    """

    def __init__(self, name: str, policy: RolloutPolicy, greedy: bool = True):
        self.name, self.greedy = name, greedy
        self._playouts = Playouts(policy)

    def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See `rlab.envs.go.players.Player`."""
        return np.array(
            [self._playouts.choose(boards, int(row), key, self.greedy) for row, key in zip(rows, keys, strict=True)],
            np.int64,
        )

    def close(self) -> None:
        """Nothing is held."""


# ---- Games and patterns.


@dataclass(frozen=True)
class Moves:
    """Games as their moves.

    Attributes:
        name: of the data set.
        setting: of all games.
        moves: int64 [n]: one game after the other.
        splits: name -> games, int64 [g, 2]: where each begins and ends.
    """

    name: str
    setting: Setting
    moves: Words
    splits: dict[str, Words]

    def examples(self, split: str) -> int:
        """Positions of a split."""
        return int(np.diff(self.splits[split], axis=1).sum())


def read_moves(config: GamesConfig) -> Moves:
    """Read a data set of records; see `rlab.agents.go.alphago.supervised_policy.read_games`."""
    games = read_games(config)
    window = games.window
    ply = window.rows["ply"][: window.end]
    ends = np.append(np.flatnonzero(ply == 0)[1:], window.end)
    splits = {}
    for name, rows in games.splits.items():
        starts = np.sort(rows[ply[rows] == 0])
        splits[name] = np.stack([starts, ends[np.searchsorted(ends, starts, side="right")]], 1)
    return Moves(games.name, window.setting, window.rows["move"][: window.end].astype(np.int64), splits)


def find_patterns(moves: Moves, least: int, stop: Stop | None = None) -> RolloutPolicy:
    """A policy of the patterns that were around `least` legal moves of the training games or more; all weights are 0.

    Raises:
        Stopped: a stop was requested.
    """
    size = moves.setting.size
    none = np.zeros(0, np.int64)
    nothing = RolloutPolicy(none, none, none)
    board, view, scratch = Boards(1, moves.setting, threads=1), make_view(size), nothing.scratch(size)
    longest = int(np.diff(moves.splits["train"], axis=1).max(initial=1))
    buffers = [np.empty(longest * most, np.int64) for most in (size * size, kernels.FAR, kernels.MOST_SHAPE)]
    counted = (_Counted(), _Counted(), _Counted())
    for start, end in moves.splits["train"]:
        if stop is not None and stop.requested:
            raise Stopped
        numbers = kernels.patterns_of_game(
            *board.games, *board.rules, view, nothing.tables, scratch, moves.moves, start, end, *buffers
        )
        for one, words, number in zip(counted, buffers, numbers, strict=True):
            one.add(words, number)
    squares, responses, shapes = (one.frequent(least) for one in counted)
    return RolloutPolicy(squares, responses, shapes)


class _Counted:
    """How often each word came."""

    def __init__(self) -> None:
        self.keys, self.numbers = kernels.table_of(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self.held = 0

    def add(self, words: Words, number: int) -> None:
        while 2 * (self.held + number) > len(self.keys):
            there = self.keys >= 0
            keys, numbers = np.full(2 * len(self.keys), -1, np.int64), np.zeros(2 * len(self.keys), np.int64)
            kernels.fill(keys, numbers, self.keys[there], self.numbers[there])
            self.keys, self.numbers = keys, numbers
        self.held += kernels.count(self.keys, self.numbers, words, number)

    def frequent(self, least: int) -> Words:
        return np.sort(self.keys[(self.keys >= 0) & (self.numbers >= least)])


@lru_cache(1)
def gather(config: GamesConfig, least: int) -> tuple[Moves, RolloutPolicy]:
    """Games and the patterns in them; kept, for a run reads them once before it starts and once when it does."""
    moves = read_moves(config)
    return moves, find_patterns(moves, least)


# ---- The run.


class RolloutLearner:
    """The Learner of a rollout policy. Progress counts positions of the records.

    The games are read when they are first needed, so that a run can be opened to play without them.

    Args:
        experiment: the settings.
    """

    def __init__(self, experiment: RolloutExperiment):
        self.experiment, self.fit = experiment, experiment.fit
        self.seed = experiment.run.seed
        self._moves: Moves | None = None
        self._policy: RolloutPolicy | None = None
        self._squares = np.zeros(0)
        self._size = 0
        self.budget = Budget()
        self.chunks = self.done = 0
        """Steps and positions of the whole run so far."""
        self.best: dict[str, Any] | None = None
        """Score, progress and weights of the best validation."""
        self.score: dict[str, Any] = {}
        self.validated = -1
        self._order: tuple[int, Words] = (-1, np.zeros(0, np.int64))

    @property
    def moves(self) -> Moves:
        """The games."""
        if self._moves is None:
            self._moves, policy = gather(self.experiment.data, self.fit.least)
            self._size = self._moves.examples("train")
            self._board = Boards(1, self._moves.setting, threads=1)
            self._view = make_view(self._moves.setting.size)
            if self._policy is None:
                self._take(RolloutPolicy.of(policy.arrays()))
        return self._moves

    @property
    def policy(self) -> RolloutPolicy:
        """What learns."""
        if self._policy is None:
            assert self.moves
        assert self._policy is not None
        return self._policy

    def _take(self, policy: RolloutPolicy) -> None:
        self._policy = policy
        self._squares = np.zeros(len(policy.weights))
        self._scratch = policy.scratch(9 if self._moves is None else self._moves.setting.size)

    def _learn(self, games: Words, rate: float) -> NDArray[np.float64]:
        """See `patterns.learn_games`."""
        sums, moves, policy = np.zeros(5), self.moves, self.policy
        kernels.learn_games(
            *self._board.games, *self._board.rules, self._view, policy.tables, self._scratch, moves.moves, games[:, 0],
            games[:, 1], policy.weights, self._squares, rate, sums,
        )  # fmt: skip
        return sums

    def step(self) -> Metrics:
        """Some games."""
        started = time.perf_counter()
        games = self.moves.splits["train"]
        epoch, number = divmod(self.chunks, -(-len(games) // GAMES))
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng(derive(self.seed, "order", epoch)).permutation(len(games))
        rate = self.fit.learning_rate * (1 - self._place)
        sums = self._learn(games[self._order[1][number * GAMES : (number + 1) * GAMES]], rate)
        self.chunks += 1
        self.done += int(sums[0])
        loss = float(sums[2] / max(sums[1], 1))
        if not math.isfinite(loss):
            raise NonFinite("loss", loss, f"position {self.done:,}")
        return {
            "loss": loss,
            "accuracy": float(sums[3] / sums[0]),
            "learning_rate_last": rate,
            "epoch_last": float(epoch + 1),
            "clock_learn": time.perf_counter() - started,
        }

    @property
    def _place(self) -> float:
        """Where schedules stand, 0..1."""
        horizon = self.budget.horizon(self.fit.epochs) * self._size
        return min(1.0, self.budget.place(self.done, horizon) / horizon)

    # ---- How good it is.

    def evaluate_split(self, split: str, stop: Stop) -> dict[str, Any]:
        """How many per cent of the moves of a split are the most probable one; Wilson's 95 % interval over positions.

        Every move counts, passes too, which the policy makes only where nothing is left.

        Raises:
            Stopped: a stop was requested.
        """
        sums, games = np.zeros(5), self.moves.splits[split]
        for start in range(0, len(games), GAMES):
            if stop.requested:
                raise Stopped
            sums += self._learn(games[start : start + GAMES], 0.0)
        n = int(sums[0])
        low, high = wilson(float(sums[3]), n)
        return {
            "measure": "top-1 %",
            "mean": float(100 * sums[3] / n),
            "low": 100 * low,
            "high": 100 * high,
            "loss": float(sums[2] / max(sums[1], 1)),
            "passes": float(100 * sums[4] / n),
            "split": split,
            "examples": n,
        }

    @property
    def skips_evaluations(self) -> bool:
        """Whether only the final evaluation is made: no game is held out."""
        return "validation" not in self.moves.splits

    def evaluate(self, stop: Stop) -> Score:
        """By validation games on the way, keeping the best weights; by test games, and with those, at the end.

        Raises:
            Stopped: a stop was requested.
        """
        held_out = "validation" in self.moves.splits
        if held_out and self.validated != self.done:
            self.score, self.validated = self.evaluate_split("validation", stop), self.done
            if self.best is None or self.score["mean"] > self.best["mean"]:
                self.best = {"mean": self.score["mean"], "done": self.done, "weights": self.policy.weights.copy()}
        if not self.progress().finished:
            return self.score if held_out else self.evaluate_split("train", stop)
        if self.best is not None:
            self.policy.weights[:] = self.best["weights"]
        score = self.evaluate_split("test", stop)
        speed = {"measure": "microseconds a move of a playout", "mean": self.microseconds()}
        score |= {"tasks": {"speed": speed}}
        return score if self.best is None else score | {"best_at": self.best["done"], "validation": self.best["mean"]}

    def microseconds(self) -> float:
        """Of a move, where games are played to their ends from random positions of the test games, in one thread.

        The smallest of three times that the thread had a core.
        """
        chance = np.random.default_rng(derive(self.seed, "speed"))
        games = self.moves.splits["test"]
        drawn = games[chance.integers(0, len(games), TIMED)]
        plies = (chance.random(TIMED) * np.diff(drawn, axis=1)[:, 0]).astype(int)
        boards = Boards(TIMED, self.moves.setting, threads=1)
        for ply in range(int(plies.max())):
            at = np.minimum(drawn[:, 0] + ply, drawn[:, 1] - 1)
            boards.play(np.where(ply < plies, self.moves.moves[at], -1))
        rows, playouts, times = np.flatnonzero(~boards.over), Playouts(self.policy), []
        playouts.outcomes(boards, rows[:1], np.zeros(1, np.uint64))  # compiles
        for _ in range(3):
            before, began = playouts.moves, time.thread_time()
            playouts.outcomes(boards, rows, rows.astype(np.uint64))
            times.append((time.thread_time() - began) / max(1, playouts.moves - before))
        return 1e6 * min(times)

    def go_player(self, name: str, visits: int | None = None) -> RolloutPlayer:
        """What it has learned, as a player.

        Raises:
            RlabError: it is asked to search.
        """
        if visits is not None:
            raise RlabError(
                f"'{name}': a rollout policy does not search; nearest: {name.rpartition('@')[0]}, or rlab train "
                f"go-search --rollout {name.rpartition('@')[0]}"
            )
        return RolloutPlayer(name, self.policy, self.experiment.play.greedy)

    # ---- The life of a run.

    def progress(self) -> Progress:
        """Positions learned from and planned."""
        if not self._size:
            assert self.moves
        return Progress(self.done, self.budget.end(self.fit.epochs * self._size), "examples")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the arrays; time from some games that a twin learns."""
        if stop.requested:
            raise Stopped
        twin = RolloutLearner(self.experiment)
        twin.step()
        if stop.requested:
            raise Stopped
        before, started = twin.done, time.perf_counter()
        twin.step()
        seconds = (time.perf_counter() - started) / max(1, twin.done - before)
        weights = len(twin.policy.weights)
        held = twin.moves.moves.nbytes + sum(part.nbytes for part in twin.policy.tables)
        return Footprint(held + 40 * weights, 0, 32 * weights + 20_000, seconds * twin.progress().total, weights)

    def state(self) -> State:
        """Patterns, weights, AdaGrad's sums, and how far it is."""
        return {
            "policy": self.policy.arrays(),
            "sums": self._squares.copy(),
            "counters": [self.chunks, self.done, self.validated, self._size],
            "best": self.best,
            "score": self.score,
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes."""
        if stop.requested:
            raise Stopped
        self._take(RolloutPolicy.of(state["policy"]))
        self._squares[:] = np.asarray(state["sums"])
        self.chunks, self.done, self.validated, self._size = (int(n) for n in state["counters"])
        self.best, self.score = state["best"], state["score"]

    def restore_policy(self, state: State) -> None:
        """Take over only what playing needs: the weights that were best in validation, if there was one."""
        self._take(policy_of(state))
        self.chunks, self.done, self.validated, self._size = (int(n) for n in state["counters"])

    def close(self) -> None:
        """Nothing is held open."""


def policy_of(state: State) -> RolloutPolicy:
    """What a checkpoint holds: the weights that were best in validation, if there was one."""
    policy = RolloutPolicy.of(state["policy"])
    if state["best"] is not None:
        policy.weights[:] = np.asarray(state["best"]["weights"])
    return policy


def packed_rollout(state: State) -> State:
    """Of a checkpoint what `policy_of` reads, weights in single precision, and how far the run was."""
    arrays = policy_of(state).arrays()
    arrays["weights"] = arrays["weights"].astype(np.float32)
    return {"policy": arrays, "best": None, "counters": state["counters"]}


def is_rollout(folder: RunFolder) -> bool:
    """Whether a run is one of go-rollout."""
    return isinstance(configuration_of(folder)[1], RolloutExperiment)


def read_rollout(folder: RunFolder) -> RolloutPolicy:
    """The rollout policy of a run, without its games.

    Raises:
        RlabError: the run has none, or no checkpoint.
    """
    recipe, experiment = configuration_of(folder)
    if not isinstance(experiment, RolloutExperiment):
        raise RlabError(f"run '{folder.name}' is one of {recipe}, which has no rollout policy; nearest: go-rollout")
    saved = find_checkpoint(folder, None)
    with of_this_version(folder):
        return policy_of(saved.state)


def build_rollout(experiment: RolloutExperiment, context: Any) -> RolloutLearner:
    """Build the Learner of a rollout policy."""
    return RolloutLearner(experiment)
