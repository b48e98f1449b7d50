"""Small networks trained in a few lines."""

from __future__ import annotations

import pytest
import torch

from rlab.nn.optim import make_optimiser
from rlab.studies.supervised import accuracy, examples, fit, network


def test_parts_of_a_data_set_have_every_class_alike() -> None:
    data = examples("digits", 0, train=200, test=50, preprocess="standard")
    assert (len(data.x), len(data.y), len(data.x_test), len(data.y_test)) == (200, 200, 50, 50)
    assert data.y.bincount().tolist() == pytest.approx([20] * 10, abs=1)
    assert data.x.mean().item() == pytest.approx(0, abs=1e-5)
    assert not torch.equal(data.y, examples("digits", 1, train=200).y)


def test_a_step_by_hand() -> None:
    model = network((1, 1), seed=0)
    model[1].weight.data.fill_(2.0)
    model[1].bias.data.fill_(0.0)
    optimiser = make_optimiser("sgd", model.parameters(), lr=0.1)
    x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]])

    def squared(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((output - target) ** 2).mean()

    losses: list[float] = []
    seen = fit(model, x, y, optimiser, steps=1, loss=squared, after=losses.append, look=lambda: model[1].weight.item())
    assert seen == [pytest.approx(2 - 0.1 * (2 * 2 * 1 + 2 * 6 * 3) / 2, abs=1e-6)]
    assert losses == [1]


def test_training_repeats_and_goes_through_every_example() -> None:
    data = examples("digits", 0, train=300)
    met: list[int] = []

    def train(seed: int) -> float:
        model = network((64, 16, 10), norm="batch", init="he-normal", seed=seed)
        optimiser = make_optimiser("adam", model.parameters(), lr=0.01)

        def note(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            met.append(len(x))
            return x, y

        seen = fit(
            model, data.x, data.y, optimiser, steps=20, batch_size=100, seed=seed, change=note,
            look=lambda: accuracy(model, data.x_test, data.y_test), points=4,
        )  # fmt: skip
        assert len(seen) == 4
        assert not model.training
        return seen[-1]

    assert train(0) == train(0) > 0.5
    assert met == [100] * 40
