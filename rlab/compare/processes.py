"""Runs as child processes, as many at once as cores and memory hold; each is an `rlab train` or `rlab resume`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from rlab.compare.child import PATIENCE_SECONDS, lifeline
from rlab.compare.settings import as_flags
from rlab.errors import RlabError, printable_lines
from rlab.machine import available_memory, gigabytes
from rlab.run.contract import Stop
from rlab.run.files import disk_error, make_folder, open_plain
from rlab.run.folder import RunFolder, holder_of
from rlab.run.status import last_row, status_of
from rlab.trust import environment

POLL_SECONDS = 0.2
"""How often processes are looked at."""

PROGRESS_SECONDS = 2.0
"""How often the progress of a run is read from its folder."""

LAST_BYTES = 1 << 16
"""Of what a process has said, that which is looked at."""

SHARE = 0.9
"""Part of the free memory that runs may fill together."""


@dataclass(frozen=True)
class Job:
    """One run to be done: its name in the sweep's folder, and what `rlab train` is told.

    Attributes:
        env: what it learns on; a data set, if `on` says so.
        steps: of environments; 0: the settings or `minutes` say how long.
        minutes: for about how long; 0: the steps or settings say it.
    """

    name: str
    agent: str
    env: str
    seed: int
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    on: str = "env"
    minutes: float = 0.0

    @property
    def cell(self) -> str:
        """What runs with the same needs have in common."""
        return json.dumps([self.agent, self.env, self.steps, self.settings], sort_keys=True)

    def words(self, threads: int) -> list[str]:
        """The command after `rlab` that trains it."""
        words = ["train", self.agent, f"--{self.on}", self.env]
        words += ["--steps", str(self.steps)] if self.steps else []
        words += ["--minutes", str(self.minutes)] if self.minutes else []
        return [*words, "--seed", str(self.seed), "--threads", str(threads), *as_flags(self.settings)]


@dataclass
class Row:
    """How a job stands.

    Attributes:
        state: waiting, running, held (another process works on it), finished, failed, stopped.
        step: progress in environment steps.
        score: mean of the newest evaluation.
        error: why it failed.
    """

    job: Job
    state: str = "waiting"
    step: int = 0
    score: float | None = None
    error: str | None = None
    seconds: float = 0.0
    lost: int = 0
    """Machines that were gone while they worked on it."""


class View(Protocol):
    """What shows the jobs while they run."""

    def show(self, rows: Sequence[Row]) -> None:
        """Called several times a second; decides itself when to draw."""

    def event(self, text: str) -> None:
        """Called when something happened."""


Process = subprocess.Popen[bytes]
Output = IO[bytes] | int

LOST = -1_000
"""The exit status of a process whose machine is gone; no signal has that number."""

MOST_LOST = 5
"""Machines that a job may lose before it counts as failed."""


class Started(Protocol):
    """What a pool needs of a process, as a `Process` has it."""

    def poll(self) -> int | None:
        """Its exit status, or None while it is at work."""

    def terminate(self) -> None:
        """Ask it to save and leave."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Wait for its exit status."""


class Elsewhere(Protocol):
    """Other machines, see `rlab.parallel.jobs`."""

    at_once: int
    """Processes that they hold."""

    def begin(self, words: Sequence[str], log: Path, variables: Mapping[str, str]) -> Started:
        """Begin ``rlab WORD ...`` there, with these variables in its environment; what it says goes to the log."""


@dataclass
class Child:
    """A process at work on a job."""

    row: Row
    process: Started
    started: float
    memory: int
    device_memory: int


