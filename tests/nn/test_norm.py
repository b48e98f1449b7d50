"""Normalisation and initialisation against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rlab.nn import make_encoder
from rlab.nn.init import orthogonal
from rlab.nn.layers import ChannelNorm


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_channels_of_each_position_are_normalised(layout: torch.memory_format) -> None:
    maps = torch.randn(3, 5, 4, 2).contiguous(memory_format=layout)
    norm = ChannelNorm(5)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 6.0))
        norm.bias.fill_(0.5)
    out = norm(maps)
    assert out.shape == maps.shape
    for b, y, x in ((0, 0, 0), (2, 3, 1), (1, 2, 0)):
        here = maps[b, :, y, x]
        expected = (here - here.mean()) / torch.sqrt(here.var(correction=0) + 1e-5)
        torch.testing.assert_close(out[b, :, y, x], expected * torch.arange(1.0, 6.0) + 0.5)


def test_a_change_at_one_position_stays_there() -> None:
    """Over whole maps it would move every position."""
    maps, norm = torch.randn(1, 4, 3, 3), ChannelNorm(4)
    moved = maps.clone()
    moved[0, 2, 1, 1] += 10
    same = (norm(maps) == norm(moved)).all(dim=1)[0]
    assert same.sum() == 8
    assert not same[1, 1]


def test_orthogonal_weights_and_zero_biases() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(10, 6, bias=False), nn.LayerNorm(6))
    orthogonal(network, math.sqrt(2))
    for weight in (network[0].weight.flatten(1), network[1].weight):
        torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(len(weight)))
    assert not network[0].bias.any()
    assert network[2].weight.eq(1).all()


@pytest.mark.parametrize(("name", "shape"), [("nature-norm", (4, 84, 84)), ("minatar-norm", (4, 10, 10))])
def test_layout_does_not_change_what_an_encoder_says(name: str, shape: tuple[int, ...]) -> None:
    encoder = make_encoder(name, shape)
    obs = torch.rand(2, *shape)
    torch.testing.assert_close(encoder(obs), encoder(obs.contiguous(memory_format=torch.channels_last)))
