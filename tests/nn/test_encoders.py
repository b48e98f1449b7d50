"""Contract over every registered encoder, and exact sizes of the published ones."""

from __future__ import annotations

import re

import pytest
import torch

from rlab.errors import RlabError
from rlab.nn import ENCODERS, QHead, make_encoder
from rlab.nn.heads import CategoricalHead, GaussianHead, ValueHead
from rlab.nn.models import PUBLISHED

make_encoder("auto", (3,))  # registers what there is
LARGE = [name for name in ENCODERS if name.removesuffix("-gn") in PUBLISHED or name == "neocognitron"]
LARGE += [name for name in ENCODERS if name.startswith("go-resnet") and not name.endswith("2x32")]
"""They have tests of their own, or are the same code with more of it."""

SHAPES = [(3,), (7, 2), (4, 10, 10), (6, 3, 2), (1, 84, 84), (4, 84, 84), (3, 40, 52)]


@pytest.mark.parametrize("name", sorted({*ENCODERS} - {*LARGE}))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_encoder_keeps_the_contract(name: str, shape: tuple[int, ...]) -> None:
    recurrent = name == "lstm"
    try:
        encoder = make_encoder(name, shape, recurrent)
    except RlabError:
        family = name.split("-")[0]
        with pytest.raises(RlabError, match=f"'{family}[^']*'.*not {re.escape(str(list(shape)))}"):
            make_encoder(name, shape)
        return
    x = torch.rand(2, *shape, requires_grad=True)  # one has no parameters
    if recurrent:
        first, state = torch.zeros(1, 2, dtype=torch.bool), torch.zeros(2, encoder.state_dim)
        (features,), state = encoder(x[None], state, first)
        assert state.shape == (2, encoder.state_dim)
    else:
        features = encoder(x)
    assert features.shape == (2, encoder.out_dim)
    assert QHead(encoder.out_dim, 5)(features).shape == (2, 5)
    assert CategoricalHead(encoder.out_dim, 5)(features).log_p.exp().sum(1).tolist() == pytest.approx([1, 1])
    assert GaussianHead(encoder.out_dim, 3)(features).mean.shape == (2, 3)
    assert ValueHead(encoder.out_dim)(features).shape == (2,)
    features.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    if hasattr(encoder, "feature_maps"):
        assert encoder.feature_maps(x).ndim == 4


def test_auto_takes_convolutions_for_images_only() -> None:
    expected = {
        (4, 84, 84): "Nature",
        (4, 36, 36): "Nature",
        (4, 35, 40): "MinAtarNet",
        (4, 10, 10): "MinAtarNet",
        (4,): "MLP",
        (10, 10, 4): "MinAtarNet",  # a board with its channels last
        (10, 4, 4): "MLP",
    }
    assert {shape: type(make_encoder("auto", shape)).__name__ for shape in expected} == expected


def test_minatar_has_the_published_size() -> None:
    """16 (4*9 + 1) + 128 (16*8*8 + 1) = 131,792."""
    encoder = make_encoder("minatar", (4, 10, 10))
    assert sum(p.numel() for p in encoder.parameters()) == 131_792
    assert encoder.feature_maps(torch.zeros(1, 4, 10, 10)).shape == (1, 16, 8, 8)


@pytest.mark.parametrize("bf16", [False, True])
def test_minatar_norm_by_hand(bf16: bool) -> None:
    """Convolution, LayerNorm over channels, ReLU, layer of 128, LayerNorm, ReLU: also in bfloat16, and its gradient."""
    torch.manual_seed(0)
    encoder = make_encoder("minatar-norm", (4, 10, 10))
    convolution, norm = encoder.convolution[0], encoder.convolution[1]
    dense, dense_norm = encoder.dense[0], encoder.dense[1]
    obs = (torch.rand(8, 4, 10, 10) < 0.2).float()
    rows = convolution(obs).permute(0, 2, 3, 1)
    rows = torch.relu((rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-5).sqrt())
    hidden = dense(rows.reshape(8, 8 * 8 * 16))
    spread = (hidden.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = torch.relu((hidden - hidden.mean(-1, keepdim=True)) / spread)
    (gradient,) = torch.autograd.grad(expected.square().sum(), convolution.weight, retain_graph=True)
    assert norm.weight.eq(1).all()
    assert dense_norm.weight.eq(1).all()

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = encoder(obs)
    tolerance = 0.1 if bf16 else 1e-5
    torch.testing.assert_close(features.float(), expected, atol=tolerance, rtol=tolerance)
    (found,) = torch.autograd.grad(features.float().square().sum(), convolution.weight)
    assert (found - gradient).norm() <= tolerance * max(gradient.norm(), 1e-2)


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


def test_resnet_has_the_blocks_of_the_paper() -> None:
    """Stages of 16, 32 and 64 channels by hand, without biases, GroupNorm's two numbers a channel, a layer of 256."""

    def conv(a: int, b: int, k: int = 9) -> int:
        return a * b * k

    body = conv(3, 16) + 4 * conv(16, 16) + conv(16, 32) + 3 * conv(32, 32) + conv(32, 64) + 3 * conv(64, 64)
    shortcuts = conv(16, 32, 1) + conv(32, 64, 1)
    norms = 2 * (5 * 16 + 4 * 32 + 4 * 64)
    encoder = make_encoder("resnet", (3, 32, 32))
    assert encoder.feature_maps(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 8, 8)
    assert sum(p.numel() for p in encoder.parameters()) == body + shortcuts + norms + 256 * (64 * 64 + 1)
    assert make_encoder("resnet", (4, 84, 84)).feature_maps(torch.zeros(1, 4, 84, 84)).shape == (1, 64, 6, 6)


def test_an_unknown_encoder_is_told_the_nearest() -> None:
    with pytest.raises(RlabError, match="unknown encoder 'natur'; nearest: nature"):
        make_encoder("natur", (4, 84, 84))
