"""Layers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlab.nn import ImplicitQHead, NoisyLinear
from rlab.nn.layers import SpectralConv2d


def test_noisy_linear_by_hand() -> None:
    layer = NoisyLinear(2, 1, sigma=0.5)
    assert layer.weight_sigma.tolist()[0] == pytest.approx([0.5 / 2**0.5] * 2)
    assert layer.weight.abs().max() <= 2**-0.5
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.bias.fill_(3.0)
        layer.weight_sigma.copy_(torch.tensor([[0.1, 0.2]]))
        layer.bias_sigma.fill_(0.5)
        layer.e_in.copy_(torch.tensor([2.0, -1.0]))
        layer.e_out.fill_(3.0)
        x = torch.tensor([[10.0, 20.0]])
        # weights 1 + .1 * 6 = 1.6 and 2 - .2 * 3 = 1.4, bias 3 + .5 * 3 = 4.5
        assert layer(x).item() == pytest.approx(16 + 28 + 4.5)
        layer.noise = False
        assert layer(x).item() == pytest.approx(10 + 40 + 3)


def test_noise_is_factorised_and_comes_from_its_generator() -> None:
    layer = NoisyLinear(3, 2)
    layer.resample(torch.Generator().manual_seed(1))
    drawn = torch.randn(5, generator=torch.Generator().manual_seed(1))
    shaped = drawn.sign() * drawn.abs().sqrt()
    assert torch.cat([layer.e_in, layer.e_out]).equal(shaped)
    assert not [name for name in layer.state_dict() if name.startswith("e_")]


def test_an_implicit_head_by_hand() -> None:
    """One feature of 4, cosines 1 and cos(pi tau), weights 1 and 1, bias 0: phi(1/3) = 1.5, phi(1) = 0."""
    head = ImplicitQHead(1, 2, cosines=2)
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()
        head.embedding[0].weight.fill_(1)
        head.head.values.weight.copy_(torch.tensor([[1.0], [10.0]]))
        out = head(torch.tensor([[4.0]]), torch.tensor([[1 / 3, 1.0]]))
    assert out.shape == (1, 2, 2)
    torch.testing.assert_close(out, torch.tensor([[[6.0, 0.0], [60.0, 0.0]]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dueling", [False, True])
def test_shapes_of_an_implicit_head(dueling: bool) -> None:
    assert ImplicitQHead(6, 3, 8, dueling, 5, NoisyLinear)(torch.rand(2, 6), torch.rand(2, 4)).shape == (2, 3, 4)


def test_spectral_norm_equals_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    conv = SpectralConv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        conv.weight.mul_(7)
    for _ in range(200):
        conv.iterate()
    sigma = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
    x = torch.rand(2, 3, 5, 6)
    expected = nn.functional.conv2d(x, conv.weight / sigma, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-4)
    before = conv.u.clone()
    conv(x).sum().backward()
    assert conv.u.equal(before)
    assert conv.weight.grad is not None
    # along the weights themselves nothing changes: their size is divided out
    assert abs(float((conv.weight.grad * conv.weight.detach()).sum())) < 1e-3
    assert "u" in conv.state_dict()
