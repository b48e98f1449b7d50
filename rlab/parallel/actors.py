"""What agents learn from fleets of actors: DQN from chunks of steps (Horgan et al. 2018), AlphaZero from its games.

Replay, learning and evaluation stay in one place. `rlab.parallel.fleet` has what both have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rlab.agents.go.alphazero import AlphaZero
from rlab.agents.interaction import Interaction
from rlab.agents.types import Step
from rlab.agents.value.dqn import DQN
from rlab.agents.value.exploration import epsilon_greedy
from rlab.agents.value.q_network import best
from rlab.agents.value.replay import Replay
from rlab.errors import RlabError
from rlab.parallel.fleet import Actors, Exchange, Fleet, Piece, pieces_of, refuse_cluster, returned
from rlab.recipes import load_recipes
from rlab.run.config import changed, from_plain, to_plain
from rlab.run.contract import Learner, Metrics, Rows, State, Stop
from rlab.run.lifecycle import BuildContext
from rlab.seeding import derive

CHUNK = 32
"""Steps of each environment in a chunk."""

MOVES = 16
"""Moves of each game that an actor of AlphaZero makes before it returns the games that are over."""

EPSILON, ALPHA = 0.4, 7.0
"""Actor i of N explores with epsilon 0.4 ** (1 + 7 i / (N - 1)) (Horgan et al. 2018, section 4)."""


def epsilon_of(actor: int, actors: int) -> float:
    """The probability of a random action of one of several actors."""
    return EPSILON ** (1 + ALPHA * actor / max(1, actors - 1))


def arguments_of(recipe: str, config: Any, done: int, actor: int, started: int, small: dict[str, Any]) -> State:
    """What `make_collector` and `make_self_play` are given: the run's settings with a share of its environments.

    Args:
        recipe: the run's.
        config: its settings.
        done: its progress at the start of this session; seeds depend on it and on the next two.
        actor: its number.
        started: how often it was started before.
        small: settings that keep what only a learner needs small.
    """
    seed = derive(config.run.seed, "actor", actor, started, done)
    share = config.agent.num_envs // config.agent.actors
    own = {"num_envs": share, "actors": 0, "seed": seed, "threads": 1, "device": "cpu"}
    plain = to_plain(changed(config, own | small))
    epsilon = epsilon_of(actor, config.agent.actors)
    return {"recipe": recipe, "config": plain, "actor": actor, "started": started, "epsilon": epsilon}


def _built(arguments: State) -> Any:
    """The learner that an actor plays with; what it would log and learn goes nowhere."""
    torch.set_num_threads(1)
    recipe = load_recipes().get(arguments["recipe"])
    config = from_plain(type(recipe.default("")), arguments["config"], "the learner's settings")
    nowhere: Any = None  # what is not accepted is as if it had not been
    return recipe.build(config, BuildContext("cpu", nowhere))


class Collector:
    """Plays chunks of steps in environments of its own; see `rlab.parallel.fleet.Player`.

    Args:
        run: of a DQN.
        actor: its number.
        started: how often it was started before.
        epsilon: probability of a random action.
    """

    def __init__(self, run: Interaction, actor: int, started: int, epsilon: float):
        assert isinstance(run.agent, DQN)
        self.stream, self.network, self.num_actions = run.stream, run.agent.online, run.agent.num_actions
        self.actor, self.started, self.chunks, self.epsilon = actor, started, 0, epsilon
        self.rng = np.random.default_rng(derive(run.agent.seed, "actions"))
        self.generator = torch.Generator().manual_seed(derive(run.agent.seed, "noise"))
        self.version = -1
        self.stream.restart()

    def play(self, version: int, weights: State, words: State) -> State:
        """Play a chunk with the parameters of a version; `restart` among the words begins with new episodes."""
        if version != self.version:
            self.version = version
            self.network.load_state_dict(weights)
        stream = self.stream
        if words["restart"]:
            stream.restart()
        taken, returns = [], []
        for _ in range(words["steps"]):
            if stream.restart_is_due:
                stream.restart()
            self.network.resample(self.generator)
            chosen = best(self.network.predict(stream.obs), stream.mask)
            action = epsilon_greedy(chosen, self.epsilon, stream.mask, self.num_actions, self.rng)
            stream.envs.send(action)
            episodes = stream.episodes
            step = stream.receive()
            if stream.episodes > episodes:
                returns += list(stream.recent)[episodes - stream.episodes :]
            if stream.envs.frame_stack > 1:
                step = step._replace(obs=step.obs[:, -1:], next_obs=step.next_obs[:, -1:])
            taken.append({name: part if part is None else part.copy() for name, part in step._asdict().items()})
        self.chunks += 1
        content = {"steps": taken, "returns": returns}
        return returned([Piece((self.actor, self.started, self.chunks), version, content)])


def make_collector(arguments: State, stopped: Callable[[], bool]) -> Collector:
    """An actor of DQN; see `rlab.parallel.fleet.Maker`."""
    return Collector(_built(arguments), arguments["actor"], arguments["started"], arguments["epsilon"])


class SelfPlay:
    """Plays games of AlphaZero against itself; see `rlab.parallel.fleet.Player`.

    Games go on with the newest parameters; a game counts as one of the oldest that it was played with.

    Args:
        run: of AlphaZero.
        actor: its number.
        started: how often it was started before.
    """

    def __init__(self, run: AlphaZero, actor: int, started: int):
        self.run, self.actor, self.started, self.games = run, actor, started, 0
        self.version = -1
        self.versions = [0] * len(run.numbers)
        self._over: list[Rows] = []
        run.take = self._take  # type: ignore[method-assign]

    def play(self, version: int, weights: State, words: State) -> State:
        """Make some moves in every game with the parameters of a version, and return the games that are over."""
        if self.version < 0:
            self.versions = [version] * len(self.versions)
        if version != self.version:
            self.version = version
            self.run.load(weights)
        pieces = []
        for _ in range(words["moves"]):
            before = self.run.numbers.copy()
            self.run.play()
            for k, rows in zip(np.flatnonzero(self.run.numbers != before), self._over, strict=True):
                self.games += 1
                pieces.append(Piece((self.actor, self.started, self.games), self.versions[k], rows))
                self.versions[k] = version
            self._over = []
        return returned(pieces)

    def _take(self, games: list[Rows]) -> dict[str, float]:
        self._over = [{name: column.copy() for name, column in rows.items()} for rows in games]
        return {}


def make_self_play(arguments: State, stopped: Callable[[], bool]) -> SelfPlay:
    """An actor of AlphaZero; see `rlab.parallel.fleet.Maker`."""
    return SelfPlay(_built(arguments), arguments["actor"], arguments["started"])


class ChunkLearning:
    """What an `Interaction` does at each step while a fleet plays for it.

    Args:
        learner: of a DQN; its own environments stand still.
        fleet: the actors.
        actors: how many.
    """

    def __init__(self, learner: Interaction, fleet: Actors, actors: int):
        agent = learner.agent
        assert isinstance(agent, DQN)
        assert isinstance(agent.memory, Replay)
        self.memory = agent.memory
        self.learner, self.agent, self.fleet = learner, agent, fleet
        each = agent.config.num_envs // actors
        self.columns = [np.arange(actor * each, (actor + 1) * each) for actor in range(actors)]
        self.held: dict[int, Step] = {}
        """The last step of each actor, which is the end of its episode if the actor is lost."""
        self.cut = 0
        """Steps that are in the replay and in no count, for a stream ended with them."""
        self._stale = set[int]()
        self.exchange = Exchange(fleet, agent.online.state_dict, lambda: agent.updates)
        self.ledger = self.exchange.ledger
        for actor in range(actors):
            self._ask(actor)

    def step(self) -> Metrics:
        """Learn from the next chunk of any actor, if one comes soon."""
        came = self.fleet.next()
        if came is None:
            return {}
        actor, played = came
        self.exchange.renew()
        if played is None:
            self._cut(actor)
            self._stale.discard(actor)
            self._ask(actor)
            return self.exchange.gauges([])
        (chunk,) = pieces = pieces_of(played)
        good = actor not in self._stale and self.exchange.accepts(chunk)
        self._stale.discard(actor)
        self._ask(actor, restart=not good)
        metrics = self.exchange.gauges(pieces)
        steps = [Step(**step) for step in chunk.content["steps"]]
        if not good:
            self._cut(actor)
        else:
            before = self.held.pop(actor, None)
            *now, last = steps if before is None else [before, *steps]
            for step in now:
                if self.learner.progress().finished:  # what was played beyond the budget is not learned from
                    last = step
                    break
                metrics |= self._learn(step, actor) or {}
            self.held[actor] = last
        stream = self.learner.stream
        stream.recent.extend(chunk.content["returns"])
        stream.episodes += len(chunk.content["returns"])
        return metrics | stream.gauges() | {"reward_size_max": max(float(np.abs(step.reward).max()) for step in steps)}

    def settle(self) -> None:
        """End all episodes here, so that the learner's state stands by itself; actors begin new ones."""
        for actor in list(self.held):
            self._cut(actor)
        self._stale = set(range(len(self.columns)))  # chunks under way go on from what was cut

    def _ask(self, actor: int, restart: bool = False) -> None:
        self.fleet.ask(actor, {"steps": CHUNK, "restart": restart})

    def _cut(self, actor: int) -> None:
        step = self.held.pop(actor, None)
        if step is not None:
            # Remembered, but no progress: a checkpoint, which cuts, must not move the run.
            self.memory.add(step._replace(last=np.ones_like(step.last)), self.columns[actor])
            self.cut += len(step.last)

    def _learn(self, step: Step, actor: int) -> dict[str, float] | None:
        learned = self.agent.learn(step, self.columns[actor])
        self.learner.stream.ticks = self.agent.steps // self.agent.config.num_envs
        return learned


