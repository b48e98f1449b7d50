"""`Trainer`: what it counts, when it stops, and what it keeps. That it resumes to the bit: test_resume.py."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import TensorDataset
from rlab.errors import RlabError
from rlab.nn.optim import make_optimiser
from rlab.recipes import load_recipes
from rlab.run.checkpoint import digest
from rlab.run.config import changed
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.lifecycle import BuildContext
from rlab.studies.rl import Forgetful
from rlab.tasks.config import FitConfig
from rlab.tasks.task import Losses, Metric, SingleLossTask
from rlab.tasks.trainer import Trainer


def of_recipe(recipe: str, data: str, **settings: Any) -> Trainer:
    entry = load_recipes().get(recipe)
    built: Trainer = entry.build(changed(entry.default(data), settings), BuildContext("cpu", Forgetful()))
    return built


def test_modifiers_reach_training() -> None:
    fit = of_recipe("mlp", "digits", encoder="mlp+silu+layer+lsuv", epochs=1)
    inside = {type(part) for part in fit.task.modules["model"].modules()}
    assert {nn.SiLU, nn.LayerNorm} < inside
    assert nn.ReLU not in inside
    layer = fit.task.modules["model"].encoder.layers[1][0]
    given = layer(fit.task.data.at(0, 0).x.flatten(1))
    assert given.var().item() == pytest.approx(1, abs=0.3)  # of other examples than those that lsuv saw
    while not fit.progress().finished:
        fit.step()
    assert fit.evaluate(Stop())["mean"] > 70


@pytest.mark.parametrize(("size", "other"), [(112, 113), (1, 3)])
def test_batch_of_one_with_batch_norm(size: int, other: int) -> None:
    of_recipe("mlp", "iris", batch_size=size)
    with pytest.raises(RlabError, match=f"--batch-size is {size}; of 113 .*nearest: {other}$"):
        of_recipe("mlp", "iris", encoder="mlp+batch", batch_size=size)


class Planted(SingleLossTask):
    """A task of 10 + 4 + 4 points on a line, whose validation scores are given."""

    primary = Metric("planted")

    def __init__(self, scores: list[float], held_out: bool = True, loss: float = 1.0):
        x = torch.arange(18.0)[:, None]
        splits = {"train": torch.arange(10), "test": torch.arange(14, 18)}
        splits |= {"validation": torch.arange(10, 14)} if held_out else {}
        model = nn.Linear(1, 1)
        data = Batches(TensorDataset("line", "table", x, torch.zeros(18), None, splits), 4)
        super().__init__(model, data, make_optimiser("sgd", model.parameters(), lr=1e-4))
        self.scores = scores
        self.scale = loss
        self.asked: list[str] = []
        self.seen: list[Tensor] = []

    def loss(self, outputs: Tensor, batch: Batch) -> Losses:
        self.seen.append(batch.items)
        return {"loss": self.scale * outputs.square().mean()}

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        if stop.requested:
            raise Stopped
        self.asked.append(split)
        mean = self.scores[self.asked.count("validation") - 1] if split == "validation" else 0.0
        return self.primary.score(mean, mean, mean, split=split, examples=4)


def planted(task: Planted, **settings: Any) -> Trainer:
    config = FitConfig(**{"epochs": 5, "batch_size": 4, "schedule": "constant", **settings})
    return Trainer(task, config, 0, "cpu")


def through(fit: Trainer, epochs: int) -> dict[str, Any]:
    """Train, with a validation after each epoch, as the loop does; the last score."""
    score: Any = {}
    for _ in range(epochs):
        for _ in range(fit.per_epoch):
            fit.step()
        score = fit.evaluate(Stop())
        if fit.progress().finished:
            break
    return dict(score)


def test_progress_counts_last_short_batch() -> None:
    fit = planted(Planted([0.0] * 9))
    done = []
    for _ in range(4):
        fit.step()
        done.append(fit.progress().done)
    assert done == [4, 8, 10, 14]
    assert (fit.progress().total, fit.progress().unit) == (50, "examples")


def test_epoch_has_every_example_once() -> None:
    task = Planted([0.0] * 9)
    fit = planted(task)
    for _ in range(2 * fit.per_epoch):
        fit.step()
    first, second = torch.cat(task.seen[:3]), torch.cat(task.seen[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_best_validation_parameters_are_kept() -> None:
    """items 139, 141: those of the turn; test examples have no say in it."""
    task = Planted([1.0, 3.0, 2.0, 2.5, 2.9])
    fit = planted(task)
    through(fit, 2)
    best = copy.deepcopy(task.model.state_dict())
    score = through(fit, 3)
    assert fit.progress().finished
    assert all(torch.equal(best[name], tensor) for name, tensor in task.model.state_dict().items())
    assert (score["split"], score["best_at"], score["validation"]) == ("test", 20, 3.0)
    assert task.asked == ["validation"] * 5 + ["test"], "test examples are looked at once, at the end"


def test_early_stopping_after_patience() -> None:
    """items 139, 140: by validation scores, never by training's."""
    task = Planted([1.0, 3.0, 2.0, 3.0, 9.0])
    score = through(fit := planted(task, patience=2), 5)
    assert (fit.progress().done, fit.progress().finished) == (40, True)
    assert (score["split"], score["best_at"]) == ("test", 20)
    assert fit.state()["stopped_early"]


