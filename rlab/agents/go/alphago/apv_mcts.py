"""AlphaGo's fifth part: asynchronous policy-value search, which mixes values and rollouts (Silver et al. 2016).

A run that learns nothing: it takes the weights of other runs when it starts, is a player from then on, and plays a
match that says how good it is. A leaf of its search is worth (1 - mix) v + mix z: v is the value network's, z the
outcome of one game that the rollout policy plays to its end; the moves' prior is the policy network's.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlab.agents.evaluation import score
from rlab.agents.go.alphago.config import ApvConfig, ApvExperiment
from rlab.agents.go.alphago.rollout_policy import Playouts, RolloutPolicy, read_rollout
from rlab.agents.go.alphago.warm_start import copy_network, network_of
from rlab.agents.go.arena import Finished, Pairing, ThinkingTime, key_of, one_move
from rlab.agents.go.evaluator import Evaluator, Symmetry
from rlab.agents.go.match import OPENING_MOVES, play_match, try_out
from rlab.agents.go.openings import make_openings
from rlab.agents.go.players import find_player
from rlab.agents.go.search_player import NetworkPolicy, SearchPlayer
from rlab.agents.go.tree_game import PositionBatch
from rlab.agents.search import Evaluate, Puct
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import Player
from rlab.errors import RlabError
from rlab.run.contract import Footprint, Metrics, Progress, Score, State, Stop, Stopped
from rlab.run.folder import find_run
from rlab.run.warm_start import Source, WarmStart, load_sources, source_of
from rlab.seeding import derive
from rlab.stats import wilson

_ROLLOUT = np.uint64(0xA0761D6478BD642F)
"""What sets a leaf's rollout apart from the symmetry that its network is asked in."""

Floats = NDArray[np.float32]


class MixedEvaluator:
    """What a search is told of positions; see `rlab.agents.search.Evaluate`.

    Args:
        policy: whose logits are the prior; None: all moves are as probable.
        value: whose values count; it may be `policy` itself, which is asked once then. Not asked where mix is 1.
        playouts: by whom games are played to their ends; not asked where mix is 0.
        mix: share of a rollout's outcome in a position's value.
        temperature: logits are divided by it.
    """

    def __init__(
        self, policy: Evaluate | None, value: Evaluate | None, playouts: Playouts | None, mix: float, temperature: float
    ):
        self.policy, self.value, self.playouts = policy, value, playouts
        self.mix, self.temperature = np.float32(mix), np.float32(temperature)

    def __call__(
        self, positions: PositionBatch, rows: NDArray[np.int64], rng_keys: NDArray[np.uint64]
    ) -> tuple[Floats, Floats]:
        """Logits [J, n * n + 1] and values [J] of positions rows [J]."""
        logits = np.zeros((len(rows), positions.planes.shape[2] + 1), np.float32)
        values = np.zeros(len(rows), np.float32)
        if self.policy is not None:
            logits, values = self.policy(positions, rows, rng_keys)
        if self.mix < 1 and self.value is not None and self.value is not self.policy:
            values = self.value(positions, rows, rng_keys)[1]
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.playouts is not None and self.mix > 0:
            won = self.playouts.outcomes(positions.boards, rows, rng_keys ^ _ROLLOUT)
            values = (1 - self.mix) * values + self.mix * won if self.mix < 1 else won
        return logits, values


def take_parts(config: ApvConfig, env: str) -> dict[str, Source]:
    """What the runs that a search names have learned, by part; changes nothing there.

    Raises:
        RlabError: what is needed is not named, or what is named cannot be used.
    """
    config.refuse_unfit()
    parts: dict[str, Source] = {}
    value = config.value if config.value != config.policy else ""  # the policy's own then
    for part, name in (("policy", config.policy), ("value", value)):
        if not name:
            continue
        parts[part], trained = copy_network(part, name, env)
        # Of game records the value is learned only if that was asked for.
        weight = getattr(getattr(trained.experiment, "data", None), "value_weight", 1)
        if not weight and config.mix < 1 and (part == "value" or not value):
            run = parts[part].note["run"]
            raise RlabError(f"run '{run}' has learned no value (--value-weight 0); name another one: --value")
    if config.rollout:
        folder = find_run(config.rollout)
        arrays = read_rollout(folder).arrays()
        parts["rollout"] = source_of(folder.name, None, {key: torch.from_numpy(a) for key, a in arrays.items()})
    return parts


