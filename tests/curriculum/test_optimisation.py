"""Definitions and formulas of gradient descent and its relatives, as the texts give them or as they should."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import mse_loss

from rlab.nn.optim import OPTIMISERS, make_optimiser
from rlab.studies.descent import walk
from rlab.studies.supervised import network


def curvature(surface: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The Hessian, backwards twice: torch's own goes forwards, through what is deprecated."""
    return torch.func.jacrev(torch.func.grad(surface))


def two_layers() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    model = network((3, 4, 2), "tanh", seed=1).double()
    generator = torch.Generator().manual_seed(0)
    return model, *(torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (3, 2))


def by_hand(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> list[np.ndarray]:
    """The mean square's derivatives by every layer's weights and biases, by the chain rule, in NumPy."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    hidden = np.tanh(x.numpy() @ w1.T + b1)
    out = 2 * (hidden @ w2.T + b2 - y.numpy()) / y.numel()
    back = out @ w2 * (1 - hidden**2)
    return [back.T @ x.numpy(), back.sum(0), out.T @ hidden, out.sum(0)]


def test_partial_derivatives_by_each_layers_weights() -> None:
    """Item 063: learning takes the error's partial derivatives by the weights of every layer; autograd's are those."""
    model, x, y = two_layers()
    mse_loss(model(x), y).backward()
    for parameter, expected in zip(model.parameters(), by_hand(model, x, y), strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_learning_is_gradient_descent_repeated() -> None:
    """Item 067: each update is w - rate * slope, in every layer, and the error falls from one to the next."""
    model, x, y = two_layers()
    optimiser, errors = make_optimiser("sgd", model.parameters(), lr=0.1), []
    for _ in range(20):
        expected = [p.detach().numpy() - 0.1 * s for p, s in zip(model.parameters(), by_hand(model, x, y), strict=True)]
        optimiser.zero_grad()
        error = mse_loss(model(x), y)
        error.backward()
        optimiser.step()
        errors.append(error.item())
        for parameter, weights in zip(model.parameters(), expected, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-10, atol=1e-12)
    assert np.all(np.diff(errors) < 0)


@settings(deadline=None, max_examples=30)
@given(rate=st.floats(0.01, 1.3), start=st.floats(0.1, 10))
def test_descent_on_a_parabola(rate: float, start: float) -> None:
    """Item 066: on y = x^2 each step multiplies x by 1 - 2 * rate, so it converges below a rate of 1 only."""
    path = walk(lambda x: x.square().sum(1), [[start]], "sgd", 12, lr=rate)[:, 0, 0]
    np.testing.assert_allclose(path, start * (1 - 2 * rate) ** np.arange(13), rtol=1e-9, atol=1e-12)
    if rate < 0.99:
        assert abs(path[-1]) < start
    if rate > 1.01:
        assert abs(path[-1]) > start


def test_golden_numbers_of_the_parabola() -> None:
    """Item 066: from x = 4, rate 0.1: 3.2, 2.56, 2.048; at 0.5 the lowest point at once; at 1 to and fro."""
    paths = {rate: walk(lambda x: x.square().sum(1), [[4.0]], "sgd", 3, lr=rate)[:, 0, 0] for rate in (0.1, 0.5, 1.0)}
    np.testing.assert_allclose(paths[0.1], [4, 3.2, 2.56, 2.048], rtol=1e-12)
    np.testing.assert_allclose(paths[0.5], [4, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(paths[1.0], [4, -4, 4, -4], rtol=1e-12)


def test_gradients_vanish_at_saddles_and_maxima_too() -> None:
    """Items 064, 070: a bowl, a hill, a saddle and the monkey saddle have the slope 0 at 0; curvatures tell."""
    signs = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    surfaces = [lambda x, s=s: (s * x.square()).sum() for s in signs]
    surfaces.append(lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2)
    zero, found = torch.zeros(2), []
    for surface in surfaces:
        assert torch.func.grad(surface)(zero).tolist() == [0, 0]
        found.append(torch.linalg.eigvalsh(curvature(surface)(zero)).tolist())
    assert found == [[2, 2], [-2, -2], [-2, 2], [0, 0]]


def test_a_batchs_gradient_is_right_in_the_mean() -> None:
    """Item 073: the mean of the gradients of all mini-batches of an epoch is the whole gradient."""
    model, x, y = two_layers()
    parts = [
        torch.autograd.grad(mse_loss(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters())) for i in range(5)
    ]
    for slopes, whole in zip(zip(*parts, strict=True), by_hand(model, x, y), strict=True):
        np.testing.assert_allclose(sum(slopes).numpy() / 5, whole, rtol=1e-10, atol=1e-12)


def test_momentum_of_a_steady_slope() -> None:
    """Item 074: under a slope that stays the steps grow to 1 / (1 - 0.9) = 10 times the first one."""
    path = walk(lambda x: x.sum(1), [[0.0]], "momentum", 200, lr=0.01)[:, 0, 0]
    steps = -np.diff(path)
    np.testing.assert_allclose(steps[:3], [0.01, 0.019, 0.0271], rtol=1e-9)
    assert steps[-1] == pytest.approx(0.1, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(slopes=st.lists(st.floats(-5, 5).filter(lambda g: abs(g) > 1e-3), min_size=2, max_size=12))
def test_adagrads_rate_only_falls(slopes: list[float]) -> None:
    """Item 075: the step for a unit of slope is rate / root(sum of squares): it never grows, for whatever slopes."""
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser, rates = make_optimiser("adagrad", [w], lr=0.5), []
    for slope in slopes:
        before, w.grad = w.item(), torch.tensor([slope], dtype=torch.float64)
        optimiser.step()
        rates.append((before - w.item()) / slope)
    np.testing.assert_allclose(rates, 0.5 / np.sqrt(np.cumsum(np.square(slopes))), rtol=1e-6)
    assert np.all(np.diff(rates) <= 1e-12)


def test_adadelta_begins_at_a_pace_that_epsilon_sets() -> None:
    """Item 076: the first step is root(eps) / root(0.1 g^2 + eps) * g, nearly root(10 eps) whatever the slope."""
    for slope in (0.1, 1.0, 100.0):
        for eps in (1e-6, 1e-4):
            path = walk(lambda x, slope=slope: slope * x.sum(1), [[0.0]], "adadelta", 1, eps=eps)
            expected = math.sqrt(eps) / math.sqrt(0.1 * slope**2 + eps) * slope
            assert -path[1, 0, 0] == pytest.approx(expected, rel=1e-9)
    assert -path[1, 0, 0] == pytest.approx(math.sqrt(10 * eps), rel=1e-3)


def test_rmsprop_goes_at_the_rate_whatever_the_slope() -> None:
    """Item 077: first step rate / root(0.1), then towards the rate itself; Adagrad's falls on and on."""
    for slope in (0.01, 1.0, 100.0):
        path = walk(lambda x, slope=slope: slope * x.sum(1), [[0.0]], "rmsprop", 100, lr=0.1)[:, 0, 0]
        steps = -np.diff(path)
        assert steps[0] == pytest.approx(0.1 / math.sqrt(0.1), rel=1e-5)
        assert steps[-1] == pytest.approx(0.1, rel=1e-4)
    slow = -np.diff(walk(lambda x: x.sum(1), [[0.0]], "adagrad", 100, lr=0.1)[:, 0, 0])
    assert slow[-1] == pytest.approx(0.1 / 10, rel=1e-6)


@pytest.mark.parametrize("slope", [1e-4, 1.0, 1e4])
def test_adams_bias_correction(slope: float) -> None:
    """Item 078: the first step is the rate for any slope; without correction 0.1 / root(0.001) = 3.16 times that."""
    path = walk(lambda x: slope * x.sum(1), [[0.0]], "adam", 50, lr=0.1)[:, 0, 0]
    np.testing.assert_allclose(-np.diff(path), 0.1, rtol=1e-3)
    t = np.arange(1, 51)
    m, v = slope * (1 - 0.9**t), slope**2 * (1 - 0.999**t)
    uncorrected = 0.1 * m / np.sqrt(v)
    assert uncorrected[0] == pytest.approx(0.1 * 0.1 / math.sqrt(0.001))
    assert uncorrected.max() > 0.6
    np.testing.assert_allclose(uncorrected / -np.diff(path), (1 - 0.9**t) / np.sqrt(1 - 0.999**t), rtol=1e-3)


def test_what_the_texts_only_mention_is_there() -> None:
    """Items 074-079: every method that the texts name, but Eve and learned optimisers (mentioned only)."""
    named = {"sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "lbfgs"}
    assert named <= set(OPTIMISERS)


def test_condition_number_and_rate() -> None:
    """Item 074: with the best rate 2 / (h + l) descent keeps (k - 1) / (k + 1) of the distance each step."""
    k = 9.0
    path = walk(
        lambda x: (x.square() * torch.tensor([1 / k, 1.0], dtype=torch.float64)).sum(1) / 2,
        [[1.0, 1.0]],
        "sgd",
        30,
        lr=2 / (1 + 1 / k),
    )
    np.testing.assert_allclose(np.abs(path[-1, 0]), ((k - 1) / (k + 1)) ** 30, rtol=1e-9)