class GameLearning:
    """What `AlphaZero` does at each step while a fleet plays its games. Progress counts moves of accepted games.

    Args:
        learner: its own games stand still.
        fleet: the actors.
        actors: how many.
    """

    def __init__(self, learner: AlphaZero, fleet: Actors, actors: int):
        self.learner, self.fleet = learner, fleet
        self.exchange = Exchange(fleet, learner.network.state_dict, lambda: learner.updates)
        self.ledger = self.exchange.ledger
        for actor in range(actors):
            self._ask(actor)

    def step(self) -> Metrics:
        """Make the updates that are due, or else learn from the games that come next, if some come soon."""
        if self.learner.owed >= 1 and (learned := self.learner.learn()):
            return learned  # actors wait meanwhile, so that they do not fall far behind
        came = self.fleet.next()
        if came is None:
            return {}
        actor, played = came
        self.exchange.renew()
        self._ask(actor)
        if played is None:
            return self.exchange.gauges([])
        pieces = pieces_of(played)
        games = [piece.content for piece in pieces if self.exchange.accepts(piece)]
        metrics = self.exchange.gauges(pieces)
        if games:
            metrics |= self.learner.take(games)
            self.learner.begun += len(games)
            self.learner.done += sum(len(rows["move"]) for rows in games)
        return metrics | self.learner.learn()

    def settle(self) -> None:
        """Nothing is held that the learner's state has not."""

    def _ask(self, actor: int) -> None:
        self.fleet.ask(actor, {"moves": MOVES})


