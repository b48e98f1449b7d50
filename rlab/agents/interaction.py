"""The one loop of agent and vector environment, as a Learner that resumes exactly.

While the environments of a step run (in C++ threads on Atari), the agent learns from the step before. Environments
that cannot save their state are restored by reset and re-execution: they restart from a derived seed at fixed step
numbers, every executed action is logged, and a chain of hashes over what was observed proves that the re-executed
way was the same.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv
from torch import nn

from rlab.agents.evaluation import Policy, play, score
from rlab.agents.types import Needs, Step
from rlab.envs import make_vec
from rlab.errors import RlabError
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.run.journal import Journal
from rlab.seeding import derive

LOG = "actions"
RECENT = 100
"""Episodes that the running mean return is taken over."""


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


class Interaction:
    """An agent in N environments, for a number of environment steps.

    Args:
        agent: the agent, made for `envs`.
        envs: what `rlab.envs.make_vec` returns, in training mode; closed by `close`.
        env: the environment's name, for evaluations.
        rules: of the game, as `rlab.envs.make_vec` takes them; evaluations play by them too.
        total_steps: the budget, all environments together.
        reset_steps: environments restart each time this many steps are done.
        ticks: vector steps in one `step()`.
        evaluate_episodes: games of an evaluation on the way.
        final_episodes: games of the evaluation at the end.
        seed: the run's seed.
        journal: takes the executed actions.
        profile_copy: makes a throwaway copy that learns at once, for measuring; None: no measurement.
    """

    def __init__(
        self,
        agent: Agent,
        envs: VectorEnv,
        env: str,
        *,
        rules: dict[str, Any],
        total_steps: int,
        reset_steps: int,
        ticks: int,
        evaluate_episodes: int,
        final_episodes: int,
        seed: int,
        journal: Journal,
        profile_copy: Callable[[Journal], Interaction] | None = None,
    ):
        self.agent = agent
        self.envs: Any = envs
        self.env = env
        self.rules = rules
        self.total_steps = total_steps
        self.period = max(1, reset_steps // envs.num_envs)  # in ticks
        self.ticks = ticks
        self.evaluate_episodes = evaluate_episodes
        self.final_episodes = final_episodes
        self.seed = seed
        self.journal = journal
        self.profile_copy = profile_copy
        n = envs.num_envs
        self.done_ticks = 0
        self.episodes = 0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self._return = np.zeros(n)
        self._length = np.zeros(n, np.int64)  # of the episodes under way
        self._ended: list[int] = []  # lengths of those that ended since the last gauges
        self._reward_size = 0.0  # the largest since then
        self._since_reset = self.period  # the first tick resets
        self._resets = 0
        self._pending: Step | None = None  # seen, not yet learned from
        self._hash = b""
        self._obs = np.empty(0)
        self._first = np.ones(n, bool)
        self._mask: np.ndarray | None = None

    @property
    def done(self) -> int:
        """Environment steps taken."""
        return self.done_ticks * self.envs.num_envs

    def step(self) -> Metrics:
        """Take `ticks` steps of every environment and learn; stops early at the end of the budget."""
        clock = dict.fromkeys(("act", "env", "learn"), 0.0)
        metrics: dict[str, float] = {}
        for _ in range(self.ticks):
            if self.done >= self.total_steps:
                break
            learned = self._tick(clock)
            if learned is not None:
                metrics.update(learned)
        metrics |= self._gauges()
        metrics.update({f"clock_{k}": v for k, v in clock.items()})
        return metrics

    def evaluate(self, stop: Stop) -> Score:
        """Play whole games with raw scores; environments and random numbers depend on seed and progress only."""
        final = self.done >= self.total_steps
        episodes = self.final_episodes if final else self.evaluate_episodes
        return self.evaluate_games(episodes, derive(self.seed, "evaluation", self.done), stop)

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play `episodes` whole games and score them; the result names the rules, epsilon and seed.

        Raises:
            Stopped: a stop was requested.
        """
        envs = make_vec(self.env, min(episodes, 32), seed, **self.rules, training=False)
        with closing(envs):
            policy = self.agent.policy(derive(seed, "policy"))
            returns, lengths = play(policy, envs, episodes, seed, stop)
        own = {name: value for name, value in self.rules.items() if value is not None}  # others are the game's own
        how = {"protocol": self.envs.protocol, "epsilon": getattr(policy, "epsilon", None), "seed": seed}
        return score(returns, lengths, self.env) | own | how

    def progress(self) -> Progress:
        """Environment steps done and planned."""
        return Progress(self.done, self.total_steps, "steps")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from the configuration; disk and time from a copy that runs for about a second and polls `stop`."""
        needs = self.agent.needs()
        known = Footprint(
            needs.memory, needs.device_memory, needs.checkpoint, trainable=needs.trainable, frozen=needs.frozen
        )
        if self.profile_copy is None:
            return known
        with tempfile.TemporaryDirectory(prefix="rlab-dry-run-") as scratch:
            journal = Journal(Path(scratch))
            with closing(journal), closing(self.profile_copy(journal)) as copy:
                per_step = copy.seconds_per_step(stop)
                journal.flush()
                rows = max(1, journal.end("replay"))
                written = sum(p.stat().st_size for p in Path(scratch).iterdir())
        # Kept checkpoints reach further back than the newest, and later frames may compress less well.
        journal_bytes = 2 * min(needs.rows, self.total_steps) * written // rows
        return replace(known, seconds=per_step * self.total_steps, journal=journal_bytes)

    def seconds_per_step(self, stop: Stop) -> float:
        """Wall time of an environment step with all its learning, measured for about a second. Alters this learner.

        Raises:
            Stopped: a stop was requested before there was a result.
        """
        learned = 0
        deadline = time.perf_counter() + 2
        while learned < 3 and time.perf_counter() < deadline:
            learned += "loss" in self._unless(stop)
        before, started = self.done, time.perf_counter()
        while time.perf_counter() - started < 1.0:
            self._unless(stop)
        return (time.perf_counter() - started) / max(1, self.done - before)

    def _unless(self, stop: Stop) -> Metrics:
        if stop.requested:
            raise Stopped
        return self.step()

    def state(self) -> State:
        """Everything but the environments themselves, and the way to bring those back."""
        return {
            "agent": self.agent.state(),
            "ticks": self.done_ticks,
            "episodes": self.episodes,
            "recent": list(self.recent),
            "since_reset": self._since_reset,
            "resets": self._resets,
            "observed": self._hash.hex(),
            "actions": self.journal.log(LOG, self.journal.end(LOG) - self._logged()),
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Restore the agent, then reset the environments and re-execute the logged actions.

        Raises:
            RlabError: the environments did not do what they did before (another version of them, for instance).
            Stopped: a stop was requested on the way.
        """
        self.agent.restore(state["agent"], stop)
        self.done_ticks, self.episodes = state["ticks"], state["episodes"]
        self._resets = state["resets"]
        if self.done_ticks:
            self._resets -= 1  # `_restart` counts it again
            self._restart()
            for rows in state["actions"].rows():
                for action in rows["action"]:
                    if stop.requested:
                        raise Stopped
                    self.envs.send(action)
                    self._pending = self._receive()
            if self._hash.hex() != state["observed"] or self._since_reset != state["since_reset"]:
                raise RlabError(
                    f"'{self.env}' did not repeat what it did before the checkpoint (another version of it, or it is "
                    "not deterministic given its seed); this run cannot be resumed exactly, and nothing was changed"
                )
        # Re-execution counted the episodes since the reset a second time.
        self.episodes = state["episodes"]
        self.recent = deque(state["recent"], maxlen=RECENT)
        self._ended, self._reward_size = [], 0.0

    def restore_policy(self, state: State) -> None:
        """Take over only what evaluating and watching need."""
        self.agent.restore_policy(state["agent"])
        self.done_ticks = state["ticks"]

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def _gauges(self) -> dict[str, float]:
        gauges: dict[str, float] = {} if self.agent.epsilon is None else {"epsilon_last": self.agent.epsilon}
        gauges["episodes_last"] = self.episodes
        gauges["reward_size_max"], self._reward_size = self._reward_size, 0.0
        if self._ended:
            gauges["episode_length"] = sum(self._ended) / len(self._ended)
            self._ended = []
        if self.recent:
            gauges["return_mean_last"] = float(np.mean(self.recent))
        return gauges

    def _logged(self) -> int:
        return self._since_reset if self.done_ticks else 0

    def _tick(self, clock: dict[str, float]) -> dict[str, float] | None:
        learned, learning = None, 0.0
        if self.agent.on_policy and self._pending is not None:
            started = time.perf_counter()
            learned = self.agent.learn(self._pending)
            learning = time.perf_counter() - started
        t0 = time.perf_counter()
        if self._since_reset == self.period:
            self._restart()
        t1 = time.perf_counter()
        action = self.agent.act(self._obs, self._first, self._mask)
        t2 = time.perf_counter()
        self.envs.send(action)
        t3 = time.perf_counter()
        if not self.agent.on_policy and self._pending is not None:
            learned = self.agent.learn(self._pending)  # while the environments run
        t4 = time.perf_counter()
        self._pending = self._receive()
        self._log(self._pending.action)
        self.done_ticks += 1
        t5 = time.perf_counter()
        clock["act"] += t2 - t1
        clock["learn"] += t4 - t3 + learning
        clock["env"] += t1 - t0 + t3 - t2 + t5 - t4
        return learned

    def _log(self, action: np.ndarray) -> None:
        """Note what was executed: int32[N], or a Box's own dtype and shape, so that it can be done again to the bit."""
        self.journal.append(
            LOG, {"action": action[None] if action.dtype.kind == "f" else action[None].astype(np.int32)}
        )

    def _restart(self) -> None:
        """Reset all environments from the next derived seed. The step before was marked as a truncation."""
        self._obs, info = self.envs.reset(seed=derive(self.seed, "environment", self._resets))
        self._first = np.ones(self.envs.num_envs, bool)
        self._mask = info.get("action_mask")
        self._return[:] = 0
        self._length[:] = 0
        self._since_reset = 0
        self._resets += 1
        self._hash = self._chain(b"", self._obs)

    def _receive(self) -> Step:
        """Receive what the environments did with the actions sent last, and account for it."""
        try:
            obs, reward, terminated, truncated, info = self.envs.recv()
        except NonFinite as e:  # it knows the copy, not how far the run is
            raise NonFinite(e.quantity, e.value, f"step {self.done + self.envs.num_envs:,} ({e.where})") from None
        if not np.isfinite(info["raw_reward"]).all():
            bad = info["raw_reward"][~np.isfinite(info["raw_reward"])][0]
            raise NonFinite("reward", float(bad), f"step {self.done:,}")
        self._since_reset += 1
        over = terminated | truncated
        last = over | (self._since_reset == self.period)
        stops = terminated | info["life_lost"] if self.envs.life_loss_ends else terminated
        step = Step(
            obs=self._obs,
            action=info["action"],
            reward=reward,
            discount=(~stops).astype(np.float32),
            last=last,
            next_obs=info["final_obs"],
            mask=self._mask,
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
        self._obs, self._first, self._mask = obs, last, info.get("action_mask")
        self._hash = self._chain(self._hash, obs, reward, over)
        return step

    def _chain(self, before: bytes, obs: np.ndarray, *more: np.ndarray) -> bytes:
        h = hashlib.blake2b(before, digest_size=16)
        newest = obs[:, -1] if self.envs.frame_stack > 1 else obs
        h.update(np.ascontiguousarray(newest).data)
        for array in more:
            h.update(np.ascontiguousarray(array).data)
        return h.digest()
