"""Every activation against its closed form, its derivative, and what the texts say of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import erf, expit

from rlab.errors import RlabError
from rlab.nn.layers import ACTIVATIONS

X = np.linspace(-6, 6, 97) + 1e-3  # no kink lies on it
E = np.exp(np.minimum(X, 0))
S = expit(X)
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
DENSITY = np.exp(-(X**2) / 2) / math.sqrt(2 * math.pi)
SOFT = np.log1p(np.exp(X))

CLOSED = {
    "identity": (X, np.ones_like(X)),
    "sigmoid": (S, S * (1 - S)),
    "tanh": (np.tanh(X), 1 - np.tanh(X) ** 2),
    "hardtanh": (np.clip(X, -1, 1), abs(X) < 1),
    "softsign": (X / (1 + abs(X)), (1 + abs(X)) ** -2.0),
    "softplus": (SOFT, S),
    "relu": (np.maximum(X, 0), X > 0),
    "leaky-relu": (np.where(X > 0, X, 0.01 * X), np.where(X > 0, 1, 0.01)),
    "prelu": (np.where(X > 0, X, 0.25 * X), np.where(X > 0, 1, 0.25)),
    "rrelu": (np.where(X > 0, X, 11 / 48 * X), np.where(X > 0, 1, 11 / 48)),
    "elu": (np.where(X > 0, X, E - 1), np.where(X > 0, 1, E)),
    "selu": (SCALE * np.where(X > 0, X, ALPHA * (E - 1)), SCALE * np.where(X > 0, 1, ALPHA * E)),
    "gelu": (X * (1 + erf(X / math.sqrt(2))) / 2, (1 + erf(X / math.sqrt(2))) / 2 + X * DENSITY),
    "silu": (X * S, S * (1 + X * (1 - S))),
    "mish": (X * np.tanh(SOFT), np.tanh(SOFT) + X * S * (1 - np.tanh(SOFT) ** 2)),
    "hardswish": (X * np.clip(X + 3, 0, 6) / 6, np.where(abs(X) < 3, (2 * X + 3) / 6, X > 0)),
}


def test_all_are_looked_at() -> None:
    assert set(ACTIVATIONS) == set(CLOSED)


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_closed_form_and_derivative(name: str) -> None:
    """Items 055, 061."""
    x = torch.tensor(X, requires_grad=True)
    out = ACTIVATIONS.get(name)().double().eval()(x)
    (slope,) = torch.autograd.grad(out.sum(), x)
    value, derivative = CLOSED[name]
    np.testing.assert_allclose(out.detach().numpy(), value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope.numpy(), derivative, rtol=1e-9, atol=1e-12)


def test_the_slope_of_sigmoid_is_a_quarter_at_most_and_that_at_0() -> None:
    """Item 047."""
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS.get("sigmoid")()(x).sum(), x)
    assert float(slope.max()) == pytest.approx(0.25, abs=1e-15)
    assert float(x.detach()[slope.argmax()]) == pytest.approx(0, abs=1e-12)


def test_tanh_is_a_scaled_sigmoid() -> None:
    """Item 048."""
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    torch.testing.assert_close(
        ACTIVATIONS.get("tanh")()(x), 2 * ACTIVATIONS.get("sigmoid")()(2 * x) - 1, rtol=0, atol=4e-16
    )


def test_relu_has_the_slope_0_at_0() -> None:
    """Item 051."""
    x = torch.zeros(1, requires_grad=True)
    ACTIVATIONS.get("relu")()(x).backward()
    assert x.grad is not None
    assert x.grad.item() == 0


def test_prelu_learns_from_the_negative_half_only() -> None:
    """Item 057: a text says the positive half; the slope's gradient is the sum of the negative numbers: -3 - 0.5."""
    prelu = ACTIVATIONS.get("prelu")()
    prelu(torch.tensor([-3.0, 2.0, 7.0, -0.5])).sum().backward()
    assert prelu.weight.grad.item() == -3.5
    prelu.weight.grad = None
    prelu(torch.tensor([2.0, 7.0])).sum().backward()
    assert prelu.weight.grad.item() == 0


def test_rrelu_draws_slopes_in_training_and_takes_their_mean_in_evaluation() -> None:
    """Item 058."""
    torch.manual_seed(0)
    rrelu, x = ACTIVATIONS.get("rrelu")(), -torch.ones(20_000)
    slopes = -rrelu(x)
    assert 1 / 8 <= slopes.min() < 0.13
    assert 0.33 < slopes.max() <= 1 / 3
    assert float(slopes.mean()) == pytest.approx(11 / 48, abs=4 * (1 / 3 - 1 / 8) / math.sqrt(12 * 20_000))
    assert rrelu(torch.ones(3)).tolist() == [1, 1, 1]
    torch.testing.assert_close(rrelu.eval()(x), torch.full_like(x, -11 / 48))


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(RlabError, match="unknown activation 'leakyrelu'; nearest: leaky-relu"):
        ACTIVATIONS.get("leakyrelu")
