"""The run folder: where everything of one run lies, who holds it, and how a run is found by name.

Layout: ``config.json`` · ``env.json`` · ``threads.json`` · ``metrics.jsonl`` · ``checkpoints/`` · ``journal/`` ·
``evaluation.json`` · ``videos/`` · ``pictures/`` · ``report.html`` · ``errors.log`` (of foreign code) · ``lock``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlab.errors import RlabError, nearest, shortened
from rlab.run.files import (
    descriptor_of,
    disk_error,
    fsync_dir,
    persistently,
    read_document,
    read_json,
    refuse_links,
    replace_durably,
    scratch_folder,
    to_json,
)

SCHEMA = 1
"""Version of the run folder's layout."""

CONFIG_BYTES = 4 << 20
"""The largest config.json or env.json that is read."""


def runs_dir() -> Path:
    """Where runs land: ``RLAB_RUNS``, or ``runs/`` under the current directory.

    Raises:
        RlabError: that is where the runs lie that come with rlab.
    """
    # Absolute: an environment may change the working directory.
    path = Path(os.environ.get("RLAB_RUNS") or "runs").expanduser().absolute()
    if path.resolve().is_relative_to(SHIPPED):
        raise RlabError(f"{path.resolve()} holds what comes with rlab; set RLAB_RUNS to another folder for your runs")
    return path


LONGEST_NAME = 150
"""Characters of a run's name at the most; file systems take 255 bytes, and other names are made from this one."""

KEPT = "kept-"
"""Checkpoints of past selves that are kept for good begin with it; their progress follows."""

BEST = "best-"
"""The checkpoint of the best evaluation begins with it; its progress follows."""

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
    def threads(self) -> Path:
        """What ``--threads auto`` has chosen and when; see `rlab.run.threads`."""
        return self.path / "threads.json"

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
        try:
            return _checked(read_document(self.path / "config.json", "run", SCHEMA, CONFIG_BYTES), self.path)
        except RlabError as e:
            offer = f"; `rlab runs repair {self.name}` writes it anew from a checkpoint" if self.saved() else ""
            raise RlabError(f"{e}{offer}") from None

    def saved(self) -> bool:
        """Whether there is a checkpoint to go on from, whole or not."""
        try:
            return any(p.name.isdigit() for p in self.checkpoints.iterdir())
        except OSError:
            return False

    def created(self) -> float:
        """Return when the run was started, in seconds since 1970, by its config.json, so that a copy keeps its place.

        A run whose ``config.json`` cannot be read is the oldest, so that it never is the newest.
        """
        try:
            return float(self.config()["created"])
        except (RlabError, OSError):
            return 0.0

    def environment(self) -> dict[str, Any]:
        """``env.json``: versions, git, device and seeds; one entry a session under ``sessions``.

        Raises:
            RlabError: it is missing or damaged.
        """
        document = read_json(self.path / "env.json", CONFIG_BYTES)
        sessions = document.get("sessions") if isinstance(document, dict) else None
        if not isinstance(sessions, list) or not all(isinstance(s, dict) for s in sessions):
            raise RlabError(f"{self.path / 'env.json'} is damaged (no list of sessions)")
        for name in ("git", "packages", "machine"):
            if not all(isinstance(s.get(name, {}), dict) for s in sessions):
                raise RlabError(f"{self.path / 'env.json'} is damaged ({name} of a session is no object)")
        if not all(_is_time(s.get("started", 0)) for s in sessions):
            raise RlabError(f"{self.path / 'env.json'} is damaged (a session started at no time)")
        return document

    def lock(self) -> Lock:
        """Take the run for this process.

        Raises:
            RlabError: another process holds it; the message names its PID.
        """
        return Lock(self.path / "lock")


YEAR_10000 = 253_370_764_800
"""In seconds since 1970: later than any run."""