def test_stopped_evaluation_can_be_repeated() -> None:
    task = Planted([1.0, 1.0])
    fit = planted(task, epochs=1, patience=1)
    for _ in range(fit.per_epoch):
        fit.step()
    stop = Stop()
    stop.request("test")
    with pytest.raises(Stopped):
        fit.evaluate(stop)
    assert fit.best is None
    assert fit.evaluate(Stop())["split"] == "test"


def test_last_parameters_without_validation() -> None:
    task = Planted([], held_out=False)
    score = through(fit := planted(task), 5)
    assert fit.best is None
    assert "best_at" not in score
    assert task.asked == ["train"] * 4 + ["test"]


def test_only_samples_are_scored_without_validation() -> None:
    skipped = [planted(Planted([], held_out=held_out)).skips_evaluations for held_out in (True, False)]
    assert skipped == [False, True]
    assert not of_recipe("gan", "digits", examples=32).skips_evaluations


def test_patience_needs_something_held_out() -> None:
    with pytest.raises(RlabError, match=r"--patience waits for validation scores, but --validation is 0"):
        planted(Planted([], held_out=False), patience=2)


def test_nonfinite_loss_ends_the_run() -> None:
    fit = planted(Planted([0.0], loss=math.nan))
    for _ in range(fit.per_epoch - 1):
        fit.step()
    with pytest.raises(NonFinite, match=r"loss became nan at update 3 \(epoch 1\)"):
        fit.step()


def test_training_leaves_the_global_generators_alone() -> None:
    fit = of_recipe("mlp", "digits", dropout=0.2, epochs=1)
    before = torch.get_rng_state()
    fit.step()
    fit.evaluate(Stop())
    assert torch.equal(before, torch.get_rng_state())


def test_the_footprint_alters_nothing() -> None:
    fit = of_recipe("mlp", "digits", epochs=1)
    before = digest(fit.state())
    footprint = fit.footprint(Stop())
    assert digest(fit.state()) == before
    assert footprint.trainable == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert footprint.seconds is not None
    assert footprint.seconds > 0


def test_a_stopped_footprint_alters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, stop = of_recipe("mlp", "digits", epochs=1), Stop()
    before, step = digest(fit.state()), fit.step
    monkeypatch.setattr(fit, "step", lambda: (step(), stop.request("late")))
    with pytest.raises(Stopped):
        fit.footprint(stop)
    assert digest(fit.state()) == before


