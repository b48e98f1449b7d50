"""What is trained on a data set, saved in a file, and restored in a new Learner ends in the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlab.nn.ema import EMA
from rlab.nn.optim import OPTIMISERS
from rlab.run.checkpoint import digest
from rlab.run.contract import Stop
from rlab.tasks.trainer import Trainer
from tests.checkpoints import from_file
from tests.tasks.test_segmentation import squares
from tests.tasks.test_targets import ALL
from tests.tasks.test_trainer import of_recipe

KINDS = {"images": ("lenet", "digits"), "masks": ("lenet", "dsb2018"), "tables": ("mlp", "breast_cancer")}
"""Kind -> a model and a data set."""

ALONE: dict[str, dict[str, Any]] = {"lbfgs": {"learning_rate": 0.5, "weight_decay": 0.0, "schedule": "constant"}}
"""Optimiser -> settings that it needs."""

SEMI: dict[str, Any] = {"labelled": 50, "augment": "shift:1", "dropout": 0.2}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dropout": ("mlp", {"dropout": 0.2, "augment": "shift:1"}),
    "batch norm": ("lenet", {"encoder": "lenet5+batch", "optimiser": "momentum", "schedule": "cosine"}),
    "rates by stage": ("lenet", {"rate_decay": 0.7, "encoder_rate": 0.5}),
    "bf16": ("lenet", {"precision": "bf16"}),
    "bagged": ("mlp", {"bootstrap": True}),
    "several batches an update": ("mlp", {"accumulate": 2, "dropout": 0.2, "augment": "shift:1"}),
    "class weights": ("lenet", {"class_weights": "balanced", "preprocess": "zca:0.01", "augment": "mixup:1"}),
    "several heads": ("mlp", {"tasks": ALL, "augment": "mixup:1,shift:1"}),
    "self-training": ("mlp", {"semi": "self-training", **SEMI}),
    "consistency": ("lenet", {"semi": "consistency", **SEMI}),
    "mean teacher": ("lenet", {"semi": "mean-teacher", **SEMI}),
}
"""What else a state may hold -> a model on digits, and settings."""


@pytest.fixture(autouse=True)
def _masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The set of images with masks is a small one that needs no download."""
    from rlab.tasks import recipes

    examples_of = recipes.examples_of
    monkeypatch.setattr(
        recipes, "examples_of", lambda part, seed: squares() if part.data == "dsb2018" else examples_of(part, seed)
    )


def assert_it_goes_on_to_the_bit(recipe: str, data: str, folder: Path, **settings: Any) -> Trainer:
    """Some updates and a validation, by file to a new Learner, and on until after the next validation."""
    settings = {"epochs": 2, "batch_size": 10 if data == "dsb2018" else 50, **settings}
    settings |= {} if data == "dsb2018" else {"examples": 300}
    whole, half, other = (of_recipe(recipe, data, **settings) for _ in range(3))
    for _ in range(3):
        whole.step()
        half.step()
    assert whole.evaluate(Stop()) == half.evaluate(Stop())
    torch.rand(5)  # whatever else draws
    other.restore(from_file(half.state(), folder), Stop())
    assert digest(other.state()) == digest(whole.state())
    for _ in range(3):
        assert {k: v for k, v in whole.step().items() if "clock" not in k} == {
            k: v for k, v in other.step().items() if "clock" not in k
        }
    assert whole.evaluate(Stop()) == other.evaluate(Stop())
    assert digest(whole.state()) == digest(other.state())
    return other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
def test_every_optimiser_resumes_to_the_bit(optimiser: str, kind: str, tmp_path: Path) -> None:
    fit = assert_it_goes_on_to_the_bit(*KINDS[kind], tmp_path, optimiser=optimiser, **ALONE.get(optimiser, {}))
    if kind != "tables":
        weight = fit.task.modules["model"].get_parameter("encoder.convolutions.3.weight")
        assert not weight.is_contiguous(), "or nothing was tried"


@pytest.mark.parametrize("what", OTHERS)
def test_whole_state_resumes_exactly(what: str, tmp_path: Path) -> None:
    recipe, settings = OTHERS[what]
    fit = assert_it_goes_on_to_the_bit(recipe, "digits", tmp_path, **settings)
    assert isinstance(fit.task.modules["model"], EMA) == (what == "mean teacher")
