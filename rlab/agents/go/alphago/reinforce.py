"""AlphaGo's second part: a policy that improves by games against its past selves (Silver et al. 2016, Methods,
"Policy network: reinforcement learning"): REINFORCE (Williams 1992) with the outcome of a game for all its moves.

A batch of games begins together, half of them with each colour, between the policy and one member of a pool of its
past selves; how moves are drawn and games end stands in `rlab.agents.go.alphago.policy_play`. What is learned are the
policy's
own moves, each with outcome less baseline or, with a lambda below 1, with what values say it has changed: all of them
in one update, as in the paper, or in several ones whose steps PPO's clipped ratio keeps short (Schulman et al. 2017).
Batch normalisation keeps the statistics that it came with, so that what is learned is the very policy that has played.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlab.agents.evaluation import score
from rlab.agents.go.alphago.config import START, ReinforceExperiment
from rlab.agents.go.alphago.policy_play import (
    GameReplay,
    GoPolicyPlayer,
    ask,
    choices,
    draw,
    draw_openings,
    outcomes,
    rng_keys_of,
)
from rlab.agents.go.alphago.warm_start import network_of
from rlab.agents.go.arena import Finished, Pairing, play_games
from rlab.agents.go.evaluator import Evaluator, Symmetry, drawn_symmetries
from rlab.agents.go.learning import value_loss
from rlab.agents.go.match import try_out
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.players import find_player
from rlab.agents.go.search_player import NetworkPolicy
from rlab.envs.go.boards import Boards
from rlab.envs.go.players import Player
from rlab.envs.go.symmetry import inverses
from rlab.errors import RlabError
from rlab.nn.optim import make_optimiser, restore, state_of
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped, seconds_of
from rlab.run.warm_start import load_sources
from rlab.seeding import derive
from rlab.stats import wilson

CHUNK = 128
"""Positions that are learned from together; the gradient of an update is their sum."""
OPENING = 8
"""Moves of a game of an evaluation that are drawn from the start's policy, and with a temperature below 1 of all games
the first ones, which are drawn without it and not learned."""

Weights = dict[str, Tensor]


class Reinforce:
    """The Learner. Progress counts moves of games that were learned from, the opponents' among them.

    Chance of a game comes from its number alone, and that of a batch from its number.

    Args:
        experiment: the settings.
        device: torch device.
        start: the network that it begins as; None: one that knows nothing.
    """

    def __init__(self, experiment: ReinforceExperiment, device: str, start: GoNetwork | None = None):
        self.experiment = experiment
        self.settings, self.setting = experiment.agent, experiment.env.setting()
        self.seed = experiment.run.seed
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "weights"))
            network = GoNetwork(experiment.net, self.setting.size)
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        s = self.settings
        options = {"weight_decay": 0.0} if s.optimiser == "adamw" else {}
        self.optimizer = make_optimiser(s.optimiser, self.network.parameters(), lr=s.learning_rate, **options)
        self.agent = NetworkPolicy(self.network)
        self.pool: list[Weights] = [self._weights()]
        """The start, which never leaves, and past selves, the oldest first."""
        self.joined = [0]
        """Batches of games that each member of the pool has seen."""
        self.done = self.batches = 0
        self.budget = Budget()
        self.boards = Boards(s.num_envs, self.setting, threads=1)
        self._actions = self.boards.points + 1
        self._may = np.zeros((s.num_envs, self.setting.most, self._actions), np.bool_)
        """What could be chosen before each move of the games that are played."""
        self._values = np.zeros((s.num_envs, self.setting.most), np.float32)
        """What the policy's network has thought of the position before each of its moves."""
        self._log_p = np.zeros_like(self._values)
        """Logarithm of how probable each of its moves was."""
        self._opening = OPENING if s.temperature < 1 else 0
        self._colour = 1 + np.arange(s.num_envs) % 2
        self._replay = GameReplay(self.setting)
        self._evaluators: tuple[Evaluator, Evaluator] | None = None
        """Of the policy and of its opponent, while a batch of games is played."""
        self._rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        """Of what is learned from, the games and the moves made before, once a batch of games is over."""
        self._outcomes = self._advantages = np.zeros(0, np.float32)
        self._learned = 0
        """From how many of them has been learned, each counted as often as that happened."""

    def _weights(self) -> Weights:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _network(self, weights: Weights) -> GoNetwork:
        network = copy.deepcopy(self.network)
        network.load_state_dict(weights)
        return network

    def _evaluator(self, network: GoNetwork, symmetry: Symmetry) -> Evaluator:
        return Evaluator(network, str(self.device), symmetry, self.experiment.net.search_precision)

    # ---- Playing.

    def step(self) -> Metrics:
        """A move in every game that is not over; or, when all are, a part of an update."""
        started = time.perf_counter()
        if self._rows is None:
            return self._move() | {"clock_play": time.perf_counter() - started}
        return self._learn() | {"clock_learn": time.perf_counter() - started}

    @property
    def opponent(self) -> int:
        """Which member of the pool the present batch of games is against."""
        return int(np.random.default_rng(derive(self.seed, "opponent", self.batches)).integers(len(self.pool)))

    def _words(self, games: NDArray[np.int64], plies: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Of chance, for the move after plies [K] of games [K] of this batch."""
        return rng_keys_of(derive(self.seed, "games"), self.batches * self.settings.num_envs + games, plies)

    def _move(self) -> dict[str, float]:
        boards = self.boards
        if self._evaluators is None:
            symmetry: Symmetry = "random" if self.settings.symmetries else "none"
            networks = self.network, self._network(self.pool[self.opponent])
            self._evaluators = self._evaluator(networks[0], symmetry), self._evaluator(networks[1], symmetry)
        going, own = ~boards.over, boards.turn == self._colour
        may, made = choices(boards), boards.made
        rows = np.arange(boards.number)
        self._may[rows[going], made[going]] = may[going]
        moves = np.full(boards.number, -1, np.int64)
        for evaluator, whose in zip(self._evaluators, (own, ~own), strict=True):
            some = rows[going & whose]
            if len(some):
                words = self._words(some, made[some])
                logits, values = ask(evaluator, boards, some, words)
                sharper = np.where(made[some] < self._opening, 1, 1 / self.settings.temperature).astype(np.float32)
                logits = logits * sharper[:, None]
                moves[some] = draw(logits, may[some], words)
                if whose is own:
                    self._values[some, made[some]] = values
                    all_p = np.logaddexp.reduce(np.where(may[some], logits, -np.inf), 1)
                    self._log_p[some, made[some]] = logits[np.arange(len(some)), moves[some]] - all_p
        boards.play(moves)
        return self._all_over() if boards.over.all() else {}

    def _all_over(self) -> dict[str, float]:
        """Prepare to learn from a batch of games."""
        self._evaluators = None
        made = self.boards.made
        games = np.repeat(np.arange(len(made)), made)
        plies = np.concatenate([np.arange(n) for n in made])
        own = (1 + plies % 2 == self._colour[games]) & (plies >= self._opening)
        self._rows, self._learned = (games[own], plies[own]), 0
        scores = self.boards.score()
        shares = (1 + np.sign(scores) * np.where(self._colour == 1, 1, -1)) / 2
        self._outcomes = z = outcomes(scores[self._rows[0]], self._rows[1])
        if self.settings.baseline == "value":
            self._advantages = advantages(self._values[self._rows], self._rows[0], z, self.settings.gae_lambda)
        else:
            self._advantages = z - self._baselines()[self._rows[1] % 2]
        self.optimizer.zero_grad(set_to_none=True)
        metrics = {"game_length": float(made.mean()), "pool_wins": float(shares.mean()),
                "black_wins": float((scores > 0).mean())}  # fmt: skip
        if self.opponent == 0:
            metrics["start_wins"] = float(shares.mean())
        return metrics | {"pool_last": len(self.pool)}

    # ---- Learning.

    def _baselines(self) -> NDArray[np.float32]:
        """[2]: the mean outcome of this batch's games in which the policy is Black, and White."""
        assert self._rows is not None
        z = np.sign(self.boards.score())
        return np.array([z[self._colour == 1].mean(), -z[self._colour == 2].mean()], np.float32)

    def _learn(self) -> dict[str, float]:
        """Add some positions' gradient; with the last ones of an update, make it."""
        assert self._rows is not None
        s, positions = self.settings, len(self._rows[0])
        if not positions:  # all games were over before there was anything to learn
            return self._next_batch()
        updates = max(positions // (s.batch_size or positions), 1)  # of a pass, all about as large
        begun, at = divmod(self._learned, positions)  # passes that are over, and how far this one is
        bounds = np.arange(updates + 1) * positions // updates
        first, end = bounds[(k := int(np.searchsorted(bounds, at, "right"))) - 1], bounds[k]
        part = self._order(begun)[at : min(at + CHUNK, end)]
        games, plies = self._rows[0][part], self._rows[1][part]
        kinds = np.zeros(len(games), np.int64)
        if s.symmetries:
            kinds = drawn_symmetries(self._words(games, plies))
        planes = self._replay.planes(self.boards.games.moves, games, plies, kinds)
        sources = inverses(self.setting.size)[kinds]  # [J, A]
        may = np.take_along_axis(self._may[games, plies], sources, 1)
        played = self.boards.games.moves[games, plies].astype(np.int64)
        moves = torch.from_numpy((sources == played[:, None]).argmax(1)).to(self.device)
        z = torch.from_numpy(self._outcomes[part]).to(self.device)

        outputs = self.network(torch.from_numpy(planes).to(self.device))
        logits = (outputs.policy / s.temperature).masked_fill(~torch.from_numpy(may).to(self.device), -math.inf)
        log_p = torch.log_softmax(logits, 1)
        advantage = torch.from_numpy(self._advantages[part]).to(self.device)
        chosen = log_p.gather(1, moves[:, None]).squeeze(1)
        if updates * s.epochs == 1:  # the policy is still the one that played, but for the precision of its evaluator
            before = chosen.detach()
        else:
            before = torch.from_numpy(self._log_p[games, plies]).to(self.device)
        ratio = (chosen - before).exp()
        near = ratio.clamp(1 - s.clip_range, 1 + s.clip_range)
        terms = {
            "policy_loss": -torch.minimum(advantage * ratio, advantage * near).mean(),
            "value_loss": value_loss(outputs.value, z),
        }
        terms["loss"] = terms["policy_loss"] + s.value_weight * terms["value_loss"]
        (terms["loss"] * (len(games) / (end - first))).backward()
        with torch.no_grad():
            terms["entropy"] = -torch.where(torch.isfinite(log_p), log_p.exp() * log_p, 0.0).sum(1).mean()
            terms["advantage"] = advantage.abs().mean()
            terms["clipped"] = (ratio != near).float().mean()
        metrics = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(metrics["loss"]):
            raise NonFinite("loss", metrics["loss"], f"batch of games {self.batches + 1:,}")
        self._learned += len(games)
        if at + len(games) == end:
            metrics |= self._update()
        return metrics | (self._next_batch() if self._learned == s.epochs * positions else {})

    def _order(self, begun: int) -> NDArray[np.int64]:
        """The order in which positions are learned from, in the pass after `begun` ones."""
        assert self._rows is not None
        positions = len(self._rows[0])
        if not self.settings.batch_size:
            return np.arange(positions)
        return np.random.default_rng(derive(self.seed, "order", self.batches, begun)).permutation(positions)

    def _update(self) -> dict[str, float]:
        """A step of the optimiser."""
        s = self.settings
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), s.max_grad_norm or math.inf))
        if not math.isfinite(norm):
            raise NonFinite("gradient", norm, f"batch of games {self.batches + 1:,}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": norm}

    def _next_batch(self) -> dict[str, float]:
        """Begin a new batch of games; now and then, join the pool before."""
        s = self.settings
        self.batches += 1
        self.done += int(self.boards.made.sum())
        if self.batches % s.pool_every == 0:
            self.pool.append(self._weights())
            self.joined.append(self.batches)
            if len(self.pool) > s.pool_size:
                del self.pool[1], self.joined[1]
        self.boards.clear()
        self._values[:] = self._log_p[:] = 0
        self._rows, self._learned = None, 0
        return {"batches_last": self.batches}

    # ---- How good it is.

    def evaluate(self, stop: Stop) -> Score:
        """A match against the opponent; games depend on seed and progress only."""
        env = self.experiment.env
        games = env.final_episodes if self.progress().finished else env.evaluate_episodes
        return self.evaluate_games(games, derive(self.seed, "evaluation", self.done), stop)

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play a match without search, each opening once with either colour: 1 for a game that was won, 0.5 for a draw.

        Both play their most probable moves. Against the start comes another match, in which both draw their moves, as
        in the paper: "drawn" and its interval. Intervals are Wilson's. Openings are drawn from the start's policy;
        "openings" is how many of them differ.

        Raises:
            Stopped: a stop was requested.
            RlabError: the run was packed, which leaves its start out.
        """
        env = self.experiment.env
        if not self.pool:
            raise RlabError(
                "a packed run has no copy of its start, which it is judged by; nearest: "
                f"rlab tournament RUN {self.settings.start} --board {self.setting.size}"
            )
        start = self._evaluator(self._network(self.pool[0]), "none")
        first = draw_openings(start, self.setting, -(-episodes // 2), OPENING, seed, stop)
        metrics: dict[str, Any] = {"opponent": env.opponent, "openings": len(set(first)), "seed": seed}
        if env.opponent == START:
            drawn, _ = self._meet(GoPolicyPlayer(START, start, greedy=False), first, episodes, seed, stop, greedy=False)
            low, high = wilson(float(drawn.sum()), episodes)
            metrics |= {"drawn": round(float(drawn.mean()), 4), "drawn_low": low, "drawn_high": high}
        with closing(GoPolicyPlayer(START, start) if env.opponent == START else find_player(env.opponent)) as other:
            shares, lengths = self._meet(other, first, episodes, seed, stop)
        low, high = wilson(float(shares.sum()), episodes)
        return score(shares, lengths, env.env) | {"low": low, "high": high} | metrics

    def _meet(
        self,
        other: Player,
        openings: Sequence[tuple[int, ...]],
        games: int,
        seed: int,
        stop: Stop,
        greedy: bool = True,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Points and lengths of the games of a match."""
        over: list[Finished] = []

        def keep(some: Any) -> bool:
            over.extend(some)
            stop.tell(len(over), games)
            return False

        it = GoPolicyPlayer("it", self._evaluator(self.network, "none"), greedy)
        pairings = [Pairing("it", "other", k, openings[k // 2]) for k in range(games)]
        play_games({"it": it, "other": other}, pairings, self.setting, seed=seed, stop=stop, done=keep)
        if len(over) < games:
            raise Stopped
        over.sort(key=lambda game: game.pairing.number)
        return np.array([game.share for game in over]), np.array([len(game.moves) for game in over])

    def progress(self) -> Progress:
        """Moves of games that were learned from."""
        return Progress(self.done, self.budget.end(self.experiment.env.steps), "steps")

    # ---- The life of a run.

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the arrays; time from a twin that plays and learns for a moment."""
        if self.experiment.env.opponent != START:
            try_out(self.experiment.env.opponent, self.setting, stop)
        twin = Reinforce(self.experiment, str(self.device), self.network)
        move = seconds_of(twin._move, 4, stop)
        games = np.arange(4 * CHUNK) % twin.settings.num_envs  # the fourth part, which would update, is not reached
        twin._rows, twin._learned = (games, 0 * games), 0
        twin._outcomes = twin._advantages = np.zeros(len(games), np.float32)
        learn = seconds_of(twin._learn, 2, stop)
        s = self.settings
        each = move / s.num_envs + s.epochs * learn / min(CHUNK, s.batch_size or CHUNK) / 2
        weights = sum(p.numel() for p in self.network.parameters())
        kept = self._may.nbytes + 2 * self._values.nbytes + 2 * sum(part.nbytes for part in self.boards.games)
        held = kept + 4 * weights * (s.pool_size + 8)
        return Footprint(
            held,
            0 if self.device.type == "cpu" else 4 * weights * (s.pool_size + 8),
            4 * weights * (s.pool_size + 4) + 10 * s.num_envs * self.setting.most,
            each * self.experiment.env.steps,
            weights,
        )

    def state(self) -> State:
        """Weights, optimiser, pool, the games under way, and the gradient so far."""
        made = self.boards.made
        gradient = None
        if self._learned:
            gradient = {n: p.grad.clone() for n, p in self.network.named_parameters() if p.grad is not None}
        return {
            "network": self.network.state_dict(),
            "optimizer": state_of(self.optimizer),
            "pool": self.pool,
            "joined": self.joined,
            "counters": [self.batches, self.done, self._learned],
            "made": made,
            "moves": self.boards.games.moves[:, : made.max(initial=0)].copy(),
            "values": self._values[:, : made.max(initial=0)].copy(),
            "log_p": self._log_p[:, : made.max(initial=0)].copy(),
            "gradient": gradient,
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes; games under way are played again."""
        self.restore_policy(state)
        restore(self.optimizer, state["optimizer"])
        learned = int(state["counters"][2])
        self._evaluators = self._rows = None
        made, moves = np.asarray(state["made"]), np.asarray(state["moves"]).astype(np.int64)
        self._values[:, : moves.shape[1]] = np.asarray(state["values"])
        self._log_p[:, : moves.shape[1]] = np.asarray(state["log_p"])
        self.boards.clear()
        for ply in range(int(made.max(initial=0))):
            if stop.requested:
                raise Stopped
            going = made > ply
            self._may[going, ply] = choices(self.boards)[going]
            self.boards.play(np.where(going, moves[:, ply], -1))
        if self.boards.over.all():
            self._all_over()
        self._learned = learned
        for name, parameter in self.network.named_parameters():
            known = (state["gradient"] or {}).get(name)
            parameter.grad = None if known is None else torch.empty_like(parameter).copy_(known)

    def restore_policy(self, state: State) -> None:
        """Take over only what playing needs: the policy, and whom it is judged by."""
        self.network.load_state_dict(state["network"])
        pool = state.get("pool", [])  # a packed run has none
        self.pool = [{name: t.to(self.device, copy=True) for name, t in one.items()} for one in pool]
        self.joined = [int(n) for n in state.get("joined", [])]
        self.batches, self.done = (int(n) for n in state["counters"][:2])

    def close(self) -> None:
        """Nothing is held open."""


def advantages(
    values: NDArray[np.float32], games: NDArray[np.int64], z: NDArray[np.float32], trace_decay: float
) -> NDArray[np.float32]:
    """What each of a player's moves was worth (Schulman et al. 2016, eq. 16, without discount).

    Args:
        values: [J], of the positions before its moves, for that player; those of a game in order.
        games: [J], in one piece each.
        z: [J], the game's outcome for that player, its only reward.
        trace_decay: lambda; 1: outcome less value.
    """
    found = np.empty(len(values), np.float32)
    later, after = 0.0, 0.0
    for j in range(len(values) - 1, -1, -1):
        if j + 1 == len(values) or games[j + 1] != games[j]:
            later, after = 0.0, float(z[j])
        later = after - float(values[j]) + trace_decay * later
        found[j], after = later, float(values[j])
    return found


def build_reinforce(experiment: ReinforceExperiment, context: Any) -> Reinforce:
    """Build the Learner; a new run starts as the network that was taken for it."""
    folder = context.start
    return Reinforce(experiment, context.device, None if folder is None else network_of(load_sources(folder)["start"]))
