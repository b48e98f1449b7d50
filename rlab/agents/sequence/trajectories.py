"""Trajectories of a run: whole episodes out of its replay, as a data set that other runs learn from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rlab.agents.value.replay.ring import FINAL, FIRST, LAST
from rlab.envs import is_atari
from rlab.errors import RlabError, nearest
from rlab.run.files import open_plain, read_json, replace_durably, sha256_of, to_json
from rlab.run.folder import RunFolder, all_runs, find_run
from rlab.run.journal import save_segment
from rlab.run.lifecycle import read_newest

FILE, NOTE = "trajectories.npz", "trajectories.json"


@dataclass(frozen=True)
class Trajectories:
    """Whole episodes, one after the other.

    Attributes:
        obs: [n, *shape], as the environment gave them.
        action: int64[n].
        reward: float32[n], as the run was paid.
        start: int64[E], where each episode begins.
        note: of which run and environment they are, with their digest.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    start: np.ndarray
    note: Mapping[str, Any]

    @property
    def length(self) -> np.ndarray:
        """Steps of each episode, int64[E]."""
        return np.diff(self.start, append=len(self.reward))

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64[E]."""
        return np.add.reduceat(self.reward.astype(np.float64), self.start)

    @property
    def episode(self) -> np.ndarray:
        """The episode of each step, int64[n]."""
        return np.repeat(np.arange(len(self.start)), self.length)

    @property
    def to_go(self) -> np.ndarray:
        """The return from each step to the end of its episode, its own reward included: float32[n]."""
        before = np.cumsum(self.reward, dtype=np.float64) - self.reward
        return (self.returns[self.episode] - (before - before[self.start][self.episode])).astype(np.float32)

    def best(self, share: float) -> np.ndarray:
        """Steps int64[k], ascending, of the best episodes: as few as have this share of all steps."""
        order = np.argsort(-self.returns, kind="stable")
        enough = int(np.searchsorted(np.cumsum(self.length[order]), share * len(self.reward))) + 1
        return np.flatnonzero(np.isin(self.episode, order[:enough]))


def save_trajectories(run: RunFolder) -> Trajectories:
    """Keep the whole episodes of a run's newest replay in its folder, as far back as its journal goes.

    Episodes that a restart of the environments cut end there; rewards are those that the run learned from.

    Raises:
        RlabError: the run has no replay, or no whole episode in it.
    """
    document = run.config()
    env = document["config"].get("env") or {}
    saved = read_newest(run)
    if saved is None:
        raise RlabError(f"run '{run.name}' has no checkpoint yet, so there are no trajectories")
    memory = saved.state.get("agent", {}).get("memory") or {}
    log = memory.get("ring", memory).get("rows") if isinstance(memory, dict) else None
    if log is None:
        raise RlabError(
            f"run '{run.name}' ({document['recipe']}) keeps no replay to take games from; nearest: a run of dqn"
        )
    if is_atari(env["env"]):
        raise RlabError(f"run '{run.name}' plays {env['env']}, whose frames are stacked; nearest: a run on MinAtar")
    rows = list(log.rows())
    if not rows:
        raise RlabError(f"the replay of run '{run.name}' is empty; nearest: a longer run")
    columns = _episodes({name: np.concatenate([part[name] for part in rows]) for name in rows[0]})
    if not len(columns["start"]):
        raise RlabError(f"the replay of run '{run.name}' holds no whole episode; nearest: a larger --memory-size")
    made = Trajectories(**columns, note={})
    part, path = run.path / f".{FILE}.tmp", run.path / FILE
    part.unlink(missing_ok=True)
    save_segment(part, columns)
    os.replace(part, path)
    note = {
        "schema": 1,
        "run": run.name,
        "recipe": document["recipe"],
        "step": saved.done,
        "env": env["env"],
        "options": env.get("options", {}),
        "episodes": len(made.start),
        "steps": len(made.reward),
        "returns": {
            "min": float(made.returns.min()),
            "mean": float(made.returns.mean()),
            "max": float(made.returns.max()),
        },
        "digest": sha256_of(path),
    }
    replace_durably(run.path / NOTE, to_json(note))
    return Trajectories(**columns, note=note)


def _episodes(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whole episodes of a replay's rows, environment by environment, in the order of time."""
    order = np.argsort(rows["env"], kind="stable")
    order = order[rows["flags"][order] & FINAL == 0]
    env, flags = rows["env"][order], rows["flags"][order]
    begins = (flags & FIRST != 0) | (np.diff(env, prepend=-1) != 0)  # the oldest of an environment may lack its start
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(order)) - 1
    whole = (flags[start] & FIRST != 0) & (flags[end] & LAST != 0)
    kept = order[np.repeat(whole, end - start + 1)]
    length = (end - start + 1)[whole]
    return {
        "obs": rows["frame"][kept],
        "action": rows["action"][kept].astype(np.int64),
        "reward": rows["reward"][kept],
        "start": np.cumsum(length) - length,
    }


