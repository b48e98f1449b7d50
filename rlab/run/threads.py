"""The number of torch's CPU threads, chosen by measurement; every choice is logged, so that a resume repeats it.

Float sums depend on how many threads share them, so a run is the same to the bit only with the same number at every
step. ``threads.json`` in the run's folder says from which progress on which number holds. A choice is written before it
is used and is never taken back: what a killed process had chosen after its last checkpoint holds when the run goes on,
on a machine that would choose otherwise, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rlab.errors import RlabError
from rlab.machine import cores
from rlab.run.contract import Footprint, Learner, Metrics, Progress, Stop, Stopped
from rlab.run.files import read_document, write_document

SCHEMA = 1
"""Version of threads.json."""

WINDOW = 5.0
"""Seconds of work over which a pace is taken."""

FALLEN = 0.7
"""Share of its best pace below which the other numbers are tried."""

REST = 6
"""Windows between two trials at the least: a number that turns out slow costs a window."""

AGAIN = 120
"""Windows after which the others are tried although the pace is good: a core may have become free."""

BETTER = 1.05
"""How much faster another number must be: less is noise."""

clock: Callable[[], float] = time.perf_counter


def choices() -> tuple[int, ...]:
    """Return the numbers to choose among here: one, half of the cores, and all of them."""
    return tuple(sorted({1, max(1, cores() // 2), cores()}))


def measured(learner: Learner, stop: Stop) -> tuple[int, Footprint]:
    """Measure a learner that starts at 0 with each of the `choices`; alters nothing of it.

    Returns:
        (the fastest number, the footprint with it). One for a network that is too small for more; of a learner that
        gives no time, as many as there are cores.

    Raises:
        Stopped: a stop was requested before there was a result.
    """
    started, (first, *others) = clock(), choices()
    torch.set_num_threads(first)
    best = first, learner.footprint(stop)
    if best[1].one_thread:
        return best
    patience = 2 * (clock() - started) + 1
    for number in others:
        torch.set_num_threads(number)
        try:
            footprint = learner.footprint(_Deadline(stop, clock() + patience))
        except Stopped:
            if stop.requested:
                raise
            continue  # beside other work several can take many times as long
        if not footprint.seconds or footprint.seconds * BETTER < (best[1].seconds or math.inf):
            best = number, footprint
    return best


class _Deadline(Stop):
    """A stop that comes by itself at a time, too."""

    def __init__(self, stop: Stop, at: float):
        self._stop, self._until = stop, at

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """Whether a stop was asked for, or it is late."""
        return self._stop.requested or clock() > self._until


class AutoThreads:
    """The threads of one run: what was logged is repeated, after that the pace decides.

    Args:
        path: of threads.json.
        events: (progress, number): from which progress on which number holds, in order.
        several: whether other numbers are tried when the pace falls, and now and then.
    """

    def __init__(self, path: Path, events: list[tuple[int, int]], several: bool):
        self.path = path
        self.events = events
        self.several = several
        self._at = -1  # progress at the last call of `hold`
        self._learns = False
        self._done, self._spent = 0, 0.0  # of this window
        self._best = 0.0  # pace with the number in use
        self._rested = 0  # windows since the last trial
        self._tried: dict[int, float] = {}  # number -> pace, while a trial goes on; first what was in use before it

    @classmethod
    def begin(cls, path: Path, number: int, several: bool) -> AutoThreads:
        """Start the log of a new run; `number` holds from the start."""
        threads = cls(path, [], several)
        threads._log(0, number)
        return threads

    @classmethod
    def load(cls, path: Path) -> AutoThreads:
        """Read what a run has chosen so far; after that, other numbers are tried soon, for much may have changed.

        Raises:
            RlabError: the file is missing or damaged.
        """
        document = read_document(path, "run", SCHEMA)
        events, several = document.get("events"), document.get("several")
        if not (isinstance(several, bool) and isinstance(events, list) and events and all(map(_is_event, events))):
            raise RlabError(f"{path} is damaged (its events are no pairs of progress and threads)")
        threads = cls(path, sorted((done, number) for done, number in events), several)
        threads._rested = AGAIN
        return threads

    def use(self, done: int) -> None:
        """Give torch the number that holds at a progress."""
        number = next((number for start, number in reversed(self.events) if start <= done), self.events[0][1])
        if number != torch.get_num_threads():
            torch.set_num_threads(number)

    def hold(self, progress: Progress) -> str:
        """Use the number that holds for the work from here on; the loop asks before each step and evaluation.

        Returns:
            What was chosen anew, in words; "" for nothing.
        """
        chosen, done = "", progress.done
        if done != self._at:  # a choice holds for all work at one progress
            self._at = done
            ready = self.several and done > self.events[-1][0]
            if ready and progress.finished and self._tried:
                self._log(done, next(iter(self._tried)))  # the last evaluation is long
            elif ready and not progress.finished and self._spent >= WINDOW:
                chosen = self._choose(done)
        self.use(done)
        return chosen

    def step(self, learner: Learner) -> Metrics:
        """Have a learner do a step, and note its pace."""
        before, started = learner.progress().done, clock()
        metrics = learner.step()
        done = learner.progress().done
        self._learns = self._learns or "loss" in metrics  # before learning starts everything is faster
        if self._learns and done > self.events[-1][0]:
            self._done += done - before
            # Environments restart now and then, which takes as long with any number of threads.
            self._spent += clock() - started - metrics.get("clock_restart", 0.0)
        return metrics

    def _choose(self, done: int) -> str:
        """At the end of a window: begin, go on with or end a trial of the other numbers."""
        pace, now, among = self._done / self._spent, self.events[-1][1], choices()
        self._done, self._spent = 0, 0.0
        if not self._tried:
            self._best = max(self._best, pace)
            self._rested += 1
            fallen = pace < FALLEN * self._best and self._rested >= REST
            if not fallen and self._rested < AGAIN and now in among:
                return ""
        self._tried[now] = pace
        if left := [number for number in among if number not in self._tried]:
            self._log(done, left[0])
            return ""
        start, *_ = self._tried
        worth = {number: pace * (BETTER if number == start else 1) for number, pace in self._tried.items()}
        best = max((number for number in worth if number in among), key=lambda number: worth[number])
        self._best, self._rested, self._tried = self._tried[best], 0, {}
        if best != now:
            self._log(done, best)
        return "" if best == start else f"torch computes with {best} of {cores()} threads from {done:,} on"

    def _log(self, done: int, number: int) -> None:
        self.events.append((done, number))
        document = {"schema": SCHEMA, "several": self.several, "events": self.events}
        write_document(self.path, document)


def _is_event(event: object) -> bool:
    is_pair = isinstance(event, list) and len(event) == 2 and all(type(n) is int for n in event)
    return is_pair and event[0] >= 0 and 1 <= event[1] <= 1024  # type: ignore[index]
