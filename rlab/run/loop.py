"""The one loop: it drives a learner to its budget and owns progress, logging, evaluation, checkpoints and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlab.run.checkpoint import Checkpoints
from rlab.run.config import RunConfig
from rlab.run.contract import Learner, Metrics, NonFinite, Progress, Score, Stop, Stopped, Tells
from rlab.run.formatting import over_text
from rlab.run.health import RULES, THROUGHPUT, Collapsed, Health, Pace
from rlab.run.metrics import MetricsFile, Window, finite
from rlab.run.threads import AutoThreads

CLOCK = "clock_"
"""Metrics with this prefix are seconds of wall time; they are kept apart, since no two runs share them."""


class View(Protocol):
    """A display of a run while it goes on."""

    def show(self, progress: Progress, metrics: Metrics) -> None:
        """Called after every step; decides itself when to draw. Clock metrics are seconds since the last call."""

    def event(self, text: str) -> None:
        """Called when something happened, in words."""


@runtime_checkable
class Listens(Protocol):
    """A view that is told of evaluations and checkpoints themselves, not in words."""

    def evaluated(self, progress: Progress, score: Score) -> None:
        """Called after every evaluation."""

    def saved(self, progress: Progress, checkpoint: Path) -> None:
        """Called after every checkpoint."""


@dataclass
class Notes:
    """What the loop remembers across processes; saved beside the learner's state.

    Attributes:
        evaluated: progress at the last evaluation; -1 before the first.
        total: the budget.
        metrics: length in bytes and SHA-256 of the part of metrics.jsonl that belongs to the checkpoint.
        config: the configuration as plain JSON, so that an edited one is noticed.
        run: the rest of config.json, so that a damaged one can be written anew.
        window: the open averages of metrics.
        seconds: wall time spent in all processes of this run.
        score: the last evaluation.
        health: what training health has seen (`Health.state`).
    """

    evaluated: int = -1
    total: int | None = None
    metrics: tuple[int, str] | None = None
    config: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    window: dict[str, list[float]] | None = None
    seconds: float = 0.0
    score: dict[str, Any] | None = None
    health: dict[str, Any] | None = None


def belonging(notes: Notes, done: int) -> Callable[[dict[str, Any]], bool]:
    """Say of a row of metrics whether it belongs to the checkpoint that was saved at `done` with these notes."""
    return lambda row: row["step"] <= (notes.evaluated if row["kind"] == "eval" else done)


@dataclass(frozen=True)
class Outcome:
    """How the loop ended."""

    finished: bool
    done: int
    checkpoint: Path
    score: Score | None
    seconds: float


class Loop:
    """Drive one learner. All durable effects go through `checkpoints` and `metrics`."""

    def __init__(
        self,
        learner: Learner,
        config: RunConfig,
        checkpoints: Checkpoints,
        metrics: MetricsFile,
        view: View,
        stop: Stop,
        notes: Notes,
        loaded: Path | None = None,
        observe: Callable[[dict[str, Any]], None] = lambda row: None,
        threads: AutoThreads | None = None,
    ):
        self.learner = learner
        self.config = config
        self.checkpoints = checkpoints
        self.metrics = metrics
        self.view = view
        self.stop = stop
        self.notes = notes
        self.observe = observe
        self._tells = learner if isinstance(learner, Tells) else None
        self.threads = threads
        self._newest = loaded  # a checkpoint that holds just the present state, if there is one
        self.window = Window(notes.window)
        self.clock = Window()
        self.health = Health(RULES, notes.health)
        self.pace = Pace(THROUGHPUT)
        self._saved_at = time.monotonic()
        self._logged_at = time.monotonic()
        self._logged_done = learner.progress().done

    def run(self) -> Outcome:
        """Work until the budget is spent or a stop is requested; saved either way.

        Raises:
            NonFinite: a number became NaN or Inf; nothing was saved after it.
            Collapsed: training health saw a collapse and the configuration says to halt; nothing was saved since its
                first sign.
            RlabError: the disk refused; the previous checkpoint is untouched.
        """
        started = time.monotonic() - self.notes.seconds
        progress = self.learner.progress()
        due = False  # a checkpoint
        while True:
            self.notes.seconds = time.monotonic() - started
            if self.threads is not None and (chosen := self.threads.hold(progress)):
                self.view.event(chosen)
            if self._evaluation_due(progress):
                try:
                    self._evaluate(progress)
                except Stopped:
                    return self._outcome(progress, self._save(progress), finished=False)
                progress = self.learner.progress()  # an evaluation can end a run early
            if progress.finished:
                return self._outcome(progress, self._save(progress), finished=True)
            if self.stop.requested:
                return self._outcome(progress, self._save(progress), finished=False)
            before = progress.done
            self._newest = None
            self._add_metrics(self.threads.step(self.learner) if self.threads is not None else self.learner.step())
            progress = self.learner.progress()
            if crossed(before, progress.done, self.config.log_steps) or progress.finished:
                self._log(progress)
            if crossed(before, progress.done, self.config.keep_steps):
                self.checkpoints.keep(self.learner.state(), progress.done)
            late = time.monotonic() - self._saved_at > self.config.checkpoint_minutes * 60 > 0
            due = due or late or crossed(before, progress.done, self.config.checkpoint_steps)
            wait = self.config.stop_on_collapse and self.health.suspicious  # what may be bad must not push out the good
            if due and not progress.finished and not wait:
                due = False
                self.notes.seconds = time.monotonic() - started
                self._save(progress)
                self.view.event(f"checkpoint at {progress.done:,} {progress.unit}")

    def _add_metrics(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                progress = self.learner.progress()
                raise NonFinite(name, value, f"{progress.done:,} {progress.unit}")
        self.window.add({k: v for k, v in metrics.items() if not k.startswith(CLOCK)})
        self.clock.add({k[len(CLOCK) :] + "_sum": v for k, v in metrics.items() if k.startswith(CLOCK)})
        self.view.show(self.learner.progress(), metrics)
        self._tell()

    def _tell(self) -> None:
        """Show what the learner has noticed."""
        if self._tells is not None:
            for note in self._tells.take_notes():
                self.view.event(f"note: {note}")

    def _log(self, progress: Progress) -> None:
        now = time.monotonic()
        clock = self.clock.close()
        elapsed = max(now - self._logged_at, 1e-9)
        clock["steps_per_s"] = (progress.done - self._logged_done) / elapsed
        row = {"kind": "train", "step": progress.done, **self.window.close()}
        row["clock"] = {k: round(v, 4) for k, v in clock.items()}
        worked = progress.done - self._logged_done
        self._logged_at, self._logged_done = now, progress.done
        self._write(row)
        if "loss" in row:  # before learning starts everything is faster
            for warned in self.pace.update(progress.done, worked, elapsed):
                self.view.event(warned.text())
        self._watch(row, progress)

    def _watch(self, row: dict[str, Any], progress: Progress) -> None:
        """Ask training health what it makes of a line; keep and show what it says, and halt if that was asked for."""
        changes = self.health.update(row)
        for warned in changes:
            self.metrics.write(warned.row())
            self.view.event(warned.text())
        for warned in changes:
            if warned.collapse and self.config.stop_on_collapse:
                raise Collapsed(warned, progress.unit)

    def _evaluation_due(self, progress: Progress) -> bool:
        every = self.config.evaluate_steps
        if progress.finished:
            return self.notes.evaluated < progress.done
        return every > 0 and progress.done // every > max(self.notes.evaluated, 0) // every

    def _evaluate(self, progress: Progress) -> None:
        started = time.monotonic()
        score = dict(self.learner.evaluate(self.stop))
        seconds = time.monotonic() - started
        self._newest = None
        self.notes.evaluated = progress.done
        self.notes.score = finite(score)
        self._write({"kind": "eval", "step": progress.done, **finite(score), "clock": {"seconds": round(seconds, 3)}})
        self._logged_at += seconds
        self.view.event(
            f"evaluation at {progress.done:,} {progress.unit}: {score.get('measure', 'mean')} {score['mean']:.2f}"
            f" [{score['low']:.2f}, {score['high']:.2f}] over {over_text(score)}"
        )
        if isinstance(self.view, Listens):
            self.view.evaluated(progress, score)
        self._tell()

    def _write(self, row: dict[str, Any]) -> None:
        self.metrics.write(row)
        self.observe(row)

    def _save(self, progress: Progress) -> Path:
        if self._newest is not None:
            return self._newest
        self.notes.total = progress.total
        self.notes.window = self.window.sums
        self.notes.metrics = self.metrics.sync()
        self.notes.health = self.health.state()
        path = self.checkpoints.save(self.learner.state(), vars(self.notes), progress.done)
        self._saved_at = time.monotonic()
        self._newest = path
        if isinstance(self.view, Listens):
            self.view.saved(progress, path)
        return path

    def _outcome(self, progress: Progress, checkpoint: Path, finished: bool) -> Outcome:
        return Outcome(finished, progress.done, checkpoint, self.notes.score, self.notes.seconds)


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every