def load_trajectories(name: str) -> Trajectories:
    """Load the trajectories of a run's name, or of a folder, verified.

    Raises:
        RlabError: there are none, or they are damaged.
    """
    folder = Path(name).expanduser()
    if not (folder / NOTE).is_file():
        try:
            folder = find_run(name).path
        except RlabError:
            valid = [run.name for run in all_runs() if (run.path / NOTE).is_file()]
            there = nearest(name, valid) if valid else "make them of a run of dqn: rlab data from-run RUN"
            raise RlabError(f"--trajectories is '{name}', no run or folder that has any; {there}") from None
    if not (folder / NOTE).is_file() or not (folder / FILE).is_file():
        raise RlabError(f"run '{folder.name}' has no trajectories yet; make them: rlab data from-run {folder.name}")
    note, path = read_json(folder / NOTE), folder / FILE
    if sha256_of(path) != note.get("digest"):
        raise RlabError(f"{path} is damaged (its digest differs); make it again: rlab data from-run {folder.name}")
    with open_plain(path) as file, np.load(file, allow_pickle=False) as archive:
        return Trajectories(**{key: archive[key] for key in ("obs", "action", "reward", "start")}, note=note)


class Windows:
    """Pieces of trajectories as a `rlab.data.batches.Dataset`: an item is the step that a piece begins with.

    Args:
        trajectories: whole episodes.
        context: K, steps of a piece at the most; it ends with its episode.
        items: the steps that pieces begin with, int64[n]; None: all.
    """

    kind = "trajectories"

    def __init__(self, trajectories: Trajectories, context: int, items: np.ndarray | None = None):
        t = self.trajectories = trajectories
        self.context = context
        self.name = str(t.note.get("run", "trajectories"))
        steps = np.arange(len(t.reward))
        self.splits = {"train": torch.from_numpy(steps if items is None else items)}
        self._end = torch.from_numpy((t.start + t.length)[t.episode])
        self._columns = {
            "obs": torch.from_numpy(t.obs),
            "action": torch.from_numpy(t.action),
            "to_go": torch.from_numpy(t.to_go),
            "time": torch.from_numpy(steps - t.start[t.episode]),
        }
        self._device = torch.device("cpu")

    def collate(self, items: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Pieces from steps items[B] on: obs [B, K, *shape], action, to_go and time [B, K], mask bool[B, K]."""
        place = items[:, None] + torch.arange(self.context)
        mask = place < self._end[items][:, None]
        place = torch.where(mask, place, items[:, None])
        columns = {name: column[place] for name, column in self._columns.items()} | {"mask": mask}
        return {name: column.to(self._device) for name, column in columns.items()}

    def to(self, device: torch.device) -> Self:
        """The same, whose batches lie on a device."""
        self._device = device
        return self
