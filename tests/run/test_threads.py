"""The number of torch's threads as a part of a run: chosen by injected paces, logged, and repeated by a resume."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.registry import RECIPES, Recipe
from rlab.run import lifecycle, threads
from rlab.run.config import changed
from rlab.run.contract import Footprint, Metrics, Stop, Stopped
from rlab.run.threads import AutoThreads, measured
from tests.run.fake import Fake, QuietView, default, digest_of, experiment, resume, rows_of

Seconds = Callable[[int, int], float]
"""(threads, progress) -> seconds of a step."""


class Machine:
    """A clock that only steps move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: Seconds = lambda number, done: 1.0
        self.restart: Callable[[int], float] = lambda done: 0.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Four cores, and windows of two steps of a second."""
    made = Machine()
    for name, value in {"WINDOW": 2.0, "REST": 2, "AGAIN": 30, "clock": lambda: made.now, "cores": lambda: 4}.items():
        monkeypatch.setattr(threads, name, value)
    Counted.machine = made
    RECIPES.register("counted")(Recipe("a fake", default, build, subject=(), unit="units", budget="fake.total"))
    before = torch.get_num_threads()
    yield made
    torch.set_num_threads(before)
    del RECIPES._entries["counted"]


class Counted(Fake):
    """A fake whose state depends on the threads of each step."""

    machine: Machine

    def step(self) -> Metrics:
        number = torch.get_num_threads()
        restart = self.machine.restart(self.done)
        self.machine.now += self.machine.seconds(number, self.done) + restart
        metrics = super().step()
        self.total += number * self.done
        return {**metrics, "threads_last": number, "clock_restart": restart}

    def footprint(self, stop: Stop) -> Footprint:
        return Footprint(1000, 0, 1000, seconds=self.machine.seconds(torch.get_num_threads(), 0))


def build(experiment: Any, context: Any) -> Counted:
    return Counted(experiment.fake, experiment.run.seed, context.journal)


def train(name: str, number: int | str = "auto", **settings: Any) -> tuple[Any, Any]:
    config = experiment(threads=number, total=120, log_steps=2, evaluate_steps=0, **settings)
    return lifecycle.start_run("counted", config, name, Stop(), QuietView(), lambda config, footprint, folder: config)


def numbers(folder: Any) -> list[float]:
    return [row["threads"] for row in rows_of(folder) if row["kind"] == "train"]


def test_a_measurement_that_takes_too_long_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def footprint(self: Fake, stop: Stop) -> Footprint:
        for _ in range(3):
            machine.now += 100.0 if torch.get_num_threads() == 2 else 1.0
            if stop.requested:
                raise Stopped
        return Footprint(0, 0, 0, 5 - torch.get_num_threads())

    monkeypatch.setattr(Fake, "footprint", footprint)
    fake = Fake(experiment().fake, 0, None)  # type: ignore[arg-type]
    assert measured(fake, Stop())[0] == 4
    assert machine.now == 3 + 100 + 3
    with pytest.raises(Stopped):
        measured(fake, Stop(requested=True))


@pytest.mark.parametrize(
    ("seconds", "small", "expected"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.0}, False, 4),
        ({1: 4.0, 2: 2.0, 4: 9.0}, False, 2),
        ({1: 1.0, 2: 0.99, 4: 0.98}, False, 1),  # noise
        ({1: None, 2: None, 4: None}, False, 4),
        ({1: 4.0, 2: 2.0, 4: 1.0}, True, 1),
    ],
)
def test_the_fastest_number_is_measured(
    seconds: dict[int, Any], small: bool, expected: int, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def footprint(self: Fake, stop: Stop) -> Footprint:
        return Footprint(0, 0, 0, seconds[torch.get_num_threads()], one_thread=small)

    monkeypatch.setattr(Fake, "footprint", footprint)
    number, found = measured(Fake(experiment().fake, 0, None), Stop())  # type: ignore[arg-type]
    assert (number, found.seconds) == (expected, seconds[expected])


def test_a_load_that_comes_and_goes_changes_the_number(machine: Machine) -> None:
    machine.seconds = lambda number, done: 4 / number if not 20 <= done < 60 else 4.0 * number
    folder, _ = train("run")
    used = numbers(folder)
    assert used[:10] == [4] * 10
    assert used[20:30] == [1] * 10  # found out soon after
    assert used[-5:] == [4] * 5
    assert set(used) == {1, 2, 4}


def test_a_restart_of_environments_is_no_change_of_pace(machine: Machine) -> None:
    machine.seconds = lambda number, done: 1 / number
    machine.restart = lambda done: 60.0 if done % 20 == 10 else 0.0
    folder, _ = train("restarts")
    assert set(numbers(folder)) == {4}


def test_an_explicit_number_is_kept(machine: Machine) -> None:
    machine.seconds = lambda number, done: float(number)
    folder, _ = train("run", 2)
    assert set(numbers(folder)) == {2}
    assert not folder.threads.exists()
    assert folder.config()["config"]["run"]["threads"] == 2


def test_a_resume_repeats_what_was_chosen_after_the_checkpoint(machine: Machine) -> None:
    def busy(number: int, done: int) -> float:
        return 4 / number if done < 20 else 4.0 * number

    machine.seconds = busy
    whole, _ = train("whole")

    def killed(number: int, done: int) -> float:
        if done == 60:
            raise KeyboardInterrupt
        return busy(number, done)

    machine.seconds = killed
    with pytest.raises(KeyboardInterrupt):
        train("run", checkpoint_steps=16, keep_steps=0)
    folder = type(whole)(whole.path.with_name("run"))
    logged = json.loads(folder.threads.read_bytes())["events"]
    for path in folder.checkpoints.iterdir():  # the oldest is left
        if path.name != "000001":
            for file in path.iterdir():
                file.write_bytes(b"")
    machine.seconds = lambda number, done: 1 / number  # another machine, where four are fastest
    assert resume(folder).finished
    last = logged[-1][0]
    assert 16 < last < 60
    assert numbers(folder)[: last // 2 + 1] == numbers(whole)[: last // 2 + 1]
    assert json.loads(folder.threads.read_bytes())["events"][: len(logged)] == logged
    assert numbers(folder)[-1] == 4


def test_a_resumed_run_on_the_same_schedule_is_the_same_run(machine: Machine) -> None:
    machine.seconds = lambda number, done: 4 / number if done < 20 else 4.0 * number
    whole, _ = train("whole")
    events = whole.threads.read_bytes().replace(b'"several": true', b'"several": false')  # nothing is tried after these
    stop = Stop()
    config = experiment(threads="auto", total=120, log_steps=2, evaluate_steps=0)
    folder, outcome = lifecycle.start_run("counted", config, "run", stop, QuietView(stop, 3), lambda c, f, d: c)
    folder.threads.write_bytes(events)
    while not outcome.finished:
        outcome = resume(folder, stop_after=7)
    assert digest_of(folder) == digest_of(whole)
    assert rows_of(folder) == rows_of(whole)


@pytest.mark.parametrize("damage", [None, b"", b'{"schema": 1, "events": [[0, 0]], "several": true}', b'{"schema": 1}'])
def test_a_damaged_log_of_threads_is_told(damage: bytes | None, machine: Machine) -> None:
    stop = Stop()
    config = experiment(threads="auto")
    folder, _ = lifecycle.start_run("counted", config, "run", stop, QuietView(stop, 3), lambda c, f, d: c)
    folder.threads.unlink()
    if damage is not None:
        folder.threads.write_bytes(damage)
    view = QuietView()
    assert resume(folder, view=view).finished
    assert any("not bit-exact" in event and "threads.json" in event for event in view.events)
    assert folder.threads.with_name("threads-bad.json").exists() == (damage is not None)


def test_reading_a_run_takes_its_last_number(machine: Machine) -> None:
    machine.seconds = lambda number, done: 4 / number
    folder, _ = train("run")
    before = folder.threads.read_bytes()
    torch.set_num_threads(1)
    with lifecycle.open_run(folder):
        assert torch.get_num_threads() == 4
    assert folder.threads.read_bytes() == before


def test_a_choice_holds_for_all_work_at_one_progress(tmp_path: Path, machine: Machine) -> None:
    chosen = AutoThreads.begin(tmp_path / "threads.json", 4, several=True)
    learner = Counted(experiment(total=1000).fake, 0, _Nowhere())  # type: ignore[arg-type]
    machine.seconds = lambda number, done: 1.0 if done < 40 else 9.0
    for _ in range(60):
        chosen.hold(learner.progress())
        number = torch.get_num_threads()
        assert not chosen.hold(learner.progress())
        assert torch.get_num_threads() == number
        chosen.step(learner)
    steps = [done for done, _ in chosen.events]
    assert len(steps) > 1
    assert steps == sorted(set(steps))


class _Nowhere:
    def append(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("recipe", "subject", "settings"),
    [
        ("lenet", "digits", {"epochs": 1, "batch_size": 128, "augment": "shift:1", "log_steps": 500}),
        ("pqn", "CartPole-v1", {"steps": 500, "num_envs": 8, "rollout": 8, "overlap": True, "final_episodes": 1}),
    ],
)
def test_learners_go_on_exactly_through_changes(
    recipe: str, subject: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 1)  # nothing is measured
    entry = load_recipes().get(recipe)
    config = changed(entry.default(subject), {"evaluate_steps": 0, "checkpoint_steps": 0, **settings})
    ends = []
    for name, every in (("whole", -1), ("parts", 4)):
        stop = Stop()
        folder, outcome = lifecycle.start_run(recipe, config, name, stop, QuietView(stop, 1), lambda c, f, d: c)
        unit = outcome.done
        events = [[0, 1], [3 * unit, 2], [7 * unit, 1], [8 * unit, 2]]
        folder.threads.write_text(json.dumps({"schema": 1, "several": False, "events": events}))
        while not outcome.finished:
            outcome = resume(folder, stop_after=every)
        ends.append((digest_of(folder), rows_of(folder)))
    assert ends[0] == ends[1]


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rlab.run.files.replace_durably", refuse)
    with pytest.raises(RlabError, match=r"cannot write under .*No space left on device"):
        AutoThreads.begin(tmp_path / "threads.json", 1, several=True)
