"""Over-fitting, penalties, constraints and sharing: the formulas of items 091-105, by hand and against autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import legvander
from torch import nn
from torch.nn import functional as F

from rlab.nn.optim import decayed, make_optimiser
from rlab.nn.penalties import distance, elastic, l1, l2, project, weights_of
from rlab.studies.combining.no_free_lunch import LEARNERS, Settings, measure, separable


def ridge(alpha: float) -> tuple[float, float]:
    """(training error, test error) of a polynomial of degree 12 through 15 noisy points of a sine."""
    rng = np.random.default_rng(0)
    x, x_test = np.linspace(-1, 1, 15), np.linspace(-0.95, 0.95, 200)
    y = np.sin(3 * x) + 0.3 * rng.standard_normal(len(x))
    features = legvander(x, 12)
    w = np.linalg.solve(features.T @ features + alpha * np.eye(13), features.T @ y)
    said = legvander(x_test, 12) @ w
    return float(np.square(features @ w - y).mean()), float(np.square(said - np.sin(3 * x_test)).mean())


def test_regularisation_lowers_the_test_error_and_not_the_training_error() -> None:
    """Item 091: what reconciles fitting and generalising gives up some of the former for the latter."""
    (train, test), (train_with, test_with) = ridge(0.0), ridge(0.3)
    assert train < train_with
    assert test > 2 * test_with


def test_squared_error_is_bias_squared_plus_variance() -> None:
    """Item 093: y(x; D) of four data sets for h = 3 are 1, 2, 4 and 5: 2.5 = 0 + 2.5; for h = 2, 3.5 = 1 + 2.5.

    Against targets 2 +- 1 the noise's variance, 1, comes on top.
    """
    said = np.array([1.0, 2.0, 4.0, 5.0])
    for h, error, bias2 in ((3.0, 2.5, 0.0), (2.0, 3.5, 1.0)):
        assert np.square(said - h).mean() == error
        assert ((said.mean() - h) ** 2, said.var()) == (bias2, 2.5)
    noisy = np.array([1.0, 3.0])
    assert np.square(said[:, None] - noisy).mean() == 1.0 + 2.5 + 1.0


def test_a_penalty_changes_the_gradient_of_weights_and_of_no_bias() -> None:
    """Items 095, 098, 101: J + alpha Omega; alpha = 0 is none; of L2 the gradient gains alpha w, of biases nothing."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(3, 1), torch.randn(8, 3), torch.randn(8, 1)

    def gradients(alpha: float) -> tuple[torch.Tensor, ...]:
        loss = F.mse_loss(model(x), y) + alpha * l2(weights_of(model))
        return torch.autograd.grad(loss, list(model.parameters()))

    plain = torch.autograd.grad(F.mse_loss(model(x), y), list(model.parameters()))
    assert all(a.equal(b) for a, b in zip(plain, gradients(0.0), strict=True))
    with_it = gradients(0.25)
    torch.testing.assert_close(with_it[0], plain[0] + 0.25 * model.weight)
    assert with_it[1].equal(plain[1])
    assert [group["weight_decay"] for group in decayed(model, 0.25)] == [0.25, 0.0]


def test_norms_of_every_order() -> None:
    """Items 096-099: ||(3, -4)||_p; Lasso's, Ridge's and the elastic net's penalty of it."""
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    for p, expected in ((1, 7), (2, 5), (3, 91 ** (1 / 3)), (float("inf"), 4)):
        assert torch.linalg.vector_norm(w, p).item() == pytest.approx(expected)
    assert (l1([w]).item(), l2([w]).item(), elastic([w], 0.5).item()) == (7, 12.5, 9.75)


