"""Read the status of a run from its folder without loading it: no torch, no lock, nothing changed."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.budget import NEVER
from rlab.run.files import open_plain, persistently
from rlab.run.folder import BEST, KEPT, RunFolder, best_path, holder_of
from rlab.run.manifest import read_manifest, read_notes
from rlab.run.metrics import parse_row, read_metrics

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
    notes = _notes(newest[0]) if newest else {}
    done = newest[1] if newest else 0
    total = _total(folder.config(), done) or _number(notes.get("total"))
    if total == NEVER:
        return Status("stopped" if pid is None else "running", pid, done, None)
    if pid is not None:
        row = last_row(folder.metrics)
        return Status("running", pid, max(done, row["step"] if row else 0), total)
    finished = newest is not None and total is not None and done >= total
    finished = finished and (_number(notes.get("evaluated")) or 0) >= done
    return Status("finished" if finished else "stopped", None, done, total)


def _total(document: dict[str, Any], done: int) -> int | None:
    """The budget by a run's config.json; None where its newest checkpoint, at `done`, says it."""
    extended = extension_of(document)
    if part(document, "run").get("minutes"):
        return NEVER if extended.get("step") == done else None
    return _number(extended.get("total")) or _number(part(document, "env").get("steps"))


def extension_of(document: dict[str, Any]) -> dict[str, Any]:
    """The last budget that a run went on to, as its config.json notes it (`rlab.run.extension`); {} if none."""
    noted = document.get("extended")
    last = noted[-1] if isinstance(noted, list) and noted else None
    return last if isinstance(last, dict) else {}


def newest_checkpoint(folder: RunFolder) -> tuple[Path, int] | None:
    """(path, progress) of the newest checkpoint with a whole manifest; the rest of it is not verified."""
    for path in reversed(checkpoint_paths(folder)):
        with contextlib.suppress(RlabError):  # a bad one; the one before it is what a resume would take
            return path, read_manifest(path)["done"]
    return None


def checkpoint_paths(folder: RunFolder) -> list[Path]:
    """A run's checkpoints, oldest first."""
    try:
        return sorted(p for p in folder.checkpoints.iterdir() if p.is_dir() and p.name.isdigit())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise RlabError(f"{folder.checkpoints} cannot be read ({e.strerror or e})") from None


def past_selves(folder: RunFolder, with_best: bool = False) -> dict[int, Path]:
    """List a run's kept and newest checkpoints, progress -> path, in order; bad ones are left out."""
    kept = list(folder.checkpoints.glob(f"{KEPT}*")) if folder.checkpoints.is_dir() else []
    checkpoints = {}
    best = best_path(folder) if with_best else None
    for path in [*([best] if best else []), *checkpoint_paths(folder), *kept]:
        with contextlib.suppress(RlabError):
            checkpoints[read_manifest(path)["done"]] = path
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
    """The last whole row of metrics.jsonl, or the last of a kind ("train", "eval")."""
    tail = 1 << 16
    while True:  # as much of the file's end as it takes
        try:
            size, data = persistently(lambda: _end(metrics, tail))  # noqa: B023 - called here
        except (OSError, RlabError):
            return None
        end = data.rfind(b"\n")  # a line that was cut off by a kill does not count
        while end > 0:
            start = data.rfind(b"\n", 0, end) + 1
            if start == 0 and tail < size:
                break
            if kind is None or f'"kind": "{kind}"'.encode() in data[start:end]:
                with contextlib.suppress(ValueError):
                    return parse_row(data[start:end])
            end = start - 1
        if tail >= min(size, TAIL_BYTES):
            return None
        tail *= 16


def _end(file: Path, most: int) -> tuple[int, bytes]:
    """(size of a file, its last bytes)."""
    with open_plain(file) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - most))
        return size, opened.read(most)


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
        "mean": evaluation.get("mean") if evaluation else None,
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


def _notes(checkpoint: Path) -> dict[str, Any]:
    """What the loop noted in a checkpoint, {} if that cannot be read."""
    with contextlib.suppress(RlabError):
        return read_notes(checkpoint)
    return {}


def _number(value: Any) -> int | None:
    return value if type(value) is int else None
