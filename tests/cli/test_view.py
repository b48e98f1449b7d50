from __future__ import annotations

import io
import sys
import time
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from rlab.run.contract import Progress
from rlab.run.progress import LiveView

METRICS = {
    "loss": 0.01,
    "q_mean": 1.5,
    "epsilon_last": 0.25,
    "return_mean_last": 12.5,
    "clock_act": 1e-4,
    "clock_env": 1e-4,
    "clock_learn": 2e-4,
}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)


def test_a_terminal_gets_a_bar(monkeypatch) -> None:
    screen = console(True)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LiveView("dqn on Breakout", screen) as view:
        for done in (0, 100, 200):
            view.show(Progress(done, 1000, "steps"), METRICS)
            now[0] += 1.0
        view.event("something [happened]")
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for part in ("dqn on Breakout", "20.0%", "ETA 0:00:08", "100 steps/s", "act 25%", "environment 25%"):
        assert part in text
    for part in ("learn 50%", "mean return 12.50", "ε 0.250", "loss 0.0100", "mean Q 1.500"):
        assert part in text
    assert "something [happened]" in text


def test_what_is_done_beyond_the_plan_takes_no_time(monkeypatch, capsys) -> None:
    """Blocks of work need not divide the plan."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LiveView("alphazero on Go7", console(False)) as view:
        for done in (0, 600, 1_200):
            view.show(Progress(done, 1_000, "steps"), METRICS)
            now[0] += 60.0
    assert "100.0%  1,200 / 1,000 steps  ETA 0:00:00" in capsys.readouterr().err


def test_at_most_four_pictures_a_second(monkeypatch) -> None:
    screen = console(True)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LiveView("run", screen) as view:
        draws = 0
        draw = view._draw

        def count(progress: Progress) -> None:
            nonlocal draws
            draws += 1
            draw(progress)

        monkeypatch.setattr(view, "_draw", count)
        for done in range(2000):
            view.show(Progress(done, 10_000, "steps"), METRICS)
            now[0] += 0.001
    assert draws <= 9


def test_plain_lines_where_there_is_no_terminal(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LiveView("run", console(False)) as view:
        for done in range(0, 300, 10):
            view.show(Progress(done, 1000, "steps"), METRICS)
            now[0] += 1.0
        view.event("an event")
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert len(lines) == 3
    assert lines[0].split()[:5] == ["10.0%", "100", "/", "1,000", "steps"]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "an event"


def test_between_two_pictures_it_costs_next_to_nothing() -> None:
    view = LiveView("run", console(True))
    progress = Progress(1, 1000, "steps")
    view.show(progress, METRICS)
    view._due = float("inf")
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            view.show(progress, METRICS)
        best = min(best, (time.perf_counter() - started) / 1000)
    view.__exit__(None, None, None)
    assert best < 10e-6


def test_notebook_gets_one_picture_that_changes(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    pictures: list[str] = []

    class Handle:
        def update(self, picture: Any) -> None:
            pictures.append(picture._repr_mimebundle_([], [])["text/plain"])

    def display(picture: Any, display_id: bool) -> Handle:
        Handle().update(picture)
        return Handle()

    fake = ModuleType("IPython.display")
    fake.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LiveView("dqn", Console(file=io.StringIO(), force_jupyter=True, stderr=True)) as view:
        for done in (0, 100, 200, 300):
            view.show(Progress(done, 1000, "steps"), METRICS)
            now[0] += 0.6
        view.event("an event")
    assert len(pictures) == 2
    assert "20.0%" in pictures[1]
    assert capsys.readouterr().err == "an event\n"
