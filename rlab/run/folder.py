"""The run folder: where everything of one run lies, who holds it, and how a run is found by name.

Layout: ``config.json`` · ``env.json`` · ``metrics.jsonl`` · ``checkpoints/`` · ``journal/`` · ``evaluation.json`` ·
``videos/`` · ``pictures/`` · ``report.html`` · ``lock``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlab.errors import RlabError, nearest
from rlab.run.files import descriptor_of, disk_error, read_document, read_json, refuse_links, replace_durably, to_json

SCHEMA = 1
"""Version of the run folder's layout."""

CONFIG_BYTES = 4 << 20
"""The largest config.json or env.json that is read."""


def runs_dir() -> Path:
    """Where runs land: ``RLAB_RUNS``, or ``runs/`` under the current directory.

    Raises:
        RlabError: that is where the runs lie that come with rlab.
    """
    path = Path(os.environ.get("RLAB_RUNS", "runs"))
    if path.resolve().is_relative_to(SHIPPED):
        raise RlabError(f"{path.resolve()} holds what comes with rlab; set RLAB_RUNS to another folder for your runs")
    return path


KEPT = "kept-"
"""Checkpoints of past selves that are kept for good begin with it; their progress follows."""

SHIPPED = Path(__file__).resolve().parents[1] / "assets"
"""Runs that come with rlab: what playing needs of them."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Creating this object touches nothing."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """The file of metrics, one JSON object a line; see `rlab.run.metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints; see `rlab.run.checkpoint`."""
        return self.path / "checkpoints"

    @property
    def journal(self) -> Path:
        """The folder of the journal's segments; see `rlab.run.journal`."""
        return self.path / "journal"

    @property
    def shipped(self) -> bool:
        """Whether it came with rlab; what is made of it lands under the runs folder."""
        return self.path.resolve().parent == SHIPPED

    @property
    def made(self) -> Path:
        """The folder for what is made from a run without training it: evaluations, films, reports."""
        return runs_dir() / self.name if self.shipped else self.path

    @property
    def evaluation(self) -> Path:
        """The newest result of ``rlab eval``, or of the evaluation at the run's end."""
        return self.made / "evaluation.json"

    @property
    def videos(self) -> Path:
        """Where ``rlab watch`` writes."""
        return self.made / "videos"

    @property
    def pictures(self) -> Path:
        """Where ``rlab watch`` and ``rlab report`` draw what a model does."""
        return self.made / "pictures"

    @property
    def report(self) -> Path:
        """The page that ``rlab report`` writes."""
        return self.made / "report.html"

    def config(self) -> dict[str, Any]:
        """``{"schema", "recipe", "created", "config": {part: {field: value}}}`` as written at the start.

        Raises:
            RlabError: it is missing, damaged or of another version, or the folder leads out of itself.
        """
        for folder in {self.path, self.made}:  # every verb that opens a run comes by here
            refuse_links(folder)
        document = read_document(self.path / "config.json", "run", SCHEMA, CONFIG_BYTES)
        if not isinstance(document.get("recipe"), str) or not isinstance(document.get("config"), dict):
            raise RlabError(f"{self.path / 'config.json'} is damaged (no recipe or no config)")
        return _with_subject(document)

    def created(self) -> float:
        """Return when the run was started, in seconds since 1970, by its config.json, so that a copy keeps its place.

        A damaged ``config.json`` says nothing; its time in the file system stands in.
        """
        with contextlib.suppress(RlabError):
            created = self.config().get("created")
            if isinstance(created, (int, float)):
                return float(created)
        return (self.path / "config.json").stat().st_mtime

    def environment(self) -> dict[str, Any]:
        """``env.json``: versions, git, device and seeds; one entry a session under ``sessions``.

        Raises:
            RlabError: it is missing or damaged.
        """
        document = read_json(self.path / "env.json", CONFIG_BYTES)
        sessions = document.get("sessions") if isinstance(document, dict) else None
        if not isinstance(sessions, list) or not all(isinstance(s, dict) for s in sessions):
            raise RlabError(f"{self.path / 'env.json'} is damaged (no list of sessions)")
        return document

    def lock(self) -> Lock:
        """Take the run for this process.

        Raises:
            RlabError: another process holds it; the message names its PID.
        """
        return Lock(self.path / "lock")


def _with_subject(document: dict[str, Any]) -> dict[str, Any]:
    """A config.json of rlab 0.1 with what it did not say: subject and unit, and what the run started from."""
    if "subject" in document:
        return document
    config = document["config"]
    subject = {part: config[part][part] for part in ("env", "data") if part in (config.get(part) or {})}
    if subject.keys() == {"env", "data"}:  # what learns from records of games is scored in no environment
        del subject["env"]
    units = {"trees": "members", "data": "examples", "search": "games"}
    unit = next((units[part] for part in units if part in config), "steps")
    sources = {role: document[role] for role in ("encoder", "teacher") if role in document}
    sources |= document.get("networks", {})
    return document | {"subject": subject, "unit": unit} | ({"warm_start": sources} if sources else {})


class Lock:
    """An exclusive `flock` on a file that holds the holder's PID; released on `release` or process end."""

    def __init__(self, path: Path):
        try:
            self._fd = descriptor_of(path, os.O_RDWR | os.O_CREAT)
        except OSError as e:
            raise disk_error(e, path.parent) from None
        for _ in range(10):  # a listing looks at the lock for an instant (`holder_of`)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.02)
        else:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise RlabError(f"run '{path.parent.name}' is held by process {holder}; nothing was changed") from None
        _held.add(self._fd)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process take the run."""
        if self._fd in _held:
            _held.remove(self._fd)
            os.close(self._fd)


_held: set[int] = set()


def _let_go_in_child() -> None:
    """A forked worker that outlives the run's process must not hold the run."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


def holder_of(folder: RunFolder) -> int | None:
    """Return the PID of the process that holds a run, None if nobody does; takes no lock."""
    try:
        fd = descriptor_of(folder.path / "lock")
    except (OSError, RlabError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else -1
    finally:
        os.close(fd)


def create_run(
    recipe: str, subject: Mapping[str, str], config: dict[str, Any], name: str | None, unit: str = "steps"
) -> RunFolder:
    """Make a new run folder with its ``config.json``.

    Args:
        recipe: the agent's or task's name.
        subject: what it learns from, "env" or "data" -> its name; the run's name has it.
        config: the configuration as plain JSON.
        name: the run's name; None makes one from recipe, subject and time.
        unit: what its progress counts.

    Raises:
        RlabError: the name is taken or cannot be a folder's name, or the disk refuses.
    """
    base = runs_dir()
    if name is not None and (
        not re.fullmatch(r"[\w.+-]+", name) or name in {".", "..", "latest", "reference", "studies"}
    ):
        raise RlabError(f"'{name}' cannot be a run's name; use letters, digits, '.', '_', '+' and '-'")
    created = time.time()
    plain = re.sub(r"[^\w.+-]+", "-", "-".join([recipe, *subject.values()]))
    stem = name or f"{plain}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(created))}"
    document = {"schema": SCHEMA, "recipe": recipe, "subject": dict(subject), "unit": unit, "created": created}
    document |= {"config": config}
    try:
        base.mkdir(parents=True, exist_ok=True)
        path = base / stem
        for n in range(2, 1000):
            try:
                path.mkdir()
                break
            except FileExistsError:
                if name is not None:
                    if not any(path.iterdir()):  # a start that was killed at its first instant left this
                        break
                    raise RlabError(
                        f"a run named '{name}' exists already; go on with `rlab resume {name}` or take another name"
                    ) from None
                path = base / f"{stem}-{n}"
        replace_durably(path / "config.json", to_json(document))
    except OSError as e:
        raise disk_error(e, base) from None
    return RunFolder(path)


def all_runs() -> list[RunFolder]:
    """List every run under the runs folder, oldest first."""
    base = runs_dir()
    if not base.is_dir():
        return []
    runs = [RunFolder(p) for p in base.iterdir() if (p / "config.json").is_file()]
    return sorted(runs, key=lambda run: (run.created(), run.name))


def shipped_runs() -> list[RunFolder]:
    """The runs that come with rlab, by name."""
    return [RunFolder(path.parent) for path in sorted(SHIPPED.glob("*/config.json"))]


def run_at(text: str) -> tuple[RunFolder, int | None]:
    """Find a run by RUN, or RUN:PROGRESS with the progress of one of its checkpoints.

    Raises:
        RlabError: as `find_run`.
    """
    start, _, end = text.rpartition(":")
    try:
        return find_run(text), None
    except (RlabError, OSError, ValueError) as e:  # the last two: a name that the file system does not take
        if start and re.fullmatch(r"[0-9_]{1,15}", end):
            with contextlib.suppress(RlabError, OSError, ValueError):
                return find_run(start), int(end.replace("_", "") or -1)
        raise (e if isinstance(e, RlabError) else RlabError(f"no run '{text[:60]}' ({e})")) from None


def find_run(run: str) -> RunFolder:
    """Find a run by path, by name, or ``latest``; where there is none of a name, one that comes with rlab.

    Raises:
        RlabError: there is none; the message gives the nearest names.
    """
    runs = all_runs()
    if run == "latest":
        if not runs:
            raise RlabError(f"there is no run under {runs_dir()} yet; start one: rlab train dqn --env Breakout")
        return runs[-1]
    for path in (Path(run), runs_dir() / run):
        if (path / "config.json").is_file():
            return RunFolder(path.resolve())
    shipped = {folder.name: folder for folder in shipped_runs()}
    if run in shipped:
        return shipped[run]
    if not runs:
        there = f", and with rlab come {', '.join(shipped)}" if shipped else ""
        raise RlabError(f"no run '{run}'; there is none under {runs_dir()} yet{there}")
    names = ["latest", *(r.name for r in runs), *shipped]
    raise RlabError(f"no run '{run}' under {runs_dir()}; {nearest(run, names)}")
