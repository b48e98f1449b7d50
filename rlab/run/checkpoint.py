"""Checkpoints: a learner's whole state as safetensors and JSON, verified by SHA-256, never pickled.

A checkpoint is a folder ``checkpoints/<number>/`` with ``tensors.safetensors``, ``state.json`` (the state's tree,
in which tensors and logs are named) and ``manifest.json``, which is written last and holds the hash of every file
and journal segment that the state needs, and of itself. The folder is written under another name and renamed when
it is whole. A folder ``checkpoints/kept-<progress>/`` is the same without journal segments: a past self, to play with;
``checkpoints/best-<progress>/`` is the one of the best evaluation.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file

from rlab.errors import RlabError
from rlab.machine import available_memory, gigabytes
from rlab.run.contract import Log, State
from rlab.run.files import (
    disk_error,
    fsync_dir,
    make_folder,
    persistently,
    read_json,
    sha256_of,
    to_json,
    verify,
    write_durably,
)
from rlab.run.folder import BEST, KEPT
from rlab.run.journal import Journal, Segment
from rlab.run.manifest import FILES, SCHEMA, read_manifest, sealed
from rlab.run.packing import Packed

KEEP = 3
"""How many checkpoints are kept, the newest ones."""


def most_checkpoints(total: int, keep_steps: int, best: bool = False) -> int:
    """Return the largest number of checkpoints that a run has at a time.

    They are the newest, past selves, the best one if it is kept, and one that is being written.
    """
    return KEEP + 1 + best + (total // keep_steps if keep_steps else 0)


@dataclass(frozen=True)
class Saved:
    """A verified checkpoint: the learner's state, what the loop noted beside it, progress, and its segments."""

    path: Path
    done: int
    state: State
    loop: dict[str, Any]
    segments: list[Segment]


def flatten(state: State) -> tuple[Any, dict[str, torch.Tensor], dict[str, Log]]:
    """Split a state's tree into plain JSON, tensors and logs.

    Returns:
        (tree with ``{"$tensor": key}``, ``{"$array": key}``, ``{"$packed": ...}`` and ``{"$log": [name, start, end]}``
        in the leaves' places, tensors by key, logs by name). A key that starts with ``$`` gets another one.
    """
    tensors: dict[str, torch.Tensor] = {}
    logs: dict[str, Log] = {}

    def add(tensor: torch.Tensor, path: str) -> str:
        if path in tensors:
            raise ValueError(f"two leaves of the state are both called '{path}'")
        tensors[path] = tensor
        return path

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str):
                    raise TypeError(f"state key {key!r} at '{path}' is not a string")
            return {f"${k}" if k.startswith("$") else k: walk(v, f"{path}.{k}" if path else k) for k, v in node.items()}
        if isinstance(node, (list, tuple)):
            return [walk(v, f"{path}.{i}") for i, v in enumerate(node)]
        if isinstance(node, torch.Tensor):
            return {"$tensor": add(node.detach(), path)}
        if isinstance(node, np.ndarray):
            return {"$array": add(torch.from_numpy(np.require(node, requirements=("C", "W"))), path)}
        if isinstance(node, Packed):
            parts = {name: add(part, f"{path}.{name}") for name, part in node.parts().items()}
            return {"$packed": {"shape": list(node.shape), "bits": node.bits, "parts": parts}}
        if isinstance(node, Log):
            if node.name in logs:
                raise ValueError(f"the state holds log '{node.name}' twice")
            logs[node.name] = node
            return {"$log": [node.name, node.start, node.end]}
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        raise TypeError(f"state at '{path}' holds a {type(node).__name__}, which cannot be saved")

    return walk(state, ""), tensors, logs


def unflatten(tree: Any, tensors: dict[str, torch.Tensor], read: Callable[[str, int, int], Any]) -> State:
    """Undo `flatten`; `read` yields the rows of a log."""

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(v) for v in node]
        if isinstance(node, dict):
            if "$tensor" in node:
                return tensors[node["$tensor"]]
            if "$array" in node:
                return tensors[node["$array"]].numpy()
            if "$packed" in node:
                packed = node["$packed"]
                parts = {name: tensors[key] for name, key in packed["parts"].items()}
                return Packed(tuple(packed["shape"]), packed["bits"], **parts).unpack()
            if "$log" in node:
                name, start, end = node["$log"]
                return Log(name, start, end, lambda: read(name, start, end))
            return {k.removeprefix("$"): walk(v) for k, v in node.items()}
        return node

    return walk(tree)


