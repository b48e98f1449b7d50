"""The one loop of agent and vector environment, as a Learner that resumes exactly.

While the environments of a step run (in C++ threads on Atari), the agent learns from the step before. Environments
that cannot save their state are restored by reset and re-execution: they restart from a derived seed at fixed step
numbers, every executed action is logged, and a chain of hashes over what was observed proves that the re-executed
way was the same.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from rlab.agents.evaluation import Policy, play, refuse_no_games, score
from rlab.agents.graph import agent_graph
from rlab.agents.types import Needs, Step
from rlab.envs import make_vec
from rlab.envs.make import is_foreign
from rlab.envs.vector import Interrupted, VecEnv
from rlab.errors import ForeignError, RlabError
from rlab.nn.graph import Graph
from rlab.run.budget import Budget
from rlab.run.config import to_plain
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.run.files import scratch_folder
from rlab.run.journal import Journal
from rlab.run.warm_start import refuse_other_shapes
from rlab.seeding import derive

LOG = "actions"
RECENT = 100
"""Episodes that the running mean return is taken over."""

LONGEST = 27_000
"""Steps after which evaluations cut an episode that nothing else limits: as many as an Atari game has at the most."""

MEASURED = 1.0
"""Seconds for which the pace of a run is measured before it begins."""

COPIES = 32
"""Environments that play an evaluation side by side, at the most."""


class Agent(Protocol):
    """What interacts: acts, learns, has a state.

    One that is `on_policy` learns from each step before it chooses the next action; the others learn while the
    environments run.
    """

    on_policy: bool

    @property
    def encoders(self) -> list[nn.Module]:
        """Where the weights of another run's encoder go."""

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Explore: obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N], or floats within the Box."""

    def learn(self, step: Step) -> dict[str, float] | None:
        """Take in one step of N environments; return metrics if there was an update."""

    def policy(self, seed: int) -> Policy:
        """What evaluations play: random numbers of its own, the agent untouched."""

    @property
    def epsilon(self) -> float | None:
        """The present probability of a random action; None for agents that explore in another way."""

    def needs(self) -> Needs:
        """What it will hold when its memory is full."""

    def state(self) -> dict[str, Any]:
        """Everything that decides what the agent does next."""

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Become the agent that `state` describes; polls `stop` (raises `Stopped`)."""

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Take over only what playing needs."""


@runtime_checkable
class Pausing(Protocol):
    """An agent that puts down a long piece of learning when the run is to stop, and takes it up again later."""

    @property
    def unfinished(self) -> bool:
        """Whether what `learn` was given last is not all learned from yet."""

    def go_on(self) -> dict[str, float] | None:
        """Go on with that; return metrics if it is done."""


@runtime_checkable
class Imitates(Protocol):
    """An agent that learns from another one, whose score is its measure."""

    def compared(self, mean: float, play: Callable[[Policy], float]) -> dict[str, Any]:
        """What an evaluation says besides, such as ``share``: how much a mean return is of the other agent's.

        Args:
            mean: the agent's own mean return.
            play: plays a policy in the same games, and returns its mean return.
        """


class EnvStream:
    """Environments whose way can be gone again, and what is counted of their episodes.

    They restart from a derived seed at fixed step numbers. A step is either logged and counted (`advance`) or only
    re-executed (`receive`).

    Args:
        envs: what `rlab.envs.make_vec` returns, in training mode.
        env: the environment's name.
        reset_steps: environments restart each time this many steps are done.
        seed: the run's seed.
        journal: takes the executed actions.
        make: makes the same environments again.
        lent: they belong to another stream, and are only measured: not seeded, and not closed.

    Attributes:
        obs: [N, *shape], shown now.
        first: bool[N], where an episode starts with it.
        mask: bool[N, A] of allowed actions, or None.
        ticks: steps of every environment so far.
    """

    def __init__(
        self,
        envs: VectorEnv,
        env: str,
        reset_steps: int,
        seed: int,
        journal: Journal,
        make: Callable[[], VectorEnv] | None = None,
        lent: bool = False,
    ):
        n = envs.num_envs
        self.envs: Any = envs
        self.env = env
        self.seed = seed
        self.journal = journal
        self.make = make
        self.lent = lent
        self.ticks = 0
        self.obs = np.empty(0)
        self.first = np.ones(n, bool)
        self.mask: np.ndarray | None = None
        self.episodes = 0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self._reset_steps = reset_steps
        self._period = max(1, reset_steps // n)  # in ticks
        self._since_reset = self._period  # the first tick resets
        self._resets = 0
        self._return = np.zeros(n)
        self._length = np.zeros(n, np.int64)  # of the episodes under way
        self._ended: list[int] = []  # lengths of those that ended since the last gauges
        self._reward_size = 0.0  # the largest since then
        self._hash = b""
        self._notes: list[str] = []
        self._told = False  # that restarts cut all episodes

    @property
    def done(self) -> int:
        """Environment steps taken."""
        return self.ticks * int(self.envs.num_envs)

    @property
    def restart_is_due(self) -> bool:
        """Whether the environments must restart before the next step."""
        return self._since_reset == self._period

    def restart(self) -> None:
        """Reset all environments from the next derived seed. The step before was marked as a truncation.

        Raises:
            Stopped: a stop was requested on the way; nothing is counted, and the restart is as due as before.
        """
        seed = derive(self.seed, "environment", self._resets)
        try:
            self.obs, info = self.envs.reset_anyhow() if self.lent else self.envs.reset(seed=seed)
        except Interrupted:
            raise Stopped from None
        self.first = np.ones(self.envs.num_envs, bool)
        self.mask = info.get("action_mask")
        self._return[:] = 0
        self._length[:] = 0
        self._since_reset = 0
        self._resets += 1
        self._hash = self._chain(b"", self.obs)

    def advance(self) -> Step:
        """Receive what the environments did with the actions sent last; log and count it."""
        step = self.receive()
        # int32[N], or a Box's own dtype and shape, so that it can be done again to the bit.
        action = step.action if step.action.dtype.kind == "f" else step.action.astype(np.int32)
        self.journal.append(LOG, {"action": action[None]})
        self.ticks += 1
        if self.restart_is_due and not self.episodes and not self._told:
            self._told = True
            self._notes.append(
                f"no episode of '{self.env}' has ended in the {self._period:,} steps of each environment after which "
                f"all restart, so that restarts cut every episode; nearest: --reset-steps {10 * self._reset_steps}"
            )
        return step

    def take_notes(self) -> list[str]:
        """What was seen since the last call that a user should know."""
        notes, self._notes = [*self._notes, *self.envs.take_notes()], []
        return notes

    def receive(self) -> Step:
        """Receive what the environments did with the actions sent last, and account for its episodes."""
        try:
            obs, reward, terminated, truncated, info = self.envs.recv()
        except NonFinite as e:  # it knows the copy, not how far the run is
            raise NonFinite(e.quantity, e.value, f"step {self.done + self.envs.num_envs:,} ({e.where})") from None
        except ForeignError as e:
            raise ForeignError(f"at step {self.done + self.envs.num_envs:,}: {e}") from e.__cause__
        if not np.isfinite(info["raw_reward"]).all():
            bad = info["raw_reward"][~np.isfinite(info["raw_reward"])][0]
            raise NonFinite("reward", float(bad), f"step {self.done:,}")
        self._since_reset += 1
        over = terminated | truncated
        last = over | self.restart_is_due
        stops = terminated | info["life_lost"] if self.envs.life_loss_ends else terminated
        step = Step(
            obs=self.obs,
            action=info["action"],
            reward=reward,
            discount=(~stops).astype(np.float32),
            last=last,
            next_obs=info["final_obs"],
            mask=self.mask,
            next_mask=info.get("final_mask"),
        )
        self._return += info["raw_reward"]
        self._length += 1
        self._reward_size = max(self._reward_size, float(np.abs(reward).max()))
        for i in np.nonzero(over)[0]:
            self.recent.append(float(self._return[i]))
            self.episodes += 1
            self._ended.append(int(self._length[i]))
            self._return[i] = self._length[i] = 0
        self.obs, self.first, self.mask = obs, last, info.get("action_mask")
        self._hash = self._chain(self._hash, obs, reward, over)
        return step

    def gauges(self) -> dict[str, float]:
        """Numbers of the episodes since the last call."""
        gauges: dict[str, float] = {"episodes_last": self.episodes}
        gauges["reward_size_max"], self._reward_size = self._reward_size, 0.0
        if self._ended:
            gauges["episode_length"] = sum(self._ended) / len(self._ended)
            self._ended = []
        if self.recent:
            gauges["return_mean_last"] = float(np.mean(self.recent))
        return gauges

    def state(self) -> State:
        """The way that brings the environments back."""
        logged = self._since_reset if self.ticks else 0
        return {
            "ticks": self.ticks,
            "episodes": self.episodes,
            "recent": list(self.recent),
            "since_reset": self._since_reset,
            "resets": self._resets,
            "observed": self._hash.hex(),
            "actions": self.journal.log(LOG, self.journal.end(LOG) - logged),
        }

    def restore(self, state: State, stop: Stop) -> Step | None:
        """Reset the environments and re-execute the logged actions; the last step of them.

        Raises:
            RlabError: the environments did not do what they did before (another version of them, for instance).
            Stopped: a stop was requested on the way.
        """
        self.ticks, self._resets = state["ticks"], state["resets"]
        step = None
        if self.ticks:
            self._resets -= 1  # `restart` counts it again
            self.restart()
            for rows in state["actions"].rows():
                for action in rows["action"]:
                    if stop.requested:
                        raise Stopped
                    self.envs.send(action)
                    step = self.receive()
            if self._hash.hex() != state["observed"] or self._since_reset != state["since_reset"]:
                raise RlabError(
                    f"'{self.env}' did not repeat what it did before the checkpoint (another version of it, or it is "
                    "not deterministic given its seed); this run cannot be resumed exactly, and nothing was changed"
                )
        # Re-execution counted the episodes since the reset a second time.
        self.episodes = state["episodes"]
        self.recent = deque(state["recent"], maxlen=RECENT)
        self._ended, self._reward_size = [], 0.0
        return step

    def _chain(self, before: bytes, obs: np.ndarray, *more: np.ndarray) -> bytes:
        h = hashlib.blake2b(before, digest_size=16)
        newest = obs[:, -1] if self.envs.frame_stack > 1 else obs
        h.update(np.ascontiguousarray(newest).data)
        for array in more:
            h.update(np.ascontiguousarray(array).data)
        return h.digest()


class Interaction:
    """An agent in N environments, for a number of environment steps.

    Args:
        agent: the agent, made for these environments.
        stream: the environments; closed by `close`.
        rules: of the game, as `rlab.envs.make_vec` takes them; evaluations play by them too.
        total_steps: the budget, all environments together.
        ticks: vector steps in one `step()`.
        evaluate_episodes: games of an evaluation on the way.
        final_episodes: games of the evaluation at the end.
        profile_copy: makes a throwaway copy that learns at once, for measuring, in environments of its own or in those
            that it is given; None: no measurement.
        evaluates: whether there are evaluations before the end.
    """

    def __init__(
        self,
        agent: Agent,
        stream: EnvStream,
        *,
        rules: dict[str, Any],
        total_steps: int,
        ticks: int,
        evaluate_episodes: int,
        final_episodes: int,
        profile_copy: Callable[[Journal, Stop, VectorEnv | None], Interaction] | None = None,
        evaluates: bool = True,
    ):
        self.agent = agent
        self.stream = stream
        self.env = stream.env
        self.seed = stream.seed
        self.journal = stream.journal
        self.rules = rules
        self.total_steps = total_steps
        self.ticks = ticks
        self.evaluate_episodes = evaluate_episodes
        self.final_episodes = final_episodes
        self.profile_copy = profile_copy
        self.evaluates = evaluates
        self._notes: list[str] = []
        self.budget = Budget()
        self._pending: Step | None = None  # seen, not yet learned from

    @property
    def envs(self) -> Any:
        """The environments that it learns in."""
        return self.stream.envs

    @property
    def done(self) -> int:
        """Environment steps taken; without those of the last tick while learning that belongs to it is put down."""
        return self.stream.done - self._unfinished * self.envs.num_envs

    @property
    def _unfinished(self) -> bool:
        return isinstance(self.agent, Pausing) and self.agent.unfinished

    def step(self) -> Metrics:
        """Take `ticks` steps of every environment and learn; stops early at the end of the budget.

        Learning that a stop interrupted is all that the next step does, so that both together are the same step.
        """
        clock = dict.fromkeys(("act", "env", "learn"), 0.0)
        metrics: dict[str, float] = {}
        if isinstance(self.agent, Pausing) and self.agent.unfinished:
            started = time.perf_counter()
            metrics = self.agent.go_on() or {}
            return metrics | {"clock_learn": time.perf_counter() - started}
        for _ in range(self.ticks):
            if self.done >= self.budget.end(self.total_steps):
                break
            if self.stream.restart_is_due:
                try:
                    self._restart(clock)
                except Stopped:  # the next step begins with it
                    break
            learned = self._tick(clock)
            if learned is not None:
                metrics.update(learned)
        metrics |= self.gauges()
        metrics.update({f"clock_{k}": v for k, v in clock.items()})
        return metrics

    def evaluate(self, stop: Stop) -> Score:
        """Play whole games with raw scores; environments and random numbers depend on seed and progress only.

        At the end of the budget the environments that it learned in are closed first: of a simulator there may be one.
        """
        final = self.done >= self.budget.end(self.total_steps)
        if final:
            self.close()
        episodes = self.final_episodes if final else self.evaluate_episodes
        score = self.evaluate_games(episodes, derive(self.seed, "evaluation", self.done), stop)
        if score.get("cut"):
            self._notes.append(
                f"{score['cut']} of {episodes} episodes of the evaluation were cut at {LONGEST:,} steps, for nothing "
                "ended them; --max-steps sets a limit of your own"
            )
        return score

    def take_notes(self) -> list[str]:
        """What was seen since the last call that a user should know; see `rlab.run.contract.Tells`."""
        notes, self._notes = [*self._notes, *self.stream.take_notes()], []
        return notes

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

    def graph(self) -> Graph:
        """What the agent acts by; see `rlab.run.contract.Exports`."""
        return agent_graph(self.agent, self.envs.single_observation_space, self.envs.single_action_space, self.rules)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play `episodes` whole games and score them; the result names the rules, epsilon and seed.

        An episode that nothing limits is cut after `LONGEST` steps; `cut` then says how many were.

        Raises:
            RlabError: no episodes, or a negative seed.
            Stopped: a stop was requested.
        """
        with closing(self._evaluation_envs(episodes, seed)) as envs:
            policy = self.agent.policy(derive(seed, "policy"))
            returns, lengths = play(policy, envs, episodes, seed, stop)
            beside: dict[str, Any] = {}
            if isinstance(self.agent, Imitates):

                def mean_of(other: Policy) -> float:
                    return float(play(other, envs, episodes, seed, stop)[0].mean())

                beside = self.agent.compared(float(returns.mean()), mean_of)
        own = to_plain({k: v for k, v in self.rules.items() if v is not None})  # others are the game's own
        how = {"protocol": envs.protocol, "epsilon": getattr(policy, "epsilon", None), "seed": seed}
        cut = int((lengths >= LONGEST).sum()) if self.envs.endless else 0
        return score(returns, lengths, self.env) | own | how | beside | ({"cut": cut} if cut else {})

    def _evaluation_envs(self, episodes: int, seed: int) -> VecEnv:
        """Of a user's environment no more copies than learn side by side."""
        refuse_no_games(episodes, seed)
        rules = self.rules | ({"max_steps": LONGEST} if self.envs.endless else {})
        copies = min(episodes, self.envs.num_envs if is_foreign(self.env) else COPIES, COPIES)
        return make_vec(self.env, copies, seed, **rules, training=False)

    def progress(self) -> Progress:
        """Environment steps done and planned; by the clock the end is not known before the time is up."""
        return Progress(self.done, self.budget.end(self.total_steps), "steps")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the configuration; disk and time from a copy that runs for about a second and polls `stop`.

        Of a user's environment there are never more copies than the run itself will have: those that it learns in are
        closed meanwhile, and then those that will play evaluations are opened beside them, to see that it can be done.

        Raises:
            RlabError: it cannot.
        """
        needs = self.agent.needs()
        known = Footprint(
            needs.memory,
            needs.device_memory,
            needs.checkpoint,
            trainable=needs.trainable,
            frozen=needs.frozen,
            one_thread=len(self.envs.single_observation_space.shape or ()) < 2,
        )
        if self.profile_copy is None:
            return known
        foreign = is_foreign(self.env) and self.stream.make is not None
        if foreign:
            self.close()
        with scratch_folder() as scratch:
            journal = Journal(scratch)
            lent = self.envs if self.envs.lends and not self.stream.ticks else None
            with closing(journal), closing(self.profile_copy(journal, stop, lent)) as copy:
                notes = copy.envs.examine()
                per_step = copy.seconds_per_step(stop)
                journal.flush()
                rows = max(1, journal.end("replay"))
                written = sum(p.stat().st_size for p in scratch.iterdir())
        # Kept checkpoints reach further back than the newest, and later frames may compress less well.
        journal_bytes = 2 * min(needs.rows, self.total_steps) * written // rows
        if foreign:
            self._reopen()
        seconds = per_step * self.total_steps
        return replace(known, seconds=seconds, journal=journal_bytes, notes=tuple(notes))

    def _reopen(self) -> None:
        assert self.stream.make is not None
        self.stream.envs = self.stream.make()
        if not self.evaluates:
            return
        try:
            self._evaluation_envs(self.evaluate_episodes, 0).close()
        except ForeignError as e:
            raise ForeignError(
                f"{e}; evaluations on the way need copies of '{self.env}' beside the {self.envs.num_envs} that learn; "
                "nearest: --evaluate-steps 0, which evaluates at the end only"
            ) from e.__cause__

    def seconds_per_step(self, stop: Stop) -> float:
        """Wall time of an environment step with all its learning, measured for `MEASURED` seconds. Alters this learner.

        Raises:
            Stopped: a stop was requested before there was a result.
        """
        learned = 0
        deadline = time.perf_counter() + 2
        while learned < 3 and time.perf_counter() < deadline:
            learned += "loss" in self._unless(stop)
        before, started = self.done, time.perf_counter()
        while time.perf_counter() - started < MEASURED:
            self._unless(stop)
        return (time.perf_counter() - started) / max(1, self.done - before)

    def _unless(self, stop: Stop) -> Metrics:
        if stop.requested:
            raise Stopped
        return self.step()

    def state(self) -> State:
        """Everything but the environments themselves, and the way to bring those back."""
        unfinished = {"unfinished": True} if self._unfinished else {}
        return {"agent": self.agent.state()} | self.stream.state() | unfinished

    def restore(self, state: State, stop: Stop) -> None:
        """Restore the agent, then reset the environments and re-execute the logged actions.

        Raises:
            RlabError: the environments did not do what they did before (another version of them, for instance).
            Stopped: a stop was requested on the way.
        """
        self.agent.restore(state["agent"], stop)
        self._pending = self.stream.restore(state, stop)

    def start_from(self, part: str, parameters: Mapping[str, Tensor]) -> None:
        """Begin with the parameters of another run's agent; see `rlab.run.contract.StartsFromRun`.

        Raises:
            RlabError: the networks differ, and what differs first.
        """
        own = self.agent.state().get(part)
        if own is None:
            raise RlabError("its network is of another kind of agent; nearest: an agent of the same family")
        refuse_other_shapes(own, parameters)
        self.agent.restore_policy({part: dict(parameters)})

    def restore_policy(self, state: State) -> None:
        """Take over only what evaluating and watching need; it cannot go on learning then."""
        self.agent.restore_policy(state["agent"])
        self.stream.ticks = state["ticks"] - bool(state.get("unfinished"))
        self.close()  # of a simulator there may be one

    def close(self) -> None:
        """Close the environments."""
        if not self.stream.lent:
            self.envs.close()

    def gauges(self) -> dict[str, float]:
        """Numbers of acting since the last call: how much is random, and how episodes went."""
        gauges: dict[str, float] = {} if self.agent.epsilon is None else {"epsilon_last": self.agent.epsilon}
        return gauges | self.stream.gauges()

    def _tick(self, clock: dict[str, float]) -> dict[str, float] | None:
        stream, learned, learning = self.stream, None, 0.0
        if self.agent.on_policy and self._pending is not None:
            started = time.perf_counter()
            learned = self.agent.learn(self._pending)
            learning = time.perf_counter() - started
        t1 = time.perf_counter()
        action = self.agent.act(stream.obs, stream.first, stream.mask)
        t2 = time.perf_counter()
        stream.envs.send(action)
        t3 = time.perf_counter()
        if not self.agent.on_policy and self._pending is not None:
            learned = self.agent.learn(self._pending)  # while the environments run
        t4 = time.perf_counter()
        self._pending = stream.advance()
        t5 = time.perf_counter()
        clock["act"] += t2 - t1
        clock["learn"] += t4 - t3 + learning
        clock["env"] += t3 - t2 + t5 - t4
        return learned

    def _restart(self, clock: dict[str, float]) -> None:
        started = time.perf_counter()
        self.stream.restart()
        clock["restart"] = time.perf_counter() - started
