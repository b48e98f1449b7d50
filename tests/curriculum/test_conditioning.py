"""Preprocessing, initialisation and normalisation: what the texts' definitions of items 081-090 come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor, nn

from rlab.data.datasets import as_float
from rlab.data.preprocess import fit
from rlab.nn.init import initialise
from rlab.nn.layers.norm import NORMS


def test_bytes_become_0_to_1() -> None:
    """Item 081: an image is divided by 255, which is normalisation (not regularisation)."""
    image = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    assert as_float(image).tolist() == [[0.0, pytest.approx(0.2), 1.0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), stretch=st.floats(0.1, 100))
def test_standardising_keeps_the_shape_of_a_distribution(seed: int, shift: float, stretch: float) -> None:
    """Item 082: mean 0 and variance 1, but the distance from a normal distribution is what it was."""
    column = torch.from_numpy(np.random.default_rng(seed).exponential(1, (200, 1)) * stretch + shift).float()
    done = fit("standard", column)(column)
    assert float(done.mean()) == pytest.approx(0, abs=1e-3)
    assert float(done.std(correction=0)) == pytest.approx(1, abs=1e-3)
    before, after = (
        kstest(c, "norm", args=(c.mean(), c.std()))
        for c in (column.double().numpy()[:, 0], done.double().numpy()[:, 0])
    )
    assert after.statistic == pytest.approx(before.statistic, abs=5e-3)
    assert after.pvalue < 0.01


def test_standardising_makes_a_round_bowl_of_a_long_one() -> None:
    """Item 082: columns of deviations 1 and 1000 have the condition number 10^6; standardised ones about 1."""
    x = torch.from_numpy(np.random.default_rng(0).normal(0, (1, 1000), (500, 2))).float()
    done = fit("standard", x)(x)
    condition = [float(torch.linalg.cond(c.double().T @ c.double())) for c in (x, done)]
    assert condition[0] > 8e5
    assert condition[1] < 1.2


def test_whitening_is_to_decorrelate_and_then_to_standardise() -> None:
    """Item 083: rotation onto the principal axes and division by deviations, in two steps."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4))).float()
    _, directions = torch.linalg.eigh(torch.cov(x.double().T))
    turned = ((x.double() - x.double().mean(0)) @ directions.flip(1)).float()
    assert torch.cov(turned.T).fill_diagonal_(0).abs().max() < 1e-4
    by_hand = fit("standard", turned)(turned) * math.sqrt(399 / 400)  # of N - 1, as the covariance
    white = fit("pca", x)(x)
    torch.testing.assert_close(white.abs(), by_hand.abs(), rtol=1e-3, atol=1e-3)


def test_each_layer_multiplies_the_variance_by_its_fan_in_times_that_of_its_weights() -> None:
    """Item 085: 0.01 N in a layer of 100 leaves (0.01^2 * 100)^5 of it after five linear layers; Xavier all."""
    torch.manual_seed(0)
    x = torch.randn(2_000, 100)
    for name, wanted in (("normal", 0.01**5), ("xavier-normal", 1.0)):
        layers = nn.Sequential(*[nn.Linear(100, 100) for _ in range(5)])
        initialise(layers, name)
        with torch.no_grad():
            assert float(layers(x).var()) / wanted == pytest.approx(1, rel=0.4)


def test_he_makes_up_for_the_half_that_relu_drops() -> None:
    """Item 086: of a symmetric u with variance v, relu(u)^2 has the mean v / 2."""
    torch.manual_seed(0)
    x, layer = torch.randn(4_000, 300), nn.Linear(300, 300)
    with torch.no_grad():
        initialise(layer, "he-normal")
        assert float(layer(x).relu().square().mean()) == pytest.approx(1, rel=0.05)
        initialise(layer, "xavier-normal")
        assert float(layer(x).relu().square().mean()) == pytest.approx(0.5, rel=0.05)


def test_sigmoids_of_four_times_xaviers_weights_are_tanhs_if_their_mean_is_taken_off() -> None:
    """Item 086: with W = 4 X and b = -sum(W) / 2, a net of sigmoids is that of tanh with the weights X: u = 2 v."""
    torch.manual_seed(0)
    layers = [nn.Linear(20, 20).double() for _ in range(6)]
    with torch.no_grad():
        for layer in layers:
            initialise(layer, "xavier-normal")
        u = v = torch.randn(50, 20, dtype=torch.float64)
        u = 2 * v
        for layer in layers:
            weight = 4 * layer.weight
            u = torch.sigmoid(u) @ weight.T - weight.sum(1) / 2
            v = torch.tanh(v) @ layer.weight.T
    torch.testing.assert_close(u, 2 * v)


@pytest.mark.parametrize("name", ["batch", "layer", "group", "instance"])
def test_gradients_of_normalisations(name: str) -> None:
    """Items 087, 089, 090: against finite differences, in training."""
    torch.manual_seed(0)
    layer = NORMS.get(name)(nn.Conv2d(2, 4, 1)).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), atol=1e-5)


def test_batch_norm_does_not_see_the_size_of_weights() -> None:
    """Item 087: ten times the weights give the same outputs and a tenth of the gradient; so rates matter less."""
    torch.manual_seed(0)
    x, target = torch.randn(32, 5).double(), torch.randn(32, 3).double()
    linear = nn.Linear(5, 3).double()
    layer = NORMS.get("batch")(linear).double()

    def run() -> tuple[Tensor, Tensor]:
        out = layer(x)
        (gradient,) = torch.autograd.grad((out * target).sum(), linear.weight)
        return out.detach(), gradient

    before = run()
    linear.weight.data *= 10
    linear.bias.data *= 10
    after = run()
    torch.testing.assert_close(after[0], before[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(10 * after[1], before[1], rtol=1e-3, atol=1e-3)


def test_layer_norm_of_an_example_is_its_own_affair() -> None:
    """Item 089: what the other examples are does not matter to it; to batch normalisation it does."""
    torch.manual_seed(0)
    x = torch.randn(4, 2, 3, 3)
    other = torch.cat([x[:1], 5 * x[1:] + 1])
    for name, alone in (("layer", True), ("instance", True), ("group", True), ("batch", False)):
        layer = NORMS.get(name)(nn.Conv2d(2, 4, 1))
        assert torch.allclose(layer(x)[0], layer(other)[0], atol=1e-5) is alone


def test_one_example_is_enough_for_layer_norm_and_of_units_not_for_batch_norm() -> None:
    """Items 087, 089: of one example a unit has no variance; of maps the positions have one."""
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        NORMS.get("batch")(nn.Linear(3, 4))(torch.randn(1, 3))
    assert NORMS.get("layer")(nn.Linear(3, 4))(torch.randn(1, 3)).std().item() == pytest.approx(
        2 / math.sqrt(3), abs=0.01
    )
    maps = NORMS.get("batch")(nn.Conv2d(3, 4, 1))(torch.randn(1, 3, 5, 5))
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
