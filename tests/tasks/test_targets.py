"""Several tasks on one encoder: targets and losses by hand, scores of all, exact resume, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch.nn import functional as F

from rlab.data.catalog import DATASETS, DataSource
from rlab.data.readers import Arrays
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.run.formatting import score_text
from rlab.tasks.classification import regression_metrics
from rlab.tasks.targets import TARGETS, Target
from tests.tasks.test_trainer import of_recipe

ALL = "class,ink:0.1,centre:0.5,group,spread:0"


def test_targets_by_hand() -> None:
    x = torch.tensor([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]], [[[0.0] * 3] * 3]])
    y = torch.tensor([3, 4])
    told = {name: TARGETS.get(name).of(x, y) for name in ("class", "group", "ink", "spread", "centre")}
    assert told["class"].tolist() == [3, 4]
    assert told["group"].tolist() == [1, 0]
    assert told["ink"][:, 0].tolist() == pytest.approx([2 / 9, 0])
    assert told["spread"][:, 0].tolist() == pytest.approx([(((7 / 9) ** 2 * 2 + (2 / 9) ** 2 * 7) / 8) ** 0.5, 0])
    torch.testing.assert_close(told["centre"], torch.tensor([[0.25, 1.0], [0.5, 0.5]]))
    shares = torch.tensor([[0.25, 0.75, 0.0]])
    assert TARGETS.get("group").of(x[:1], shares).tolist() == [[0.25, 0.75]]
    assert TARGETS.get("number").of(x, torch.tensor([1.5, 2.5])).tolist() == [[1.5], [2.5]]


def test_loss_sums_heads_by_weight() -> None:
    """Item 149: several tasks on one trunk."""
    fit: Any = of_recipe("mlp", "digits", tasks=ALL, precision="fp32", label_smoothing=0.1, augment="shift:1")
    batch, task = fit.task.data.at(0, 0), fit.task
    seen = task.losses(batch)
    outputs = task.model(batch.x)
    assert outputs.shape[1] == 10 + 1 + 2 + 2 + 1
    ink = task.dataset.inputs("train").flatten(1).mean(1)
    standardised = (batch.x.flatten(1).mean(1) - ink.mean()) / ink.std()
    expected = {
        "class": F.cross_entropy(outputs[:, :10], batch.y, label_smoothing=0.1),
        "ink": 0.5 * (outputs[:, 10] - standardised).square().mean(),
        "group": F.cross_entropy(outputs[:, 13:15], batch.y % 2, label_smoothing=0.1),
    }
    for name, value in expected.items():
        torch.testing.assert_close(seen[f"loss_{name}"], value)
    whole = expected["class"] + 0.1 * expected["ink"] + 0.5 * seen["loss_centre"] + expected["group"]
    torch.testing.assert_close(seen["loss"], whole)


def test_several_heads_are_scored() -> None:
    fit: Any = of_recipe("mlp", "digits", tasks="class,ink:0.3,centre:0.3,group:0.3", epochs=10)
    while not fit.progress().finished:
        fit.step()
    score = fit.evaluate(Stop())
    assert (score["measure"], score["mean"]) == ("accuracy in percent", score["tasks"]["class"]["mean"])
    assert score["mean"] > 90
    assert score["tasks"]["group"]["mean"] > 90
    assert score["tasks"]["ink"]["measure"] == score["tasks"]["centre"]["measure"] == "R^2"
    assert score["tasks"]["ink"]["mean"] > 0.7
    assert score["tasks"]["centre"]["mean"] > 0.5
    assert "; ink R^2" in score_text(score)
    assert fit.task.predict(fit.task.dataset.x[:3].numpy()).shape == (3, 10)


def test_numbers_can_come_first() -> None:
    fit: Any = of_recipe("mlp", "digits", tasks="centre,class:0.1", epochs=2)
    fit.step()
    score = fit.evaluate(Stop())
    assert score["measure"] == "R^2"
    assert fit.task.predict(fit.task.dataset.x[:3].numpy()).shape == (3, 2)
    assert of_recipe("mlp", "diabetes", tasks="number,spread", epochs=2).step()


def test_r2_matches_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(50, 2, generator=generator) * torch.tensor([1.0, 5.0])
    said = labels + torch.randn(50, 2, generator=generator)
    assert regression_metrics(said, labels)["mean"] == pytest.approx(r2_score(labels.numpy(), said.numpy()), abs=1e-6)


@pytest.mark.parametrize(
    ("recipe", "data", "tasks", "said"),
    [
        ("mlp", "digits", "class,inc", "unknown task 'inc' of --tasks; .*ink"),
        ("mlp", "digits", "class,class:2", "--tasks names 'class' twice"),
        ("mlp", "digits", "class:much", "whose weight 'much' is no number"),
        ("mlp", "digits", "class,ink:-1", "has 'ink:-1'; a weight is a number of at least 0"),
        ("mlp", "digits", "number", "task 'number' is of labels that are numbers, and 'digits' has classes"),
        ("mlp", "diabetes", "class", "task 'class' is of labels that are classes, and 'diabetes' has numbers"),
        ("mlp", "iris", "class,centre", "task 'centre' is of images, and 'iris' is of kind table"),
        ("lenet-1998", "digits", "class,ink", "bitmaps of 10 digits for 84 features, not 11 classes"),
    ],
)
def test_bad_input_is_told_in_a_sentence(recipe: str, data: str, tasks: str, said: str) -> None:
    with pytest.raises(RlabError, match=said):
        of_recipe(recipe, data, tasks=tasks)


@pytest.fixture
def own() -> Iterator[Callable[..., str]]:
    """Register arrays as a data set; the name."""

    def register(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None = None) -> str:
        DATASETS.register("own")(DataSource("table", "own", "none", "none", lambda read: Arrays(x, y, classes)))
        return "own"

    yield register
    DATASETS._entries.pop("own", None)


X = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)


def test_several_numbers_of_an_example_are_learned(own: Callable[..., str]) -> None:
    y = X @ np.array([[1, 0, -300], [0, 2, 100], [0, 0, 500.0]])
    fit = of_recipe("logistic", own(X, y), epochs=60, learning_rate=0.05)
    while not fit.progress().finished:
        fit.step()
    assert fit.evaluate(Stop())["mean"] > 0.99
    assert fit.task.predict(X[:5]) == pytest.approx(y[:5], rel=0.1, abs=5)


@pytest.mark.parametrize("recipe", ["mlp", "forest"])
@pytest.mark.parametrize(
    ("y", "validation", "said"),
    [
        (np.full(120, 5.0), 0.2, "the split '\\w+': the number does not vary \\(\\d+ examples\\)"),
        (X[:, 0], 1 / 120, "the split 'validation': the number does not vary \\(1 examples\\)"),
    ],
)
def test_numbers_without_variance_are_refused(
    own: Callable[..., str], recipe: str, y: np.ndarray, validation: float, said: str
) -> None:
    with pytest.raises(RlabError, match=said):
        of_recipe(recipe, own(X, y), validation=validation)


def test_one_of_several_that_does_not_vary_is_refused(own: Callable[..., str]) -> None:
    with pytest.raises(RlabError, match="one of the numbers does not vary"):
        of_recipe("mlp", own(X, np.stack([X[:, 0], np.ones(120)], 1)))


def test_a_target_of_another_shape_is_refused() -> None:
    TARGETS.register("flat")(Target("one number, but no column", lambda x, y: x[:, 0]))
    try:
        with pytest.raises(RlabError, match=r"task 'flat' gives numbers of shape \[\d+\]; they must be \[B, M\]"):
            of_recipe("mlp", "iris", tasks="class,flat")
    finally:
        del TARGETS._entries["flat"]


def test_r2_of_other_shapes_is_refused() -> None:
    with pytest.raises(RlabError, match=r"R\^2 of outputs \[9, 1\] and labels \[9\]"):
        regression_metrics(torch.zeros(9, 1), torch.arange(9.0))
