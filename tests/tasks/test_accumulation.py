"""An update by several batches is one by a batch of their size, whatever a loss is a mean over; also on two ranks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.parallel.data_parallel import JointLearning, Shard
from rlab.parallel.pipeline import accumulated
from rlab.tasks.task import SingleLossTask, backpropagate
from rlab.tasks.trainer import Trainer
from tests.parallel.sums import Sums
from tests.tasks.test_trainer import Planted, of_recipe, planted

PLAIN: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.3, "schedule": "constant", "weight_decay": 0.0,
                         "max_grad_norm": 0.0, "label_smoothing": 0.0, "precision": "fp32", "dropout": 0.0}  # fmt: skip
SMALL: dict[str, Any] = {"width": 8, "layers": 1}
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "items": ("mlp", "digits", {}),
    "text": ("transformer-lm", "shakespeare-small", SMALL | {"window": 12, "examples": 40}),
    "pairs": ("attention", "rule-pairs", SMALL),
    "steps": ("rnn", "anbn", SMALL),
    "sums of steps": ("rnn", "binary-addition", SMALL | {"encoder": "gru", "loss": "squared"}),
    "answers": ("vhred", "rule-dialogues", {"width": 8, "latent": 2, "anneal": 0.0}),
    "codes": ("wavenet", "tones", {"width": 4, "skip": 4, "layers": 3, "window": 700}),
}
"""What a loss is a mean over -> recipe, data, settings."""


def trainer_of(what: str, **settings: Any) -> Trainer:
    recipe, data, own = TASKS[what]
    known = PLAIN if recipe != "wavenet" else {k: v for k, v in PLAIN.items() if k != "dropout"}
    fit = of_recipe(recipe, data, **known | own | settings)
    fit.task.modules.eval()  # nothing is drawn
    return fit


def parts_of(fit: Trainer, n: int, first: int = 0) -> list[Batch]:
    return [fit.task.data.at(0, number) for number in range(first, first + n)]


def joined(fit: Any, batches: Sequence[Batch]) -> Batch:
    """The items of some batches as one batch."""
    items = torch.cat([batch.items for batch in batches])
    return Batch(fit.task.data.dataset.collate(items, torch.Generator()), items)


def weights(fit: Trainer) -> Tensor:
    return nn.utils.parameters_to_vector(fit.task.modules.parameters()).detach()


@pytest.mark.parametrize("what", TASKS)
def test_batches_of_an_update_are_one(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance of accumulated gradients, 3 x 4 = 1 x 12; then the same two batches shared by two ranks."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # a latent variable takes its mean
    many, one = (trainer_of(what, batch_size=4, accumulate=3) for _ in range(2))
    begun = weights(one)
    batches = parts_of(many, 3)
    task: Any = many.task
    if what not in ("items", "text", "sums of steps"):
        assert len({task.denominator(batch) for batch in batches}) > 1, "or nothing was tried"
    found, wanted = many.task.update_on(batches), one.task.update_on([joined(one, batches)])  # type: ignore[attr-defined]
    assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), abs=1e-6)
    torch.testing.assert_close(weights(many), weights(one), atol=1e-6, rtol=0)
    assert (weights(one) - begun).abs().max() > 1e-4

    ranks, sums = [trainer_of(what, batch_size=4, accumulate=3) for _ in range(2)], Sums(2)
    for rank, fit in enumerate(ranks):
        shared: Any = fit.task
        shared.data, shared.learn = Shard(shared.data, rank, 2), JointLearning(shared.model, sums.of(rank))
    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(lambda fit: fit.task.update_on(parts_of(fit, 3)), ranks))
    for fit, losses in zip(ranks, told, strict=True):
        assert float(losses["loss"]) == pytest.approx(float(wanted["loss"]), abs=1e-6)
        torch.testing.assert_close(weights(fit), weights(one), atol=1e-6, rtol=0)


@pytest.mark.parametrize("learn", [backpropagate, accumulated(1), None])
def test_tokens_weigh_alike_in_an_update(learn: Any) -> None:
    """Ten tokens at one nat and a hundred at two are 1.9091 a token; the mean of the batches' means is 1.5."""
    scale = nn.Parameter(torch.ones(()))
    model = nn.ParameterList([scale])
    learn = learn or JointLearning(model, lambda tensor: tensor)
    batches = [Batch({"nats": torch.full((n, 1), nats)}, torch.arange(n)) for n, nats in ((10, 1.0), (100, 2.0))]
    found = learn(lambda batch: {"loss": scale * batch["nats"].mean()}, len, batches)
    assert float(found["loss"]) == pytest.approx(1.9091, abs=1e-4)
    assert float(scale.grad) == pytest.approx(1.9091, abs=1e-4)  # type: ignore[arg-type]


def test_epochs_of_several_batches_an_update() -> None:
    """Ten points in batches of four: an epoch is an update of eight points and one of two."""
    task = Planted([0.0] * 9)
    fit = planted(task, accumulate=2)
    done = []
    for _ in range(4):
        fit.step()
        done.append(fit.progress().done)
    assert done == [8, 10, 18, 20]
    assert sorted(torch.cat(task.seen[:3]).tolist()) == list(range(10))
    assert isinstance(fit.task, SingleLossTask)
    with pytest.raises(
        RlabError, match=r"--accumulate is 2, and this learns by several losses .* nearest: --accumulate 1"
    ):
        of_recipe("gan", "digits", accumulate=2, examples=32)
