"""The live view of a run: a progress bar in a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlab.run.contract import Metrics, Progress
from rlab.run.formatting import printable, printable_lines

REDRAW_SECONDS = 0.25
"""In a terminal."""

NOTEBOOK_SECONDS = 1.0
"""In a notebook, where every picture is a message to a browser."""

LINE_SECONDS = 10.0
"""Where there is no terminal."""

RATE_SECONDS = 8.0
"""Time constant of the smoothed speed that the remaining time is computed from."""

SHOWN = {
    "return_mean_last": ("mean return", "{:.2f}"),
    "epsilon_last": ("ε", "{:.3f}"),
    "loss": ("loss", "{:.4f}"),
    "q_mean": ("mean Q", "{:.3f}"),
    "value_loss": ("value loss", "{:.4f}"),
    "entropy": ("entropy", "{:.3f}"),
}
"""Metric -> (what it is called here, format)."""

PARTS = {"clock_act": "act", "clock_env": "environment", "clock_data": "data", "clock_learn": "learn"}
"""Clock metric -> what it is called here."""


class LiveView:
    """A `rlab.run.loop.View`; use it as a context manager.

    `show` is called thousands of times a second: between two pictures it adds up three numbers.

    Args:
        title: what stands above the bar, such as the agent and the environment.
        console: where to draw; None is stderr.
    """

    def __init__(self, title: str = "", console: Console | None = None):
        self.title = printable(title)
        self.console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._notebook: Any = None  # IPython's handle of the picture in it
        self._every = LINE_SECONDS
        if self.console.is_jupyter or self.console.is_terminal:
            self._every = NOTEBOOK_SECONDS if self.console.is_jupyter else REDRAW_SECONDS
        self._latest: dict[str, float] = {}
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._shares = dict.fromkeys(PARTS, 0.0)
        self._evaluating = ""
        self._due = 0.0
        self._at = 0.0
        self._done: int | None = None
        self._progress: Progress | None = None
        self._rate = 0.0

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, progress: Progress, metrics: Metrics) -> None:
        """Take in one step; draw if it is time."""
        now = time.monotonic()
        self._progress, self._evaluating = progress, ""
        self._latest.update(metrics)
        for name in self._spent:
            self._spent[name] += metrics.get(name, 0.0)
        if now < self._due and not progress.finished:
            return
        self._account(progress, now)
        if self.console.is_jupyter:
            self._show_in_notebook(progress)
        elif self.console.is_terminal:
            self._draw(progress)
        elif self._rate:
            self._print(self._line(progress))

    def evaluating(self, done: int, total: int) -> None:
        """Show how far an evaluation is, in the place of the speed; draw if it is time."""
        now = time.monotonic()
        if not self._evaluating:  # learning stands still meanwhile: its speed is measured anew afterwards
            self._done = None
        self._evaluating = f"evaluating {done:,}/{total:,}" if total else "evaluating"
        if self._progress is not None and now >= self._due:
            self._due = now + self._every
            if self.console.is_terminal:
                self._draw(self._progress)
            else:
                self._print(self._line(self._progress))

    def event(self, text: str) -> None:
        """Say that something happened."""
        self._print(printable_lines(text))

    def _account(self, progress: Progress, now: float) -> None:
        """Turn what was added up since the last picture into speeds."""
        self._due = now + self._every
        if self._done is not None and now > self._at:
            elapsed = now - self._at
            rate = (progress.done - self._done) / elapsed
            weight = 1.0 if not self._rate else 1 - math.exp(-elapsed / RATE_SECONDS)
            self._rate += weight * (rate - self._rate)
            whole = sum(self._spent.values()) or 1.0
            self._shares = {name: seconds / whole for name, seconds in self._spent.items()}
        self._at, self._done = now, progress.done
        self._spent = dict.fromkeys(PARTS, 0.0)

    def _draw(self, progress: Progress) -> None:
        if self._live is None:
            # No refresh thread: a picture is drawn when there is a new one.
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(self._picture(progress), refresh=True)

    def _show_in_notebook(self, progress: Progress) -> None:
        """Draw below the cell, each picture in the place of the one before."""
        from IPython.display import display

        # A table draws itself as HTML there; rich's own live view needs ipywidgets for it.
        picture = Table.grid()
        picture.add_row(self._picture(progress))
        if self._notebook is None:
            self._notebook = display(picture, display_id=True)
        else:
            self._notebook.update(picture)

    def _picture(self, progress: Progress) -> Group:
        head = Table.grid(padding=(0, 2))
        room = max(8, min(36, self.console.width - len(self.title) - 26))
        bar = ProgressBar(total=progress.total, completed=min(progress.done, progress.total), width=room)
        head.add_row(Text(self.title, style="bold"), bar, f"{self._share_done(progress)}   ETA {self._eta(progress)}")
        lines = [Text(self._amount(progress) + "   " + self._speed(progress)), Text(self._numbers())]
        return Group(head, *lines)

    def _line(self, progress: Progress) -> str:
        amount = f"{progress.done:>{len(f'{progress.total:,}')},} / {progress.total:,} {progress.unit}"
        # One line of a terminal: of the metrics the first, and of the speed not what it is made of.
        parts = [self._speed(progress).partition(" (")[0], self._numbers().partition(" · ")[0]]
        return "  ".join(
            [f"{self._share_done(progress):>6}", amount, f"ETA {self._eta(progress)}", *filter(None, parts)]
        )

    def _amount(self, progress: Progress) -> str:
        return f"{progress.done:,} / {progress.total:,} {progress.unit}"

    def _share_done(self, progress: Progress) -> str:
        return f"{min(1.0, progress.done / max(1, progress.total)):.1%}"

    def _eta(self, progress: Progress) -> str:
        left = progress.left
        if left is None:
            if self._rate <= 0:
                return "-"
            left = (progress.total - progress.done) / self._rate
        minutes, seconds = divmod(round(max(0.0, left)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"

    def _speed(self, progress: Progress) -> str:
        if self._evaluating or not self._rate:
            return self._evaluating
        text = f"{self._rate:,.0f} {progress.unit}/s"
        if any(self._shares.values()):
            shares = ", ".join(f"{PARTS[name]} {share:.0%}" for name, share in self._shares.items() if share)
            text += f" ({shares})"
        return text

    def _numbers(self) -> str:
        known = [(SHOWN[name], self._latest[name]) for name in SHOWN if name in self._latest]
        return " · ".join(f"{label} {form.format(value)}" for (label, form), value in known)

    def _print(self, text: str) -> None:
        if self.console.is_terminal:
            self.console.print(Text(text))
        else:
            print(text, file=sys.stderr, flush=True)  # rich would wrap it at 80 columns
