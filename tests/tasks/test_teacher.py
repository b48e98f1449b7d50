"""Distillation: what the loss is, by hand; that a teacher is taken once and the run stands alone; what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import rlab
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.lifecycle import BuildContext
from rlab.studies.rl import Forgetful
from rlab.tasks.trainer import Trainer
from tests.checkpoints import from_file
from tests.tasks.test_trainer import of_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder with a finished network on digits, standardised, and one on iris."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        rlab.train("mlp", data="digits", name="big", epochs=4, preprocess="standard", threads=1, precision="fp32")
        rlab.train("logistic", data="iris", name="flowers", epochs=1, threads=1)
        rlab.train("logistic", data="diabetes", name="numbers", epochs=1, threads=1)
        yield folder


def built(runs: Path, name: str, recipe: str = "logistic", **settings: Any) -> Trainer:
    """The Learner of a run that is about to start."""
    from rlab.run.folder import create_run

    entry = load_recipes().get(recipe)
    config = changed(entry.default("digits"), {"teacher": "big", "augment": "shift:1", "precision": "fp32", **settings})
    assert entry.warm_start is not None
    config, start = entry.warm_start(config)
    folder = create_run(recipe, {"data": "digits"}, {}, name)
    start.save(folder)
    made: Trainer = entry.build(config, BuildContext("cpu", Forgetful(), folder.path))
    return made


def resumed(runs: Path, fit: Trainer, recipe: str = "logistic", **settings: Any) -> Trainer:
    """Another Learner of the same settings with the state of this one, as a resume makes it."""
    entry = load_recipes().get(recipe)
    config = changed(entry.default("digits"), {"teacher": "big", "augment": "shift:1", "precision": "fp32", **settings})
    other: Trainer = entry.build(config, BuildContext("cpu", Forgetful()))
    other.restore(from_file(fit.state(), runs), Stop())
    return other


def test_loss_mixes_labels_and_soft_targets(runs: Path) -> None:
    """Item 287: distillation."""
    fit = built(runs, "by-hand", temperature=3.0, distil=0.7)
    batch = fit.task.data.at(0, 0)
    with rlab.load("big") as big, torch.no_grad():
        assert isinstance(big, rlab.Predictor)
        q = torch.from_numpy(big.predict(batch.x.numpy())).double()  # softmax(teacher), with its own preprocessing
        logits = fit.task.model(batch.x).double()
    soft = q ** (1 / 3) / (q ** (1 / 3)).sum(1, keepdim=True)  # softmax(log q / T)
    kl = (soft * (soft.log() - (logits / 3).log_softmax(1))).sum(1).mean()
    seen = fit.task.losses(batch)
    assert seen["loss_teacher"].item() == pytest.approx(9 * kl.item(), rel=1e-4)
    labels = F.cross_entropy(logits, batch.y)
    assert seen["loss_labels"].item() == pytest.approx(labels.item(), rel=1e-5)
    assert seen["loss"].item() == pytest.approx(0.3 * labels.item() + 0.7 * 9 * kl.item(), rel=1e-4)


def test_features_are_pulled_to_the_teachers(runs: Path) -> None:
    """Romero et al. 2015, eq. 3: by hand; the distance shrinks, and the map is no part of the model."""
    fit = built(runs, "pulled", "mlp", encoder="mlp-24", teacher_features=0.5, distil=0.0, augment="")
    kept: Any = fit.beside
    pull, teacher = kept["teacher_features"], kept["teacher"]
    batch = fit.task.data.at(0, 0)
    with torch.no_grad():
        theirs = teacher.model.encoder(teacher.transform(batch.x))
        mapped = fit.task.model.encoder(batch.x) @ pull.map.weight.T + pull.map.bias
    seen = fit.task.losses(batch)
    distance = (mapped - theirs).square().mean().item()
    assert seen["loss_teacher_features"].item() == pytest.approx(distance, rel=1e-4)
    assert seen["loss"].item() == pytest.approx(seen["loss_labels"].item() + 0.5 * distance, rel=1e-4)
    before = pull.map.weight.detach().clone()
    for _ in range(60):
        fit.step()
    assert fit.task.losses(batch)["loss_teacher_features"].item() < 0.9 * distance
    assert not torch.equal(before, pull.map.weight)
    assert {name.split(".")[1] for name in fit.state()["modules"]} == {"encoder", "head"}


@pytest.mark.parametrize(
    "how", [{}, {"recipe": "mlp", "encoder": "mlp-24", "teacher_features": 0.5, "teacher_dim": 256}]
)
def test_resume_without_teacher_run(
    how: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = (f"{name}{len(how)}" for name in ("whole", "half"))
    whole, half = (built(runs, name, examples=300, epochs=2, **how) for name in names)
    for _ in range(4):
        whole.step()
        half.step()
    monkeypatch.setenv("RLAB_RUNS", str(tmp_path))  # the teacher's run is nowhere
    other = resumed(runs, half, examples=300, epochs=2, **how)
    for _ in range(4):
        whole.step()
        other.step()
    assert whole.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(whole.state()) == digest(other.state())


def test_teacher_run_can_be_deleted(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "big", runs / "gone-soon")
    run = rlab.train("logistic", data="digits", name="alone", teacher="gone-soon", epochs=1, threads=1)
    shutil.rmtree(runs / "gone-soon")
    before = json.loads(run.evaluation.read_text())["mean"]
    assert rlab.evaluate(run)["mean"] == before
    note = run.config()["warm_start"]["teacher"]
    assert (note["run"], note["data"], note["preprocess"]) == ("gone-soon", "digits", "standard")


def test_the_teachers_threads_are_not_taken(runs: Path) -> None:
    built(runs, "threads")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"teacher": "bigger"}, "no run called 'bigger'|bigger"),
        ({"teacher": "flowers"}, r"'flowers' \(iris\) takes inputs of shape \[4\], and 'digits' has \[1, 8, 8\]"),
        ({"teacher": "numbers"}, r"'numbers' \(logistic\) is no network that tells classes apart"),
        ({"teacher": "big", "data": "numbers"}, "and what is learned of 'diabetes' is numbers"),
        ({"teacher": "big", "distil": 1.5}, "--distil is 1.5; it must lie between 0 and 1"),
        ({"teacher": "big", "temperature": 0.0}, "--temperature is 0.0; it must be a number above 0"),
        ({"teacher": "big", "teacher_features": 0.5}, "encoder 'flat' has nothing that learns, so that its features"),
        ({"teacher_features": 2.0}, "--teacher-features is 2.0, which does nothing without --teacher RUN"),
        ({"temperature": 2.0}, "--temperature is 2.0, which does nothing without --teacher RUN"),
    ],
)
def test_bad_input_is_told_in_a_sentence(runs: Path, settings: dict[str, Any], said: str) -> None:
    before = sorted(runs.iterdir())
    data = {"numbers": "diabetes"}.get(settings.pop("data", ""), "digits")
    with pytest.raises(RlabError, match=said):
        rlab.train("logistic", data=data, name="refused", threads=1, **settings)
    assert sorted(runs.iterdir()) == before


def test_other_classes_are_refused(runs: Path) -> None:
    fit = built(runs, "classes")
    teacher: Any = fit.beside["teacher"]
    note = teacher.state()["note"]
    teacher.classes = ["cat", "dog"]
    with pytest.raises(RlabError, match=r"knows 10 classes \(0, 1, 2, 3, 4, ...\), and 'digits' has 2 classes \(cat"):
        teacher._refuse_other(note)


def test_no_teacher_without_a_run() -> None:
    fit = of_recipe("logistic", "digits", teacher="nowhere")
    with pytest.raises(RlabError, match="a teacher is taken when a run starts"):
        fit.step()


def test_a_damaged_copy_is_refused(runs: Path) -> None:
    fit = built(runs, "damaged")
    teacher: Any = fit.beside["teacher"]
    path = runs / "damaged" / "teacher.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RlabError, match="is damaged"):
        teacher.start_from(path.parent)


def test_teacher_helps_beyond_labels(runs: Path) -> None:
    """Item 287: all labels are wrong: soft targets alone give the right classes, labels alone the wrong ones."""
    right = {}
    for share in (0.0, 1.0):
        fit = built(runs, f"share-{share}", distil=share, examples=200, epochs=20, augment="", learning_rate=0.05)
        data = fit.task.data.dataset
        x, y = data.inputs("test").numpy(), data.targets("test").numpy().copy()
        data.y.add_(1).remainder_(10)
        while not fit.progress().finished:
            fit.step()
        task: Any = fit.task
        right[share] = float(np.mean(task.predict(x).argmax(1) == y))
    assert right[1.0] > 0.8
    assert right[0.0] < 0.1
