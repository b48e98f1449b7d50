"""AlphaZero on small boards of Go: games against itself, a window of their positions, and learning, as one Learner.

Silver et al. 2017 and 2018, with a Gumbel search (Danihelka et al. 2022) and what KataGo found to save time (Wu 2019)
as settings. Games are played in lockstep; the network that plays is the one that learns, renewed before every move.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlab.agents.evaluation import score
from rlab.agents.go.config import AlphaZeroExperiment
from rlab.agents.go.evaluator import Evaluator, Symmetry
from rlab.agents.go.learning import losses, targets_of
from rlab.agents.go.match import play_match, try_out
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.players import find_player
from rlab.agents.go.position_buffer import LOG, PositionWindow, empty_rows
from rlab.agents.go.search_player import NetworkPolicy, SearchPlayer
from rlab.agents.go.tree_game import GoGame
from rlab.agents.search import Gumbel, Puct, search
from rlab.envs.go.boards import Boards
from rlab.envs.splitmix import rng_key, split, uniforms
from rlab.errors import RlabError
from rlab.nn.modes import drawing_for
from rlab.nn.optim import SCHEDULES, decayed, make_optimiser, restore, scale_rates, state_of
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Rows, Score, State, Stop, Stopped, seconds_of
from rlab.run.warm_start import refuse_other_shapes
from rlab.seeding import derive

MOST_UPDATES = 8
"""Of one step, so that it stays short; what is owed beyond them comes later."""
_FULL, _DRAW = np.uint64(0xD1B54A32D192ED03), np.uint64(0x8CB92BA72F3D8DD7)


class AlphaZero:
    """The Learner. Progress counts moves of self-play.

    Chance of a game comes from its number alone, that of an update from its number, so there is no generator to keep.

    Args:
        experiment: the settings.
        device: torch device.
        journal: where positions are appended; None in a rehearsal.
    """

    def __init__(self, experiment: AlphaZeroExperiment, device: str, journal: Any):
        self.experiment = experiment
        self.settings, self.setting = experiment.agent, experiment.env.setting()
        self.seed = experiment.run.seed
        self.device = torch.device(device)
        self.journal = journal
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "weights"))
            self.network = GoNetwork(experiment.net, self.setting.size).to(
                self.device,
                memory_format=torch.channels_last,  # type: ignore[call-overload]
            )
        self.optimizer = make_optimiser(
            "adamw", decayed(self.network, self.settings.weight_decay), lr=self.settings.learning_rate
        )
        self.agent = NetworkPolicy(self.network)
        """What plays where there is no board to search on, only what is seen of it."""
        self._schedule = SCHEDULES.get("cosine")
        number = self.settings.num_envs
        self.boards = Boards(number, self.setting, threads=1)
        self.numbers = np.arange(number)
        """[N]: which game each board has; they are numbered as they begin."""
        self.begun = number
        self.done = self.updates = self.finished = 0
        self.owed = 0.0
        """Updates."""
        self.budget = Budget()
        self.pending = [empty_rows(self.setting.most, self.setting.size) for _ in range(number)]
        self.window = PositionWindow(self.setting, self.settings.window)
        self._game = GoGame(self.setting, number)
        self._evaluator = self._make_evaluator()
        self._stale = False
        s = self.settings
        self.rule: Puct | Gumbel = (
            Gumbel(s.considered) if s.search == "gumbel" else Puct(noise=s.noise, forced=s.forced)
        )

    def _make_evaluator(self) -> Evaluator:
        symmetry: Symmetry = "random" if self.settings.symmetries else "none"
        return Evaluator(self.network, str(self.device), symmetry, self.experiment.net.search_precision)

    # ---- Playing.

    def step(self) -> Metrics:
        """A move in every game, and the updates that are due."""
        started = time.perf_counter()
        metrics = self.play()
        played = time.perf_counter()
        metrics |= self.learn()
        return metrics | {"clock_play": played - started, "clock_learn": time.perf_counter() - played}

    def play(self) -> dict[str, float]:
        """A move in every game, by the newest parameters."""
        if self._stale:
            self._evaluator.renew()
            self._stale = False
        return self._move()

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Play with these parameters from now on."""
        self.network.load_state_dict(weights)
        self._stale = True

    def _keys(self) -> NDArray[np.uint64]:
        """An RNG key for the next move of every game."""
        return split(rng_key(derive(self.seed, "games"), self.numbers), self.boards.made + 1)

    def _move(self) -> dict[str, float]:
        s, boards = self.settings, self.boards
        keys = self._keys()
        full = np.ones(len(keys), bool)
        if s.fast_visits:
            full = uniforms(keys ^ _FULL) < s.full_share
        found = search(self._game, boards, self._evaluator, np.where(full, s.visits, s.fast_visits), keys, self.rule)
        moves = found.action
        if isinstance(self.rule, Puct):
            moves = self._drawn(found.policy, moves, keys)
        for k, rows in enumerate(self.pending):
            ply = boards.made[k]
            for name, value in (("move", moves[k]), ("ply", ply), ("policy", found.policy[k]), ("full", full[k]),
                                ("root", found.value[k])):  # fmt: skip
                rows[name][ply] = value
        boards.play(moves)
        self.done += len(moves)
        (over,) = np.nonzero(boards.over)
        return self._finish(over) if len(over) else {}

    def _drawn(
        self, policy: NDArray[np.float32], best: NDArray[np.int64], keys: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Moves by their visits in the first moves of a game, the best one later."""
        total = policy.astype(np.float64).cumsum(1)
        drawn = (total <= (uniforms(keys ^ _DRAW) * total[:, -1])[:, None]).sum(1)
        return np.where(self.boards.made < self.settings.temperature_moves, drawn, best)

    def _finish(self, over: NDArray[np.int64]) -> dict[str, float]:
        """Keep the games that are over, and begin others."""
        owners, scores = self.boards.owners()
        games = []
        for k, length in zip(over, self.boards.made[over], strict=True):
            rows = {name: column[:length] for name, column in self.pending[k].items()}
            rows["score"][:] = scores[k]
            rows["owner"][:] = owners[k].ravel()
            games.append(rows)
        self.boards.clear(over)
        self.numbers[over] = self.begun + np.arange(len(over))
        self.begun += len(over)
        return self.take(games)

    def take(self, games: list[Rows]) -> dict[str, float]:
        """Keep games that are over, to learn from; return what metrics tell of them."""
        for rows in games:
            self.window.add(rows)
            if self.journal is not None:
                self.journal.append(LOG, rows)
        lengths = np.array([len(rows["move"]) for rows in games])
        scores = np.array([float(rows["score"][0]) for rows in games])
        self.owed += lengths.sum() * self.settings.reuse / self.settings.batch_size
        self.finished += len(games)
        return {
            "game_length": float(lengths.mean()),
            "black_wins": float((scores > 0).mean()),
            "score": float(scores.mean()),
            "games_last": self.finished,
        }

    # ---- Learning.

    def learn(self) -> dict[str, float]:
        """Make the updates that are due, `MOST_UPDATES` at the most; return the metrics of any."""
        if len(self.window) < self.settings.learning_starts:
            self.owed = 0.0
            return {}
        due = min(int(self.owed), MOST_UPDATES)
        if not due:
            return {}
        self.owed -= due
        seen = [self._update() for _ in range(due)]
        self._stale = True
        metrics = {name: float(torch.stack([one[name] for one in seen]).mean()) for name in seen[0]}
        for name, quantity in (("loss", "loss"), ("grad_norm", "gradient")):
            if not math.isfinite(metrics[name]):
                raise NonFinite(quantity, metrics[name], f"update {self.updates:,}")
        return metrics | {"learning_rate_last": self.optimizer.param_groups[0]["lr"]}

    def _update(self) -> dict[str, torch.Tensor]:
        """One step of the optimiser, on positions that its number draws."""
        s = self.settings
        rng = np.random.default_rng(derive(self.seed, "update", self.updates))
        known = targets_of(self.window.sample(rng, s.batch_size, s.symmetries), s.root_share, self.device)
        horizon = self.budget.horizon(self.experiment.env.steps)
        scale_rates(self.optimizer, 0.1 + 0.9 * self._schedule(self.budget.place(self.done, horizon) / horizon))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with drawing_for(True, self.device, self.seed, "layers", self.updates):
            terms = losses(self.network(known.planes), known)
        terms["loss"].backward()
        terms["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.updates += 1
        return {name: value.detach() for name, value in terms.items()}

    # ---- How good it is.

    def go_player(self, name: str, visits: int | None = None) -> SearchPlayer:
        """What it has learned, as a player."""
        evaluator = self._make_evaluator()
        return SearchPlayer(name, evaluator, self.settings.evaluate_visits if visits is None else visits)

    def evaluate(self, stop: Stop) -> Score:
        """A match against the opponent; games depend on seed and progress only."""
        env = self.experiment.env
        games = env.final_episodes if self.progress().finished else env.evaluate_episodes
        return self.evaluate_games(games, derive(self.seed, "evaluation", self.done), stop)

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play a match: 1 for a game that was won, 0.5 for a draw.

        Raises:
            Stopped: a stop was requested.
        """
        env = self.experiment.env
        with closing(find_player(env.opponent)) as opponent:
            shares, lengths = play_match(self.go_player("it"), opponent, self.setting, episodes, seed, stop)
        return score(shares, lengths, env.env) | {"opponent": env.opponent, "seed": seed}

    def progress(self) -> Progress:
        """Moves of self-play."""
        return Progress(self.done, self.budget.end(self.experiment.env.steps), "steps")

    # ---- The life of a run.

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the arrays; time from a twin that plays and learns for a moment."""
        try_out(self.experiment.env.opponent, self.setting, stop)
        twin = AlphaZero(self.experiment, str(self.device), None)
        move = seconds_of(twin._move, 3, stop)
        rows = empty_rows(twin.settings.batch_size, twin.setting.size)
        twin.window.add(rows)
        learn = seconds_of(twin._update, 2, stop)
        s = self.settings
        each = move / s.num_envs + learn * s.reuse / s.batch_size
        weights = sum(p.numel() for p in self.network.parameters())
        kept = sum(column.nbytes for column in self.window.rows.values())
        trees = s.num_envs * (max(s.visits, s.evaluate_visits) + 1) * (self.setting.size**2 + 1) * 16
        games = 2 * sum(part.nbytes for part in self.boards.games)
        pending = sum(column.nbytes for rows in self.pending for column in rows.values())
        row = kept // self.window.capacity
        return Footprint(
            kept + trees + games + pending + 40 * weights,
            0,
            16 * weights + pending,
            each * self.experiment.env.steps,
            weights,
            journal=row * self.experiment.env.steps,
        )

    def state(self) -> State:
        """Weights, optimiser, games under way, counters, and the positions that are learned from."""
        made = self.boards.made
        rows = {
            name: np.concatenate([rows[name][: made[k]] for k, rows in enumerate(self.pending)])
            for name in ("move", "policy", "full", "root")
        }
        return {
            "network": self.network.state_dict(),
            "optimizer": state_of(self.optimizer),
            "numbers": self.numbers,
            "made": made,
            "pending": rows,
            "counters": [self.begun, self.done, self.updates, self.finished],
            "owed": self.owed,
            "positions": self.journal.log(LOG, self.window.start),
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes; games under way are played again."""
        self.restore_policy(state)
        restore(self.optimizer, state["optimizer"])
        self.numbers[:] = state["numbers"]
        self.begun, self.done, self.updates, self.finished = (int(n) for n in state["counters"])
        self.owed = float(state["owed"])
        self.boards.clear()
        made = np.asarray(state["made"])
        starts = np.concatenate(([0], made.cumsum()))
        for k, rows in enumerate(self.pending):
            for name, column in state["pending"].items():
                rows[name][: made[k]] = column[starts[k] : starts[k + 1]]
            rows["ply"][: made[k]] = np.arange(made[k])
        for ply in range(int(made.max(initial=0))):
            if stop.requested:
                raise Stopped
            self.boards.play([int(rows["move"][ply]) if ply < made[k] else -1 for k, rows in enumerate(self.pending)])
        self.window.refill(state["positions"])

    def restore_policy(self, state: State) -> None:
        """Take over only what playing needs."""
        self.network.load_state_dict(state["network"])
        self.done = int(state["counters"][1])
        self._stale = True

    def start_from(self, part: str, parameters: Mapping[str, Tensor]) -> None:
        """Begin with the network of another run; see `rlab.run.contract.StartsFromRun`.

        Raises:
            RlabError: it is of another kind or size.
        """
        if part != "network":
            raise RlabError("its network is of another kind of agent; nearest: a run of alphazero")
        refuse_other_shapes(self.network.state_dict(), parameters)
        self.network.load_state_dict(dict(parameters))
        self._stale = True

    def close(self) -> None:
        """Nothing is held open."""


def build_alphazero(experiment: AlphaZeroExperiment, context: Any) -> AlphaZero:
    """Build the Learner of a run."""
    return AlphaZero(experiment, context.device, context.journal)
