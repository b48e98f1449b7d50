"""Supervised jobs through the verbs, on data that scikit-learn brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rlab
from rlab.cli import main
from rlab.data.catalog import DATASETS, DataSource
from rlab.data.datasets import from_arrays
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from rlab.run.folder import find_run
from rlab.run.metrics import read_metrics


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


@pytest.mark.parametrize(("validation", "splits"), [("0", ["test"]), ("0.2", ["validation"] * 2 + ["test"])])
def test_nothing_is_scored_on_the_way_without_validation(
    validation: str, splits: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "logistic", "--data", "iris", "--epochs", "3", "--threads", "1", "--name", f"iris-{validation}"]
    ok(capfd, *command, "--validation", validation, "--evaluate-steps", "100")
    rows = read_metrics(find_run(f"iris-{validation}").metrics)
    assert [row["split"] for row in rows if row["kind"] == "eval"] == splits


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
    assert json.loads(ok(capfd, "eval", "taught", "--json"))["mean"] > 60  # chance is 10


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
        (["mlp", "--data", "go9x9"], "not loaded yet"),
        (["mlp", "--data", "tinyshakespeare"], "'tinyshakespeare' is of kind text, and this recipe learns from images"),
        (["forest", "--data", "pairs:mine.tsv"], "mine.tsv cannot be read"),
        (["forest", "--data", "dates"], "'dates' is of kind pairs, and this recipe learns from images"),
        (["mlp", "--data", "digits", "--target", "y"], "--target is y, which does nothing without --data csv:FILE"),
        (["forest", "--data", "iris", "--test-file", "t"], "does nothing without --data images:DIR or --data csv:FILE"),
        (["mlp", "--data", "csv:none.csv", "--target", "y"], "none.csv cannot be read"),
        (["lenet", "--data", "images:none"], "none is no folder"),
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
    names: tuple[Any, ...] = ("$5", r"$\x$ \frac", 7, "\x1b[2J\udcff", "n" * 500, "猫", "no example")
    y = np.arange(90) % 6
    arrays = Arrays(np.eye(6, dtype=np.float32)[y], y, names)
    DATASETS.register("prices")(DataSource("table", "own", "none", "none", lambda read: arrays))
    try:
        ok(capfd, "train", "logistic", "--data", "prices", "--epochs", "2", "--threads", "1", "--name", "prices")
        per_class = json.loads(ok(capfd, "eval", "prices", "--json"))["per_class"]
        ok(capfd, "watch", "prices")
        ok(capfd, "data", "show", "prices", "--out", str(tmp_path / "prices.png"))
    finally:
        del DATASETS._entries["prices"]
    assert list(per_class) == [*map(str, names[:3]), r"\x1b[2J\udcff", *names[4:]]


@pytest.mark.parametrize("name", ["", "7"])
def test_classes_without_a_name_of_their_own(name: str) -> None:
    with pytest.raises(RlabError, match=r"a class without a name|two classes named '7'"):
        from_arrays("own", "table", Arrays(np.ones((9, 2)), np.zeros(9, int), (7, name)))  # type: ignore[arg-type]


def test_own_table_is_learned_shown_and_held_to(capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    rows = [f"{n};{n % 5 / 5};{'ab'[n % 2]};{'yes' if n % 2 else 'no'}" for n in range(80)]
    (tmp_path / "own.csv").write_text("\ufeffn;x;c;y\n" + "\n".join(rows))
    shown = ok(capfd, "data", "show", "csv:own.csv")
    assert "y, classes" in shown
    assert "n, x, c=a, c=b" in shown
    assert (tmp_path / "own.csv.png").exists()
    train = ["--data", "csv:own.csv", "--target", "y", "--threads", "1"]
    ok(capfd, "train", "forest", *train, "--members", "5", "--name", "forest")
    ok(capfd, "train", "logistic", *train, "--epochs", "60")
    (run,) = (tmp_path / "runs").glob("logistic-own.csv-*")
    monkeypatch.chdir("/")  # the paths in a run are whole
    assert json.loads(ok(capfd, "eval", run.name, "--json"))["mean"] == 100
    with rlab.load("forest") as forest:
        assert forest.predict(np.array([[1, 0.2, 0, 1]])).argmax(1) == 1
    (tmp_path / "own.csv").write_text("n;x;c;y\n" + "\n".join(rows[1:]))
    for name in ("forest", run.name):
        assert "own.csv have changed since the run began" in refused(capfd, "eval", name)


def test_own_pictures_are_learned_and_shown(capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for n in range(20):
        folder = tmp_path / "pets" / ("cat", "dog")[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20 + n, 20), 100 * (n % 2) + n).save(folder / f"{n}.png")
    assert "resize all with --shape" in refused(capfd, "data", "show", "images:pets")
    assert "each 1x16x16 uint8" in ok(capfd, "data", "show", "images:pets", "--shape", "1x16x16")
    assert (tmp_path / "pets.png").exists()
    train = ["--data", "images:pets", "--shape", "1x16x16", "--epochs", "6", "--threads", "1", "--preprocess", "pca"]
    ok(capfd, "train", "lenet", *train, "--name", "pets")
    assert json.loads(ok(capfd, "eval", "pets", "--json"))["examples"] == 3
    (folder / "21.png").write_bytes((folder / "1.png").read_bytes())
    assert "pets have changed since the run began" in refused(capfd, "eval", "pets")
