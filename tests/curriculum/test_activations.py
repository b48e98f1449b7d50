"""Activation functions: what the texts' formulas of items 046-062 come to."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlab.nn.layers.activations import ACTIVATIONS

SLOPES = {
    "sigmoid": lambda u: torch.sigmoid(u) * (1 - torch.sigmoid(u)),
    "tanh": lambda u: 1 - torch.tanh(u) ** 2,
    "relu": lambda u: (u > 0).double(),
    "leaky-relu": lambda u: 0.01 + 0.99 * (u > 0).double(),
}


def net(activation: str, sizes: tuple[int, ...], seed: int, scale: float = 1.0) -> list[nn.Module]:
    """Linear layers with the activation between them, in float64."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layer = nn.Linear(n_in, n_out).double()
        layer.weight.data *= scale
        parts += [layer, ACTIVATIONS.get(activation)()]
    return parts[:-1]


@settings(max_examples=25, deadline=None)
@given(depth=st.integers(1, 8), scale=st.floats(0.1, 30), seed=st.integers(0, 10_000))
def test_sigmoids_pass_on_a_quarter_times_the_weights_at_most(depth: int, scale: float, seed: int) -> None:
    """Items 046, 047: a gradient shrinks to prod(1/4 |W|) or less on its way back."""
    parts = net("sigmoid", (5, *[6] * depth, 1), seed, scale)
    x = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(nn.Sequential(*parts)(x).sum(), x)
    norms = [float(torch.linalg.matrix_norm(part.weight.detach(), 2)) for part in parts if isinstance(part, nn.Linear)]
    assert float(gradient.norm()) <= 0.25**depth * math.prod(norms) * (1 + 1e-9)


@pytest.mark.parametrize("activation", sorted(SLOPES))
@pytest.mark.parametrize("seed", range(3))
def test_deltas_go_back_by_the_slope_at_what_the_unit_was_given(activation: str, seed: int) -> None:
    """Item 059: delta_j = f'(u_j) sum_k w_kj delta_k, and not f(u_j) in place of f'(u_j)."""
    parts = net(activation, (4, 5, 3, 2), seed)
    out, sums = torch.randn(7, 4, dtype=torch.float64), []
    for part in parts:
        out = part(out)
        if isinstance(part, nn.Linear):
            sums.append(out)
    loss = out.square().sum() / 2
    exact = torch.autograd.grad(loss, sums)
    layers = [part for part in parts if isinstance(part, nn.Linear)]

    def back(slope: object) -> list[Tensor]:
        deltas = [sums[-1]]
        for u, layer in zip(reversed(sums[:-1]), reversed(layers[1:]), strict=True):
            deltas.insert(0, slope(u) * (deltas[0] @ layer.weight))  # type: ignore[operator]
        return deltas

    for delta, wanted in zip(back(SLOPES[activation]), exact, strict=True):
        torch.testing.assert_close(delta, wanted, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(back(ACTIVATIONS.get(activation)())[0], exact[0], rtol=0.05)


def test_tanh_keeps_the_sign_and_sigmoid_has_none() -> None:
    """Item 060: and of centred inputs tanh makes centred outputs, sigmoid outputs around 1/2."""
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    assert torch.equal(torch.sign(ACTIVATIONS.get("tanh")()(x)), torch.sign(x))
    assert (ACTIVATIONS.get("sigmoid")()(x) > 0).all()
    assert ACTIVATIONS.get("tanh")()(x).mean().item() == pytest.approx(0, abs=1e-12)
    assert ACTIVATIONS.get("sigmoid")()(x).mean().item() == pytest.approx(0.5, abs=1e-12)


def test_successors_of_relu_have_slopes_below_0_and_follow_it_far_out() -> None:
    """Item 061: GELU, SiLU, Mish and Hardswish are 0 or x far from 0; all pass a gradient on at -1."""
    far = torch.tensor([-30.0, 30.0], dtype=torch.float64)
    for name in ("gelu", "silu", "mish", "hardswish"):
        torch.testing.assert_close(ACTIVATIONS.get(name)()(far), far.clamp_min(0), rtol=0, atol=1e-9)
    for name in ("gelu", "silu", "mish", "hardswish", "elu", "selu", "softplus"):
        x = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(ACTIVATIONS.get(name)()(x).sum(), x)
        assert abs(slope.item()) > 0.02
