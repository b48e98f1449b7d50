"""A replay memory that stores every frame once and builds stacks and n-step windows when sampled.

Each environment has a ring of T entries, and in it the entries follow each other in time: an entry is a step's newest
frame with its action, reward and discount; where an episode ends (or is cut), one more entry holds the true last
frame. So the successor of an entry is always the next one, and no window or stack crosses an episode's border.
Memory: T * num_envs * frame bytes (84*84 = 7,056 on Atari) plus about 22 bytes an entry; DeepMind's dqn_zoo
(`replay.py`) compresses frames instead, stable-baselines3 stores each of them four or eight times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from rlab.agents.types import Step, Transitions
from rlab.agents.value.replay.priorities import Priorities
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.journal import Journal

FIRST, LAST, FINAL = 1, 2, 4
"""Flags of an entry: an episode starts here; it ends with this step; this is only its last frame, not a step."""

LOG = "replay"


class Replay:
    """Replay over N environment streams, uniform or prioritised; appended rows also go to the run's journal.

    Args:
        capacity: entries in all; rounded down to a multiple of `num_envs`.
        num_envs: N.
        shape: one observation's shape, with the stack as first axis if `frame_stack` > 1.
        dtype: the observations' numpy dtype.
        frame_stack: frames in an observation; 1 means that observations are stored as they are.
        num_actions: A, to store action masks; None stores none.
        device: where frames live and batches arrive.
        journal: receives every entry, so that a checkpoint need not.
        alpha: exponent of priorities (Schaul et al. 2016); None: draw uniformly.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        frame_stack: int,
        num_actions: int | None,
        device: str,
        journal: Journal,
        alpha: float | None = None,
    ):
        self.num_envs = num_envs
        self.length = capacity // num_envs
        self.priorities = None if alpha is None else Priorities(num_envs * self.length, alpha)
        self.frame_stack = frame_stack
        self.frame_shape = shape[1:] if frame_stack > 1 else shape
        self.dtype = np.dtype(dtype)
        self.num_actions = num_actions
        self.device = torch.device(device)
        self.journal = journal
        self.written = np.zeros(num_envs, np.int64)  # entries ever written, by environment
        self._starting = np.ones(num_envs, bool)  # the next step opens an episode
        self._frames: torch.Tensor | None = None  # [N * T, *frame], allocated with the first step

    def __len__(self) -> int:
        """Entries held at present."""
        return int(np.minimum(self.written, self.length).sum())

    def bytes_needed(self) -> tuple[int, int]:
        """(main memory, device memory) when full; on a CPU all of it is main memory."""
        entries = self.num_envs * self.length
        frames = entries * math.prod(self.frame_shape) * self.dtype.itemsize
        columns = entries * (4 + 4 + 4 + 1 + 8 + (self.num_actions or 0))
        columns += 0 if self.priorities is None else self.priorities.bytes_needed(entries)
        return (columns + frames, 0) if self.device.type == "cpu" else (columns, frames)

    def add(self, step: Step, columns: np.ndarray | None = None) -> None:
        """Append one step of every environment, or of `columns`, and the final frame of every episode that ends."""
        if self._frames is None:
            self._allocate()
        envs = np.arange(self.num_envs) if columns is None else columns
        flags = FIRST * self._starting[envs] + LAST * step.last
        self._append(
            envs,
            self._newest(step.obs),
            step.action,
            step.reward,
            step.discount,
            flags.astype(np.uint8),
            step.mask,
        )
        self._starting[envs] = step.last
        if step.last.any():
            (ended,) = np.nonzero(step.last)
            nothing = np.zeros(len(ended), np.float32)
            flags = np.full(len(ended), FINAL, np.uint8)
            next_mask = None if step.next_mask is None else step.next_mask[ended]
            self._append(envs[ended], self._newest(step.next_obs[ended]), nothing, nothing, nothing, flags, next_mask)

    def terminals(self) -> float:
        """The share of terminals among the steps held, none: 0; a lost life that ends a return is one."""
        held = np.arange(self.length) < self.written[:, None]  # bool[N, T]
        steps = held & (self._flags & FINAL == 0) if self._frames is not None else held
        return float((self._discount[steps] == 0).mean()) if steps.any() else 0.0

    def ready(self, n_step: int) -> bool:
        """Whether there is a transition to sample for windows of `n_step`."""
        return bool(self.written.min() > n_step + 1)

    def sample(self, rng: np.random.Generator, size: int, n_step: int, gamma: float, beta: float = 1.0) -> Transitions:
        """Draw transitions, with replacement, among all entries whose n-step window is complete.

        Uniformly, or by priority; then `weight` corrects for it with exponent `beta`. An incomplete window is drawn
        anew. A window ends early where an episode ends or a discount is 0, so an episode's last steps are drawn as
        often as its others (n-step return: Sutton & Barto 2018, eq. 7.1).

        Raises:
            RlabError: there is nothing to sample.
        """
        if not self.ready(n_step):
            raise RlabError("the replay holds no complete transition yet")
        drawn: list[list[np.ndarray]] = []
        missing = size
        while missing:
            env, pos = self._draw(rng, missing)
            valid, *window = self.windows(env, pos, n_step, gamma)
            drawn.append([column[valid] for column in (env, pos, *window)])
            missing -= int(valid.sum())
        batch = self._gather(*(np.concatenate(columns) for columns in zip(*drawn, strict=True)))
        if self.priorities is None:
            return batch
        weight = torch.from_numpy(self.priorities.weights(batch.index, beta)).to(self.device)
        return batch._replace(weight=weight)

    def prioritise(self, index: np.ndarray, errors: np.ndarray) -> None:
        """Set the priorities of transitions from their errors float32[B], by `Transitions.index` int64[B]."""
        assert self.priorities is not None
        self.priorities.update(index, errors)

    def actions(self, env: np.ndarray, pos: np.ndarray) -> np.ndarray:
        """The actions taken at env[B], pos[B]: int64[B]."""
        return self._action[env, pos].astype(np.int64)

    def masks(self, env: np.ndarray, pos: np.ndarray) -> np.ndarray | None:
        """The actions allowed at env[B], pos[B]: bool[B, A]; None if there are no masks."""
        return None if self._mask is None else self._mask[env, pos]

    def flags(self, env: np.ndarray, pos: np.ndarray) -> np.ndarray:
        """FIRST, LAST and FINAL at env, pos of any one shape."""
        return self._flags[env, pos]

    def transitions(self, n_step: int, gamma: float) -> Iterator[Transitions]:
        """Every transition that `sample` can draw, one by one, in no particular order (for tests and inspection)."""
        for env in range(self.num_envs):
            for pos in range(int(min(self.written[env], self.length))):
                at = np.array([env]), np.array([pos])
                valid, *window = self.windows(*at, n_step, gamma)
                if valid[0]:
                    yield self._gather(*at, *window)

    def state(self) -> dict[str, Any]:
        """Cursors, and a reference to the journal's rows that are still in the rings."""
        end = self.journal.end(LOG)
        full = self.written >= self.length
        start = end
        if self.written.any():
            oldest = np.where(full, self.written % self.length, 0)
            start = int(self._row[np.arange(self.num_envs), oldest].min())
        state = {
            "written": self.written.tolist(),
            "starting": self._starting.tolist(),
            "rows": self.journal.log(LOG, start),
        }
        return state if self.priorities is None else state | {"priorities": self.priorities.state()}

    def restore(self, state: dict[str, Any], stop: Stop) -> None:
        """Refill the rings from the journal, every entry in its old place; polls `stop` (raises `Stopped`)."""
        self.written = np.array(state["written"], np.int64)
        self._starting = np.array(state["starting"], bool)
        if self.priorities is not None:
            self.priorities.restore(state["priorities"])
        if not self.written.any():
            return
        self._allocate()
        row = state["rows"].start
        for rows in state["rows"].rows():
            if stop.requested:
                raise Stopped
            env, pos = rows["env"], rows["pos"]
            numbers = np.arange(row, row + len(env))
            # A chunk may hold several entries of one place: keep the newest, numpy's order is not promised.
            _, newest = np.unique((env * self.length + pos)[::-1], return_index=True)
            keep = len(env) - 1 - newest
            self._store(env[keep], pos[keep], {k: v[keep] for k, v in rows.items()}, numbers[keep])
            row += len(env)

    def _allocate(self) -> None:
        n, t = self.num_envs, self.length
        frame_dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        self._frames = torch.empty((n * t, *self.frame_shape), dtype=frame_dtype, device=self.device)
        self._action = np.zeros((n, t), np.int32)
        self._reward = np.zeros((n, t), np.float32)
        self._discount = np.zeros((n, t), np.float32)
        self._flags = np.zeros((n, t), np.uint8)
        self._row = np.zeros((n, t), np.int64)  # the entry's number in the journal
        self._mask = np.ones((n, t, self.num_actions), bool) if self.num_actions else None

    def _newest(self, obs: np.ndarray) -> np.ndarray:
        return obs[:, -1] if self.frame_stack > 1 else obs

    def _append(
        self,
        env: np.ndarray,
        frame: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        discount: np.ndarray,
        flags: np.ndarray,
        mask: np.ndarray | None,
    ) -> None:
        pos = self.written[env] % self.length
        rows = {
            "env": env.astype(np.int32),
            "pos": pos.astype(np.int32),
            "frame": frame.astype(self.dtype, copy=False),
            "action": action.astype(np.int32),
            "reward": reward.astype(np.float32, copy=False),
            "discount": discount.astype(np.float32, copy=False),
            "flags": flags,
        }
        if self.num_actions:
            if mask is None:
                raise ValueError("this replay stores action masks, and the step has none")
            rows["mask"] = mask
        first = self.journal.append(LOG, rows)
        self._store(env, pos, rows, np.arange(first, first + len(env)))
        if self.priorities is not None:
            self.priorities.enter(env * self.length + pos, flags & FINAL == 0)
        self.written[env] += 1

    def _store(self, env: np.ndarray, pos: np.ndarray, rows: dict[str, np.ndarray], numbers: np.ndarray) -> None:
        assert self._frames is not None
        at = torch.from_numpy(env.astype(np.int64) * self.length + pos).to(self.device)
        self._frames[at] = torch.from_numpy(np.ascontiguousarray(rows["frame"])).to(self.device)
        self._action[env, pos] = rows["action"]
        self._reward[env, pos] = rows["reward"]
        self._discount[env, pos] = rows["discount"]
        self._flags[env, pos] = rows["flags"]
        self._row[env, pos] = numbers
        if self._mask is not None:
            self._mask[env, pos] = rows["mask"]

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(env[size], pos[size]) of entries whose windows may turn out to be incomplete."""
        if self.priorities is not None:
            env, pos = np.divmod(self.priorities.draw(rng, size), self.length)
            return env, pos
        span = int(min(self.written.max(), self.length))
        env, pos = np.divmod(rng.integers(0, self.num_envs * span, size), span)
        return env, pos

    def windows(
        self, env: np.ndarray, pos: np.ndarray, n_step: int, gamma: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(valid, steps k in the window, summed reward, discount) of the windows that start at env[B], pos[B]."""
        written = self.written[env]
        newer = (written - 1 - pos) % self.length  # entries of this stream after this one
        older = np.minimum(written, self.length) - 1 - newer
        valid = (pos < written) & (self._flags[env, pos] & FINAL == 0)
        # Once the ring has wrapped, the frames before its oldest entry are gone.
        valid &= (written <= self.length) | (older >= self.frame_stack - 1)
        steps = np.zeros(len(env), np.int64)
        reward = np.zeros(len(env), np.float32)
        discount = np.ones(len(env), np.float32)
        going = np.ones(len(env), bool)
        for i in range(n_step):
            at = (pos + i) % self.length
            reward += going * discount * self._reward[env, at]
            discount = np.where(going, discount * np.float32(gamma) * self._discount[env, at], discount)
            steps += going
            going &= (self._discount[env, at] != 0) & (self._flags[env, at] & LAST == 0)
        valid &= newer >= steps  # the window's successor has been seen
        return valid, steps, reward, discount

    def _gather(
        self, env: np.ndarray, pos: np.ndarray, steps: np.ndarray, reward: np.ndarray, discount: np.ndarray
    ) -> Transitions:
        """The transitions that start at env[B], pos[B], with what `windows` says of them."""
        successor = (pos + steps) % self.length
        mask, next_mask = self.masks(env, pos), self.masks(env, successor)
        return Transitions(
            obs=self.observations(env, pos),
            action=torch.from_numpy(self.actions(env, pos)).to(self.device),
            reward=torch.from_numpy(reward).to(self.device),
            discount=torch.from_numpy(discount).to(self.device),
            next_obs=self.observations(env, successor),
            next_mask=None if next_mask is None else torch.from_numpy(next_mask).to(self.device),
            weight=None,
            index=env * self.length + pos,
            mask=None if mask is None else torch.from_numpy(mask).to(self.device),
        )

    def observations(self, env: np.ndarray, pos: np.ndarray) -> torch.Tensor:
        """Observations [B, *shape] at env[B], pos[B]; frames before an episode's start are zero, as ALE's are."""
        assert self._frames is not None
        base = env * self.length
        if self.frame_stack == 1:
            return self._frames.index_select(0, torch.from_numpy(base + pos).to(self.device))
        places = np.empty((len(env), self.frame_stack), np.int64)
        held = np.empty((len(env), self.frame_stack), bool)
        inside = np.ones(len(env), bool)
        for back in range(self.frame_stack):  # newest first, stopping at the episode's first frame
            at = (pos - back) % self.length
            places[:, -1 - back] = base + at
            held[:, -1 - back] = inside
            inside = inside & (self._flags[env, at] & FIRST == 0)
        flat = self._frames.index_select(0, torch.from_numpy(places.reshape(-1)).to(self.device))
        if not held.all():
            flat.index_fill_(0, torch.from_numpy(np.flatnonzero(~held)).to(self.device), 0)
        return flat.view(len(env), self.frame_stack, *self.frame_shape)
