"""Runs by the clock, runs that go on to another budget, and the best checkpoint. Every clock here is made up."""

from __future__ import annotations

import inspect
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlab
from rlab.cli import main
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.registry import RECIPES, Recipe
from rlab.run import lifecycle as life
from rlab.run.budget import Budget, Forecast
from rlab.run.checkpoint import most_checkpoints
from rlab.run.config import changed
from rlab.run.contract import Footprint, Metrics, Progress, Stop
from rlab.run.extension import Extension
from rlab.run.folder import RunFolder, find_run, run_at
from rlab.run.lifecycle import find_checkpoint
from rlab.run.loop import Outcome
from rlab.run.status import best_evaluation, past_selves, status_of
from tests.run.fake import Fake, FakeExperiment, QuietView, digest_of, experiment, polling, resume, rows_of, start


class Timed(Fake):
    """A fake that follows the clock: what it adds up depends on the share of time."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.budget = Budget()

    def step(self) -> Metrics:
        before = self.done
        metrics = super().step()
        self.done = before + self.config.stride
        self.total += self.budget.share(self.done) or 0.0
        return metrics | {"share_last": self.budget.share(self.done) or 0.0}

    def progress(self) -> Progress:
        return Progress(self.done, self.budget.end(self.config.total), "units")


class Playing(Fake):
    """A fake whose evaluations are of games, with these means one after the other."""

    means = (1.0, 3.0, 2.0, 2.5)

    def policy(self, seed: int) -> None:
        return None

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        return {}

    def evaluate(self, stop: Stop) -> dict[str, Any]:
        return super().evaluate(stop) | {"mean": self.means[self.done // 8 - 1]}


def _recipe(kind: type[Fake]) -> Recipe[FakeExperiment]:
    def build(config: FakeExperiment, context: life.BuildContext) -> Fake:
        return kind(config.fake, config.run.seed, context.journal)

    return Recipe("a fake", lambda _: FakeExperiment(), build, subject=(), unit="total", budget="fake.total")


RECIPES.register("timed-fake")(_recipe(Timed))
RECIPES.register("playing-fake")(_recipe(Playing))


class Killed(Exception):
    pass


class Killing(QuietView):
    """Ends the process, so to speak, at the k-th step."""

    def show(self, progress: Progress, metrics: Metrics) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Clock:
    """Goes on by chance each time it is read, on the average by `pace` seconds."""

    def __init__(self, pace: float = 0.02, seed: int = 0):
        self.pace, self.now, self.rng = pace, 100.0, np.random.default_rng(seed)

    def __call__(self) -> float:
        self.now += float(self.rng.exponential(self.pace))
        return self.now


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "footprint", lambda self, stop: Footprint(10, 0, 10, seconds=50.0))


def begin(recipe: str, config: Any, view: QuietView | None = None, clock: Clock | None = None) -> Outcome:
    _, outcome = life.start_run(recipe, config, "run", Stop(), view or QuietView(), lambda c, *_: c, clock or Clock())
    return outcome


def go_on(clock: Clock | None = None, view: QuietView | None = None, to: Extension | None = None) -> Outcome:
    return life.resume_run(find_run("run"), None, Stop(), view or QuietView(), to, clock or Clock())


def log() -> list[list[float]]:
    return [json.loads(line) for line in (find_run("run").path / "clock.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("recipe", ["timed-fake", "fake"])
@pytest.mark.parametrize(("pace", "evaluation"), [(0.02, 0.0), (0.4, 0.0), (0.02, 2.0), (0.02, 20.0)])
def test_minutes_are_kept_under_any_load(recipe: str, pace: float, evaluation: float) -> None:
    clock = Clock(pace)

    def work() -> None:
        clock.now += evaluation

    view = QuietView()
    with polling(work):
        outcome = begin(recipe, experiment(minutes=1, evaluations=8, total=100_000), view, clock)
    folder = find_run("run")
    final = outcome.done
    assert outcome.finished
    assert 55 < outcome.seconds < 69
    assert status_of(folder).state == "finished"
    assert rows_of(folder)[-1] | {"kind": "eval", "step": final} == rows_of(folder)[-1]
    evaluations = [row for row in rows_of(folder) if row["kind"] == "eval"]
    assert len(evaluations) == {0.0: 8, 2.0: 3, 20.0: 1}[evaluation] or pace == 0.4
    assert any("1 minutes are over" in text for text in view.events)
    assert any("does not follow the clock" in text for text in view.events) == (recipe == "fake")
    if recipe == "timed-fake" and evaluation < 20:
        assert [row["share"] for row in rows_of(folder) if row["kind"] == "train"][-1] > 0.8


@pytest.mark.parametrize(("loading", "counted"), [(0.0, 0.0), (20.0, 20.0), (45.0, 30.0)])
def test_loading_is_part_of_the_minutes(loading: float, counted: float) -> None:
    """Seconds before a run's folder is made, such as torch takes: they count up to half of the time asked for."""
    clock = Clock()
    began = clock.now - loading
    config, view = experiment(minutes=1, evaluations=0, total=100_000), QuietView()
    _, outcome = life.start_run("timed-fake", config, "run", Stop(), view, lambda c, *_: c, clock, began=began)
    assert outcome.finished
    assert counted <= log()[0][1] < counted + 1
    assert 55 < outcome.seconds < 69
    assert clock.now - began < 69 + loading - counted