def warm_start_parts(experiment: ApvExperiment) -> tuple[ApvExperiment, WarmStart]:
    """Take what other runs have learned into a new run's folder.

    Raises:
        RlabError: see `take_parts`.
    """
    return experiment, WarmStart(take_parts(experiment.search, experiment.env.env))


class Blind:
    """In the place of a policy of observations where there is none."""

    def act(self, obs: Floats, first: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Refuse.

        Raises:
            RlabError: always.
        """
        raise RlabError("a search without --policy plays on boards only: rlab tournament, rlab play, rlab gtp")


class ApvSearch:
    """The Learner, which learns nothing. Progress counts games of the match.

    A step is a move in every game that goes on. Results are told in the order of the games' numbers, one a step. A
    stop loses no game that was over; the others begin again when the run does and come out the same, as far as their
    players depend on game and key alone.

    Args:
        experiment: the settings.
        device: torch device.
        parts: what it is made of; None: `restore` brings it.
    """

    def __init__(self, experiment: ApvExperiment, device: str, parts: dict[str, Source] | None = None):
        self.experiment, self.settings, self.match = experiment, experiment.search, experiment.env
        self.setting = experiment.env.setting()
        self.seed = derive(experiment.run.seed, "match")
        self.device = device
        self.parts = parts
        self.reported = 0
        """Games whose results were told."""
        self.over: dict[int, tuple[float, tuple[int, ...]]] = {}
        """Game -> (what it has of the point, moves)."""
        self._players: dict[str, Player] = {}
        self._playing: list[Pairing | None] = []

    # ---- The player.

    def policy(self, seed: int) -> NetworkPolicy | Blind:
        """Without search, for there is no board to search on: the prior alone."""
        part = (self.parts or {}).get("policy")
        return Blind() if part is None else NetworkPolicy(network_of(part).to(self.device))

    def evaluator(self, symmetry: Symmetry = "random") -> MixedEvaluator:
        """What its search is told.

        Raises:
            RlabError: it has no parts yet.
        """
        s, parts = self.settings, self.parts
        if parts is None:
            raise RlabError("the parts of a search are taken when a run starts, by 'rlab train' or rlab.train")
        networks = {
            part: Evaluator(network_of(parts[part]), self.device, symmetry, s.search_precision)
            for part in ("policy", "value")
            if part in parts
        }
        playouts = None
        if "rollout" in parts:
            arrays = {name: tensor.numpy() for name, tensor in parts["rollout"].tensors.items()}
            playouts = Playouts(RolloutPolicy.of(arrays))
        policy = networks.get("policy")
        return MixedEvaluator(policy, networks.get("value", policy), playouts, s.mix, s.prior_temperature)

    def go_player(self, name: str, visits: int | None = None) -> SearchPlayer:
        """It as a player."""
        s = self.settings
        number = s.visits if visits is None else visits
        evaluator = self.evaluator(s.symmetry if number else "all")  # where one answer decides, all eight are heard
        return SearchPlayer(name, evaluator, number, Puct(c_init=s.explore), s.leaves, decide=s.decide)

    # ---- The match.

    def _begin(self) -> None:
        """Sit down: players, boards and openings."""
        games = self.match.games
        self._openings = make_openings(
            self.setting, -(-games // 2), min(OPENING_MOVES, self.setting.most - 1), self.seed
        )
        self._players = {"player": self.go_player("it"), "opponent": find_player(self.match.opponent, self.device)}
        number = min(self.match.at_once, games)
        self._boards = Boards(number, self.setting, threads=1)
        self._keys = np.zeros(number, np.uint64)
        self._playing = [None] * number

    def _next_game(self) -> Pairing | None:
        """The first one that is neither over nor under way."""
        busy = {game.number for game in self._playing if game is not None}
        for number in range(self.reported, self.match.games):
            if number not in self.over and number not in busy:
                opening = tuple(self._openings[number // 2 % len(self._openings)])
                return Pairing("player", "opponent", number, opening)
        return None

    def step(self) -> Metrics:
        """Tell the next result if it is known, else a move in every game."""
        if self.reported in self.over:
            share, moves = self.over[self.reported]
            self.reported += 1
            return {
                "game_last": float(self.reported),
                "points": share,
                "game_length": float(len(moves)),
                "points_mean_last": float(np.mean([self.over[k][0] for k in range(self.reported)])),
            }
        started = time.perf_counter()
        if not self._players:
            self._begin()
        for row, game in enumerate(self._playing):
            if game is None and (found := self._next_game()) is not None:
                self._playing[row] = found
                self._keys[row] = key_of(self.seed, found)
                self._boards.clear([row])
                for move in found.opening:
                    self._boards.play(np.where(np.arange(len(self._playing)) == row, move, -1))
        over = one_move(self._players, self._boards, self._playing, self._keys, ThinkingTime())
        for row, finished in over.items():
            self.over[finished.pairing.number] = self._result(finished)
            self._playing[row] = None
        return {"clock_play": time.perf_counter() - started}

    def _result(self, game: Finished) -> tuple[float, tuple[int, ...]]:
        return game.share, game.moves

    def evaluate(self, stop: Stop) -> Score:
        """The games so far: points by game, with Wilson's 95 % interval."""
        shares = np.array([self.over[k][0] for k in range(self.reported)])
        lengths = np.array([len(self.over[k][1]) for k in range(self.reported)])
        return self._score(shares, lengths, self.seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play another match.

        Raises:
            Stopped: a stop was requested.
        """
        opponent = find_player(self.match.opponent, self.device)
        try:
            shares, lengths = play_match(self.go_player("it"), opponent, self.setting, episodes, seed, stop)
        finally:
            opponent.close()
        return self._score(shares, lengths, seed)

    def _score(self, shares: NDArray[np.float64], lengths: NDArray[np.int64], seed: int) -> dict[str, Any]:
        low, high = wilson(float(shares.sum()), len(shares))
        black, white = float(shares[::2].mean()), float(shares[1::2].mean()) if len(shares) > 1 else None
        return score(shares, lengths, self.match.env) | {
            "low": low,
            "high": high,
            "black": black,
            "white": white,
            "opponent": self.match.opponent,
            "seed": seed,
        }

    def progress(self) -> Progress:
        """Games."""
        return Progress(self.reported, self.match.games, "games")

    # ---- The life of a run.

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from weights and trees; the time is not known before games were played."""
        if stop.requested:
            raise Stopped
        try_out(self.match.opponent, self.setting, stop)
        weights = [tensor for part in (self.parts or {}).values() for tensor in part.tensors.values()]
        held = sum(tensor.numel() * tensor.element_size() for tensor in weights)
        rows = min(self.match.at_once, self.match.games)
        trees = rows * (self.settings.visits + 2) * (self.setting.size**2 + 1) * 16
        moves = 2 * self.match.games * self.setting.most
        return Footprint(8 * held + trees, 0, held + moves, None, journal=held)

    def state(self) -> State:
        """The parts, and the games that are over."""
        assert self.parts is not None
        numbers = sorted(self.over)
        moves = [np.array(self.over[k][1], np.int64) for k in numbers]
        return {
            "parts": {part: {"note": copy.note, "weights": copy.tensors} for part, copy in self.parts.items()},
            "told": self.reported,
            "numbers": np.array(numbers, np.int64),
            "points": np.array([self.over[k][0] for k in numbers], np.float64),
            "lengths": np.array([len(one) for one in moves], np.int64),
            "moves": np.concatenate([*moves, np.zeros(0, np.int64)]),
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes."""
        if stop.requested:
            raise Stopped
        self.restore_policy(state)
        ends = np.cumsum(np.asarray(state["lengths"]))
        moves = np.asarray(state["moves"])
        self.over = {
            int(number): (float(points), tuple(int(move) for move in moves[end - length : end]))
            for number, points, length, end in zip(
                state["numbers"], state["points"], state["lengths"], ends, strict=True
            )
        }

    def restore_policy(self, state: State) -> None:
        """Take over only what playing needs."""
        self._leave()
        self.parts = {part: Source(copy["note"], copy["weights"]) for part, copy in state["parts"].items()}
        self.reported = int(state["told"])
        self.over = {}

    def _leave(self) -> None:
        """Stand up: games under way are given up."""
        for player in self._players.values():
            player.close()
        self._players, self._playing = {}, []

    def close(self) -> None:
        """End what the opponent has started."""
        self._leave()


def build_apv(experiment: ApvExperiment, context: Any) -> ApvSearch:
    """Build the Learner of a run."""
    parts = None if context.start is None else load_sources(context.start)
    return ApvSearch(experiment, context.device, parts)
