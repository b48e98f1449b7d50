"""Put right what damage, an editor or a kill has left in a run's folder. Nothing is deleted: it is moved aside."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import Checkpoints, Saved
from rlab.run.config import from_plain
from rlab.run.files import disk_error, make_folder, read_plain, refuse_links, replace_durably, to_json
from rlab.run.folder import SCHEMA, RunFolder
from rlab.run.journal import Journal
from rlab.run.lifecycle import FREE, edited
from rlab.run.loop import Notes, belonging
from rlab.run.metrics import read_metrics, read_score, readable
from rlab.trust import Untrusted

ASIDE = "set-aside"
"""The folder in a run's folder for what was replaced."""


def repair(folder: RunFolder, report: Callable[[str], None]) -> int:
    """Repair a run that no process holds; return how many things were put right.

    Unfinished files go; config.json, evaluation.json and metrics.jsonl are written anew from the newest whole
    checkpoint where they are damaged or not what belongs to it; a damaged env.json is begun anew by the next session.
    What was there before lies in the folder ``set-aside`` afterwards.

    Args:
        folder: the run; its ``config.json`` may be missing.
        report: told of each thing that was put right, and of bad checkpoints, which are left where they are.

    Raises:
        RlabError: a process holds the run, something in it leads out of it, config.json is damaged and there is no
            whole checkpoint, or the disk refused.
    """
    refuse_links(folder.path)
    lock = folder.lock()
    try:
        return _Repair(folder, report).run()
    except OSError as e:
        raise disk_error(e, folder.path) from None
    finally:
        lock.release()


class _Repair:
    def __init__(self, folder: RunFolder, report: Callable[[str], None]):
        self.folder = folder
        self.report = report
        self.count = 0

    def run(self) -> int:
        for place in (self.folder.path, self.folder.checkpoints, self.folder.journal):
            for path in sorted(place.glob(".*.tmp")):
                self.set_aside(path, "was never finished")
        saved = None
        if self.folder.checkpoints.is_dir():
            checkpoints = Checkpoints(self.folder.checkpoints, Journal(self.folder.journal))
            with contextlib.suppress(RlabError):  # each bad one is told
                saved = checkpoints.load_newest(self.report)
        notes = Notes()
        if saved is not None:
            with contextlib.suppress(TypeError):  # of another version
                notes = Notes(**saved.loop)
        self._config(saved, notes)
        self._environment()
        self._metrics(saved, notes)
        self._evaluation(saved, notes)
        return self.count

    def set_aside(self, path: Path, why: str) -> None:
        """Move a file out of the way, or a folder."""
        to = self.folder.path / ASIDE / path.name.lstrip(".")
        make_folder(to.parent)
        n = 1
        while os.path.lexists(to):
            n += 1
            to = to.with_name(f"{path.name.lstrip('.')}-{n}")
        os.rename(path, to)
        self.told(f"{path.relative_to(self.folder.path)} {why}; it lies in {to.relative_to(self.folder.path)} now")

    def told(self, text: str) -> None:
        self.count += 1
        self.report(text)

    def _config(self, saved: Saved | None, notes: Notes) -> None:
        path = self.folder.path / "config.json"
        document, problem = None, ""
        try:
            document = self.folder.config()
            config = from_plain(type(RECIPES.get(document["recipe"]).default("")), document["config"], str(path))
        except Untrusted:
            raise
        except RlabError as e:
            problem = str(e).partition("; `rlab runs repair")[0]
        if saved is None or notes.config is None:
            if problem:
                raise RlabError(f"{problem}; no whole checkpoint holds another, so nothing was done about it")
            return
        plain = notes.config
        if document is not None and not problem:
            problem = edited(self.folder, document["recipe"], config, notes) or ""
            if not problem:
                return
            free = {name: value for name, value in document["config"].get("run", {}).items() if name in FREE}
            plain = plain | {"run": plain.get("run", {}) | free}
        new = {"schema": SCHEMA, **(notes.run or self._guessed(document, plain)), "config": plain}
        if new == document:
            raise RlabError(problem)
        if os.path.lexists(path):
            self.set_aside(path, f"is not what it was ({problem})")
        replace_durably(path, to_json(new))
        self.told(f"config.json is written anew as checkpoint {saved.path.name} has it")

    def _guessed(self, document: dict[str, Any] | None, config: dict[str, Any]) -> dict[str, Any]:
        """What config.json says beside the configuration, of a run whose checkpoints do not note it yet (0.2)."""
        if document is not None:
            return {k: v for k, v in document.items() if k != "config"}
        sessions: list[dict[str, Any]] = []
        with contextlib.suppress(RlabError):
            sessions = self.folder.environment()["sessions"]
        words = str(sessions[0].get("command")).split() if sessions else []
        recipe = words[2] if words[1:2] == ["train"] and words[2:] else ""
        if recipe not in RECIPES:
            raise RlabError(
                f"{self.folder.path / 'config.json'} cannot be written anew: neither it nor env.json says which agent "
                "or model the run is of"
            )
        entry = RECIPES.get(recipe)
        typed = from_plain(type(entry.default("")), config, str(self.folder.checkpoints))
        started = sessions[0].get("started")
        created = started if isinstance(started, (int, float)) else self.folder.path.stat().st_mtime
        return {"recipe": recipe, "subject": dict(entry.subjects(typed)), "unit": entry.unit, "created": created}

    def _environment(self) -> None:
        path = self.folder.path / "env.json"
        if path.exists():
            try:
                self.folder.environment()
            except RlabError as e:
                self.set_aside(path, f"is damaged ({e})")

    def _metrics(self, saved: Saved | None, notes: Notes) -> None:
        """Bring metrics.jsonl to what belongs to the checkpoint, as a resume does."""
        path = self.folder.metrics
        if not os.path.lexists(path):
            return
        if saved is None:
            try:
                for _ in read_metrics(path):
                    pass
            except RlabError as e:
                self.set_aside(path, f"is damaged ({e})")
            return
        length, digest = notes.metrics or (0, hashlib.sha256().hexdigest())
        data = read_plain(path)
        if len(data) == length and hashlib.sha256(data).hexdigest() == digest:
            return
        whole = hashlib.sha256(data[:length]).hexdigest() == digest
        kept = data[:length] if whole else b"".join(readable(data, belonging(notes, saved.done)))
        self.set_aside(path, "goes on beyond its checkpoint" if whole else "is not what its checkpoint says")
        replace_durably(path, kept)
        self.told(
            f"metrics.jsonl is written anew with the {len(kept.splitlines())} lines that belong to the checkpoint"
        )

    def _evaluation(self, saved: Saved | None, notes: Notes) -> None:
        path = self.folder.evaluation
        if not os.path.lexists(path):
            return
        try:
            read_score(path)
        except RlabError as e:
            self.set_aside(path, f"is damaged ({e})")
            if saved is not None and notes.score and notes.evaluated == saved.done:
                replace_durably(path, to_json({"schema": 1, "step": saved.done, **notes.score}))
                self.told("evaluation.json is written anew as the run's last evaluation was")
