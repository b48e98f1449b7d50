"""Fleets of actors on Ray for DQN: actors play, replay and learning stay in one place (Horgan et al. 2018).

Actors keep nothing that could be lost: each is sent parameters with their version, plays a chunk of steps with an
epsilon of its own, and returns it. The learner accepts a chunk once, by its id, if it is not of parameters that are too
old. An actor that dies or falls silent is started again; its episode is cut where the last accepted chunk ended.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from rlab.agents.interaction import EnvStream, Interaction
from rlab.agents.types import Step
from rlab.agents.value.dqn import DQN
from rlab.agents.value.exploration import epsilon_greedy
from rlab.agents.value.q_network import QNetwork, best
from rlab.agents.value.replay import Replay
from rlab.envs import make_vec
from rlab.errors import RlabError
from rlab.run.contract import Learner, Metrics
from rlab.seeding import derive

CHUNK = 32
"""Steps of each environment in a chunk."""

PUSH = 50
"""Updates from one version of the parameters to the next that actors are sent."""

OLDEST = 2_000
"""Updates that may have been made since the parameters of a chunk; older ones are refused."""

SILENT = 30.0
"""Seconds after which an actor that returned nothing is started again."""

EPSILON, ALPHA = 0.4, 7.0
"""Actor i of N explores with epsilon 0.4 ** (1 + 7 i / (N - 1)) (Horgan et al. 2018, section 4)."""

Id = tuple[int, int, int]
"""(actor, how often it was started before, number of its chunk)."""


class Chunk(NamedTuple):
    """What an actor returns."""

    id: Id
    version: int  # updates that its parameters had seen
    steps: list[Step]  # of its environments; observations hold the newest frame only
    returns: list[float]  # of episodes that ended


class Ledger:
    """Which chunks were accepted, so that none counts twice, and none of parameters that are too old.

    Attributes:
        accepted: chunks.
        refused: chunks of parameters that were too old.
        repeated: chunks that had been accepted before, or were of an actor that had been given up.
    """

    def __init__(self, oldest: int = OLDEST):
        self.oldest = oldest
        self.accepted = self.refused = self.repeated = 0
        self._newest: dict[int, tuple[int, int]] = {}

    def accept(self, chunk: Chunk, updates: int) -> bool:
        """Whether a chunk is to be learned from, by a learner with so many updates."""
        actor, *when = chunk.id
        if tuple(when) <= self._newest.get(actor, (-1, -1)):
            self.repeated += 1
            return False
        self._newest[actor] = (when[0], when[1])
        if updates - chunk.version > self.oldest:
            self.refused += 1
            return False
        self.accepted += 1
        return True


def epsilon_of(actor: int, actors: int) -> float:
    """The probability of a random action of one of several actors."""
    return EPSILON ** (1 + ALPHA * actor / max(1, actors - 1))


class Collector:
    """An actor: environments, and parameters as it was sent them last.

    Args:
        actor: its number.
        started: how often it was started before.
        env: the environment.
        copies: of it.
        seed: of environments and actions.
        rules: of the game.
        network: in which parameters are loaded.
        num_actions: of the environment.
        epsilon: probability of a random action.
    """

    def __init__(
        self,
        actor: int,
        started: int,
        env: str,
        copies: int,
        seed: int,
        rules: dict[str, Any],
        network: QNetwork,
        num_actions: int,
        epsilon: float,
    ):
        torch.set_num_threads(1)
        self.actor, self.started, self.chunks = actor, started, 0
        self.network, self.num_actions, self.epsilon = network, num_actions, epsilon
        seed = derive(seed, "actor", actor, started)
        self.rng = np.random.default_rng(derive(seed, "actions"))
        self.generator = torch.Generator().manual_seed(derive(seed, "noise"))
        envs = make_vec(env, copies, seed, **rules, training=True, threads=1)
        nowhere: Any = None  # nothing is logged: what is not accepted is as if it had not been
        self.stream = EnvStream(envs, env, 1 << 40, seed, nowhere)
        self.stream.restart()

    def collect(self, version: int, weights: dict[str, torch.Tensor], steps: int, restart: bool) -> Chunk:
        """Play a chunk with the parameters of a version; `restart` begins with new episodes."""
        self.network.load_state_dict(weights)
        stream = self.stream
        if restart:
            stream.restart()
        taken, returns = [], []
        for _ in range(steps):
            self.network.resample(self.generator)
            chosen = best(self.network.predict(stream.obs), stream.mask)
            action = epsilon_greedy(chosen, self.epsilon, stream.mask, self.num_actions, self.rng)
            stream.envs.send(action)
            episodes = stream.episodes
            step = stream.receive()
            if stream.episodes > episodes:
                returns += list(stream.recent)[episodes - stream.episodes :]
            if stream.envs.frame_stack > 1:
                step = step._replace(obs=step.obs[:, -1:].copy(), next_obs=step.next_obs[:, -1:].copy())
            taken.append(step)
        self.chunks += 1
        return Chunk((self.actor, self.started, self.chunks), version, taken, returns)


class Fleet:
    """Actors on Ray, each with one chunk under way, so that what lies in the object store is bounded.

    Args:
        make: (actor, how often it was started before) -> arguments of `Collector`.
        actors: how many.
        say: told what happened to actors.
    """

    def __init__(self, make: Callable[[int, int], tuple[Any, ...]], actors: int, say: Callable[[str], None]):
        import ray

        self.ray, self.make, self.say = ray, make, say
        self.lost = 0
        self._remote = ray.remote(max_restarts=0, num_cpus=0)(Collector)
        self._started = [-1] * actors
        self._handles: list[Any] = [None] * actors
        self._pending: dict[Any, tuple[int, float]] = {}
        self._restart = [False] * actors
        self._weights: tuple[int, Any] = (0, None)

    def send(self, version: int, weights: dict[str, torch.Tensor]) -> None:
        """Give all chunks from now on these parameters."""
        copies = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        self._weights = version, self.ray.put(copies)

    def start(self) -> None:
        """Start all actors."""
        for actor in range(len(self._handles)):
            self._start(actor)

    def ask(self, actor: int, restart: bool = False) -> None:
        """Ask an actor for its next chunk, which may begin with new episodes."""
        version, weights = self._weights
        self._restart[actor] |= restart
        ref = self._handles[actor].collect.remote(version, weights, CHUNK, self._restart[actor])
        self._restart[actor] = False
        self._pending[ref] = (actor, time.monotonic())

    def next(self) -> tuple[int, Chunk | None]:
        """Wait for any actor: (its number, its chunk, or None: it was lost and started again)."""
        while True:
            ready, _ = self.ray.wait(list(self._pending), num_returns=1, timeout=1.0)
            if ready:
                actor, _ = self._pending.pop(ready[0])
                try:
                    return actor, self.ray.get(ready[0])
                except self.ray.exceptions.RayActorError as e:
                    self._again(actor, f"is gone ({type(e).__name__})")
                    return actor, None
            now = time.monotonic()
            for ref, (actor, asked) in list(self._pending.items()):
                if now - asked > SILENT:
                    del self._pending[ref]
                    self.ray.kill(self._handles[actor])
                    self._again(actor, f"returned nothing for {SILENT:g} s")
                    return actor, None

    def close(self) -> None:
        """End all actors."""
        for handle in self._handles:
            if handle is not None:
                self.ray.kill(handle)

    def _again(self, actor: int, why: str) -> None:
        self.lost += 1
        self.say(f"actor {actor} {why}; it starts again")
        self._start(actor)

    def _start(self, actor: int) -> None:
        self._started[actor] += 1
        self._handles[actor] = self._remote.remote(actor, self._started[actor], *self.make(actor, self._started[actor]))
        self._restart[actor] = False
        self.ask(actor)


class FleetLearning:
    """What an `Interaction` does at each step while a fleet plays for it.

    Args:
        learner: of a DQN; its own environments stand still.
        fleet: the actors; anything with the same methods.
        actors: how many.
    """

    def __init__(self, learner: Interaction, fleet: Any, actors: int):
        agent = learner.agent
        assert isinstance(agent, DQN)
        assert isinstance(agent.memory, Replay)
        self.memory = agent.memory
        self.learner, self.agent, self.fleet = learner, agent, fleet
        each = agent.config.num_envs // actors
        self.columns = [np.arange(actor * each, (actor + 1) * each) for actor in range(actors)]
        self.held: dict[int, Step] = {}
        """The last step of each actor, which is the end of its episode if the actor is lost."""
        self.ledger = Ledger()
        self.cut = 0
        """Steps that are in the replay and in no count, for a stream ended with them."""
        self._stale = set[int]()
        self._sent = agent.updates
        fleet.send(agent.updates, agent.online.state_dict())
        fleet.start()

    def step(self) -> Metrics:
        """Learn from the next chunk of any actor."""
        actor, chunk = self.fleet.next()
        if chunk is None:
            self._cut(actor)
            self._stale.discard(actor)
            return {"actors_lost_last": float(self.fleet.lost)}
        if self.agent.updates - self._sent >= PUSH:
            self._sent = self.agent.updates
            self.fleet.send(self._sent, self.agent.online.state_dict())
        good = actor not in self._stale and self.ledger.accept(chunk, self.agent.updates)
        self._stale.discard(actor)
        self.fleet.ask(actor, restart=not good)
        lag = float(self.agent.updates - chunk.version)
        metrics: dict[str, float] = {"lag": lag, "largest_lag_max": lag, "actors_lost_last": float(self.fleet.lost)}
        if not good:
            self._cut(actor)
        else:
            before = self.held.pop(actor, None)
            *now, last = chunk.steps if before is None else [before, *chunk.steps]
            for step in now:
                metrics |= self._learn(step, actor) or {}
            self.held[actor] = last
        stream = self.learner.stream
        stream.recent.extend(chunk.returns)
        stream.episodes += len(chunk.returns)
        rewards = max(float(np.abs(step.reward).max()) for step in chunk.steps)
        gauges = stream.gauges() | {"refused_last": float(self.ledger.refused), "reward_size_max": rewards}
        return metrics | gauges

    def cut_all(self) -> None:
        """End all episodes here, so that the learner's state stands by itself; actors begin new ones."""
        for actor in list(self.held):
            self._cut(actor)
        self._stale = set(range(len(self.columns)))  # chunks under way go on from what was cut

    def _cut(self, actor: int) -> None:
        step = self.held.pop(actor, None)
        if step is not None:
            # Remembered, but no progress: a checkpoint, which cuts, must not move the run.
            self.memory.add(_writable(step)._replace(last=np.ones_like(step.last)), self.columns[actor])
            self.cut += len(step.last)

    def _learn(self, step: Step, actor: int) -> dict[str, float] | None:
        learned = self.agent.learn(_writable(step), self.columns[actor])
        self.learner.stream.ticks = self.agent.steps // self.agent.config.num_envs
        return learned


