"""Every encoder has a decoder that gives its inputs' shape back, and autoencoders of both."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rlab.errors import RlabError
from rlab.nn import ENCODERS, make_encoder
from rlab.nn.autoencoders import TiedLinear, keep_largest, make_autoencoder, make_vae
from rlab.nn.decoders import decoder_of, make_decoder
from rlab.nn.layers.quantiser import VectorQuantiser
from rlab.nn.optim import make_optimiser

make_encoder("auto", (3,))  # registers what there is
SHAPES = [(3,), (7, 2), (1, 8, 8), (1, 1, 9), (3, 13, 7), (4, 36, 41), (10, 9, 2), (2, 10, 9, 2), (1, 28, 28)]
"""Vectors, odd and oblong images, channels last, and a stack of such."""


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder_has_a_decoder(name: str) -> None:
    for shape in SHAPES:
        decoder = make_decoder(name, shape, 5)
        made = decoder(torch.randn(3, 5))
        assert made.shape == (3, *shape), (name, shape)
        made.sum().backward()
        assert all(p.grad is not None for p in decoder.parameters())


def test_decoder_is_the_mirror_image() -> None:
    def widths(module: nn.Module) -> list[tuple[int, int]]:
        return [(part.in_features, part.out_features) for part in module.modules() if isinstance(part, nn.Linear)]

    assert widths(make_decoder("mlp-50-20+tanh", (1, 4, 4), 3)) == [(3, 20), (20, 50), (50, 16)]
    assert widths(make_decoder("mlp-50-20", (1, 4, 4), 20, layer=False)) == [(20, 50), (50, 16)]
    assert widths(make_decoder("flat", (4,), 3)) == [(3, 4)]
    assert any(isinstance(part, nn.Tanh) for part in make_decoder("mlp-50-20+tanh", (4,), 3).modules())
    assert [decoder_of(*case) for case in (("lenet5+silu", (1, 28, 28)), ("nature", (4,)), ("mlp-9", (1, 8, 8)))] == [
        "upsampling", "mlp", "mlp"
    ]  # fmt: skip


def test_widths_in_an_encoders_name() -> None:
    assert make_encoder("mlp-30-12", (2, 3)).out_dim == 12
    assert "mlp-30" in ENCODERS
    for name in ("mlp-0", "mlp-", "mlp-3x4", "mlp-7-"):
        with pytest.raises(RlabError, match=f"unknown encoder '{name}'"):
            make_encoder(name, (2, 3))


def test_tied_weights_are_there_once() -> None:
    """Stepped twice, the shared weight would move by twice the rate."""
    model = make_autoencoder("mlp-6+sigmoid", (1, 3, 4), 2, tied=True)
    plain = make_autoencoder("mlp-6+sigmoid", (1, 3, 4), 2)
    assert sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in model.parameters()) == 2 * 6 + 6 * 12
    first = model.encoder.layers[1].weight
    back = [part for part in model.modules() if isinstance(part, TiedLinear)]
    assert torch.equal(back[-1](torch.eye(6)) - back[-1].bias, first)
    optimiser = make_optimiser("sgd", model.parameters(), lr=0.1)
    (
        first.sum() + (back[-1](torch.ones(1, 6))).sum()
    ).backward()  # each weight once on the way in, once on the way back
    before = first.detach().clone()
    optimiser.step()
    assert torch.allclose(before - first.detach(), torch.full_like(first, 0.2))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.encoder.layers[1].weight.zero_()
    x = torch.rand(2, 1, 3, 4)
    assert not torch.equal(other(x), model(x))
    assert torch.equal(other.decode(torch.ones(1, 2)), other.decode(torch.ones(1, 2)))


def test_largest_numbers_stay() -> None:
    code = torch.tensor([[3.0, -9.0, 1.0, 2.0], [0.5, 0.1, 0.2, 0.4]])
    assert keep_largest(code, 2).tolist() == [[3, 0, 0, 2], [0.5, 0, 0, pytest.approx(0.4)]]
    assert torch.equal(keep_largest(code, 4), code)


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_codebook_takes_the_nearest_and_lets_gradients_through(rate: float) -> None:
    quantiser = VectorQuantiser(3, 4, slots=2, rate=rate, commitment=0.25)
    with torch.no_grad():
        quantiser.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]))
    code = torch.tensor([[0.9, 1.2, -0.1, 0.2]], requires_grad=True)
    codes, entries, loss = quantiser.eval()(code)
    assert entries.tolist() == [[1, 0]]
    assert codes.tolist() == [pytest.approx([1, 1, 0, 0])]
    lost = 0.1**2 + 0.2**2 + 0.1**2 + 0.2**2
    assert loss.item() == pytest.approx((0.25 if rate else 1.25) * lost, rel=1e-5)
    codes.sum().backward()
    assert code.grad is not None
    assert code.grad.tolist() == [[1, 1, 1, 1]]
    assert isinstance(quantiser.codebook, nn.Parameter) == (rate == 0)


def test_codebook_follows_what_chooses_it() -> None:
    torch.manual_seed(0)
    quantiser = VectorQuantiser(2, 2, rate=0.5).train()
    data = torch.randn(200, 2) * 0.01 + torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(100, 1)
    for _ in range(20):
        quantiser(data)
    centres = quantiser.codebook[quantiser.codebook[:, 0].argsort()]
    assert torch.allclose(centres, torch.tensor([[0.0, 4.0], [4.0, 0.0]]), atol=0.05)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: make_autoencoder("flat", (4,), 0), "'flat' gives inputs as they are.*--code 32"),
        (lambda: make_autoencoder("mlp-9", (4,), 0, squash=True), r"'mlp-9' has none; nearest: --encoder mlp-9\+sig"),
        (lambda: make_autoencoder("mlp-9", (4,), 3, active=4), "code of 3 numbers 4 cannot stay active; nearest: 3"),
        (
            lambda: make_autoencoder("lenet5", (1, 28, 28), 3, tied=True),
            "LeNet and Upsampling .*nearest: --encoder mlp",
        ),
        (lambda: make_autoencoder("mlp-9-8", (4,), 3, decoder="linear", tied=True), "3 layers and the decoder 1"),
        (lambda: make_autoencoder("mlp-9", (4,), 3, decoder="mpl"), "unknown decoder 'mpl'; nearest.*mlp"),
        (lambda: make_autoencoder("mlp-9", (4,), 3, decoder="upsampling"), r"not \[4\]; nearest: mlp"),
        (lambda: make_vae("mlp", (4,), 0), "a code has 0 numbers"),
        (lambda: VectorQuantiser(4, 10, slots=4), "code of 10 numbers cannot be cut into 4 .*nearest: 2"),
        (lambda: VectorQuantiser(1, 10), "codebook of 1"),
    ],
)
def test_impossible_autoencoder_is_refused(make: object, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        make()  # type: ignore[operator]
