"""The buffers of stable-baselines3, filled and read in slices, with a state that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from torch import Tensor

from rlab.run.contract import Stop, Stopped
from rlab.run.journal import Journal

REPLAY = "replay"


class SlicedRollout(RolloutBuffer):
    """A rollout that is filled over several collections and read over several trainings.

    Attributes:
        batches: minibatches that one training reads, at most to the end of an epoch.
        epochs: whole passes that have been read.
    """

    batches = 1
    epochs = 0
    _at = 0
    _order = np.empty(0, np.int64)

    def reset(self) -> None:
        """Start a new rollout, unless this one is not full yet."""
        if self.full or not self.pos:
            super().reset()
            self.epochs = self._at = 0

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """As the library's, once the rollout is full."""
        if self.full:
            super().compute_returns_and_advantage(last_values, dones)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield the next minibatches of this epoch, in a random order as the library's."""
        rows = self.buffer_size * self.n_envs
        if not self.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
        if self._at == 0:
            self._order = np.random.permutation(rows)  # noqa: NPY002 - as the library's own
        size = batch_size or rows
        for _ in range(self.batches):
            yield self._get_samples(self._order[self._at : self._at + size])
            self._at += size
            if self._at >= rows:
                self._at = 0
                self.epochs += 1
                return

    def state(self) -> dict[str, Any]:
        """What has been collected so far, and how far it has been read."""
        numbers = {name: getattr(self, name) for name in ("pos", "full", "generator_ready", "epochs", "_at")}
        filled = slice(None) if self.full else slice(self.pos)
        arrays = {name: getattr(self, name)[filled].copy() for name in self._arrays()}
        return {"numbers": numbers, "arrays": arrays, "order": self._order}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.full = True
        self.reset()
        for name, value in state["arrays"].items():
            if state["numbers"]["full"]:
                setattr(self, name, value)
            else:
                getattr(self, name)[: len(value)] = value
        for name, value in state["numbers"].items():
            setattr(self, name, value)
        self._order = state["order"]

    def _arrays(self) -> list[str]:
        names = ["observations", "actions", "rewards", "returns", "episode_starts", "values", "log_probs", "advantages"]
        return [name for name in names if self.full or name not in ("returns", "advantages")]


class LoggedReplay(ReplayBuffer):
    """A replay whose rows also stream into the run's journal, so that a checkpoint only points at them.

    A row's place in the ring is its number modulo the capacity. The observation that followed is the next row's,
    but where an episode ended; only there is it logged.
    """

    journal: Journal | None = None

    def add(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, and into the journal."""
        at = self.pos
        super().add(*args, **kwargs)
        if self.journal is not None:
            row = {name: getattr(self, name)[at][None] for name in self._columns()}
            row["final"] = np.where(self._over(at), self.next_observations[at], 0)[None].astype(self.observations.dtype)
            self.journal.append(REPLAY, row)

    def state(self) -> Any:
        """A pointer at the newest rows."""
        assert self.journal is not None
        return self.journal.log(REPLAY, max(0, self.journal.end(REPLAY) - self.buffer_size))

    def restore(self, log: Any, obs: np.ndarray, stop: Stop) -> None:
        """Put every row back where it was.

        Args:
            log: what `state` returned.
            obs: [N, *shape], what the environments show now.
            stop: polled.

        Raises:
            Stopped: a stop was requested.
        """
        number = log.start
        for rows in log.rows():
            for i in range(len(rows["rewards"])):
                at = number % self.buffer_size
                for name in self._columns():
                    getattr(self, name)[at] = rows[name][i]
                self.next_observations[at] = rows["final"][i]
                number += 1
            if stop.requested:
                raise Stopped
        self.pos, self.full = log.end % self.buffer_size, log.end >= self.buffer_size
        for number in range(log.start, log.end):
            at, then = number % self.buffer_size, (number + 1) % self.buffer_size
            shown = self.observations[then] if number + 1 < log.end else obs.reshape(self.observations[at].shape)
            self.next_observations[at] = np.where(self._over(at), self.next_observations[at], shown)

    def _columns(self) -> tuple[str, ...]:
        return ("observations", "actions", "rewards", "dones", "timeouts")

    def _over(self, at: int) -> np.ndarray:
        """bool[N, 1...], where the episode ended with this row."""
        return (self.dones[at] > 0).reshape(self.n_envs, *(1,) * (self.observations.ndim - 2))
