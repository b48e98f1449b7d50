"""How long a run is, in steps (epochs, games) or by the clock, and where its schedules stand.

By the clock (``--minutes``), a run follows its own wall time, which no second run repeats. So the loop reads the clock
now and then, and all that depends on time depends on these readings alone. Each is written to ``clock.jsonl`` before
anything follows from it: a run that was killed goes by the logged readings until they end, and comes to the same bits.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from rlab.run.contract import Progress
from rlab.run.files import disk_error, open_plain, read_plain, replace_durably

NEVER = 1 << 50
"""The end of a run by the clock whose time is not up, as its progress is counted."""

READINGS = 500
"""Readings of the clock over a run, beside those around evaluations."""

LATEST = 1.1
"""No step is begun that would probably end after this multiple of the time asked for."""

GIVEN_UP = 2
"""After this multiple of the time asked for, a run goes by the clock again, whatever readings its log still has."""

EVALUATING = 4
"""About one part in this many of a run by the clock goes into evaluations on the way, at the most."""

LONGEST = 1 / 8
"""Share of the time after which an evaluation on the way is cut off. Two readings around it tell that it was."""

Reading = tuple[int, float]
"""(progress, seconds of the run's own wall time then)."""


class Budget:
    """The length of a run and the place of its schedules.

    Args:
        minutes: how long the run goes by the clock; 0: it goes by steps, epochs or games.
        schedule_end: where schedules end, in the unit of the budget (by the clock in minutes); 0: with the budget.
        extended: whether the run goes on to this budget from a checkpoint of another one.
    """

    def __init__(self, minutes: float = 0.0, schedule_end: float = 0.0, extended: bool = False):
        self.limit = 60 * minutes
        self.schedule_end = schedule_end
        self.extended = extended
        self.readings: list[Reading] = []
        self._ahead: list[Reading] = []  # logged by a process that was killed, the next one last
        self._file: IO[bytes] | None = None
        self._took = (0.0, 0.0)  # of the last two steps

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.limit > 0 and bool(self.readings) and self.readings[-1][1] >= self.limit

    @property
    def live(self) -> bool:
        """Whether the clock decides, and not a log of it."""
        return self.limit > 0 and not self._ahead

    def end(self, total: int) -> int:
        """Where the run ends, as progress is counted, if it has `total` of it; by the clock unknown until then."""
        if not self.limit:
            return total
        return self.readings[-1][0] if self.over else NEVER

    def horizon(self, total: int) -> float:
        """What schedules are fractions of, in the unit of `total`, which is the budget."""
        return total if self.limit else self.schedule_end or total

    def seconds(self, done: int) -> float:
        """The last reading of the clock up to a progress."""
        if not self.readings or done >= self.readings[-1][0]:
            return self.readings[-1][1] if self.readings else 0.0
        place = bisect_right(self.readings, (done, math.inf))
        return self.readings[place - 1][1] if place else 0.0

    def share(self, done: int) -> float | None:
        """The share of time, 0..1, that schedules follow at a progress; None: they follow progress itself."""
        return min(1.0, self.seconds(done) / (60 * self.schedule_end or self.limit)) if self.limit else None

    def place(self, done: int, horizon: float) -> float:
        """Where schedules stand at a progress, between 0 and `horizon`, which is counted as progress is."""
        share = self.share(done)
        return done if share is None else share * horizon

    def evaluation_due(self, done: int, evaluated: int, times: int) -> bool:
        """Whether a run by the clock should be evaluated, of which `times` evaluations over the whole are wanted."""
        if not (self.limit and times):
            return False
        since = self.seconds(done) - self.seconds(evaluated)
        if since < self.limit / times:
            return False
        around = [seconds for step, seconds in self.readings if step == evaluated]
        return since >= (EVALUATING - 1) * (around[-1] - around[0] if around else 0.0)

    def cut_off_at(self) -> float:
        """When an evaluation that begins at the last reading is cut off, in seconds of the run."""
        return self.readings[-1][1] + LONGEST * self.limit if self.readings else 0.0

    def cuts(self, done: int) -> bool:
        """Whether the log tells that the evaluation at a progress was cut off."""
        return bool(self._ahead) and self._ahead[-1][0] == done and self._ahead[-1][1] >= self.cut_off_at()

    def evaluated(self, done: int, seconds: float, cut: bool) -> bool:
        """Read the clock after an evaluation that began at the last reading, and was `cut` off or not; as `read`."""
        end = self.cut_off_at()
        return self.read(done, max(seconds, end) if cut else min(seconds, math.nextafter(end, 0.0)), now=True)

    def stepped(self, seconds: float) -> None:
        """Take note of how long a step took."""
        self._took = (self._took[1], seconds)

    def read(self, done: int, seconds: float, now: bool = False) -> bool:
        """Read the clock if it is time to, or `now`; return whether there is a new reading.

        Args:
            done: the run's progress.
            seconds: its wall time.
            now: whether it is time in any case.
        """
        if not self.limit or self.over:
            return False
        if self._ahead and seconds > GIVEN_UP * self.limit:
            self._ahead = []
        if self._ahead:
            if self._ahead[-1][0] > done:
                return False
            self.readings.append(self._ahead.pop())
            return True
        last = self.readings[-1][1] if self.readings else 0.0
        before, took = self._took
        # A step can double the one before it, but one long step among short ones (it compiled) says nothing.
        if seconds + 2 * min(took, 2 * before) > LATEST * self.limit:
            seconds = max(seconds, self.limit)
        if not now and seconds < min(self.limit, last + self.limit / READINGS):
            return False
        self._log((done, max(last, seconds)))
        return True

    def open(self, path: Path, readings: Iterable[Reading], report: Callable[[str], None]) -> None:
        """Go on with the log of readings from those that a checkpoint knows; later ones in the file come again."""
        if not self.limit:
            return
        known = [(int(step), float(seconds)) for step, seconds in readings]
        try:
            data = read_plain(path) if os.path.lexists(path) else b""
            logged = _parsed(data)
            if logged[: len(known)] != known:
                report(f"{path} does not continue the checkpoint; what follows goes by new readings of the clock")
                logged = known
            whole = b"".join(map(_line, logged))
            if whole != data:  # its last line was cut off by a kill, or it is damaged
                replace_durably(path, whole)
            self._file = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError as e:
            raise disk_error(e, path.parent) from None
        self.readings, self._ahead = known, logged[: len(known) - 1 if known else None : -1]
        self._path = path

    def _log(self, reading: Reading) -> None:
        if self._file is not None:
            try:
                self._file.write(_line(reading))
                self._file.flush()
            except OSError as e:
                raise disk_error(e, self._path.parent) from None
        self.readings.append(reading)

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


@runtime_checkable
class FollowsClock(Protocol):
    """A learner that asks a `Budget` where it ends and where its schedules stand; the run gives it its own."""

    budget: Budget


class Forecast:
    """The time that is left of a run, from the recent pace of learning and from what evaluations took."""

    def __init__(self) -> None:
        self.evaluation = 0.0
        self._seconds = self._units = 0.0

    def worked(self, units: int, seconds: float) -> None:
        """Take in what was done in some time without evaluations; what lies more than a minute back fades."""
        fade = 0.5 ** (seconds / 40)
        self._seconds, self._units = fade * self._seconds + seconds, fade * self._units + units

    def left(self, progress: Progress, evaluations: int) -> float | None:
        """Seconds to the end of a run, of which so many evaluations are to come; None before it is known."""
        if not self._units:
            return None
        return (progress.total - progress.done) * self._seconds / self._units + evaluations * self.evaluation


def _line(reading: Reading) -> bytes:
    return json.dumps(reading).encode() + b"\n"


def _parsed(data: bytes) -> list[Reading]:
    """The readings of a log, up to its first damaged line."""
    readings: list[Reading] = []
    last = (0, 0.0)
    for line in data.splitlines(keepends=True):
        try:
            step, seconds = json.loads(line)
            reading = (int(step), float(seconds))
            if not (line.endswith(b"\n") and last[0] <= reading[0] < NEVER and last[1] <= reading[1] < math.inf):
                break
        except (ValueError, TypeError, OverflowError, RecursionError):
            break
        readings.append(reading)
        last = reading
    return readings
