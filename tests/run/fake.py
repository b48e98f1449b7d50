"""A small deterministic learner for tests of a run's life: a counter, random numbers, a tensor and a log.

``python -m tests.run.fake NAME`` starts the run NAME, or resumes it where it is there already.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from rlab.registry import RECIPES, Recipe
from rlab.run import checkpoint
from rlab.run import lifecycle as life
from rlab.run.config import RunConfig
from rlab.run.contract import Footprint, Metrics, Progress, State, Stop, Stopped
from rlab.run.folder import RunFolder, find_run, runs_dir
from rlab.run.journal import Journal
from rlab.run.loop import Outcome
from rlab.run.metrics import read_metrics
from rlab.run.signals import stop_on_signals
from rlab.seeding import derive


@dataclass(frozen=True)
class FakeConfig:
    total: int = 24
    """Units of work."""
    stride: int = 2
    """Units of one step."""
    keep: int = 40
    """Rows that the state still points at."""
    nan_at: int = -1
    """Report a loss that is not a number from here on."""
    diverge: tuple[int, ...] = ()
    """Report values that diverge from the first of these on, up to the second; without one for ever."""
    sleep: float = 0.0
    """Seconds that a step takes."""


@dataclass(frozen=True)
class FakeExperiment:
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            threads=1, checkpoint_steps=0, checkpoint_minutes=0, log_steps=5, evaluate_steps=8
        )
    )
    fake: FakeConfig = field(default_factory=FakeConfig)


class Fake:
    polled: Callable[[], None] = staticmethod(lambda: None)
    """Called each time an evaluation or a restore looks at its stop; tests put a request here."""

    evaluated: tuple[int, ...] = ()
    """Progress at every completed evaluation in this process."""

    def __init__(self, config: FakeConfig, seed: int, journal: Journal):
        self.config, self.seed, self.journal = config, seed, journal
        self.done = 0
        self.rng = np.random.default_rng(seed)
        self.weight = torch.zeros(3, 2, dtype=torch.bfloat16)
        self.total = 0.0

    def step(self) -> Metrics:
        time.sleep(self.config.sleep)
        x = self.rng.standard_normal((3, 2))
        self.weight = (self.weight * 0.9 + torch.from_numpy(x)).to(torch.bfloat16)
        n = int(self.rng.integers(0, 12))
        rows = self.rng.integers(0, 256, (n, 7), dtype=np.uint8)
        self.journal.append("rows", {"pixels": rows, "sum": rows.sum(1).astype(np.int32)})
        self.total += float(x.sum())
        self.done = min(self.config.total, self.done + self.config.stride)
        metrics = {
            "loss": float(abs(x).sum()),
            "rows_sum": n,
            "done_last": self.done,
            "clock_work": time.time() % 1,
        }
        if self.done % 3 == 0:
            metrics["rare"] = float(x[0, 0])
        if 0 <= self.config.nan_at <= self.done:
            metrics["loss"] = float("nan")
        metrics |= {"reward_size_max": 1.0, "value_rate": 0.5}
        first, last = (*self.config.diverge, 1 << 60, 1 << 60)[:2]
        if first <= self.done <= last:
            metrics["value_rate"] = 100.0
        return metrics

    def evaluate(self, stop: Stop) -> dict[str, Any]:
        for _ in range(3):
            type(self).polled()
            if stop.requested:
                raise Stopped
        type(self).evaluated = (*type(self).evaluated, self.done)
        x = float(np.random.default_rng(derive(self.seed, "evaluation", self.done)).standard_normal())
        return {"mean": x, "median": x, "low": x - 1, "high": x + 1, "episodes": 3}

    def progress(self) -> Progress:
        return Progress(self.done, self.config.total, "units")

    def footprint(self, stop: Stop) -> Footprint:
        return Footprint(1000, 0, 1000)

    def state(self) -> State:
        end = self.journal.end("rows")
        return {
            "done": self.done,
            "total": self.total,
            "rng": self.rng.bit_generator.state,
            "weight": self.weight,
            "log": self.journal.log("rows", max(0, end - self.config.keep)),
        }

    def restore(self, state: State, stop: Stop) -> None:
        type(self).polled()
        if stop.requested:
            raise Stopped
        log = state["log"]
        count = 0
        for rows in log.rows():
            assert np.array_equal(rows["pixels"].sum(1), rows["sum"])
            count += len(rows["sum"])
        assert count == log.end - log.start
        self.done, self.total, self.weight = state["done"], state["total"], state["weight"]
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        pass


def default(subject: str) -> FakeExperiment:
    return FakeExperiment()


def build(experiment: FakeExperiment, context: life.BuildContext) -> Fake:
    return Fake(experiment.fake, experiment.run.seed, context.journal)


if __name__ != "__main__":  # `python -m` runs this file a second time under that name
    RECIPES.register("fake")(Recipe("a fake", default, build, subject=(), unit="units", budget="fake.total"))


class QuietView:
    """Shows nothing; may ask for a stop after the k-th step."""

    def __init__(self, stop: Stop | None = None, stop_after: int = -1):
        self.stop, self.left = stop, stop_after
        self.events: list[str] = []

    def show(self, progress: Progress, metrics: Metrics) -> None:
        self.left -= 1
        if self.left == 0 and self.stop is not None:
            self.stop.request("test")

    def event(self, text: str) -> None:
        self.events.append(text)


def experiment(**settings: Any) -> FakeExperiment:
    base = FakeExperiment()
    own = {k: v for k, v in settings.items() if k in FakeConfig.__dataclass_fields__}
    run = {k: v for k, v in settings.items() if k not in own}
    return FakeExperiment(replace(base.run, **run), replace(base.fake, **own))


def start(name: str, config: FakeExperiment, stop_after: int = -1) -> tuple[RunFolder, Outcome]:
    stop = Stop()
    if stop_after == 0:
        stop.request("test")
    return life.start_run(
        "fake",
        config,
        name,
        stop,
        QuietView(stop, stop_after),
        lambda config, footprint, folder: config,
    )


def resume(folder: RunFolder, stop_after: int = -1, view: QuietView | None = None) -> Outcome:
    stop = Stop()
    return life.resume_run(folder, None, stop, view or QuietView(stop, stop_after))


def digest_of(folder: RunFolder) -> str:
    saved = life.read_newest(folder)
    assert saved is not None
    return checkpoint.digest(saved.state)


def rows_of(folder: RunFolder) -> list[dict[str, Any]]:
    """metrics.jsonl without what clocks say."""
    return [{k: v for k, v in row.items() if k != "clock"} for row in read_metrics(folder.metrics)]


@contextmanager
def polling(callback: Callable[[], None]) -> Iterator[None]:
    before = Fake.polled
    Fake.polled = staticmethod(callback)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Fake.polled = before  # type: ignore[method-assign]


def main() -> None:
    name, settings = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    torch.set_num_threads(1)
    with stop_on_signals(Stop()) as stop:
        view = QuietView()
        if (runs_dir() / name / "config.json").is_file():
            folder = find_run(name)
            print("working", flush=True)
            outcome = life.resume_run(folder, None, stop, view)
        else:
            print("working", flush=True)
            folder, outcome = life.start_run("fake", experiment(**settings), name, stop, view, lambda c, f, d: c)
    print(json.dumps({"finished": outcome.finished, "done": outcome.done, "events": view.events}))


if __name__ == "__main__":
    from tests.run import fake

    fake.main()