@pytest.mark.parametrize("way", ["command", "python"])
def test_time_counts_from_the_beginning(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `rlab train` and of `rlab.train`: before settings are looked at, and torch with them."""
    looked, counted = [], []

    def settled(config: Any) -> Any:
        looked.append(time.monotonic())
        return config

    def start_run(*given: Any, **named: Any) -> Any:
        counted.append(signature.bind(*given, **named).arguments["began"])
        raise RlabError("no more is needed")

    signature = inspect.signature(life.start_run)
    monkeypatch.setattr("rlab.parallel.data_parallel.settled", settled)
    monkeypatch.setattr(life, "start_run", start_run)
    before = time.monotonic()
    if way == "command":
        assert main(["train", "mlp", "--data", "digits", "--minutes", "1"]) == 1
    else:
        with pytest.raises(RlabError, match="no more"):
            rlab.train("mlp", data="digits", minutes=1)
    assert before <= counted[0] <= looked[0]


LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "timed-fake": ("", {}),
    "dqn": ("CartPole-v1", {"learning_starts": 40, "num_envs": 2, "final_learning_rate": 1e-5}),
    "pqn": ("CartPole-v1", {"num_envs": 2, "rollout": 8, "batch_size": 8, "final_learning_rate": 1e-5}),
    "a2c": ("CartPole-v1", {"num_envs": 2, "final_learning_rate": 1e-5}),
    "ppo": ("CartPole-v1", {"num_envs": 2, "n_steps": 16, "batch_size": 16, "final_learning_rate": 1e-5}),
    "q-learning": ("FrozenLake-v1", {}),
    "mlp": ("digits", {"examples": 200, "schedule": "one-cycle"}),
    "forest": ("digits", {}),
}


@pytest.mark.parametrize("recipe", LEARNERS)
def test_a_killed_run_repeats_what_the_clock_decided(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlab.agents.interaction import Interaction

    monkeypatch.setattr(Interaction, "footprint", lambda self, stop: Footprint(10, 0, 10, seconds=1e4))
    subject, settings = LEARNERS[recipe]
    entry = load_recipes().get(recipe)
    own = {}
    if "env" in entry.subject:
        own = {"evaluate_episodes": 1, "final_episodes": 1}
    every = {"timed-fake": 14, "q-learning": 20_000, "mlp": 200, "forest": 10, "ppo": 24, "pqn": 24}.get(recipe, 64)
    common = {"minutes": 0.2, "threads": 1, "checkpoint_steps": every, "log_steps": every, "evaluations": 2}
    config = changed(entry.default(subject), settings | own | common)
    with pytest.raises(Killed):
        begin(recipe, config, Killing(stop_after=20), Clock(0.03))
    folder, before = find_run("run"), log()
    saved = status_of(folder)
    assert 0 < saved.done <= before[-1][0]
    assert (saved.state, saved.total is None or saved.total > saved.done) == ("stopped", True)
    assert go_on(Clock(0.05, seed=1)).finished  # another load
    decided, digest, rows = log(), digest_of(folder), rows_of(folder)
    assert decided[: len(before)] == before
    assert decided[-1][1] >= 12
    shutil.rmtree(folder.checkpoints)
    assert go_on(Clock(0.01, seed=2)).finished  # all of it again, by the log alone
    assert (log(), digest_of(folder), rows_of(folder)) == (decided, digest, rows)


@pytest.mark.parametrize("damage", [b"[9", b"[-1, 2.0]\n", b"\xff\n[1]\n", b'{"a": 1}\n', b"[1000000, 1e999]\n"])
def test_a_damaged_log_of_readings_is_read_as_far_as_it_goes(damage: bytes) -> None:
    with pytest.raises(Killed):
        begin("timed-fake", experiment(minutes=0.2, checkpoint_steps=10), Killing(stop_after=30))
    path, before = find_run("run").path / "clock.jsonl", log()
    path.write_bytes(path.read_bytes() + damage)
    assert go_on().finished
    assert log()[: len(before)] == before


def test_a_lost_log_of_readings_is_told() -> None:
    with pytest.raises(Killed):
        begin("timed-fake", experiment(minutes=0.2, checkpoint_steps=10), Killing(stop_after=30))
    (find_run("run").path / "clock.jsonl").unlink()
    view = QuietView()
    assert go_on(view=view).finished
    assert any("does not continue the checkpoint" in text for text in view.events)


def test_the_last_step_may_double_the_one_before() -> None:
    budget = Budget(minutes=0.9)
    for done, seconds in enumerate((1, 3, 7, 15, 31), 1):
        budget.stepped(2.0 ** (done - 1))
        assert not budget.over
        budget.read(done, seconds)
    assert budget.over  # another 32 seconds would be too much
    budget = Budget(minutes=1)
    for took in (0.1, 0.1, 40.0):  # it compiled
        budget.stepped(took)
    budget.read(3, 40.2)
    assert not budget.over


def test_a_run_without_a_measured_speed_refuses_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "footprint", lambda self, stop: Footprint(10, 0, 10))
    with pytest.raises(RlabError, match="--minutes needs a measured speed, which 'fake' does not give; use --total"):
        begin("fake", experiment(minutes=1))


def test_what_is_left_follows_the_recent_pace_and_evaluations() -> None:
    forecast = Forecast()
    assert forecast.left(Progress(0, 100, "units"), 3) is None
    for _ in range(300):
        forecast.worked(10, 1.0)
    assert forecast.left(Progress(500, 1000, "units"), 0) == pytest.approx(50)
    for _ in range(300):
        forecast.worked(1, 1.0)
    forecast.evaluation = 7.0
    assert forecast.left(Progress(500, 1000, "units"), 2) == pytest.approx(514, rel=0.1)


@pytest.mark.parametrize(
    ("total", "every", "times", "steps"),
    [
        (24, 8, 0, [8, 16, 24]),
        (24, 8, 8, [4, 6, 10, 12, 16, 18, 22, 24]),
        (24, 1000, 8, [24]),  # at most 20 times as often
        (24, 0, 8, [24]),
        (80, 8, 8, [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]),
    ],
)
def test_evaluations_make_a_curve(total: int, every: int, times: int, steps: list[int]) -> None:
    folder, _ = start("run", experiment(total=total, evaluate_steps=every, evaluations=times))
    assert [row["step"] for row in rows_of(folder) if row["kind"] == "eval"] == steps


# ---- Another budget.


def config_of() -> Any:
    return life.configuration_of(find_run("run"))[1]


def test_an_extended_run_is_the_longer_run() -> None:
    whole, _ = start("whole", experiment(total=40))
    folder, _ = start("run", experiment(total=24))
    view = QuietView()
    assert go_on(view=view, to=Extension("total", 40)).finished
    assert digest_of(folder) == digest_of(whole)
    assert "the run goes on from 24 units to 40 total; its schedules end at 24 total and stay there" in view.events
    assert (config_of().fake.total, config_of().run.schedule_end) == (40, 24.0)
    assert json.loads(folder.evaluation.read_text())["step"] == 40


@pytest.mark.parametrize("schedules", ["hold", "stretch"])
def test_later_resumes_know_the_new_budget(schedules: Any) -> None:
    whole, _ = start("whole", experiment(total=40))
    folder, _ = start("run", experiment(total=24), stop_after=5)
    with pytest.raises(Killed):  # before the new budget is in any checkpoint
        go_on(view=Killing(stop_after=1), to=Extension("total", 30, schedules))
    assert status_of(folder).total == 30
    outcome = go_on(view=QuietView(), to=Extension("total", 24, schedules))
    assert (outcome.finished, outcome.done) == (True, 24)
    with pytest.raises(Killed):
        go_on(view=Killing(stop_after=2), to=Extension("total", 40, schedules))
    assert (status_of(folder).state, status_of(folder).total) == ("stopped", 40)
    assert resume(folder, stop_after=3).done == 30
    assert resume(folder).finished
    assert digest_of(folder) == digest_of(whole)
    assert config_of().run.schedule_end == (24 if schedules == "hold" else 0)
    document = json.loads((folder.path / "config.json").read_text())
    assert [entry["to"]["total"] for entry in document["extended"]] == [30, 24, 40]
    document["config"]["fake"]["total"] = 50
    (folder.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(RlabError, match="says total 50, its checkpoint 40; put the old value back"):
        resume(folder)


@pytest.mark.parametrize(
    ("to", "why"),
    [
        (Extension("total", 20), "--total is 20, but 24 units are done already; it counts the whole run, so take more"),
        (Extension("epochs", 90), "--epochs says nothing to run 'run', which counts total; use --total"),
        (Extension("minutes", 9), "--minutes says nothing to run 'run', which counts total; use --total"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(to: Extension, why: str) -> None:
    folder, _ = start("run", experiment(total=24))

    def state() -> list[Any]:
        """With env.json: a session that was refused is none."""
        return [*((folder.path / name).read_bytes() for name in ("config.json", "env.json")), digest_of(folder)]

    before = state()
    with pytest.raises(RlabError) as refused:
        go_on(to=to)
    assert str(refused.value) == why
    assert state() == before


@pytest.mark.parametrize("schedules", ["hold", "stretch"])
def test_a_run_by_the_clock_goes_on(schedules: Any) -> None:
    begin("timed-fake", experiment(minutes=0.2))
    done = status_of(find_run("run")).done
    with pytest.raises(RlabError, match=r"--minutes is 0.1, but 0.2 are over already; take more"):
        go_on(to=Extension("minutes", 0.1))
    outcome = go_on(to=Extension("minutes", 0.4, schedules))
    assert outcome.finished
    assert 22 < outcome.seconds < 28
    shares = [row["share"] for row in rows_of(find_run("run")) if row["kind"] == "train" and row["step"] > done + 5]
    assert min(shares) >= (1.0 if schedules == "hold" else 0.45)
    assert min(shares) < 0.6 or schedules == "hold"
    assert go_on(to=Extension("total", outcome.done + 10, schedules)).done == outcome.done + 10
    assert config_of().run.minutes == 0
    assert config_of().run.schedule_end == (outcome.done if schedules == "hold" else 0)


def test_a_model_goes_on_to_more_epochs() -> None:
    from rlab.run.checkpoint import digest

    entry = load_recipes().get("mlp")
    common = {"threads": 1, "schedule": "constant", "evaluate_steps": 500, "examples": 200}
    for name, epochs in (("whole", 3), ("run", 1)):
        config = changed(entry.default("digits"), common | {"epochs": epochs})
        life.start_run("mlp", config, name, Stop(), QuietView(), lambda c, *_: c)
    assert go_on(to=Extension("epochs", 3, "stretch")).finished
    whole, run = (life.read_newest(find_run(name)) for name in ("whole", "run"))
    assert whole is not None
    assert run is not None
    parts = ("modules", "optimizers", "updates", "best")
    assert digest({name: whole.state[name] for name in parts}) == digest({name: run.state[name] for name in parts})


# ---- The best checkpoint.


def test_the_best_checkpoint_by_evaluation_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    begin("playing-fake", experiment(total=32, checkpoint_steps=1))
    folder = find_run("run")
    assert sorted(path.name for path in folder.checkpoints.glob("best-*")) == ["best-000000000016"]
    assert (run_at("run:best"), run_at("run:16"), run_at("run")) == ((folder, 16), (folder, 16), (folder, None))
    assert find_checkpoint(folder, 16).state["done"] == 16
    assert best_evaluation(folder) == {"step": 16, "mean": 3.0}
    assert 16 not in past_selves(folder)
    assert most_checkpoints(32, 0, best=True) == most_checkpoints(32, 0) + 1
    monkeypatch.setattr(Playing, "means", (*Playing.means, 9.0))
    go_on(to=Extension("total", 40))
    assert run_at("run:best") == (folder, 40)
    assert len(list(folder.checkpoints.glob("best-*"))) == 1


def test_only_what_plays_has_a_best_checkpoint() -> None:
    folder, _ = start("run", experiment())
    with pytest.raises(RlabError, match="run 'run' has no best checkpoint, for it was not evaluated yet; nearest: run"):
        run_at("run:best")
    document = json.loads((folder.path / "config.json").read_text()) | {"subject": {"data": "digits"}}
    (folder.path / "config.json").write_text(json.dumps(document))
    assert run_at("run:best") == (folder, None)  # its newest one holds the best parameters
    with pytest.raises(RlabError, match="no run 'other'"):
        run_at("other:best")


def test_a_finished_run_gets_its_evaluation_file(tmp_path: Path) -> None:
    folder: RunFolder
    folder, _ = start("run", experiment())
    before = folder.evaluation.read_bytes()
    folder.evaluation.unlink()
    life.complete(folder)
    assert folder.evaluation.read_bytes() == before