def _checked(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A config.json whose parts are what they should be; that of rlab 0.1 with what it did not say."""
    config, recipe = document.get("config"), document.get("recipe")
    if not isinstance(recipe, str) or not isinstance(config, dict):
        raise RlabError(f"{folder / 'config.json'} is damaged (no recipe or no config)")
    if not all(isinstance(part, dict) for part in config.values()):
        raise RlabError(f"{folder / 'config.json'} is damaged (a part of its config is no object)")
    if "subject" not in document:
        document = _with_subject(document)
    for name, right in (
        ("created", _is_time(document.get("created"))),
        ("unit", isinstance(document.get("unit"), str)),
        ("subject", _texts(document["subject"])),
        ("warm_start", _notes(document.get("warm_start", {}))),
    ):
        if not right:
            raise RlabError(f"{folder / 'config.json'} is damaged ({name} is {shortened(repr(document.get(name)))})")
    return document


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < YEAR_10000


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _notes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(note, dict) and "digest" in note for note in value.values())


def _with_subject(document: dict[str, Any]) -> dict[str, Any]:
    """A config.json of rlab 0.1 with what it did not say: subject and unit, and what the run started from."""
    config = document["config"]
    subject = {part: config[part].get(part) for part in ("env", "data") if config.get(part)}
    if subject.keys() == {"env", "data"}:  # what learns from records of games is scored in no environment
        del subject["env"]
    units = {"trees": "members", "data": "examples", "search": "games"}
    unit = next((units[part] for part in units if part in config), "steps")
    sources: dict[str, Any] = {role: document[role] for role in ("encoder", "teacher") if role in document}
    networks = document.get("networks", {})
    sources |= networks if isinstance(networks, dict) else {"networks": networks}
    return document | {"subject": subject, "unit": unit} | ({"warm_start": sources} if sources else {})


class Lock:
    """An exclusive `flock` on a file that holds the holder's PID; released on `release` or process end."""

    def __init__(self, path: Path):
        try:
            self._fd = persistently(lambda: descriptor_of(path, os.O_RDWR | os.O_CREAT))
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
    recipe: str,
    subject: Mapping[str, str],
    config: dict[str, Any],
    name: str | None,
    unit: str = "steps",
    fill: Callable[[RunFolder], None] = lambda folder: None,
) -> RunFolder:
    """Make a new run folder with its ``config.json``, in one step: a kill leaves no folder of that name, or a run.

    Args:
        recipe: the agent's or task's name.
        subject: what it learns from, "env" or "data" -> its name; the run's name has it.
        config: the configuration as plain JSON.
        name: the run's name; None makes one from recipe, subject and time.
        unit: what its progress counts.
        fill: writes what else the run begins with into the folder before it gets its name.

    Raises:
        RlabError: the name is taken or cannot be a folder's name, or the disk refuses.
    """
    base = runs_dir()
    if name is not None:
        check_name(name)
    created = time.time()
    names = [value.rpartition("/")[2] if part == "data" else value for part, value in subject.items()]  # no whole path
    plain = re.sub(r"[^\w.+-]+", "-", "-".join([recipe, *names])).encode()[: LONGEST_NAME - 30].decode(errors="ignore")
    stem = name or f"{plain}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(created))}"
    document = {"schema": SCHEMA, "recipe": recipe, "subject": dict(subject), "unit": unit, "created": created}
    document |= {"config": config}
    try:
        base.mkdir(parents=True, exist_ok=True)
        with scratch_folder(base) as scratch:
            new = scratch / "run"
            new.mkdir()
            replace_durably(new / "config.json", to_json(document))
            fill(RunFolder(new))
            path = base / stem
            for n in range(2, 1000):
                if not path.exists() or never_begun(path, "config.json"):
                    with contextlib.suppress(FileExistsError, NotADirectoryError):  # another process was faster
                        (path / ".config.json.tmp").unlink(missing_ok=True)
                        os.rename(new, path)
                        break
                if name is not None:
                    raise RlabError(
                        f"a run named '{name}' exists already; go on with `rlab resume {name}` or take another name"
                    )
                path = base / f"{stem}-{n}"
            fsync_dir(base)
    except OSError as e:
        raise disk_error(e, base) from None
    return RunFolder(path)


def check_name(name: str) -> None:
    """Refuse what cannot be a run's name.

    Raises:
        RlabError: it has other characters than a folder's name may have here, means something else, or is too long.
    """
    if not re.fullmatch(r"[\w.+-]+", name) or name in {".", "..", "latest", "reference", "studies"}:
        raise RlabError(f"'{name}' cannot be a run's name; use letters, digits, '.', '_', '+' and '-'")
    if len(name.encode()) > LONGEST_NAME:
        raise RlabError(f"a run's name has at most {LONGEST_NAME} characters, and '{name[:40]}...' has {len(name)}")