def test_encoder_rate_scales_its_steps() -> None:
    moved = {}
    for factor in (1.0, 0.01):
        fit = of_recipe("mlp", "digits", encoder_rate=factor, optimiser="sgd", learning_rate=0.1, weight_decay=0.0)
        encoder = fit.task.modules["model"].encoder
        before = copy.deepcopy(list(encoder.parameters()))
        fit.step()
        moved[factor] = sum((p - q).abs().sum().item() for p, q in zip(encoder.parameters(), before, strict=True))
    assert moved[0.01] == pytest.approx(0.01 * moved[1.0], rel=0.02)  # small steps are rounded


def test_lbfgs_refuses_parameter_groups() -> None:
    with pytest.raises(RlabError, match=r"lbfgs takes all parameters alike; nearest: --weight-decay 0"):
        of_recipe("logistic", "iris", optimiser="lbfgs")


def test_frozen_encoder_keeps_running_means() -> None:
    """Item 150: transfer with the taken part left alone."""
    fit = of_recipe("resnet20", "digits", examples=64)
    before = copy.deepcopy(fit.task.modules["model"].encoder.state_dict())  # type: ignore[union-attr,operator]
    fit.task.modules["model"].encoder.requires_grad_(False)  # type: ignore[union-attr,operator]
    head = [p for p in fit.task.modules["model"].parameters() if p.requires_grad]
    fit.task.optimizer = make_optimiser("sgd", head, lr=0.1)  # type: ignore[attr-defined]
    frozen = Trainer(fit.task, fit.config, 0, "cpu")
    frozen.step()
    after = fit.task.modules["model"].encoder.state_dict()  # type: ignore[union-attr,operator]
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def rates_of(fit: Trainer) -> dict[str, float]:
    """Name of a parameter -> the rate that the schedule multiplies."""
    names = {p: name for name, p in fit.task.modules["model"].named_parameters()}
    return {names[p]: group["lr"] for group in fit.optimizers["model"].param_groups for p in group["params"]}


def test_rates_decay_by_stage() -> None:
    """ResNet-20: the last block has the encoder's rate, each child with parameters below it 0.7 times the one above."""
    fit = of_recipe("resnet20", "digits", rate_decay=0.7, encoder_rate=0.5, learning_rate=0.1, examples=64)
    rates, encoder = rates_of(fit), fit.task.modules["model"].encoder
    assert set(rates) == {name for name, _ in fit.task.modules["model"].named_parameters()}, (
        "every parameter has one rate"
    )
    assert rates["head.logits.weight"] == rates["head.logits.bias"] == 0.1
    stages = [name for name, child in encoder.named_children() if list(child.parameters())]  # type: ignore[union-attr,operator]
    assert len(stages) > 3
    for below, name in enumerate(reversed(stages)):
        found = {rate for p, rate in rates.items() if p.startswith(f"encoder.{name}.")}
        assert len(found) == 1, name
        assert found.pop() == pytest.approx(0.05 * 0.7**below)
    decays = {group["weight_decay"] for group in fit.optimizers["model"].param_groups}
    assert decays == {0.0, 0.01}


def test_stages_of_encoder_with_one_child() -> None:
    rates = rates_of(of_recipe("mlp", "digits", rate_decay=0.5, learning_rate=0.1))
    assert [round(r, 6) for name, r in sorted(rates.items()) if "weight" in name] == [0.05, 0.1, 0.1]


def test_groups_without_decay() -> None:
    assert len(of_recipe("lenet", "digits").optimizers["model"].param_groups) == 4
    with pytest.raises(RlabError, match="has fewer than two stages, so no rate can decay"):
        of_recipe("mlp", "digits", encoder="flat", rate_decay=0.5)
    with pytest.raises(RlabError, match="--rate-decay is -1"):
        of_recipe("mlp", "digits", rate_decay=-1.0)


def test_a_frozen_encoder_has_no_rates() -> None:
    fit = of_recipe("lenet", "digits", rate_decay=0.5)
    model: Any = fit.task.modules["model"]
    model.encoder.requires_grad_(False)
    from rlab.tasks.config import ModelConfig
    from rlab.tasks.recipes import parameter_groups

    groups = parameter_groups(model, ModelConfig(rate_decay=0.5), fit.config)
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in model.head.parameters()}
