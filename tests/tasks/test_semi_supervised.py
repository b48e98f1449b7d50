"""Learning without labels: each loss by hand, the average, the batches, exact resume, refusals, and that it helps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.data.batches import Batches
from rlab.errors import RlabError
from rlab.nn.ema import EMA
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.tasks.semi_supervised import disagreement, pseudo_labels, ramp
from rlab.tasks.trainer import Trainer
from tests.tasks.test_trainer import of_recipe

METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "self-training": {"threshold": 0.15},
    "consistency": {},
    "mean-teacher": {"average": 0.9},
}


def semi(method: str, **settings: Any) -> Trainer:
    given = {"labelled": 100, "semi": method, "augment": "shift:1", "precision": "fp32", **METHODS[method]}
    return of_recipe("mlp", "digits", **{**given, **settings})


def test_the_ramp_by_hand() -> None:
    assert [ramp(p, 0.5) for p in (0.0, 0.25, 0.5, 1.0)] == [math.exp(-5), math.exp(-5 / 4), 1.0, 1.0]
    assert ramp(0.0, 0.0) == 1.0


def test_pseudo_labels_by_hand() -> None:
    """Item 011: of 0.9 / 0.1 and 0.6 / 0.4 only the first is surer than 0.8: half of -log 0.7."""
    guess = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log().requires_grad_()
    logits = torch.tensor([[0.7, 0.3], [0.2, 0.8]]).log().requires_grad_()
    loss, sure = pseudo_labels(guess, logits, 0.8)
    assert loss.item() == pytest.approx(-math.log(0.7) / 2)
    assert sure.item() == 0.5
    loss.backward()
    assert guess.grad is None
    assert logits.grad is not None
    assert logits.grad[1].abs().sum() == 0
    everybody, _ = pseudo_labels(guess, logits, 0.0)
    assert everybody.item() == pytest.approx(-(math.log(0.7) + math.log(0.2)) / 2)


def test_disagreement_by_hand() -> None:
    """Probabilities 0.9 / 0.1 and 0.6 / 0.4 differ by 0.3 twice: the mean square is 0.09."""
    first, second = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
    assert disagreement(first, second).item() == pytest.approx(0.09)


def test_the_average_by_hand() -> None:
    """Rate 0.6: r is 0, 1/2, 0.6, ... so that 1, 2, 6 gives 1, 1.5, 0.6 * 1.5 + 0.4 * 6."""
    model = EMA(nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)), 0.6)
    for weight, expected in ((1.0, 1.0), (2.0, 1.5), (6.0, 3.3)):
        with torch.no_grad():
            model.student[0].weight.fill_(weight)  # type: ignore[index,operator]
            model.student[1].running_mean.fill_(weight)  # type: ignore[index,operator]
            model.student[1].num_batches_tracked.fill_(int(weight))  # type: ignore[index,operator]
        model.update()
        average: Any = model.teacher
        assert average[0].weight.item() == pytest.approx(expected)
        assert average[1].running_mean.item() == pytest.approx(expected)
        assert average[1].num_batches_tracked.item() == int(weight)
    assert not any(p.requires_grad for p in model.teacher.parameters())
    with pytest.raises(RlabError, match="a rate of at least 0 and below 1, not 1"):
        EMA(nn.Linear(1, 1), 1.0)


def test_average_over_the_newest_half() -> None:
    """Part 1/2: 1 - r is 1, 1, 2/3, 1/2, so that 8, 1, 4, 6 gives 8, 1, 3, 4.5."""
    model = EMA(nn.Linear(1, 1, bias=False), 0.9, 0.5)
    for weight, expected in ((8.0, 8.0), (1.0, 1.0), (4.0, 3.0), (6.0, 4.5)):
        with torch.no_grad():
            model.student.weight.fill_(weight)  # type: ignore[operator,union-attr]
        model.update()
        assert model.teacher.weight.item() == pytest.approx(expected)  # type: ignore[operator,union-attr]
    with pytest.raises(RlabError, match="over a part above 0 and at most 1, not 0"):
        EMA(nn.Linear(1, 1), 0.9, 0.0)


def test_kept_labels_are_balanced() -> None:
    fit = semi("consistency", labelled=40)
    data = fit.task.data.dataset
    assert data.counts("train") == [4] * 10
    whole = of_recipe("mlp", "digits").task.data.dataset
    both = torch.cat([data.items("train"), data.items("unlabelled")])
    assert torch.equal(both.sort().values, whole.items("train"))
    assert torch.equal(data.items("validation"), whole.items("validation"))
    assert torch.equal(data.items("train"), semi("none", labelled=40).task.data.dataset.items("train"))
    assert not torch.equal(data.items("train"), semi("none", labelled=40, seed=1).task.data.dataset.items("train"))


def test_baseline_ignores_unlabelled_examples() -> None:
    fit, whole = semi("none", labelled=40, batch_size=64), of_recipe("mlp", "digits", batch_size=64)
    data = fit.task.data.dataset
    assert "unlabelled" not in data.splits
    assert fit.per_epoch == whole.per_epoch
    seen = torch.cat([fit.task.data.at(e, n).items for e in range(2) for n in range(fit.per_epoch)])
    assert set(seen.tolist()) == set(data.items("train").tolist())
    times = torch.bincount(seen)[data.items("train")]
    assert times.max() - times.min() <= 1, "passes follow each other without a gap"
    assert fit.progress().total == 20 * 64 * fit.per_epoch


def test_two_views_differ_by_augmentation() -> None:
    data = semi("consistency").task.data.dataset
    batches = Batches(data, 32, 0, augment="shift:1", split="unlabelled", per_epoch=7)
    first, again, second = batches.at(1, 3), batches.at(1, 3), batches.at(1, 3, view=1)
    assert torch.equal(first.items, second.items)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x, Batches(data, 32, 0, augment="shift:1", split="unlabelled", per_epoch=7).at(1, 3).x)
    assert first.place == (1, 3)


def views_of(fit: Trainer, epoch: int, number: int) -> tuple[Tensor, Tensor]:
    """The unlabelled views of an update, made here."""
    from rlab.seeding import derive

    data = fit.task.data.dataset
    batches = Batches(data, 64, derive(0, "unlabelled"), augment="shift:1", split="unlabelled", per_epoch=fit.per_epoch)
    return batches.at(epoch, number).x, batches.at(epoch, number, view=1).x


@pytest.mark.parametrize("method", ["self-training", "consistency", "mean-teacher"])
def test_loss_weights_method_by_ramp(method: str) -> None:
    """Item 011: labels and what has none are learned from at once."""
    fit = semi(method, semi_weight=3.0, ramp_up=0.5, epochs=2)
    for _ in range(15):
        fit.step()
    batch = fit.task.data.at(0, 15)
    first, second = views_of(fit, 0, 15)
    model: Any = fit.task.model
    average = model.teacher if method == "mean-teacher" else model
    with torch.no_grad():
        seen = fit.task.losses(batch)
        labels = nn.functional.cross_entropy(model(batch.x), batch.y)
        p, q = average(first).softmax(1), model(second).softmax(1)
    if method == "self-training":
        sure, said = p.max(1)
        expected = -((sure >= 0.15) * q[torch.arange(64), said].log()).mean()
    else:
        expected = ((p - q) ** 2).sum() / 640
    factor = 3 * math.exp(-5 * (1 - (15 / fit.per_epoch) / 2 / 0.5) ** 2)
    assert seen["loss_unlabelled"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert seen["loss"].item() == pytest.approx((labels + factor * expected).item(), rel=1e-4)
    assert expected > 0


def test_moving_average_is_scored_and_transferred() -> None:
    from rlab.tasks.transfer import PLACES

    fit = semi("mean-teacher", epochs=1, validation=0.0)
    while not fit.progress().finished:
        fit.step()
    score = fit.evaluate(Stop())
    task: Any = fit.task
    x, y = task.dataset.inputs("test"), task.dataset.targets("test")
    with torch.no_grad():
        right = {part: (getattr(task.model, part)(x).argmax(1) == y).float().mean() for part in ("teacher", "student")}
    assert score["mean"] == pytest.approx(100 * right["teacher"].item())
    assert right["teacher"] != right["student"]
    assert torch.equal(torch.from_numpy(task.predict(x[:5].numpy())), task.predictor(x[:5]).softmax(1).detach())
    assert any(name.startswith(PLACES["modules"][1]) for name in fit.state()["modules"])


def test_the_footprint_alters_nothing() -> None:
    fit = semi("mean-teacher", epochs=1)
    fit.step()
    before = digest(fit.state())
    footprint = fit.footprint(Stop())
    assert digest(fit.state()) == before
    assert footprint.trainable == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert footprint.frozen == 0, "the average is none that was frozen"


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        ("digits", {"semi": "consistency"}, r"and --labelled 0 leaves none; nearest: --labelled 100"),
        ("digits", {"semi": "self-taught", "labelled": 50}, "self-taught"),
        ("digits", {"labelled": 9}, "at least 10, one of every class"),
        (
            "digits",
            {"labelled": 9_000},
            "9,000 of the 1,347 training items of 'digits' cannot be all that are labelled",
        ),
        ("digits", {"labelled": -1}, "--labelled is -1"),
        ("digits", {"labelled": 50, "semi": "consistency"}, "without --augment and --dropout both are the same"),
        (
            "digits",
            {"labelled": 50, "semi": "mean-teacher", "augment": "flip, mixup:1"},
            "leave mixup out of --augment",
        ),
        ("diabetes", {"labelled": 50, "semi": "self-training"}, "and 'diabetes' has numbers for labels"),
        ("digits", {"labelled": 50, "threshold": 0.5}, "--threshold is 0.5, which does nothing without --semi self-tr"),
        ("digits", {"labelled": 50, "semi": "consistency", "average": 0.5}, "--average is 0.5, which does nothing"),
        (
            "digits",
            {"labelled": 50, "semi": "mean-teacher", "average": 1.0},
            "--average is 1.0; it must be a share bel",
        ),
        (
            "digits",
            {"labelled": 50, "semi_weight": 1.0},
            "--semi-weight is 1.0, which does nothing without --semi METH",
        ),
        ("digits", {"labelled": 50, "semi": "consistency", "semi_weight": -1.0}, "--semi-weight is -1.0; it must be"),
    ],
)
def test_bad_input_is_told_in_a_sentence(data: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        of_recipe("mlp", data, **settings)


def test_consistency_on_table_with_dropout() -> None:
    fit = of_recipe("mlp", "breast_cancer", labelled=20, semi="consistency", dropout=0.3, epochs=2)
    for _ in range(2 * fit.per_epoch):
        fit.step()
    assert fit.evaluate(Stop())["mean"] > 80


@pytest.mark.slow
def test_methods_help_with_few_labels() -> None:
    """50 labels, 15 epochs, the mean over three seeds: seen 84.8 without, 88.9, 87.3 and 86.2 percent with a method."""

    def mean(method: str, **settings: Any) -> float:
        scores = []
        for seed in range(3):
            fit = semi(method, labelled=50, epochs=15, seed=seed, **settings)
            while not fit.progress().finished:
                fit.step()
            scores.append(fit.evaluate(Stop())["mean"])
        return sum(scores) / 3

    without = mean("none")
    assert mean("self-training", threshold=0.8) > without + 1
    assert mean("consistency") > without + 1
    assert mean("mean-teacher", average=0.99) > without + 0.5
