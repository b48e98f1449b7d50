"""Penalties and constraints by hand, by their properties, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso
from sklearn.preprocessing import scale
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rlab.errors import RlabError
from rlab.nn import NoisyLinear
from rlab.nn.losses import squared_error
from rlab.nn.optim import make_optimiser
from rlab.nn.penalties import activation_kl, activation_l1, distance, elastic, l1, l2, project, shrink, weights_of


def test_weights_are_no_biases_no_scales_and_come_once() -> None:
    """Item 095."""
    shared = nn.Linear(4, 4)
    network = nn.ModuleDict(
        {
            "a": shared,
            "again": shared,
            "conv": nn.Conv2d(1, 2, 3),
            "batch": nn.BatchNorm2d(2),
            "layer": nn.LayerNorm((2, 3, 3)),
            "group": nn.GroupNorm(1, 2),
            "prelu": nn.PReLU(4),
            "noisy": NoisyLinear(2, 3),
            "lstm": nn.LSTM(2, 3),
            "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
            "spectral": spectral_norm(nn.Linear(2, 2)),
        }
    )
    chosen = {id(p) for p in weights_of(network)}
    assert {name for name, p in network.named_parameters() if id(p) in chosen} == {
        "a.weight",
        "conv.weight",
        "noisy.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "spectral.parametrizations.weight.original",
    }
    assert len(weights_of(network)) == len(chosen)
    with pytest.raises(RlabError, match="BatchNorm1d has no weights"):
        weights_of(nn.BatchNorm1d(3))


def test_norms_by_hand() -> None:
    """Items 095-099."""
    weights = [torch.tensor([[3.0, -4.0]]), torch.tensor([[1.0], [0.0]])]
    assert l1(weights).item() == 8
    assert l2(weights).item() == 13
    assert elastic(weights, 0.25).item() == pytest.approx(0.25 * 8 + 0.75 * 13)
    with pytest.raises(RlabError, match=r"0\.\.1, not 1.5; nearest: 1"):
        elastic(weights, 1.5)
    with pytest.raises(RlabError, match="no weights at all"):
        l1([])


def test_gradients_are_the_sign_and_the_weight() -> None:
    w = torch.tensor([[2.0, -0.5, 0.0]], requires_grad=True)
    assert torch.autograd.grad(l1([w]), w)[0].tolist() == [[1, -1, 0]]
    assert torch.autograd.grad(l2([w]), w)[0].equal(w.detach())


def test_distance_by_hand() -> None:
    """Item 103."""
    a, b = [torch.zeros(2, 2), torch.ones(1, 2)], [torch.full((2, 2), 2.0), torch.zeros(1, 2)]
    assert distance(a, b).item() == 4 * 4 + 2
    with pytest.raises(
        RlabError, match=r"shapes \[\(2, 2\), \(1, 2\)\] cannot be tied to weights of shapes \[\(2, 2\)\]"
    ):
        distance(a, b[:1])


def flat(weights: list[Tensor]) -> Tensor:
    return torch.cat([w.flatten() for w in weights]).double()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), radius=st.floats(0, 20), spread=st.floats(1e-6, 1e3))
def test_projection_is_the_nearest_place_within_the_radius(seed: int, radius: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchor = [spread * torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (1, 4)]
    weights = [spread * torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (1, 4)]
    before, fixed = flat(weights), flat(anchor)
    project(weights, anchor, radius)
    after, far = flat(weights), float((before - fixed).norm())
    assert float((after - fixed).norm()) == pytest.approx(min(far, radius), rel=1e-9, abs=1e-9 * spread)
    if far <= radius:
        assert after.equal(before), "inside, nothing moves"
    # the condition of a projection: no place of the ball lies on the far side
    for _ in range(20):
        inside = torch.randn(len(fixed), generator=generator, dtype=torch.float64)
        other = fixed + radius * inside / inside.norm()
        assert float((before - after) @ (other - after)) <= 1e-9 * max(far, radius, spread) ** 2
    project(weights, anchor, radius)
    torch.testing.assert_close(flat(weights), after, rtol=0, atol=1e-12 * spread)  # twice is once


def test_projection_of_a_network_in_place() -> None:
    torch.manual_seed(0)
    network, other = nn.Linear(300, 300), nn.Linear(300, 300)
    weights = weights_of(network)
    project(weights, weights_of(other), 0.5)
    assert math.sqrt(float(distance(weights, weights_of(other)).detach())) == pytest.approx(0.5, rel=1e-5)
    project(weights, weights_of(other), 0)
    assert network.weight.equal(other.weight)
    project(weights, weights_of(other), 0)
    assert network.weight.isfinite().all()
    with pytest.raises(RlabError, match="radius of 0 or more, not -1"):
        project(weights, weights_of(other), -1)


def test_shrinking_by_hand() -> None:
    w = nn.Parameter(torch.tensor([[1.0, -1.0, 0.25, -0.25, 0.1]]))
    shrink([w], 0.25)
    assert w.tolist() == [[0.75, -0.75, 0, 0, 0]]
    with pytest.raises(RlabError, match="finite amount of 0 or more, not nan"):
        shrink([w], math.nan)


@settings(deadline=None)
@given(w=st.floats(-10, 10), amount=st.floats(0, 5), other=st.floats(-10, 10))
def test_shrinking_is_the_proximal_step_of_l1(w: float, amount: float, other: float) -> None:
    """No place has a smaller 1/2 (z - w)^2 + amount |z|."""
    weight = torch.tensor([w], dtype=torch.float64)
    shrink([weight], amount)

    def objective(z: float) -> float:
        return (z - w) ** 2 / 2 + amount * abs(z)

    assert objective(weight.item()) <= objective(other) + 1e-9


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    data = load_diabetes()
    return scale(data.data), scale(data.target)


def descend(ratio: float, strength: float, proximal: bool, rate: float = 0.4, steps: int = 300) -> Tensor:
    """Weights[10] of 1/2 mean square + strength * (ratio L1 + (1 - ratio) L2), by gradient descent."""
    x, y = (torch.tensor(part) for part in diabetes())
    torch.manual_seed(0)
    model = nn.Linear(10, 1).double()
    optimiser, weights = make_optimiser("sgd", model.parameters(), lr=rate), weights_of(model)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = squared_error(model(x)[:, 0], y) + strength * (1 - ratio) * l2(weights)
        (loss if proximal else loss + strength * ratio * l1(weights)).backward()
        optimiser.step()
        if proximal:
            shrink(weights, rate * strength * ratio)
    return model.weight.detach()[0]


@pytest.mark.parametrize(("ratio", "strength"), [(1.0, 0.05), (0.5, 0.1)])
def test_proximal_descent_finds_what_scikit_learn_finds(ratio: float, strength: float) -> None:
    """Items 097, 099, 102: on the diabetes data, to 1e-6 and with the same weights at exactly 0."""
    x, y = diabetes()
    peer = Lasso(strength, tol=1e-10) if ratio == 1 else ElasticNet(strength, l1_ratio=ratio, tol=1e-10)
    expected = peer.fit(x, y).coef_
    found = descend(ratio, strength, proximal=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert ((found == 0) == (expected == 0)).all()
    assert (found == 0).sum() >= 2


def test_the_subgradient_of_l1_gives_no_zeros() -> None:
    """Item 102."""
    assert (descend(1.0, 0.05, proximal=False) != 0).all()


def test_sparsity_of_activations_by_hand() -> None:
    """Item 105: means 1/2 and 1/4 against 1/4: 1/4 ln 1/2 + 3/4 ln 3/2 for the first, 0 for the second."""
    h = torch.tensor([[0.2, 0.5], [0.8, 0.0]])
    assert activation_l1(h).item() == pytest.approx(0.75)
    assert activation_l1(-h).item() == pytest.approx(0.75)
    assert activation_kl(h, 0.25).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-5)


def test_kl_pulls_means_to_the_wish_and_stays_finite() -> None:
    h = torch.tensor([[0.9, 0.1]], requires_grad=True)
    activation_kl(h, 0.5).backward()
    assert h.grad is not None
    assert h.grad[0, 0] > 0 > h.grad[0, 1]
    assert activation_kl(torch.tensor([[0.0, 1.0]]), 0.05).isfinite()


def test_kl_is_for_what_lies_in_0_to_1() -> None:
    with pytest.raises(RlabError, match="a mean is 3; nearest: activation_l1"):
        activation_kl(torch.tensor([[0.5, 3.0]]), 0.05)
    with pytest.raises(RlabError, match="a mean is -2"):
        activation_kl(torch.full((2, 3, 4, 4), -2.0), 0.05)
    with pytest.raises(RlabError, match="between 0 and 1, not 1"):
        activation_kl(torch.rand(2, 2), 1)
