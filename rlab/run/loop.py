"""The one loop: it drives a learner to its budget and owns progress, logging, evaluation, checkpoints and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlab.run.budget import NEVER, Budget, Forecast, Reading
from rlab.run.checkpoint import Checkpoints
from rlab.run.config import RunConfig
from rlab.run.contract import (
    Learner,
    Metrics,
    NonFinite,
    Plays,
    Progress,
    Score,
    SkipsEvaluations,
    Stop,
    Stopped,
    Tells,
)
from rlab.run.formatting import over_text
from rlab.run.health import RULES, THROUGHPUT, Collapsed, Health, Pace
from rlab.run.metrics import MetricsFile, Window, finite
from rlab.run.threads import AutoThreads

DENSEST = 20
"""Evaluations are made at most this many times as often as `evaluate_steps` says, however short the run is."""

CLOCK = "clock_"
"""Metrics with this prefix are seconds of wall time; they are kept apart, since no two runs share them."""


def steps_between_evaluations(config: RunConfig, total: int) -> int:
    """How far evaluations of a run of `total` steps are apart, by its settings; 0: only at the end."""
    every, wanted = config.evaluate_steps, config.evaluations
    if not (every and wanted) or total >= NEVER:
        return every
    return min(every, max(-(-total // wanted), -(-every // DENSEST)))


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


@runtime_checkable
class ShowsEvaluations(Protocol):
    """A display that shows how far an evaluation is."""

    def evaluating(self, done: int, total: int) -> None:
        """Called while a run is evaluated, as in "game 3 of 10"; decides itself when to draw."""


class _Evaluation(Stop):
    """The stop of a run as an evaluation polls it: requested, too, when the evaluation has no time left.

    Args:
        stop: the run's.
        late: tells whether there is no time left.
        tell: shows how far it is.
    """

    def __init__(self, stop: Stop, late: Callable[[], bool], tell: Callable[[int, int], None]):
        self._stop, self._late, self._tell = stop, late, tell

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """Whether to stop."""
        return self._stop.requested or self._late()

    def request(self, reason: str) -> None:
        """Ask for a stop of the run."""
        self._stop.request(reason)

    def tell(self, done: int, total: int) -> None:
        """Show how far it is."""
        self._tell(done, total)


@dataclass
class Notes:
    """What the loop remembers across processes; saved beside the learner's state.

    Attributes:
        evaluated: progress at the last evaluation; -1 before the first.
        total: the budget; by the clock what it will probably come to.
        metrics: length in bytes and SHA-256 of the part of metrics.jsonl that belongs to the checkpoint.
        config: the configuration as plain JSON, so that an edited one is noticed.
        run: the rest of config.json, so that a damaged one can be written anew.
        window: the open averages of metrics.
        seconds: wall time spent in all processes of this run.
        score: the last evaluation.
        health: what training health has seen (`Health.state`).
        readings: of the clock, for a run that goes by it (`Budget`).
        best: mean and step of the best evaluation, of a learner that plays.
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
    readings: Sequence[Reading] = ()
    best: dict[str, Any] | None = None


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
        budget: Budget | None = None,
        now: Callable[[], float] | None = None,
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
        self._only_final = isinstance(learner, SkipsEvaluations) and learner.skips_evaluations
        self.threads = threads
        self.budget = budget or Budget()
        self.now = now or time.monotonic
        self.forecast = Forecast()
        notes.readings = self.budget.readings
        self._newest = loaded  # a checkpoint that holds just the present state, if there is one
        self.window = Window(notes.window)
        self.clock = Window()
        self.health = Health(RULES, notes.health)
        self.pace = Pace(THROUGHPUT)
        self._started = self.now() - notes.seconds
        self._saved_at = self._logged_at = self._worked_at = self.now()
        self._logged_done = learner.progress().done

    def run(self) -> Outcome:
        """Work until the budget is spent or a stop is requested; saved either way.

        Raises:
            NonFinite: a number became NaN or Inf; nothing was saved after it.
            Collapsed: training health saw a collapse and the configuration says to halt; nothing was saved since its
                first sign.
            RlabError: the disk refused; the previous checkpoint is untouched.
        """
        progress = self._progress()
        due = False  # a checkpoint
        while True:
            self.notes.seconds = self._seconds()
            if self.threads is not None and (chosen := self.threads.hold(progress)):
                self.view.event(chosen)
            if self._evaluation_due(progress):
                try:
                    self._evaluate(progress)
                    cut = False
                except Stopped:
                    if self.stop.requested:
                        return self._outcome(progress, self._save(progress), finished=False)
                    cut = True
                    self.notes.evaluated = progress.done
                    self.view.event(f"no time was left for the evaluation at {progress.done:,} {progress.unit}")
                self._worked_at = self.now()
                self._tell_the_end(self.budget.evaluated(progress.done, self._seconds(), cut), progress)
                progress = self._progress()  # an evaluation can end a run early, too
            if progress.finished:
                if self._evaluation_due(progress):
                    continue
                return self._outcome(progress, self._save(progress), finished=True)
            if self.stop.requested:
                return self._outcome(progress, self._save(progress), finished=False)
            before = progress.done
            self._newest = None
            self._add_metrics(self._step(before))
            progress = self.learner.progress()
            if progress.done > before:  # a step that a stop interrupted goes on by the same reading
                self._tell_the_end(self.budget.read(progress.done, self._seconds()), progress)
            progress = self._progress()
            if crossed(before, progress.done, self.config.log_steps) or progress.finished:
                self._log(progress)
            if crossed(before, progress.done, self.config.keep_steps):
                self.checkpoints.keep(self.learner.state(), progress.done)
            late = self.now() - self._saved_at > self.config.checkpoint_minutes * 60 > 0
            due = due or late or crossed(before, progress.done, self.config.checkpoint_steps)
            wait = self.config.stop_on_collapse and self.health.suspicious  # what may be bad must not push out the good
            if due and not progress.finished and not wait:
                due = False
                self.notes.seconds = self._seconds()
                self._save(progress)
                self.view.event(f"checkpoint at {progress.done:,} {progress.unit}")

    def _seconds(self) -> float:
        """Wall time of the run's own work, in all processes."""
        return self.now() - self._started

    def _step(self, before: int) -> Metrics:
        """A step of the learner from progress `before`, timed."""
        started = self.now()
        metrics = self.learner.step() if self.threads is None else self.threads.step(self.learner)
        ended = self.now()
        self.budget.stepped(ended - started)
        self.forecast.worked(self.learner.progress().done - before, ended - self._worked_at)
        self._worked_at = ended
        return metrics

    def _progress(self) -> Progress:
        """How far the run is. What does not follow the clock ends when its time is up all the same."""
        progress = self.learner.progress()
        return replace(progress, total=min(progress.total, progress.done)) if self.budget.over else progress

    def _tell_the_end(self, read: bool, progress: Progress) -> None:
        """Tell that the time is up, if it is so by a new reading of the clock."""
        if read and self.budget.over:
            self.notes.evaluated = min(self.notes.evaluated, progress.done - 1)  # that was not the final one
            self.view.event(f"the {self.budget.limit / 60:g} minutes are over; the final evaluation follows")

    def _shown(self, progress: Progress) -> Progress:
        """The progress as it is shown: with what is left, and by the clock with the total that it will come to."""
        share = min(1.0, self._seconds() / self.budget.limit) if self.budget.limit else 0.0
        if not share or progress.finished:
            every = self._evaluate_steps(progress.total)
            ahead = (progress.total - 1) // every - progress.done // every if every else 0
            return replace(progress, left=self.forecast.left(progress, max(0, ahead) + 1))
        left = self.budget.limit * (1 - share) + self.forecast.evaluation
        return replace(progress, total=max(progress.done + 1, round(progress.done / share)), left=left)

    def _add_metrics(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                progress = self._progress()
                raise NonFinite(name, value, f"{progress.done:,} {progress.unit}")
        self.window.add({k: v for k, v in metrics.items() if not k.startswith(CLOCK)})
        self.clock.add({k[len(CLOCK) :] + "_sum": v for k, v in metrics.items() if k.startswith(CLOCK)})
        self.view.show(self._shown(self._progress()), metrics)
        self._tell()

    def _tell(self) -> None:
        """Show what the learner has noticed."""
        if self._tells is not None:
            for note in self._tells.take_notes():
                self.view.event(f"note: {note}")

    def _log(self, progress: Progress) -> None:
        now = self.now()
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

    def _evaluate_steps(self, total: int) -> int:
        """How far evaluations are apart: often enough for a curve, if that was asked for; 0: only at the end."""
        return 0 if self._only_final else steps_between_evaluations(self.config, total)

    def _evaluation_due(self, progress: Progress) -> bool:
        if progress.finished:
            return self.notes.evaluated < progress.done
        every = self._evaluate_steps(progress.total)
        times = self.config.evaluations if every else 0
        if self.budget.limit and times:
            return self.budget.evaluation_due(progress.done, self.notes.evaluated, times)
        return every > 0 and progress.done // every > max(self.notes.evaluated, 0) // every

    def _evaluate(self, progress: Progress) -> None:
        if progress.done not in (step for step, _ in self.budget.readings[-1:]):
            self.budget.read(progress.done, self._seconds(), now=True)  # so that its time is known
        if not progress.finished and self.budget.cuts(progress.done):
            raise Stopped
        by_clock = self.budget.live and not progress.finished
        end = min(self.budget.limit, self.budget.cut_off_at())
        tell = self.view.evaluating if isinstance(self.view, ShowsEvaluations) else Stop().tell
        stop = _Evaluation(self.stop, lambda: by_clock and self._seconds() >= end, tell)
        started = self.now()
        score = dict(self.learner.evaluate(stop))
        seconds = self.now() - started
        self._newest = None
        self.notes.evaluated = progress.done
        self.notes.score = finite(score)
        self.forecast.evaluation = seconds
        self._write({"kind": "eval", "step": progress.done, **finite(score), "clock": {"seconds": round(seconds, 3)}})
        self._logged_at += seconds
        self.view.event(
            f"evaluation at {progress.done:,} {progress.unit}: {score.get('measure', 'mean')} {score['mean']:.2f}"
            f" [{score['low']:.2f}, {score['high']:.2f}] over {over_text(score)}"
        )
        if isinstance(self.view, Listens):
            self.view.evaluated(progress, score)
        self._tell()
        self._keep_best(progress, score)

    def _keep_best(self, progress: Progress, score: dict[str, Any]) -> None:
        """Keep what plays best. Models keep their best parameters by validation themselves."""
        best = self.notes.best
        if not keeps_best(self.learner) or "measure" in score or (best and score["mean"] <= best["mean"]):
            return
        self.checkpoints.keep_best(self.learner.state(), progress.done)
        self.notes.best = {"step": progress.done, "mean": score["mean"]}

    def _write(self, row: dict[str, Any]) -> None:
        self.metrics.write(row)
        self.observe(row)

    def _save(self, progress: Progress) -> Path:
        if self._newest is not None:
            return self._newest
        self.notes.total = self._shown(progress).total
        self.notes.window = self.window.sums
        self.notes.metrics = self.metrics.sync()
        self.notes.health = self.health.state()
        path = self.checkpoints.save(self.learner.state(), vars(self.notes), progress.done)
        self._saved_at = self.now()
        self._newest = path
        if isinstance(self.view, Listens):
            self.view.saved(progress, path)
        return path

    def _outcome(self, progress: Progress, checkpoint: Path, finished: bool) -> Outcome:
        return Outcome(finished, progress.done, checkpoint, self.notes.score, self.notes.seconds)


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every


def keeps_best(learner: Learner) -> bool:
    """Whether the best checkpoint of a learner by evaluation is kept beside the newest ones: of what plays games."""
    return isinstance(learner, Plays)