def never_begun(folder: Path, first: str) -> bool:
    """Whether a folder holds no more than what a start leaves that was killed before it had written `first`."""
    return folder.is_dir() and all(p.name == f".{first}.tmp" and p.is_file() for p in folder.iterdir())


def holds(folder: Path, name: str) -> bool:
    """Whether a folder has an entry, of whatever kind; what may not be looked into counts as if it had."""
    try:
        os.lstat(folder / name)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no name that any file could have
        return False
    except OSError as e:
        return e.errno not in (errno.ENAMETOOLONG, errno.ELOOP)
    return True


def all_runs() -> list[RunFolder]:
    """List every run under the runs folder, oldest first; one that cannot be read is the oldest."""
    base = runs_dir()
    try:
        runs = [RunFolder(path) for path in base.iterdir() if holds(path, "config.json")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise RlabError(f"{base} cannot be read ({e.strerror or e})") from None
    return sorted(runs, key=lambda run: (run.created(), run.name))


def shipped_runs() -> list[RunFolder]:
    """The runs that come with rlab, by name."""
    return [RunFolder(path.parent) for path in sorted(SHIPPED.glob("*/config.json"))]


def run_at(text: str) -> tuple[RunFolder, int | None]:
    """Find a run by RUN, RUN:PROGRESS with the progress of one of its checkpoints, or RUN:best.

    The best of a model is its newest checkpoint, which holds the parameters that were best in validation.

    Raises:
        RlabError: as `find_run`, or an agent's run was not evaluated yet.
    """
    start, _, end = text.rpartition(":")
    try:
        return find_run(text), None
    except RlabError:
        if start and end == "best":
            folder = find_run(start)
            return folder, _best_of(folder)
        if start and re.fullmatch(r"[0-9_]{1,15}", end):
            with contextlib.suppress(RlabError):
                return find_run(start), int(end.replace("_", "") or -1)
        raise


def place_of(name: str, file: str) -> Path | None:
    """The folder that a path or a name under the runs folder means, if it holds a file; resolved."""
    return next((path.resolve() for path in _places(name) if holds(path, file)), None)


def _places(name: str) -> list[Path]:
    """Where a run or a sweep of this name could lie."""
    with contextlib.suppress(RuntimeError):  # ~ of nobody
        return [Path(name).expanduser(), runs_dir() / name]
    return [Path(name), runs_dir() / name]


def best_path(folder: RunFolder) -> Path | None:
    """The checkpoint of a run's best evaluation, if one is kept."""
    paths = folder.checkpoints.glob(f"{BEST}*") if folder.checkpoints.is_dir() else ()
    return max((p for p in paths if p.name.removeprefix(BEST).isdecimal() and p.is_dir()), default=None)


def _best_of(folder: RunFolder) -> int | None:
    path = best_path(folder)
    if path is not None:
        return int(path.name.removeprefix(BEST))
    if folder.config()["subject"].keys() == {"data"}:
        return None
    raise RlabError(f"run '{folder.name}' has no best checkpoint, for it was not evaluated yet; nearest: {folder.name}")


def find_run(run: str) -> RunFolder:
    """Find a run by path, by name, or ``latest``; where there is none of a name, one that comes with rlab.

    Raises:
        RlabError: there is none; the message gives the nearest names.
    """
    if run == "latest":
        runs = all_runs()
        if not runs:
            raise RlabError(f"there is no run under {runs_dir()} yet; start one: rlab train dqn --env Breakout")
        return runs[-1]
    if path := place_of(run, "config.json"):
        return RunFolder(path)
    shipped = {folder.name: folder for folder in shipped_runs()}
    if run in shipped:
        return shipped[run]
    for path in _places(run):
        if holds(path, "checkpoints") and RunFolder(path).saved():
            return RunFolder(path.resolve())  # its config.json is gone: whoever opens it is told
    runs, named = all_runs(), shortened(run)
    if not runs:
        there = f", and with rlab come {', '.join(shipped)}" if shipped else ""
        raise RlabError(f"no run '{named}'; there is none under {runs_dir()} yet{there}")
    names = ["latest", *(r.name for r in runs), *shipped]
    raise RlabError(f"no run '{named}' under {runs_dir()}; {nearest(run, names)}")