def _writable(step: Step) -> Step:
    """A step whose observations can be written, as torch wants them, and Ray's cannot."""
    return step._replace(obs=step.obs.copy(), next_obs=step.next_obs.copy())


def address_of(cluster: str) -> str | None:
    """What `ray.init` is given: None starts a cluster on this machine."""
    if cluster == "auto":
        return "auto" if os.environ.get("RAY_ADDRESS") else None
    return None if cluster == "local" else cluster


@contextmanager
def connected(cluster: str, say: Callable[[str], None]) -> Iterator[None]:
    """Be connected to a cluster of Ray, within; one that is started here asks for a token, and has no dashboard.

    Raises:
        RlabError: Ray is not installed, or there is no such cluster.
    """
    address, handlers = address_of(cluster), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and "ray" not in sys.modules:  # it reads these when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise RlabError("--actors needs Ray, which is not installed: pip install 'rlab-rl[cluster]'") from None
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 256 << 20} if address is None else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise RlabError(f"no cluster of Ray answers at '{cluster}' ({str(e).splitlines()[0]})") from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    say(f"actors play on {'this machine' if address is None else cluster}")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def played(learner: Learner, config: Any, say: Callable[[str], None]) -> Iterator[None]:
    """Have a fleet play for a DQN, within.

    Args:
        learner: as it is to go on.
        config: the run's, as typed settings.
        say: told what happens.

    Raises:
        RlabError: what learns is no DQN without memory, or its environments cannot be divided among the actors.
    """
    agent = getattr(learner, "agent", None)
    settings, actors = config.agent, config.agent.actors
    if not isinstance(learner, Interaction) or not isinstance(agent, DQN) or settings.recurrent:
        raise RlabError("--actors is for DQN and its variants without --memory")
    if settings.num_envs % actors:
        raise RlabError(
            f"--num-envs {settings.num_envs} cannot be divided among --actors {actors}; nearest: --num-envs "
            f"{max(1, round(settings.num_envs / actors)) * actors}"
        )
    space, shown = agent.num_actions, settings.num_envs // actors

    def make(actor: int, started: int) -> tuple[Any, ...]:
        network = agent.make_network()
        return (config.env.env, shown, config.run.seed, learner.rules, network, space, epsilon_of(actor, actors))

    with connected(settings.cluster, say):
        fleet = Fleet(make, actors, say)
        learning = FleetLearning(learner, fleet, actors)
        learner.stream.restart()  # they stand there as long as the fleet plays, and so does what a checkpoint says
        state = learner.state

        def whole() -> Any:
            learning.cut_all()
            return state()

        learner.step = learning.step  # type: ignore[method-assign]
        learner.state = whole  # type: ignore[method-assign]
        try:
            yield
        finally:
            fleet.close()
