"""Equations of VAEs by hand: how they reduce, what importance weights come to, and what stays finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from rlab.nn.autoencoders import make_vae
from rlab.nn.variational import (
    bernoulli_log_likelihood,
    effective_sample_size,
    gaussian_kl,
    log_mean_exp,
    log_normal,
)


def test_parts_of_the_bound_are_sums_over_numbers() -> None:
    """A mean over 20 numbers would give 0.5, and one over pixels 0.69."""
    kl = gaussian_kl(torch.ones(3, 20), torch.zeros(3, 20))
    assert kl.tolist() == [10, 10, 10]
    nats = bernoulli_log_likelihood(torch.zeros(3, 1, 28, 28), torch.rand(3, 1, 28, 28))
    assert (-nats).tolist() == pytest.approx([784 * math.log(2)] * 3)
    assert -nats[0].item() == pytest.approx(543.43, abs=5e-3)
    assert bernoulli_log_likelihood(torch.zeros(5, 3, 1, 2, 2), torch.rand(3, 1, 2, 2)).shape == (5, 3)


def test_divergence_and_density_as_torch_has_them() -> None:
    mean, spread = torch.randn(4, 6), torch.randn(4, 6)
    q, p = Normal(mean, (0.5 * spread).exp()), Normal(0.0, 1.0)
    z = torch.randn(2, 4, 6)
    assert torch.allclose(gaussian_kl(mean, spread), kl_divergence(q, p).sum(-1), atol=1e-5)
    assert torch.allclose(log_normal(z, mean, spread), q.log_prob(z).sum(-1), atol=1e-4)
    assert torch.allclose(log_normal(z), p.log_prob(z).sum(-1), atol=1e-5)


def test_drawn_divergence_agrees_with_the_exact_one() -> None:
    torch.manual_seed(0)
    mean, spread = torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])
    z = mean + (0.5 * spread).exp() * torch.randn(200_000, 1, 2)
    drawn = (log_normal(z, mean, spread) - log_normal(z)).mean()
    assert drawn.item() == pytest.approx(gaussian_kl(mean, spread).item(), abs=0.02)


@pytest.mark.parametrize(
    ("weights", "says"),
    [([0.0, math.log(3)], math.log(2)), ([-90.0] * 5_000, -90.0), ([-2_000.0, -2_000.0], -2_000.0), ([7.0], 7.0)],
    ids=["mean of weights, not of logarithms", "minus log k", "no underflow", "one sample"],
)
def test_mean_of_importance_weights(weights: list[float], says: float) -> None:
    assert log_mean_exp(torch.tensor(weights, dtype=torch.float64)).item() == pytest.approx(says, abs=1e-9)


def test_effective_sample_size() -> None:
    found = effective_sample_size(torch.tensor([[-900.0, 0.0], [-900.0, -1_000.0], [-900.0, math.log(1 / 3)]]).double())
    assert found.tolist() == pytest.approx([3, (4 / 3) ** 2 / (1 + 1 / 9)])


def test_conditional_model_uses_the_class() -> None:
    model = make_vae("mlp-8", (1, 3, 5), 2, classes=3)
    x, y = torch.rand(4, 1, 3, 5), torch.tensor([0, 1, 2, 0])
    mean, spread = model.encode(x, y)
    logits = model.decode(torch.zeros(7, 4, 2), y)
    assert mean.shape == spread.shape == (4, 2)
    assert logits.shape == (7, 4, 1, 3, 5)
    assert torch.equal(logits[0, 0], logits[6, 3])
    assert not torch.equal(logits[0, 0], logits[0, 1])
    assert not torch.equal(model.encode(x, y)[0], model.encode(x, y.flip(0))[0])
