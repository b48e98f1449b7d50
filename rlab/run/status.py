"""Read the status of a run from its folder without loading it: no torch, no lock, nothing changed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.budget import NEVER
from rlab.run.files import open_plain, read_json
from rlab.run.folder import BEST, KEPT, RunFolder, best_path, holder_of
from rlab.run.metrics import read_metrics

TAIL_BYTES = 1 << 24
"""How much of the end of metrics.jsonl is searched for a row."""

State = Literal["finished", "running", "stopped"]


@dataclass(frozen=True)
class Status:
    """How far a run is and whether somebody works on it.

    Attributes:
        state: finished: budget spent and evaluated; running: a process holds it; else stopped.
        pid: the process that holds it, if one does.
        done: progress; of a stopped run what its newest checkpoint holds.
        total: the budget, None where the configuration has none.
    """

    state: State
    pid: int | None
    done: int
    total: int | None

    def text(self) -> str:
        """One or two words for a table."""
        return f"running ({self.pid})" if self.pid is not None else self.state


def status_of(folder: RunFolder) -> Status:
    """Read a run's status.

    Raises:
        RlabError: its config.json is missing or damaged.
    """
    pid = holder_of(folder)
    newest = newest_checkpoint(folder)
    done = newest[1] if newest else 0
    total = _total(folder.config(), done) or (newest and _noted(newest[0], "total"))
    if total == NEVER:
        return Status("stopped" if pid is None else "running", pid, done, None)
    if pid is not None:
        row = last_row(folder.metrics)
        return Status("running", pid, max(done, row["step"] if row else 0), total)
    finished = (
        newest is not None and total is not None and done >= total and (_noted(newest[0], "evaluated") or 0) >= done
    )
    return Status("finished" if finished else "stopped", None, done, total)


def _total(document: dict[str, Any], done: int) -> int | None:
    """The budget by a run's config.json; None where its newest checkpoint, at `done`, says it."""
    extended = (document.get("extended") or [{}])[-1]
    if part(document, "run").get("minutes"):
        return NEVER if extended.get("step") == done else None
    return extended.get("total") or part(document, "env").get("steps")


def newest_checkpoint(folder: RunFolder) -> tuple[Path, int] | None:
    """(path, progress) of the newest checkpoint with a readable manifest; its content is not verified."""
    for path in reversed(checkpoint_paths(folder)):
        try:
            return path, int(read_json(path / "manifest.json")["done"])
        except (RlabError, KeyError, TypeError, ValueError):
            continue  # a bad one; the one before it is what a resume would take
    return None


def checkpoint_paths(folder: RunFolder) -> list[Path]:
    """A run's checkpoints, oldest first."""
    if not folder.checkpoints.is_dir():
        return []
    return sorted(p for p in folder.checkpoints.iterdir() if p.is_dir() and p.name.isdigit())


def past_selves(folder: RunFolder, with_best: bool = False) -> dict[int, Path]:
    """List a run's kept and newest checkpoints, progress -> path, in order; bad ones are left out."""
    kept = list(folder.checkpoints.glob(f"{KEPT}*")) if folder.checkpoints.is_dir() else []
    checkpoints = {}
    best = best_path(folder) if with_best else None
    for path in [*([best] if best else []), *checkpoint_paths(folder), *kept]:
        with contextlib.suppress(RlabError, KeyError, TypeError, ValueError):
            checkpoints[int(read_json(path / "manifest.json")["done"])] = path
    return dict(sorted(checkpoints.items()))


def best_evaluation(folder: RunFolder) -> dict[str, Any] | None:
    """The step of the checkpoint that is kept as the best one, and its mean as far as metrics.jsonl tells it."""
    path = best_path(folder)
    if path is None:
        return None
    step, mean = int(path.name.removeprefix(BEST)), None
    with contextlib.suppress(RlabError):
        for row in read_metrics(folder.metrics):
            if row.get("kind") == "eval" and row.get("step") == step:
                mean = row.get("mean")
    return {"step": step, "mean": mean}


def last_row(metrics: Path, kind: str | None = None) -> dict[str, Any] | None:
    """The last whole line of metrics.jsonl, or the last of a kind ("train", "eval")."""
    tail = 1 << 16
    while True:  # as much of the file's end as it takes
        try:
            with open_plain(metrics) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - tail))
                data = file.read(tail)
        except (OSError, RlabError):
            return None
        end = data.rfind(b"\n")  # a line that was cut off by a kill does not count
        while end > 0:
            start = data.rfind(b"\n", 0, end) + 1
            if start == 0 and tail < size:
                break
            if kind is None or f'"kind": "{kind}"'.encode() in data[start:end]:
                with contextlib.suppress(ValueError, RecursionError):
                    row = json.loads(data[start:end])
                    return row if isinstance(row, dict) else None
            end = start - 1
        if tail >= min(size, TAIL_BYTES):
            return None
        tail *= 16


def overview(folder: RunFolder) -> dict[str, Any]:
    """A run in a few plain values, as `rlab runs` lists it."""
    document = folder.config()
    status = status_of(folder)
    evaluation = last_row(folder.metrics, "eval")
    return {
        "name": folder.name,
        "path": str(folder.path),
        "agent": document["recipe"],
        "env": subject_of(document),
        "step": status.done,
        "total": status.total,
        "mean": evaluation["mean"] if evaluation else None,
        "status": status.state,
        "pid": status.pid,
        "age_seconds": round(time.time() - document["created"], 1),
    }


def subject_of(document: dict[str, Any]) -> str | None:
    """Name what a run learns from: an environment, a data set, or both; None if neither."""
    return " and ".join(document["subject"].values()) or None


def part(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a part of a run's configuration by name, empty where it has no such part."""
    section = document.get("config", {}).get(name)
    return section if isinstance(section, dict) else {}


def _noted(checkpoint: Path, name: str) -> int | None:
    """A number that the loop noted in a checkpoint."""
    try:
        return int(read_json(checkpoint / "state.json")["loop"][name])
    except (RlabError, KeyError, TypeError, ValueError):
        return None
