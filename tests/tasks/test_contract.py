"""The contract fits more than classification: four tasks of other kinds, each in one file, through the whole lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlab
from rlab.cli import main
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.checkpoint import digest
from rlab.run.config import changed, with_curve
from rlab.run.contract import Detects, Metrics, Predicts, Progress, Samples, Stop
from rlab.run.folder import find_run
from rlab.run.lifecycle import read_newest, resume_run, start_run
from rlab.run.metrics import read_metrics
from tests.agents.test_transfer import Quiet

HOME = "tests.tasks.examples"
TASKS = {
    "gan:ring-gan": "ring",
    "language_model:lm": "lines",
    "box_finder:boxes": "scenes",
    "autoencoder:coder": "cartpole",
}
"""Recipe in `examples` -> its data set."""

by_task = pytest.mark.parametrize("task", TASKS)


def recipe_of(task: str) -> str:
    return f"{HOME}.{task}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder with a finished run of each task, called as its data set."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        for task, data in TASKS.items():
            assert main(["train", recipe_of(task), "--data", data, "--name", data, "--threads", "1"]) == 0
        yield folder


class Until(Quiet):
    """A view that asks for a stop at a progress."""

    def __init__(self, stop: Stop, at: int):
        self.stop, self.at = stop, at

    def show(self, progress: Progress, metrics: Metrics) -> None:
        if progress.done >= self.at:
            self.stop.request("test")


@by_task
def test_each_task_is_one_short_file(task: str) -> None:
    path = Path(__file__).parent / "examples" / f"{task.partition(':')[0]}.py"
    assert len(path.read_text().splitlines()) <= 120


@by_task
def test_stopped_run_resumes_exactly(task: str, runs: Path) -> None:
    data, stop = TASKS[task], Stop()
    config = changed(with_curve(RECIPES.get(recipe_of(task)).default(data)), {"threads": 1})
    total = 3 * find_run(data).config()["config"]["fit"]["epochs"]
    cut, outcome = start_run(
        recipe_of(task), config, f"{data}-cut", stop, Until(stop, 7 * total), lambda config, *_: config
    )
    assert not outcome.finished
    assert resume_run(cut, None, Stop(), Quiet()).finished
    states = [read_newest(find_run(name)) for name in (data, f"{data}-cut")]
    assert digest(states[0].state) == digest(states[1].state)  # type: ignore[union-attr]
    rows = [[{**row, "clock": 0} for row in read_metrics(find_run(n).metrics)] for n in (data, f"{data}-cut")]
    assert rows[0] == rows[1]


@by_task
def test_the_report_shows_its_picture(task: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = TASKS[task]
    assert main(["report", data, "--json"]) == 0
    page = Path(json.loads(capsys.readouterr().out)["report"]).read_text("utf-8")
    assert list((runs / data / "pictures").glob("*.png"))
    assert "data:image/png;base64" in page
    assert find_run(data).config()["unit"] == "examples"


@pytest.mark.parametrize(
    ("data", "measure", "low", "high"),
    [
        ("ring", "distance from the ring", 0, 0.35),
        ("lines", "perplexity", 1, 1.3),
        ("scenes", "boxes found in percent", 60, 100),
        ("cartpole", "squared error", 0, 0.05),
    ],
)
def test_each_task_learns(data: str, measure: str, low: float, high: float, runs: Path) -> None:
    score = rlab.evaluate(data)
    assert score["measure"] == measure
    assert low <= score["mean"] <= high
    assert score["low"] <= score["mean"] <= score["high"]


def test_best_parameters_have_lowest_perplexity(runs: Path) -> None:
    validations = [row for row in read_metrics(find_run("lines").metrics) if row["kind"] == "eval"]
    *before, final = validations
    assert final["validation"] == min([row["mean"] for row in before] + [final["validation"]])
    assert not final["higher_is_better"]
    assert before[0]["mean"] > before[-1]["mean"]


def test_abilities_and_missing_abilities(runs: Path) -> None:
    with rlab.load("ring") as gan:
        assert isinstance(gan, rlab.Predictor)
        assert gan.sample(5, seed=1).shape == (5, 2)
        assert np.array_equal(gan.sample(5, seed=1), gan.sample(5, seed=1))
        with pytest.raises(RlabError, match=r"run 'ring' .* cannot predict; it can make new data, can be drawn"):
            gan.predict(np.zeros((1, 2), np.float32))
    with rlab.load("scenes") as finder:
        found = finder.ability(Detects).detect(np.zeros((2, 1, 24, 24), np.float32))
        assert [set(one) for one in found] == [{"boxes", "scores", "classes"}] * 2
        with pytest.raises(RlabError, match="cannot make new data"):
            finder.ability(Samples)
    with rlab.load("cartpole") as coder:
        assert coder.ability(Predicts).predict(np.zeros((3, 4), np.float32)).shape == (3, 4)


def test_dqn_starts_from_autoencoder(runs: Path) -> None:
    settings: dict[str, Any] = {"steps": 300, "learning_starts": 100, "threads": 1, "final_episodes": 1}
    run = rlab.train("dqn", env="CartPole-v1", encoder="cartpole", freeze=True, **settings)
    assert run.config()["warm_start"]["encoder"]["run"] == "cartpole"
    theirs, ours = read_newest(find_run("cartpole")), read_newest(run)
    assert theirs is not None
    assert ours is not None
    for name, tensor in ours.state["agent"]["online"].items():
        if name.startswith("encoder."):
            assert (tensor == theirs.state["best"]["modules"][f"model.{name}"]).all()
