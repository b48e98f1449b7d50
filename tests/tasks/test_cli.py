"""Supervised jobs through the verbs, on data that scikit-learn brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlab
from rlab.cli import main
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.readers import Arrays


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a finished LeNet on digits."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        command = ["train", "lenet", "--data", "digits", "--epochs", "3", "--threads", "1", "--name", "net"]
        assert main([*command, "--augment", "shift:1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))


def ok(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    assert main([*args]) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def refused(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    assert main([*args]) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err


def test_run_is_listed_and_shown(capfd: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(ok(capfd, "runs", "--json"))["runs"][0]
    assert (listed["agent"], listed["env"], listed["status"]) == ("lenet", "digits", "finished")
    shown = ok(capfd, "runs", "show", "net")
    assert "lenet on digits" in shown
    assert "examples" in shown


def test_evaluation_repeats_the_final_score(capfd: pytest.CaptureFixture[str], runs: Path) -> None:
    at_the_end = json.loads((runs / "net" / "evaluation.json").read_text())
    again = json.loads(ok(capfd, "eval", "net", "--json"))
    assert (again["split"], again["mean"]) == ("test", at_the_end["mean"])
    assert sum(map(sum, again["confusion"])) == again["examples"]
    assert "accuracy in percent" in ok(capfd, "eval", "net")


def test_watch_and_report_show_pictures(capfd: pytest.CaptureFixture[str], runs: Path) -> None:
    files = json.loads(ok(capfd, "watch", "net", "--json"))["pictures"]
    assert set(files) == {"confusion", "wrong", "looked"}
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files.values())
    ok(capfd, "report", "net")
    page = (runs / "net" / "report.html").read_text()
    for said in ("which classes it confuses", "Accuracy by class", "over training examples", "lenet on digits"):
        assert said in page
    assert "environment steps" not in page


def test_resume_of_finished_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert "is finished" in ok(capfd, "resume", "net")


def test_from_python() -> None:
    folder = rlab.train("logistic", data="iris", name="iris", epochs=2)
    with rlab.load(folder) as model:
        assert isinstance(model, rlab.Predictor)
        p = model.predict(np.zeros((3, 4), np.float32))
    assert p.shape == (3, 3)
    assert rlab.evaluate(folder)["measure"] == "accuracy in percent"


def test_an_encoder_travels_from_a_classifier(capfd: pytest.CaptureFixture[str]) -> None:
    train = ["train", "lenet", "--data", "digits", "--epochs", "1", "--encoder", "net"]
    ok(capfd, *train, "--freeze", "--name", "taught")
    config = json.loads(ok(capfd, "runs", "show", "taught", "--json"))["config"]
    assert config["model"]["encoder"] == "lenet5"
    assert json.loads(ok(capfd, "eval", "taught", "--json"))["mean"] > 80


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["lenet", "--data", "digit"], "unknown data set 'digit'"),
        (["lenet", "--data", "iris"], "encoder 'lenet5' takes images"),
        (["mlp", "--data", "iris", "--augment", "flip"], "augmentation changes images"),
        (["mlp", "--data", "digits", "--augment", "flop"], "unknown augmentation 'flop'"),
        (["mlp", "--data", "digits", "--optimiser", "sdg"], "unknown optimiser 'sdg'"),
        (["mlp", "--data", "digits", "--schedule", "cosinus"], "unknown schedule 'cosinus'"),
        (["mlp", "--data", "digits", "--encoder", "resnet19"], "unknown encoder 'resnet19'"),
        (["mlp", "--data", "digits", "--examples", "5000"], "has 1,347 training items"),
        (["mlp", "--data", "digits", "--validation", "1"], "--validation is 1"),
        (["mlp", "--data", "digits", "--minutes", "1", "--epochs", "2"], "--minutes and --epochs exclude each other"),
        (["forest", "--minutes", "1", "--members", "2"], "--minutes and --members exclude each other"),
        (["mlp", "--data", "tinyshakespeare"], "not loaded yet"),
        (["mlp", "--data", "digits", "--freeze"], "--freeze keeps an encoder as another run has learned it"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    capfd: pytest.CaptureFixture[str], runs: Path, args: list[str], said: str
) -> None:
    before = sorted(runs.iterdir())
    assert said in refused(capfd, "train", *args)
    assert sorted(runs.iterdir()) == before


def test_classes_may_have_any_name(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))
    names: tuple[Any, ...] = ("$5", r"$\x$ \frac", 7)
    y = np.arange(90) % 3
    arrays = Arrays(np.eye(3, dtype=np.float32)[y], y, names)
    DATASETS.register("prices")(DataSource("table", "own", "none", "none", lambda read: arrays))
    try:
        ok(capfd, "train", "logistic", "--data", "prices", "--epochs", "2", "--threads", "1", "--name", "prices")
        per_class = json.loads(ok(capfd, "eval", "prices", "--json"))["per_class"]
        ok(capfd, "watch", "prices")
        ok(capfd, "data", "show", "prices", "--out", str(tmp_path / "prices.png"))
    finally:
        del DATASETS._entries["prices"]
    assert list(per_class) == [str(name) for name in names]