class Pool:
    """Does jobs in child processes; each writes what it says to ``logs/NAME.log``.

    Args:
        folder: of the sweep; its runs are folders in it.
        threads: of torch, of each run.
        at_once: the most runs at once.
        stop: polled; once it is set the children are asked to save and leave.
        view: shows the jobs.
        elsewhere: where the processes run; None: on this machine, as many as its memory holds.
    """

    def __init__(
        self, folder: Path, threads: int, at_once: int, stop: Stop, view: View, elsewhere: Elsewhere | None = None
    ):
        self.folder = folder.resolve()
        self.threads = threads
        self.elsewhere = elsewhere
        self.at_once = at_once if elsewhere is None else elsewhere.at_once
        self.stop = stop
        self.view = view
        self._children: list[Child] = []
        self._needs: dict[str, dict[str, int]] = {}  # cell -> what it will need; in an error's place its sentence
        self._refused: dict[str, str] = {}
        self._free = available_memory()
        self._memory_reported = False
        self._read_at = 0.0
        self._ending = False

    def run(self, jobs: Sequence[Job]) -> list[Row]:
        """Do the jobs that are not finished yet; a failing one does not stop the others.

        Returns:
            How each stands, in the order given. Where the pool was asked to stop, some are "stopped" or "waiting".
        """
        rows = [self._look(Row(job)) for job in jobs]
        try:
            while not self.stop.requested:
                self._reap()
                self.view.show(rows)
                self._start(rows)
                self._read_progress()
                if not self._children and not any(row.state in ("waiting", "held") for row in rows):
                    break
                time.sleep(POLL_SECONDS)
        finally:
            self._end_children()
        self.view.show(rows)
        return rows

    def _look(self, row: Row) -> Row:
        """Find out from its folder how far a job is."""
        run = RunFolder(self.folder / row.job.name)
        if (run.path / "config.json").is_file():
            try:
                status = status_of(run)
            except RlabError as e:
                row.state, row.error = "failed", str(e)
                return row
            evaluation = last_row(run.metrics, "eval")
            row.step, row.score = status.done, None if evaluation is None else evaluation.get("mean")
            row.state = "finished" if status.state == "finished" else "waiting"
        return row

    def _start(self, rows: list[Row]) -> None:
        for row in rows:
            if row.state == "held" and holder_of(RunFolder(self.folder / row.job.name)) is None:
                row.state = "waiting"
                self._look(row)
        for row in rows:
            held = sum(r.state == "held" for r in rows)
            if row.state != "waiting" or len(self._children) + held >= self.at_once or self.stop.requested:
                continue
            if holder_of(RunFolder(self.folder / row.job.name)) is not None:
                row.state = "held"  # a process of a sweep that was killed still works on it: wait for it
                self.view.event(f"{row.job.name} is held by another process; waiting for it")
                continue
            need = self._need(row.job)
            if need is None:
                if not self.stop.requested:
                    row.state, row.error = "failed", self._refused[row.job.cell]
                    self.view.event(f"failed: {row.job.name}: {row.error}")
            elif self._fits(need):
                self._launch(row, need)
            else:
                return

    def _fits(self, need: dict[str, int]) -> bool:
        """Whether memory holds one more run. Alone it is tried: `rlab train` refuses what is too large."""
        if not self._children:
            return True
        used = sum(child.memory for child in self._children)
        on_device = sum(child.device_memory for child in self._children)
        fits = used + need["memory"] <= SHARE * self._free and need["memory"] <= available_memory()
        fits = fits and on_device + need["device_memory"] <= SHARE * max(need["device_free"], on_device)
        if not fits and not self._memory_reported:
            self._memory_reported = True
            self.view.event(
                f"memory holds {len(self._children)} of {self.at_once} runs at once: the next one needs "
                f"{gigabytes(need['memory'])}, {gigabytes(self._free - used)} are left"
            )
        return fits

    def _need(self, job: Job) -> dict[str, int] | None:
        """What a job needs, asked of its learner once; None if that cannot be built, or if a stop was asked for."""
        if self.at_once == 1 or self.elsewhere is not None:
            return {"memory": 0, "device_memory": 0, "device_free": 0}  # alone: `rlab train` judges by itself
        if job.cell not in self._needs and job.cell not in self._refused:
            request = json.dumps([job.agent, job.env, job.steps, job.settings])
            asked = begin("rlab.compare.footprint", [request], subprocess.PIPE, subprocess.PIPE, self._environment())
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = asked.communicate(timeout=POLL_SECONDS)
                    break
                if self.stop.requested:
                    asked.kill()
            if self.stop.requested:
                return None
            if asked.returncode == 0:
                self._needs[job.cell] = json.loads(out.splitlines()[-1])
            else:
                self._refused[job.cell] = last_words(err)
        return self._needs.get(job.cell)

    def _launch(self, row: Row, need: dict[str, int]) -> None:
        path = self.folder / row.job.name
        if (path / "config.json").is_file():
            words = ["resume", str(path), "--json"]
        else:
            shutil.rmtree(path, ignore_errors=True)  # what a start that was killed at its first instant left
            words = [*row.job.words(self.threads), "--name", row.job.name, "--json"]
        try:
            make_folder(self.folder / "logs")
            path = self.folder / "logs" / f"{row.job.name}.log"
            with open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as log:
                log.write(f"$ rlab {' '.join(words)}\n".encode())
                log.flush()
                process: Started
                if self.elsewhere is not None:
                    process = self.elsewhere.begin(words, path, self._variables())
                else:
                    process = begin("rlab", words, log, log, self._environment())
        except OSError as e:
            raise disk_error(e, self.folder) from None
        row.state = "running"
        self._children.append(Child(row, process, time.monotonic(), need["memory"], need["device_memory"]))

    def _environment(self) -> dict[str, str]:
        return os.environ | self._variables()

    def _variables(self) -> dict[str, str]:
        threads = str(self.threads)
        # What the children are told to do stands in the folder: they trust what the user has named, and no more.
        return environment() | {
            "RLAB_RUNS": str(self.folder),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }

    def _reap(self) -> None:
        for child in list(self._children):
            status = child.process.poll()
            if status is None:
                continue
            self._children.remove(child)
            row = child.row
            row.seconds += time.monotonic() - child.started
            self._look(row)
            if row.state == "finished":
                score = "-" if row.score is None else f"{row.score:,.2f}"
                self.view.event(f"finished: {row.job.name}, mean score {score}")
            elif status == LOST and row.lost < MOST_LOST and not self._ending:
                row.state, row.lost = "waiting", row.lost + 1
                self.view.event(f"{row.job.name}: the machine that it was on is gone; it goes on elsewhere")
            elif status in (130, 143) or (self._ending and status == -signal.SIGTERM):
                row.state = "stopped"
                if not self._ending:
                    self.view.event(f"stopped: {row.job.name}, by a signal from elsewhere")
            else:
                row.state, row.error = "failed", self._why(row.job, status)
                self.view.event(f"failed: {row.job.name}: {row.error}")

    def _why(self, job: Job, status: int) -> str:
        if status == LOST:
            return f"{MOST_LOST + 1} machines are gone that worked on it; going on with the sweep resumes it"
        if status < 0:
            return f"its process was killed by {signal.Signals(-status).name}; going on with the sweep resumes it"
        log = self.folder / "logs" / f"{job.name}.log"
        with contextlib.suppress(OSError), open_plain(log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            return last_words(file.read(LAST_BYTES))
        return last_words(b"")

    def _read_progress(self) -> None:
        now = time.monotonic()
        if now < self._read_at:
            return
        self._read_at = now + PROGRESS_SECONDS
        for child in self._children:
            metrics = self.folder / child.row.job.name / "metrics.jsonl"
            newest, evaluation = last_row(metrics), last_row(metrics, "eval")
            child.row.step = newest["step"] if newest else child.row.step
            child.row.score = evaluation.get("mean") if evaluation else child.row.score

    def _end_children(self) -> None:
        """Ask the children to save and leave, and wait for them."""
        self._ending = True
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(POLL_SECONDS / 4)
        for child in self._children:
            child.process.kill()
            child.process.wait()
            child.row.state = "stopped"
        self._children = []


def begin(module: str, words: Sequence[str], out: Output, err: Output, env: Mapping[str, str]) -> Process:
    """Begin ``python -m MODULE WORD ...`` as a process that saves and ends with this one, however this one ends."""
    fd = lifeline()
    return subprocess.Popen(
        [*python_command(), "-m", "rlab.compare.child", str(fd), module, *words],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        env=env,
        pass_fds=(fd,),
        start_new_session=True,  # Ctrl-C in the terminal is for this process, which passes it on
    )


def python_command() -> list[str]:
    """What children are run by: nothing is imported by chance from the current directory, unless rlab lies in it."""
    return [sys.executable, *(["-P"] if Path(__file__).parents[2] != Path.cwd() else [])]


def last_words(output: bytes) -> str:
    """The last thing that a process said: its one clear sentence, if it ended with one."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("rlab: ") if lines else "it ended without a word"


class Lines:
    """A view that draws nothing and says on stderr what happened."""

    def show(self, rows: Sequence[Row]) -> None:
        """Draw nothing."""

    def event(self, text: str) -> None:
        """Say it."""
        print(printable_lines(text), file=sys.stderr, flush=True)
