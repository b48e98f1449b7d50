"""AlphaGo's third part: a value that learns from the outcomes of games (Silver et al. 2016, Methods, "Value network").

A game has three parts: U - 1 moves of the policy from records, one move by chance among all legal points, and the rest
by the improved policy, with U drawn uniformly. The position after the move by chance is learned with the outcome:
one position a game, since those of a game differ by a stone and share the outcome, which a network then learns by heart
(the paper: squared errors of 0.19 in training and 0.37 in the test; 0.226 and 0.234 with one position a game). To show
that, `positions="all"` takes the later positions of the games as well, and as many positions as otherwise, of fewer
games: what differs is how many games they are of, not how many there are.

First all games are made, by number: whatever is played side by side, the games that count are those of the lowest
numbers, so that short ones, which end sooner, are not preferred. Games whose end comes before the position are kept
but give none. The first `test_games` that give one are for judging. Then the network learns from the positions of the
others, in passes.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlab.agents.go.alphago.config import ValuesExperiment
from rlab.agents.go.alphago.policy_play import GameReplay, ask, choices, draw, outcomes, rng_keys_of, uniform
from rlab.agents.go.alphago.warm_start import network_of, packed, unpacked
from rlab.agents.go.evaluator import Evaluator, Symmetry
from rlab.agents.go.learning import value_loss
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.search_player import NetworkPolicy
from rlab.envs.go.boards import Boards
from rlab.errors import RlabError
from rlab.nn.modes import drawing_for
from rlab.nn.optim import SCHEDULES, decayed, make_optimiser, restore, scale_rates, state_of
from rlab.run.budget import Budget
from rlab.run.contract import (
    Footprint,
    Log,
    Metrics,
    NonFinite,
    Progress,
    Rows,
    Score,
    State,
    Stop,
    Stopped,
    seconds_of,
)
from rlab.run.warm_start import load_sources
from rlab.seeding import derive

LOG = "games"
CHUNK = 256
"""Positions of an evaluation that are looked at together."""
MOST_JUDGED = 4_000
"""Positions of training games, and of all positions of the games for judging, that an evaluation looks at."""
_WHEN, _WHERE = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Positions [J]: games, and moves made before."""


class PlayedGames:
    """Games, one row each, in the order of their numbers.

    Columns: moves uint16 [G, most]; length, in moves; at, how many moves were made before its position (if it is as
    long, it has none); score, Black's points less White's and komi at the end.
    """

    def __init__(self, most: int):
        self.rows: Rows = {
            "moves": np.zeros((1, most), np.uint16),
            "length": np.zeros(1, np.uint16),
            "at": np.zeros(1, np.uint16),
            "score": np.zeros(1, np.float32),
        }
        self.number = 0

    def add(self, rows: Rows) -> None:
        """Append games."""
        end = self.number + len(rows["at"])
        for name, column in rows.items():
            if end > len(self.rows[name]):
                held = self.rows[name]
                self.rows[name] = np.zeros((max(end, 2 * len(held)), *held.shape[1:]), held.dtype)
                self.rows[name][: self.number] = held[: self.number]
            self.rows[name][self.number : end] = column
        self.number = end

    def column(self, name: str) -> NDArray[Any]:
        """Of all games."""
        return self.rows[name][: self.number]

    def first(self, games: NDArray[np.int64]) -> Places:
        """The positions after the moves by chance."""
        return games, self.column("at")[games].astype(np.int64)

    def later(self, games: NDArray[np.int64]) -> Places:
        """Those and all later ones, game by game."""
        lengths, at = (self.column(name)[games].astype(np.int64) for name in ("length", "at"))
        number = lengths - at
        within = np.arange(number.sum()) - np.repeat(number.cumsum() - number, number)
        return np.repeat(games, number), np.repeat(at, number) + within


MAKING = 0.75
"""By the clock, the share of time after which no more games are made, so that the rest is left for learning."""