def to_bytes(state: State) -> bytes:
    """A state without logs as one message for another process, which runs nothing of it: JSON and safetensors."""
    tree, tensors, logs = flatten(state)
    if logs:
        raise TypeError(f"log '{next(iter(logs))}' lies in a run's journal, which no message holds")
    head = json.dumps(tree).encode()
    return len(head).to_bytes(8, "little") + head + save(_unshared(tensors))


def from_bytes(message: bytes) -> State:
    """Undo `to_bytes`; tensors and arrays have memory of their own."""
    body = 8 + int.from_bytes(message[:8], "little")
    return unflatten(json.loads(message[8:body]), load(message[body:]), _no_log)


def _no_log(name: str, start: int, end: int) -> Any:
    raise TypeError(f"a message names the log '{name}'")


def digest(state: State) -> str:
    """SHA-256 over the logical content of a learner's state: no name, clock, device or segment layout."""
    tree, tensors, logs = flatten(state)
    h = hashlib.sha256()
    h.update(json.dumps(tree, sort_keys=True, allow_nan=True).encode())
    for key in sorted(tensors):
        t = tensors[key].contiguous().cpu()
        h.update(f"{key} {t.dtype} {tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    for name in sorted(logs):
        columns: dict[str, Any] = {}
        for rows in logs[name].rows():
            for column, values in rows.items():
                if column not in columns:
                    columns[column] = hashlib.sha256(f"{values.dtype} {values.shape[1:]}".encode())
                columns[column].update(np.ascontiguousarray(values).data)
        for column in sorted(columns):
            h.update(f"{name}.{column} {columns[column].hexdigest()}".encode())
    return h.hexdigest()


class Checkpoints:
    """The checkpoints of one run, oldest first, and the journal segments they point to."""

    def __init__(self, folder: Path, journal: Journal):
        self.folder = folder
        self.journal = journal
        try:
            make_folder(folder)
        except OSError as e:
            raise disk_error(e, folder.parent) from None

    def paths(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        try:
            return sorted(p for p in self.folder.iterdir() if p.is_dir() and p.name.isdigit())
        except OSError as e:
            raise RlabError(f"{self.folder} cannot be read ({e.strerror or e})") from None

    def save(self, state: State, loop: dict[str, Any], done: int) -> Path:
        """Write a checkpoint; only then let go of older ones and of segments nobody points to.

        Args:
            state: the learner's state.
            loop: JSON that the loop keeps beside it.
            done: the run's progress, noted in the manifest.

        Raises:
            RlabError: the disk refused; every older checkpoint is as it was.
        """
        paths = self.paths()
        final = self.folder / f"{int(paths[-1].name) + 1 if paths else 1:06d}"
        self._write(final, state, loop, done, go_on=True)
        self._prune()
        return final

    def keep(self, state: State, done: int) -> Path:
        """Keep a past self for good: nothing that logs hold, so that one can play with it but not go on from it.

        One of the same progress is replaced.

        Raises:
            RlabError: the disk refused.
        """
        final = self.folder / f"{KEPT}{done:012d}"
        self._write(final, state, {}, done, go_on=False)
        return final

    def keep_best(self, state: State, done: int) -> Path:
        """Keep the best past self so far, like `keep`; only then let go of the one before.

        Raises:
            RlabError: the disk refused.
        """
        final = self.folder / f"{BEST}{done:012d}"
        self._write(final, state, {}, done, go_on=False)
        for path in self.folder.glob(f"{BEST}*"):
            if path != final:
                shutil.rmtree(path, ignore_errors=True)
        return final

    def _write(self, final: Path, state: State, loop: dict[str, Any], done: int, go_on: bool) -> None:
        part = self.folder / f".{final.name}.tmp"

        def write() -> None:
            self.journal.flush()
            tree, tensors, logs = flatten(state)
            if not go_on:
                logs = {}
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _save_tensors(_unshared(tensors), part / "tensors.safetensors")
            write_durably(part / "state.json", to_json({"schema": SCHEMA, "state": tree, "loop": loop}))
            manifest: dict[str, Any] = {
                "schema": SCHEMA,
                "done": done,
                "files": {n: sha256_of(part / n) for n in FILES},
                "ends": {log.name: log.end for log in logs.values()},
                "segments": [
                    {"log": s.log, "start": s.start, "end": s.end, "sha256": s.sha256}
                    for log in logs.values()
                    for s in self.journal.covering(log)
                ],
            }
            write_durably(part / "manifest.json", to_json(sealed(manifest)))
            fsync_dir(part)
            shutil.rmtree(final, ignore_errors=True)  # only a past self can be there already
            os.rename(part, final)

        try:
            persistently(write)
            persistently(lambda: fsync_dir(self.folder))
        except OSError as e:
            shutil.rmtree(part, ignore_errors=True)
            raise disk_error(e, self.folder) from None
        except SafetensorError as e:
            shutil.rmtree(part, ignore_errors=True)
            raise RlabError(f"cannot write under {self.folder}: {e}") from None
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def load(self, path: Path) -> Saved:
        """Read one checkpoint and verify every byte it needs.

        Raises:
            RlabError: something is missing, damaged or of another version; the message names it.
        """
        try:
            return self._load(path, read_manifest(path))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as e:
            raise RlabError(f"{path} is no checkpoint of this layout ({type(e).__name__}: {e})") from None

    def _load(self, path: Path, manifest: dict[str, Any]) -> Saved:
        for name in FILES:
            verify(path / name, manifest["files"][name])
        segments = [Segment(s["log"], s["start"], s["end"], s["sha256"]) for s in manifest["segments"]]
        for segment in segments:
            verify(self.journal.folder / segment.name, segment.sha256)
        document = read_json(path / "state.json", shown=False)
        tensors = _tensors(path / "tensors.safetensors")
        self.journal.adopt(segments, manifest["ends"])
        state = unflatten(document["state"], tensors, self.journal.read)
        return Saved(path, manifest["done"], state, document["loop"], segments)

    def load_newest(self, report: Callable[[str], None]) -> Saved | None:
        """Load the newest checkpoint that is whole; name each bad one and set it aside.

        Returns:
            None if there is no checkpoint at all.

        Raises:
            RlabError: there are checkpoints, and none of them is whole.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return self.load(path)
            except RlabError as e:
                report(f"checkpoint {path.name} is bad: {e}")
        if paths:
            raise RlabError(f"no checkpoint under {self.folder} is whole; nothing was changed")
        return None

    def discard_after(self, saved: Saved | None) -> None:
        """Continue from `saved`: set newer (bad) checkpoints aside, delete segments nobody points to."""
        for path in self.paths():
            if saved is None or path.name > saved.path.name:
                aside = path.with_name(f"bad-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                try:
                    path.rename(aside)
                except OSError as e:
                    raise disk_error(e, self.folder) from None
        self._prune()

    def _prune(self) -> None:
        paths = self.paths()
        for path in paths[:-KEEP]:
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(path.with_name(f"bad-{path.name}"), ignore_errors=True)  # set aside long ago
        keep = set()
        for path in paths[-KEEP:]:
            # An unreadable one keeps nothing alive.
            with contextlib.suppress(RlabError, KeyError, TypeError, ValueError):
                keep |= {f"{s['log']}-{s['start']:012d}-{s['end']:012d}.npz" for s in read_manifest(path)["segments"]}
        try:
            persistently(lambda: self.journal.delete_all_but(keep))
        except OSError as e:
            raise disk_error(e, self.journal.folder) from None


def _save_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    try:
        save_file(tensors, file)
    except SafetensorError as e:
        if f"os error {errno.EIO}" in str(e):  # the library has no other way to say it
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file)) from None
        raise
    with open(file, "rb") as f:
        os.fsync(f.fileno())


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, which holds every byte that its header speaks of, or is refused."""
    size, free = file.stat().st_size, available_memory()
    if size > free:
        raise RlabError(f"{file} has {gigabytes(size)}, and {gigabytes(free)} of memory are free")
    try:
        # There they begin at any byte, and products of vectors and of few rows depend on where they begin.
        return {key: tensor.clone() for key, tensor in persistently(lambda: load_file(file)).items()}
    except SafetensorError as e:
        raise RlabError(f"{file} is damaged ({e})") from None
    except OSError as e:
        raise RlabError(f"{file} cannot be read ({e.strerror or e})") from None


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU, each with memory of its own, as safetensors wants them."""
    own: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        t = tensor.contiguous().cpu()
        own[key] = t.clone() if t.untyped_storage().data_ptr() in storages else t
        storages.add(t.untyped_storage().data_ptr())
    return own