def refuse(settings: Any) -> None:
    """Refuse settings of an agent that no fleet can play for.

    Raises:
        RlabError: they are such; the message says why.
    """
    if getattr(settings, "recurrent", False):
        raise RlabError("--actors is for AlphaZero, and for DQN and its variants without --memory")
    if settings.num_envs % settings.actors:
        raise RlabError(
            f"--num-envs {settings.num_envs} cannot be divided among --actors {settings.actors}; nearest: --num-envs "
            f"{max(1, round(settings.num_envs / settings.actors)) * settings.actors}"
        )
    refuse_cluster(settings.cluster)


@contextmanager
def played(
    recipe: str, learner: Learner, config: Any, say: Callable[[str], None], stop: Stop | None = None
) -> Iterator[Fleet]:
    """Have a fleet play for a DQN or AlphaZero, within.

    Args:
        recipe: the run's.
        learner: as it is to go on.
        config: the run's, as typed settings.
        say: told what happens.
        stop: polled while Ray is waited for.

    Raises:
        RlabError: no fleet can play for it, see `refuse`, or there is none.
        Stopped: a stop was requested before there was one.
    """
    refuse(config.agent)
    settings, actors, done = config.agent, config.agent.actors, learner.progress().done
    small: dict[str, Any]
    if isinstance(learner, AlphaZero):
        maker, small = "make_self_play", {"window": 1, "learning_starts": 1}
    else:
        maker = "make_collector"
        small = {"memory_size": 2 * settings.num_envs * (settings.n_step + 4), "compile": "off"}

    def arguments(actor: int, started: int) -> State:
        return arguments_of(recipe, config, done, actor, started, small)

    fleet = Fleet(f"{__name__}:{maker}", arguments, actors, settings.cluster, say, stop=stop)
    try:
        learning: ChunkLearning | GameLearning
        if isinstance(learner, AlphaZero):
            learning = GameLearning(learner, fleet, actors)
        else:
            assert isinstance(learner, Interaction)
            learner.stream.restart()  # they stand there as long as the fleet plays, and so does what a checkpoint says
            learning = ChunkLearning(learner, fleet, actors)
        state = learner.state

        def whole() -> Any:
            learning.settle()
            return state()

        learner.step = learning.step  # type: ignore[method-assign]
        learner.state = whole  # type: ignore[method-assign]
        yield fleet
    finally:
        fleet.close()
