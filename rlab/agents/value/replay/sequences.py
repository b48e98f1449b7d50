"""A replay of sequences for recurrent agents, with the recurrent state at each one's start (Kapturowski et al. 2019).

Sequences start at every `sequence`-th entry of a stream's ring and hold `burn_in` + `sequence` + n entries: the first
bring the stored state up to date, the next are learned from, the last are what they lead to. So each step is learned
from in one sequence alone, and a state is stored only once every `sequence` entries. A sequence may run over an
episode's end into the next one: the state is zero again where an episode starts, no n-step window crosses, and an
episode's last frame, which is no step, is never learned from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.agents.types import Step, Transitions, Windows
from rlab.agents.value.replay.priorities import Priorities
from rlab.agents.value.replay.ring import FIRST, Replay
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped

LOG = "states"

MOST = 0.9
"""Weight of the largest error in a sequence's priority; the mean has the rest (Kapturowski et al. 2019, 2.3)."""


class Sequences:
    """Sequences over a ring of steps; `ring` has no priorities of its own.

    Args:
        ring: holds the steps; its length is a multiple of `sequence`.
        burn_in: entries that only bring the state up to date.
        sequence: entries that are learned from, 2 or more: one of them at least is a step.
        n_step: entries of which a window sums the rewards.
        state_dim: S, numbers in a recurrent state.
        alpha: exponent of priorities; None: draw uniformly.
    """

    def __init__(self, ring: Replay, burn_in: int, sequence: int, n_step: int, state_dim: int, alpha: float | None):
        self.ring = ring
        self.burn_in = burn_in
        self.sequence = sequence
        self.n_step = n_step
        self.span = burn_in + sequence + n_step
        """E, entries of a whole sequence."""
        self.slots = ring.length // sequence
        """Places for the start of a sequence in the ring of one environment."""
        if ring.length % sequence or ring.length < self.span + ring.frame_stack + sequence:
            raise ValueError(f"a ring of {ring.length} entries does not hold sequences of {self.span}")
        self.state_dim = state_dim
        self.states: np.ndarray | None = None  # float32[N, slots, S], allocated with the first step
        self.priorities = None if alpha is None else Priorities(ring.num_envs * self.slots, alpha)
        self._row = np.zeros((ring.num_envs, self.slots), np.int64)  # the state's number in the journal

    def __len__(self) -> int:
        """Whole sequences held at present."""
        _, count = self._whole()
        return int(count.sum())

    def bytes_needed(self) -> tuple[int, int]:
        """(main memory, device memory) when full; states lie in main memory."""
        memory, device_memory = self.ring.bytes_needed()
        places = self.ring.num_envs * self.slots
        memory += places * (4 * self.state_dim + 8)
        memory += 0 if self.priorities is None else self.priorities.bytes_needed(places)
        return memory, device_memory

    def add(self, step: Step, before: np.ndarray, after: np.ndarray) -> None:
        """Append one step of every environment.

        Args:
            step: the step.
            before: float32[N, S], the recurrent state before `step.obs` was seen.
            after: float32[N, S], the state after it.
        """
        ring, entry = self.ring, self.ring.written.copy()
        ring.add(step)
        if self.states is None:
            self.states = np.zeros((ring.num_envs, self.slots, self.state_dim), np.float32)
        for state in (before, after):  # the second is that of an episode's last frame, where there is one
            (envs,) = np.nonzero(entry < ring.written)
            self._note(envs, entry[envs], state)
            entry[envs] += 1

    def ready(self, n_step: int) -> bool:
        """Whether there is a sequence to sample."""
        return bool(self.ring.written.min() > self.span)

    def sample(self, rng: np.random.Generator, size: int, n_step: int, gamma: float, beta: float = 1.0) -> Transitions:
        """Draw whole sequences, with replacement, and all transitions that are learned from in them.

        Args:
            rng: decides.
            size: transitions to be had: as many sequences as whole ones fit into it, at least one.
            n_step: as given at the start.
            gamma: discount per step.
            beta: exponent of the importance weights (prioritised).

        Raises:
            RlabError: there is nothing to sample.
        """
        start, count = self._whole()
        total, wanted = int(count.sum()), max(1, size // self.sequence)
        if not total:
            raise RlabError("the replay holds no whole sequence yet")
        if self.priorities is not None:
            env, slot = np.divmod(self.priorities.draw(rng, wanted), self.slots)
            return self._gather(env, slot * self.sequence, gamma, beta)
        drawn = rng.integers(0, total, wanted)
        env = np.searchsorted(np.cumsum(count), drawn, side="right")
        drawn -= np.cumsum(count)[env] - count[env]
        return self._gather(env, (start[env] + drawn) * self.sequence % self.ring.length, gamma, beta)

    def prioritise(self, index: np.ndarray, errors: np.ndarray) -> None:
        """Set sequences' priorities from their transitions' errors float32[B], by `Transitions.index` int64[B]."""
        assert self.priorities is not None
        places, which = np.unique(index, return_inverse=True)
        largest, mean = np.zeros(len(places)), np.bincount(which, np.abs(errors)) / np.bincount(which)
        np.maximum.at(largest, which, np.abs(errors))
        self.priorities.update(places, MOST * largest + (1 - MOST) * mean)

    def state(self) -> dict[str, Any]:
        """The ring's state, and a reference to the journal's rows of the states that are still held."""
        journal, start = self.ring.journal, self.ring.journal.end(LOG)
        if self.ring.written.any():
            newest = (self.ring.written - 1) // self.sequence  # number of the newest start, by environment
            oldest = np.where(newest >= self.slots, (newest + 1) % self.slots, 0)
            start = int(self._row[np.arange(len(oldest)), oldest].min())
        state = {"ring": self.ring.state(), "states": journal.log(LOG, start)}
        return state if self.priorities is None else state | {"priorities": self.priorities.state()}

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Refill the ring and the states, each in its old place; polls `stop` (raises `Stopped`)."""
        self.ring.restore(state["ring"], stop)
        if self.priorities is not None:
            self.priorities.restore(state["priorities"])
        if not self.ring.written.any():
            return
        self.states = np.zeros((self.ring.num_envs, self.slots, self.state_dim), np.float32)
        row = state["states"].start
        for rows in state["states"].rows():
            if stop.requested:
                raise Stopped
            for i, (env, slot) in enumerate(zip(rows["env"], rows["slot"], strict=True)):  # a later one stays
                self.states[env, slot], self._row[env, slot] = rows["state"][i], row + i
            row += len(rows["env"])

    def _note(self, env: np.ndarray, entry: np.ndarray, state: np.ndarray) -> None:
        """After entries number entry[K] of environments env[K]: keep a start's state; which sequences came and went."""
        starts = entry % self.sequence == 0
        if starts.any():
            assert self.states is not None
            at, slot = env[starts], entry[starts] // self.sequence % self.slots
            rows = {"env": at.astype(np.int32), "slot": slot.astype(np.int32), "state": state[at].astype(np.float32)}
            first = self.ring.journal.append(LOG, rows)
            self.states[at, slot] = rows["state"]
            self._row[at, slot] = np.arange(first, first + len(at))
        if self.priorities is None:
            return
        gone = entry + self.ring.frame_stack - 1 - self.ring.length  # its oldest frame was written over
        whole = entry + 1 - self.span
        for number, drawable in ((gone, False), (whole, True)):
            ours = (number >= 0) & (number % self.sequence == 0)
            places = env[ours] * self.slots + number[ours] // self.sequence % self.slots
            self.priorities.enter(places, np.full(len(places), drawable))

    def _whole(self) -> tuple[np.ndarray, np.ndarray]:
        """(number of the oldest whole sequence [N], how many there are [N]) by environment."""
        written, ring = self.ring.written, self.ring
        oldest = np.maximum(0, written - ring.length + ring.frame_stack - 1)
        start = -(-oldest // self.sequence)
        return start, np.maximum(0, (written - self.span) // self.sequence + 1 - start)

    def _gather(self, env: np.ndarray, pos: np.ndarray, gamma: float, beta: float) -> Transitions:
        """The sequences that start at env[W], pos[W]."""
        ring, device, width = self.ring, self.ring.device, len(env)
        places = (pos + np.arange(self.span)[:, None]) % ring.length  # [E, W]
        learned = places[self.burn_in : self.burn_in + self.sequence].reshape(-1)
        own = np.tile(env, self.sequence)
        is_step, steps, reward, discount = ring.windows(own, learned, self.n_step, gamma)
        now = np.flatnonzero(is_step)
        which, at, own = now % width, learned[now], own[now]
        after = (at + steps[now]) % ring.length
        index = env * self.slots + pos // self.sequence
        weight = None if self.priorities is None else self.priorities.weights(index, beta)[which]

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        obs = ring.observations(np.tile(env, self.span), places.reshape(-1)).unflatten(0, (self.span, width))
        mask, next_mask = (None if m is None else tensor(m) for m in (ring.masks(own, at), ring.masks(own, after)))
        assert self.states is not None
        return Transitions(
            obs=obs,
            action=tensor(ring.actions(own, at)),
            reward=tensor(reward[now]),
            discount=tensor(discount[now]),
            next_obs=obs,
            next_mask=next_mask,
            weight=None if weight is None else tensor(weight),
            index=index[which],
            mask=mask,
            windows=Windows(
                first=tensor(ring.flags(env, places) & FIRST != 0),
                state=tensor(self.states[env, pos // self.sequence]),
                burn_in=self.burn_in,
                now=tensor(now),
                following=tensor(now + width * steps[now]),
            ),
        )
