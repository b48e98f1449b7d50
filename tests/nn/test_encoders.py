"""Contract over every registered encoder, and exact sizes of the published ones."""

from __future__ import annotations

import re

import pytest
import torch

from rlab.errors import RlabError
from rlab.nn import ENCODERS, QHead, make_encoder

make_encoder("auto", (3,))  # registers what there is
SHAPES = [(3,), (7, 2), (1, 84, 84), (4, 84, 84), (3, 40, 52)]


@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_encoder_keeps_the_contract(name: str, shape: tuple[int, ...]) -> None:
    try:
        encoder = make_encoder(name, shape)
    except RlabError:
        family = name.split("-")[0]
        with pytest.raises(RlabError, match=f"'{family}'.*not {re.escape(str(list(shape)))}"):
            make_encoder(name, shape)
        return
    x = torch.rand(2, *shape)
    features = encoder(x)
    assert features.shape == (2, encoder.out_dim)
    assert QHead(encoder.out_dim, 5)(features).shape == (2, 5)
    features.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    if hasattr(encoder, "feature_maps"):
        assert encoder.feature_maps(x).ndim == 4


def test_auto_takes_convolutions_for_images_only() -> None:
    names = {shape: type(make_encoder("auto", shape)).__name__ for shape in [(4, 84, 84), (4,), (10, 10, 4)]}
    assert names == {(4, 84, 84): "Nature", (4,): "MLP", (10, 10, 4): "MLP"}


def test_nature_has_the_published_size() -> None:
    """32 (4*64 + 1) + 64 (32*16 + 1) + 64 (64*9 + 1) + 512 (3136 + 1) = 1,684,128."""
    encoder = make_encoder("nature", (4, 84, 84))
    assert sum(p.numel() for p in encoder.parameters()) == 1_684_128
    assert encoder.feature_maps(torch.zeros(1, 4, 84, 84)).shape == (1, 64, 7, 7)


def test_impala_has_the_published_size() -> None:
    """Convolutions of figure 3 by hand, and a layer of 256 on 11 x 11 x 32."""

    def conv(a: int, b: int) -> int:
        return b * (9 * a + 1)

    body = conv(4, 16) + 4 * conv(16, 16) + conv(16, 32) + 4 * conv(32, 32) + conv(32, 32) + 4 * conv(32, 32)
    encoder = make_encoder("impala", (4, 84, 84))
    assert sum(p.numel() for p in encoder.parameters()) == body + 256 * (11 * 11 * 32 + 1)
    assert encoder.feature_maps(torch.zeros(1, 4, 84, 84)).shape == (1, 32, 11, 11)
    assert make_encoder("impala-btr", (4, 84, 84)).out_dim == 64 * 6 * 6


def test_an_unknown_encoder_is_told_the_nearest() -> None:
    with pytest.raises(RlabError, match="unknown encoder 'natur'; nearest: nature"):
        make_encoder("natur", (4, 84, 84))
