"""Bagging, models taken together, and ensembles of trees: by hand, against scikit-learn, through the verbs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier

import rlab
from rlab.cli import main
from rlab.errors import RlabError
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.lifecycle import BuildContext
from rlab.studies.rl import Forgetful
from rlab.tasks.ensemble import Member, ensemble_score
from rlab.tasks.trees import TreesLearner
from tests.tasks.test_trainer import of_recipe


def grow(recipe: str, data: str, **settings: Any) -> TreesLearner:
    entry = load_recipes().get(recipe)
    built: TreesLearner = entry.build(changed(entry.default(data), settings), BuildContext("cpu", Forgetful()))
    return built


def whole(recipe: str, data: str, **settings: Any) -> TreesLearner:
    built = grow(recipe, data, **settings)
    while not built.progress().finished:
        built.step()
    return built


def test_bootstrap_is_drawn_by_seed() -> None:
    one, again, other, plain = (
        of_recipe("mlp", "digits", bootstrap=on, seed=seed, split_seed=0).task.data
        for on, seed in ((True, 0), (True, 0), (True, 1), (False, 0))
    )
    items = one.order(0).sort().values
    assert torch.equal(items, again.order(3).sort().values)
    assert not torch.equal(items, other.order(0).sort().values)
    assert len(items) == len(plain.order(0))
    assert set(items.tolist()) < set(plain.order(0).tolist())
    assert abs(len(set(items.tolist())) / len(items) - (1 - math.exp(-1))) < 0.04
    for split in ("validation", "test"):
        assert torch.equal(one.dataset.items(split), other.dataset.items(split)), "the split seed decides"


def member(run: str, outputs: list[list[float]], **changes: Any) -> Member:
    given = {"data": "planted", "classes": ("a", "b"), "items": torch.arange(3), "targets": torch.tensor([0, 1, 1])}
    return Member(run=run, outputs=torch.tensor(outputs), **{**given, **changes})


def test_the_mean_of_probabilities_by_hand() -> None:
    """0.9 with 0.4 is 0.65, 0.6 with 0.3 is 0.45, 0.4 with 0.8 is 0.6: right, right, wrong; alone 2 and 1 of 3."""
    said = [[[p, 1 - p] for p in ps] for ps in ((0.9, 0.6, 0.4), (0.4, 0.3, 0.8))]
    one, two = (member(name, torch.tensor(p).log().tolist()) for name, p in zip("xy", said, strict=True))
    score = ensemble_score([one, two])
    assert score["members"] == {"x": pytest.approx(200 / 3), "y": pytest.approx(100 / 3)}
    assert score["members_mean"] == pytest.approx(50)
    assert score["mean"] == pytest.approx(200 / 3)
    assert score["loss"] == pytest.approx(-math.log(0.65 * 0.55 * 0.4) / 3)


def test_the_mean_of_numbers_by_hand() -> None:
    """Errors +1 and -1 cancel: R^2 of the mean is 1."""
    true = torch.tensor([[0.0], [2.0], [4.0]])
    over, under = (member(n, (true + d).tolist(), classes=None, targets=true) for n, d in (("x", 1.0), ("y", -1.0)))
    score = ensemble_score([over, under])
    assert score["mean"] == 1
    assert score["members_mean"] == pytest.approx(1 - 3 / 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": "other"},
            "runs 'x' and 'y' cannot be taken together: the first is of data set 'planted', the second",
        ),
        ({"classes": ("a", "c")}, "the first tells 2 classes \\(a, b, ...\\), the second 2 classes \\(a, c, ...\\)"),
        ({"items": torch.arange(1, 4)}, "nearest: train both with the same --split-seed"),
        ({"targets": torch.tensor([0, 0, 1])}, "the first of their --tasks are different ones"),
    ],
)
def test_unlike_members_are_named(changes: dict[str, Any], said: str) -> None:
    p = [[0.5, 0.5]] * 3
    with pytest.raises(RlabError, match=said):
        ensemble_score([member("x", p), member("y", p, **changes)])


def test_trees_are_scikit_learns() -> None:
    """Items 146, 147: a forest, AdaBoost, and a forest of numbers."""
    built = whole("forest", "breast_cancer", members=7, depth=3)
    x, data = built.task.x, built.task.dataset
    test = data.inputs("test").numpy()
    sklearns = RandomForestClassifier(7, max_depth=3, random_state=built.task.seed).fit(x, built.task.y)
    np.testing.assert_allclose(built.task.predict(test), sklearns.predict_proba(test), atol=1e-6)
    boosted = whole("adaboost", "breast_cancer", members=7)
    stump = DecisionTreeClassifier(max_depth=1)
    sklearns = AdaBoostClassifier(stump, n_estimators=7, random_state=boosted.task.seed).fit(x, built.task.y)
    np.testing.assert_allclose(boosted.task.predict(test), sklearns.predict_proba(test), atol=1e-6)
    right = 100 * float(np.mean(sklearns.predict(test) == data.targets("test").numpy()))
    assert boosted.evaluate(Stop())["mean"] == pytest.approx(right)
    numbers = whole("forest", "diabetes", members=5)
    sklearns = RandomForestRegressor(5, random_state=numbers.task.seed).fit(numbers.task.x, numbers.task.y)
    score = sklearns.score(numbers.task.dataset.inputs("test").numpy(), numbers.task.dataset.targets("test").numpy())
    assert numbers.evaluate(Stop())["mean"] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("recipe", ["forest", "adaboost"])
@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_restored_trees_go_on_alike(recipe: str, data: str) -> None:
    straight, half, other = (grow(recipe, data, members=9) for _ in range(3))
    for _ in range(3):
        half.step()
    state = json.loads(json.dumps(half.state()))  # numbers and words: nothing that would have to be unpickled
    other.restore(state, Stop())
    x = other.task.dataset.inputs("test").numpy()
    np.testing.assert_array_equal(half.task.predict(x), other.task.predict(x))
    for built in (straight, other):
        while not built.progress().finished:
            built.step()
    assert other.progress().done == straight.progress().done
    assert straight.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(straight.state()) == digest(other.state())


def test_trees_on_images_with_absent_class() -> None:
    built = whole("forest", "digits", members=10, examples=200)
    assert built.task.predict(built.task.dataset.x[:4].numpy()).shape == (4, 10)
    assert built.evaluate(Stop())["mean"] > 70
    few = whole("forest", "digits", members=3, examples=5)
    p = few.task.predict(few.task.dataset.x[:4].numpy())
    assert p.shape == (4, 10)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert (p < 1e-5).sum(1).min() >= 5


def test_boosting_that_is_perfect_ends() -> None:
    built = whole("adaboost", "iris", members=30, depth=10)
    assert built.progress().done == 1
    assert built.evaluate(Stop())["split"] == "test"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with two bagged networks, a forest, and others that do not fit."""
    folder = tmp_path_factory.mktemp("runs")
    train = {"data": "breast_cancer", "threads": 1, "split_seed": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLAB_RUNS", str(folder))
        for seed in (1, 2):
            rlab.train("logistic", name=f"bag-{seed}", seed=seed, bootstrap=True, epochs=3, **train)
        rlab.train("logistic", name="elsewhere", seed=3, epochs=1, **{**train, "split_seed": 3})
        rlab.train("logistic", data="wine", name="wine", epochs=1, threads=1)
        assert main(["train", "forest", "--data", "breast_cancer", "--split-seed", "0", "--name", "wood",
                     "--members", "12", "--threads", "1"]) == 0  # fmt: skip
    return folder


def test_the_verbs_work_on_a_forest(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))
    at_the_end = json.loads((runs / "wood" / "evaluation.json").read_text())
    assert at_the_end["measure"] == "accuracy in percent"
    assert main(["eval", "wood", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["mean"] == at_the_end["mean"]
    assert main(["resume", "wood"]) == 0
    assert "is finished" in capfd.readouterr().out
    assert main(["runs", "show", "wood"]) == 0
    assert "members" in capfd.readouterr().out
    for verb in ("watch", "report"):
        assert main([verb, "wood"]) == 0
    assert (runs / "wood" / "pictures" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    with rlab.load("wood") as model:
        assert isinstance(model, rlab.Predictor)
        assert model.predict(np.zeros((2, 30), np.float32)).shape == (2, 2)
    files = {path.suffix for path in (runs / "wood" / "checkpoints").rglob("*") if path.is_file()}
    assert files == {".json", ".safetensors"}


def test_several_runs_are_evaluated_as_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))
    assert main(["eval", "bag-1", "bag-2", "wood", "--json"]) == 0
    score = json.loads(capfd.readouterr().out)
    alone = {name: json.loads((runs / name / "evaluation.json").read_text())["mean"] for name in score["members"]}
    assert score["members"] == alone
    assert list(alone) == ["bag-1", "bag-2", "wood"]
    with rlab.load("bag-1") as one, rlab.load("bag-2") as two, rlab.load("wood") as three:
        members: Any = (one, two, three)
        data = three.learner.task.dataset
        p = sum(m.predict(data.inputs("test").numpy()) for m in members)
    assert score["mean"] == pytest.approx(100 * np.mean(p.argmax(1) == data.targets("test").numpy()))
    assert main(["eval", "bag-1", "bag-2"]) == 0
    out = capfd.readouterr().out
    assert all(said in out for said in ("member  bag-1", "mean    of the members", "as one  accuracy in percent"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["bag-1", "wine"],
            "runs 'bag-1' and 'wine' cannot be taken together: the first is of data set 'breast_cancer'",
        ),
        (["bag-1", "elsewhere"], "train both with the same --split-seed"),
        (["bag-1", "bag-1"], "at least two different runs, not of bag-1, bag-1"),
        (["bag-1", "bag-9"], "bag-9"),
    ],
)
def test_unlike_runs_are_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], names: list[str], said: str
) -> None:
    monkeypatch.setenv("RLAB_RUNS", str(runs))
    assert main(["eval", *names]) == 1
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"members": 0}, "--members is 0"),
        ({"depth": -1}, "--depth is -1"),
        ({"augment": "flip"}, "unknown setting 'augment'"),
        ({"split_seed": -1}, "--split-seed is -1"),
    ],
)
def test_bad_settings_get_a_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        grow("forest", "digits", **settings)