def test_l2_is_decay_for_plain_sgd_by_hand() -> None:
    """Item 101: (1 - eta lambda) w - eta g, whichever way it is written; Adam's first step has eta alone of both."""

    def step(name: str, penalty: float, decay: float) -> float:
        w = nn.Parameter(torch.tensor([[2.0]], dtype=torch.float64))
        options: dict[str, Any] = {"weight_decay": decay} if decay else {}
        optimiser = make_optimiser(name, [w], lr=0.1, **options)
        (3 * w.sum() + penalty * l2([w])).backward()
        optimiser.step()
        return w.item()

    assert step("sgd", 0.5, 0.0) == pytest.approx((1 - 0.1 * 0.5) * 2 - 0.1 * 3)
    assert step("sgd", 0.0, 0.5) == pytest.approx(step("sgd", 0.5, 0.0))
    assert step("adam", 0.5, 0.0) == pytest.approx(2 - 0.1)
    assert step("adamw", 0.0, 0.5) == pytest.approx((1 - 0.1 * 0.5) * 2 - 0.1)


def test_the_minimum_of_a_tied_model_lies_between() -> None:
    """Item 103: 1/2 (w - 4)^2 + lambda (w - 1)^2 is least at (4 + 2 lambda) / (1 + 2 lambda); bounded by 1, at 2."""
    anchor = [torch.tensor([1.0], dtype=torch.float64)]
    for strength, radius, expected in ((0.0, 9.0, 4.0), (0.5, 9.0, 2.5), (9.5, 9.0, 1.15), (0.0, 1.0, 2.0)):
        w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimiser = make_optimiser("sgd", [w], lr=0.04)
        for _ in range(600):
            optimiser.zero_grad()
            ((w - 4).square().sum() / 2 + strength * distance([w], anchor)).backward()
            optimiser.step()
            project([w], anchor, radius)
        assert w.item() == pytest.approx(expected, abs=1e-6)


def test_a_shared_weight_has_the_sum_of_its_places_gradients() -> None:
    """Item 104: a convolution is a matrix whose entries are the same at all places; so is its gradient's sum.

    3 numbers stand for 4 x 6; an RNN of 12 steps has as many as one of 2; tied matrices are half of two.
    """
    torch.manual_seed(0)
    x, weights = torch.randn(1, 1, 6), torch.randn(3, requires_grad=True)
    matrix = torch.stack([F.pad(weights, (place, 3 - place)) for place in range(4)])  # [4, 6]
    free = matrix.detach().requires_grad_()
    conv = F.conv1d(x, weights.view(1, 1, 3))[0, 0]
    torch.testing.assert_close(conv, free @ x[0, 0])
    (gradient,) = torch.autograd.grad(conv.square().sum(), weights)
    (each,) = torch.autograd.grad((free @ x[0, 0]).square().sum(), free)
    expected = torch.stack([each[place, place : place + 3] for place in range(4)]).sum(0)
    torch.testing.assert_close(gradient, expected)

    rnn = nn.RNN(2, 5)
    assert sum(p.numel() for p in rnn.parameters()) == 5 * (2 + 5) + 10
    assert [rnn(torch.zeros(steps, 1, 2))[0].shape[0] for steps in (2, 12)] == [2, 12]

    words, back = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
    separate = nn.ModuleList([words, back])
    assert sum(p.numel() for p in separate.parameters()) == 2 * 400
    back.weight = words.weight
    assert sum(p.numel() for p in separate.parameters()) == 400


def test_relu_makes_half_of_symmetric_values_exactly_zero() -> None:
    """Item 105: where tanh makes none."""
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert (x.relu() == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (x.tanh() != 0).all()


def test_no_learner_beats_another_over_all_functions() -> None:
    """Item 142: 50 % in the mean over all 65,536, whatever is learned by; 1,882 of them are linearly separable."""
    assert len(separable()) == 1_882
    found = {name: measure(Settings(steps=20), {"learner": name}, 3) for name in LEARNERS}
    assert {numbers["all"] for numbers in found.values()} == {50.0}
    assert found["neighbours"]["simple"] > found["minority"]["simple"] + 20