class Values:
    """The Learner. Progress counts games for judging, positions as they are made, and positions as they are learned.

    Chance of a game comes from its number alone, that of an update from its number.

    Args:
        experiment: the settings.
        device: torch device.
        journal: where games are appended; None in a rehearsal.
        networks: role (start, play, sl) -> network; None: all are one that knows nothing.
    """

    def __init__(
        self, experiment: ValuesExperiment, device: str, journal: Any, networks: dict[str, GoNetwork] | None = None
    ):
        self.experiment = experiment
        self.settings, self.setting = experiment.agent, experiment.env.setting()
        self.seed = experiment.run.seed
        self.examples = experiment.examples
        """Positions to learn from; fewer than planned if the clock ends the making of them."""
        self.budget = Budget()
        self.device = torch.device(device)
        self.journal = journal
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "weights"))
            network = GoNetwork(experiment.net, self.setting.size)
        if networks is not None:
            network.load_state_dict(networks["start"].state_dict())
        players = networks or {"play": network, "sl": network}
        self._players: dict[str, State] = {role: packed(unpacked(packed(players[role]), self.setting.size))
                                           for role in ("sl", "play")}  # fmt: skip
        self._evaluators: dict[str, Evaluator] = {}
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        s = self.settings
        self.optimizer = make_optimiser("adamw", decayed(self.network, s.weight_decay), lr=s.learning_rate)
        self._schedule = SCHEDULES.get("cosine")
        self.agent = NetworkPolicy(self.network)
        """What there is to watch: the policy is that of the start, on maps that have changed under it."""
        self.games = PlayedGames(self.setting.most)
        self.made = self.judging = 0
        """Positions to learn from, and games for judging, so far."""
        self.boards = Boards(s.num_envs, self.setting, threads=1)
        self.numbers = np.arange(s.num_envs)
        self.begun = s.num_envs
        self.waiting: dict[int, Rows] = {}
        """Number -> a game that is over, while one of a lower number is not."""
        self.updates = 0
        self._packed = False
        self._replay = GameReplay(self.setting)
        self._train: Places | None = None
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    # ---- Playing.

    @property
    def playing(self) -> bool:
        """Whether games are still to be made."""
        return self.made < self.examples

    def step(self) -> Metrics:
        """A move in every game, or an update."""
        started = time.perf_counter()
        if self.playing and self.made and (self.budget.share(self.judging + self.made) or 0.0) >= MAKING:
            self.examples = self.made
            self._end_of_playing()
        if self.playing:
            return self._move() | {"clock_play": time.perf_counter() - started}
        return self._update() | {"clock_learn": time.perf_counter() - started}

    def _words(self) -> NDArray[np.uint64]:
        """Of chance, for the next move of every game."""
        return rng_keys_of(derive(self.seed, "games"), self.numbers, self.boards.made)

    def _at(self) -> NDArray[np.int64]:
        """[N]: U of every game, the number of its move by chance, from 1: that many moves stand before its position."""
        latest = min(self.settings.latest or self.boards.points, self.setting.most)
        words = rng_keys_of(derive(self.seed, "when"), self.numbers, np.zeros_like(self.numbers))
        return 1 + (uniform(words, _WHEN) * latest).astype(np.int64)

    def _evaluator(self, role: str) -> Evaluator:
        if role not in self._evaluators:
            symmetry: Symmetry = "random" if self.settings.symmetries else "none"
            network = unpacked(self._players[role], self.setting.size)
            precision = self.experiment.net.search_precision
            self._evaluators[role] = Evaluator(network, str(self.device), symmetry, precision)
        return self._evaluators[role]

    def _move(self) -> dict[str, float]:
        boards, words, at = self.boards, self._words(), self._at()
        rows, may, made = np.arange(boards.number), choices(self.boards), self.boards.made
        moves = np.empty(boards.number, np.int64)
        for role, whose in (("sl", made < at - 1), ("play", made >= at)):
            some = rows[whose]
            if len(some):
                logits, _ = ask(self._evaluator(role), boards, some, words[some])
                moves[some] = draw(logits, may[some], words[some])
        some = rows[made == at - 1]
        if len(some):
            moves[some] = _any(boards.legal()[some], words[some])
        boards.play(moves)
        (over,) = np.nonzero(boards.over)
        return self._finish(over, at[over]) if len(over) else {}

    def _finish(self, over: NDArray[np.int64], at: NDArray[np.int64]) -> dict[str, float]:
        """Keep the games that are over, and begin others."""
        boards = self.boards
        scores, lengths = boards.score()[over], boards.made[over]
        for k, row in enumerate(over):
            moves = boards.games.moves[row].copy()
            moves[lengths[k] :] = 0
            self.waiting[int(self.numbers[row])] = {
                "moves": moves[None],
                "length": lengths[k : k + 1].astype(np.uint16),
                "at": at[k : k + 1].astype(np.uint16),
                "score": scores[k : k + 1].astype(np.float32),
            }
        self.numbers[over] = self.begun + np.arange(len(over))
        self.begun += len(over)
        boards.clear(over)
        while self.playing and self.games.number in self.waiting:
            self._keep(self.waiting.pop(self.games.number))
        if not self.playing:
            self._end_of_playing()
        return {
            "game_length": float(lengths.mean()),
            "without_position": float((lengths <= at).mean()),
            "black_wins": float((scores > 0).mean()),
            "games_last": self.games.number,
        }

    def _end_of_playing(self) -> None:
        self.waiting.clear()
        self._evaluators.clear()

    def _keep(self, row: Rows) -> None:
        """Take in the game with the next number."""
        self.games.add(row)
        if self.journal is not None:
            self.journal.append(LOG, row)
        self._count(slice(self.games.number - 1, self.games.number))

    def _count(self, games: slice) -> None:
        """Count what games give."""
        number = self.games.rows["length"][games].astype(np.int64) - self.games.rows["at"][games].astype(np.int64)
        for n in number[number > 0].tolist():
            if self.judging < self.settings.test_games:
                self.judging += 1
            else:
                self.made = min(self.examples, self.made + (1 if self.settings.positions == "one" else n))

    # ---- Learning.

    def _places(self) -> tuple[Places, Places, Places]:
        """Positions to learn from; for judging, one of a game; for judging, of the kind that is learned from."""
        (useful,) = np.nonzero(self.games.column("length") > self.games.column("at"))
        judging, learning = useful[: self.settings.test_games], useful[self.settings.test_games :]
        of = self.games.first if self.settings.positions == "one" else self.games.later
        games, plies = of(learning)
        return (games[: self.made], plies[: self.made]), self.games.first(judging), of(judging)

    def _batch(self) -> Places:
        """The positions of the next update."""
        if self._train is None:
            self._train = self._places()[0]
        epoch, number = divmod(self.updates, self._per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng(derive(self.seed, "order", epoch))
            self._order = epoch, rng.permutation(self.examples)
        chosen = self._order[1][number * self.settings.batch_size : (number + 1) * self.settings.batch_size]
        return self._train[0][chosen], self._train[1][chosen]

    @property
    def _per_epoch(self) -> int:
        """Updates."""
        return -(-self.examples // self.settings.batch_size)

    def _said(self, places: Places, kinds: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Logits of (loss, win) [J, 2], and the outcomes [J]."""
        games, plies = places
        planes = self._replay.planes(self.games.rows["moves"], games, plies, kinds)
        z = torch.from_numpy(outcomes(self.games.rows["score"][games], plies)).to(self.device)
        return self.network(torch.from_numpy(planes).to(self.device)).value, z

    @property
    def _place(self) -> float:
        """Where the schedule stands, 0..1; by the clock at the end not later than the time is up."""
        place, share = self.updates / (self._per_epoch * self.settings.epochs), self.budget.share(self.progress().done)
        begun = self.budget.share(self.judging + self.examples) or 0.0
        return place if share is None or begun >= 1 else max(place, (share - begun) / (1 - begun))

    def _update(self) -> dict[str, float]:
        s = self.settings
        places = self._batch()
        rng = np.random.default_rng(derive(self.seed, "kinds", self.updates))
        kinds = rng.integers(0, 8 if s.symmetries else 1, len(places[0]))
        scale_rates(self.optimizer, self._schedule(self._place))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with drawing_for(True, self.device, self.seed, "layers", self.updates):
            logits, z = self._said(places, kinds)
        mse = (_values(logits) - z).square().mean()
        loss = value_loss(logits, z) if s.loss == "cross-entropy" else mse
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0))
        metrics = {"loss": float(loss.detach()), "mse": float(mse.detach()), "grad_norm": norm}
        for quantity, value in (("loss", metrics["loss"]), ("gradient", norm)):
            if not math.isfinite(value):
                raise NonFinite(quantity, value, f"update {self.updates + 1:,}")
        self.optimizer.step()
        self.updates += 1
        return metrics | {
            "learning_rate_last": self.optimizer.param_groups[0]["lr"],
            "epoch_last": float((self.updates - 1) // self._per_epoch + 1),
        }

    # ---- How good it is.

    def evaluate(self, stop: Stop) -> Score:
        """R^2 of the value v for the outcome z, both from -1 to 1, on the games for judging, one position each.

        Its interval is the normal 95 % one of the errors. "mse" is the mean of (v - z)^2, which the paper tells; who
        knows nothing has 1. "sign" is in how many per cent of the positions the winner is said. "mse_train" is of
        positions that are learned from, "mse_held" of positions of the same kind of the games for judging: the
        difference is what was learned by heart.

        Raises:
            Stopped: a stop was requested.
            RlabError: no game for judging was made yet, or the run was packed, which leaves games out.
        """
        if self._packed:
            raise RlabError(
                "a packed run has none of the games by which it was judged; what it came to stands in "
                f"'rlab report', nearest: rlab train go-value --start {self.settings.start} --play {self.settings.play}"
            )
        if not self.judging:
            raise RlabError("no game was made yet, so there is nothing to judge by; go on with the run first")
        train, test, held = self._places()
        errors, spread, right = self._errors(test, stop)
        half = 1.96 * float(errors.std(ddof=1)) / math.sqrt(len(errors)) if len(errors) > 1 else 0.0
        mean = float(errors.mean())
        found = {
            "measure": "R^2",
            "mean": 1 - mean / spread,
            "low": 1 - (mean + half) / spread,
            "high": 1 - (mean - half) / spread,
            "mse": round(mean, 4),
            "sign": round(100 * right, 2),
            "mse_held": round(float(self._errors(_some(held), stop)[0].mean()), 4),
            "split": "test",
            "examples": len(errors),
        }
        if self.made:
            found["mse_train"] = round(float(self._errors(_some(train), stop)[0].mean()), 4)
        return found

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> Score:
        """As `evaluate`: the games for judging are those of the run."""
        return self.evaluate(stop)

    def _errors(self, places: Places, stop: Stop) -> tuple[NDArray[np.float64], float, float]:
        """Squared errors [J], the outcomes' variance, and in what share of the positions the winner is said."""
        self.network.eval()
        errors, outcomes, right = [], [], 0
        for start in range(0, len(places[0]), CHUNK):
            if stop.requested:
                raise Stopped
            some = places[0][start : start + CHUNK], places[1][start : start + CHUNK]
            with torch.no_grad():
                logits, z = self._said(some, np.zeros(len(some[0]), np.int64))
                v = _values(logits)
                errors.append((v - z).square().double().cpu().numpy())
                outcomes.append(z.double().cpu().numpy())
                right += int(((v * z > 0) | (z == 0)).sum())
        spread = float(np.concatenate(outcomes).var()) or 1.0  # one that never varies leaves nothing to be explained
        return np.concatenate(errors), spread, right / len(places[0])

    def progress(self) -> Progress:
        """Games for judging, positions made and positions learned from."""
        whole, total = self.examples, self.experiment.env.steps
        epoch, number = divmod(self.updates, self._per_epoch)
        learned = epoch * whole + min(number * self.settings.batch_size, whole)
        done = self.judging + self.made + learned
        if epoch >= self.settings.epochs:
            total = done if self.examples < self.experiment.examples else total
            return Progress(total, total, "steps")
        return Progress(done, self.budget.end(total), "steps")

    # ---- The life of a run.

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the arrays; time from a twin that plays and learns for a moment."""
        s, most = self.settings, self.setting.most
        twin = Values(self.experiment, str(self.device), None, {
            "start": self.network, **{role: unpacked(one, self.setting.size) for role, one in self._players.items()}
        })  # fmt: skip
        move = seconds_of(twin._move, 3, stop)
        ready = PlayedGames(most)
        ready.add({"moves": np.zeros((1, most), np.uint16), "length": np.ones(1, np.uint16),
                   "at": np.zeros(1, np.uint16), "score": np.ones(1, np.float32)})  # fmt: skip
        twin.games, nought = ready, np.zeros(self.experiment.examples, np.int64)
        twin._train = nought, nought
        learn = seconds_of(twin._update, 2, stop)
        long = min(most, 1.2 * self.boards.points)  # a usual game, in moves
        games = s.test_games + self.experiment.examples / (1 if s.positions == "one" else long / 2)
        weights = sum(p.numel() for p in self.network.parameters())
        row = int(2 * most + 8)
        maps = getattr(self.network.encoder, "channels", 64) * self.boards.points * 4
        activations = s.batch_size * maps * 3 * (2 + 2 * len(list(self.network.encoder.modules())) // 8)
        held = 4 * row * int(games) + 2 * sum(part.nbytes for part in self.boards.games) + 40 * weights
        return Footprint(
            held + (activations if self.device.type == "cpu" else 0),
            0 if self.device.type == "cpu" else 40 * weights + activations,
            24 * weights + 4 * s.num_envs * row,
            move / s.num_envs * games * long + learn / s.batch_size * self.experiment.examples * s.epochs,
            weights,
            journal=2 * row * int(games),
        )

    def state(self) -> State:
        """Weights, optimiser, players, games under way, and the games that were made."""
        made = self.boards.made
        waiting = PlayedGames(self.setting.most)
        numbers = sorted(self.waiting)
        for number in numbers:
            waiting.add(self.waiting[number])
        return {
            "network": self.network.state_dict(),
            "optimizer": state_of(self.optimizer),
            "players": self._players,
            "numbers": self.numbers,
            "made": made,
            "moves": self.boards.games.moves[:, : made.max(initial=0)].copy(),
            "waiting": {"numbers": np.array(numbers, np.int64),
                        **{name: waiting.column(name) for name in waiting.rows}},
            "counters": [self.begun, self.updates],
            "games": self.journal.log(LOG, 0),
            **({"examples": self.examples} if self.examples < self.experiment.examples else {}),
        }  # fmt: skip

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes; games under way are played again.

        Raises:
            RlabError: the run should go on to another budget.
        """
        if self.budget.extended:
            raise RlabError(
                "a run of go-value makes its games first and then learns from them, so it cannot go on to another "
                "budget; nearest: a new run"
            )
        self.restore_policy(state)
        restore(self.optimizer, state["optimizer"])
        self._players, self._evaluators = state["players"], {}
        self.numbers[:] = state["numbers"]
        self.begun = int(state["counters"][0])
        columns = state["waiting"]
        self.waiting = {
            int(number): {name: columns[name][k : k + 1] for name in self.games.rows}
            for k, number in enumerate(np.asarray(columns["numbers"]))
        }
        made, moves = np.asarray(state["made"]), np.asarray(state["moves"]).astype(np.int64)
        self.boards.clear()
        for ply in range(int(made.max(initial=0))):
            if stop.requested:
                raise Stopped
            self.boards.play(np.where(made > ply, moves[:, ply], -1))

    def restore_policy(self, state: State) -> None:
        """Take over only what judging needs: the network, and the games."""
        self.network.load_state_dict(state["network"])
        self.examples = int(state.get("examples", self.experiment.examples))
        self.updates = int(state["counters"][1])
        self.games, self.made, self.judging, self._train = PlayedGames(self.setting.most), 0, 0, None
        self._packed = "games" not in state
        log: Log | None = state.get("games")
        for rows in log.rows() if log is not None else ():
            self.games.add(rows)
        self._count(slice(0, self.games.number))

    def close(self) -> None:
        """Nothing is held open."""


def _any(legal: NDArray[np.bool_], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Moves [K] by chance, all legal points as probable; a pass where there is none."""
    points = legal[:, :-1].cumsum(1)
    nth = (uniform(words, _WHERE) * points[:, -1]).astype(np.int64)
    return np.where(points[:, -1] > 0, (points <= nth[:, None]).sum(1), legal.shape[1] - 1)


def _some(places: Places) -> Places:
    """At most `MOST_JUDGED` of them, evenly."""
    number = len(places[0])
    chosen = np.arange(min(number, MOST_JUDGED)) * number // min(number, MOST_JUDGED)
    return places[0][chosen], places[1][chosen]


def _values(logits: Tensor) -> Tensor:
    """-1 .. 1 [J] of logits of (loss, win) [J, 2]."""
    return logits.softmax(1).diff(dim=1).squeeze(1)


def build_values(experiment: ValuesExperiment, context: Any) -> Values:
    """Build the Learner; a new run has the networks that were taken for it."""
    networks = None
    if context.start is not None:
        networks = {role: network_of(source) for role, source in load_sources(context.start).items()}
    return Values(experiment, context.device, context.journal, networks)
