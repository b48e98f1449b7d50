"""Encoders with another activation, norm or initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.encoders import ENCODERS, load_all
from rlab.nn.init import INITS
from rlab.nn.layers import ACTIVATIONS, NORMS, ChannelNormReLU
from rlab.nn.models import classifier

load_all()
SHAPE = (4, 36, 36)
OTHERS = sorted(set(ENCODERS) - {"flat", "lenet5-1998", "neocognitron", "lstm"})
CHEAP = ["lenet5", "mlp-norm", "nature-norm", "minatar", "resnet", "resnet20", "impala", "mobilenet-v2", "impala-btr"]


def kinds(module: nn.Module) -> set[type]:
    return {type(part) for part in module.modules()}


def test_a_name_is_of_one_kind() -> None:
    names = [*ACTIVATIONS, *NORMS, *INITS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", CHEAP)
def test_every_activation_goes_into_an_encoder(name: str) -> None:
    x = torch.rand(2, *SHAPE)
    for activation in ACTIVATIONS:
        encoder = make_encoder(f"{name}+{activation}", SHAPE)
        assert type(ACTIVATIONS.get(activation)()) in kinds(encoder)
        assert not kinds(encoder) & {nn.ReLU6, ChannelNormReLU}
        assert (nn.ReLU in kinds(encoder)) == (activation == "relu")
        assert encoder(x).isfinite().all()


@pytest.mark.parametrize("name", [n for n in OTHERS if n.startswith(("dense", "google", "resnet5", "vgg11", "alex"))])
def test_large_encoders_have_nothing_that_stays(name: str) -> None:
    with torch.device("meta"):
        encoder = make_encoder(f"{name}+silu+none", (1, 28, 28))
        encoder(torch.empty(2, 1, 28, 28, device="meta"))
    assert nn.SiLU in kinds(encoder)
    assert not kinds(encoder) & {nn.ReLU, nn.BatchNorm2d}


@pytest.mark.parametrize("name", CHEAP)
def test_every_norm_goes_into_an_encoder(name: str) -> None:
    x = torch.rand(2, *SHAPE)
    for norm in NORMS:
        encoder = make_encoder(f"{name}+{norm}", SHAPE)
        batch = {type(part) for part in encoder.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))}
        assert bool(batch) == (norm == "batch")
        assert ChannelNormReLU not in kinds(encoder)
        biased = [layer.bias is not None for layer in encoder.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
        assert all(biased) or norm not in ("none", "spectral")
        encoder.eval()
        if norm not in ("batch", "instance"):
            assert encoder(x).std() > 0
        assert encoder(x).isfinite().all()


def test_norms_by_hand() -> None:
    encoder = make_encoder("lenet5+group+silu", (1, 28, 28))
    layers = [type(part).__name__ for part in encoder.modules() if not list(part.children())]
    convolution = ["Conv2d", "GroupNorm", "MaxPool2d", "SiLU"]
    assert layers == [
        *convolution,
        *convolution,
        "Flatten",
        "Linear",
        "GroupNorm",
        "SiLU",
        "Linear",
        "GroupNorm",
        "SiLU",
    ]
    without = make_encoder("resnet20+none", (3, 32, 32))
    assert sum(p.numel() for p in without.parameters()) == 269_722 - 650 - (2 * 688 - 688)  # a bias for scale and shift


def test_instance_is_left_out_where_there_are_no_positions() -> None:
    encoder = make_encoder("nature+instance", (4, 36, 36))
    assert sum(isinstance(part, nn.GroupNorm) for part in encoder.modules()) == 3


def test_an_initialisation_fills_the_encoder() -> None:
    constant = make_encoder("lenet5+constant", (1, 28, 28))
    assert not any(p.any() for p in constant.parameters())
    batch = torch.rand(64, 1, 28, 28)
    model = classifier("lenet5+lsuv", (1, 28, 28), 10, batch=batch)
    first = model.encoder.convolutions[0](batch)
    assert first.var(correction=0).item() == pytest.approx(1, abs=0.011)


def test_a_recurrent_encoder_has_parts_below() -> None:
    for name in ("lstm+tanh", "mlp+tanh", "auto+tanh"):
        encoder = make_encoder(name, (4,), recurrent=True)
        assert nn.Tanh in kinds(encoder.below)
        assert nn.ReLU not in kinds(encoder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lenet5+sillu", "there is no activation, norm or initialisation 'sillu'; nearest: silu"),
        ("lenet5+relu+silu", "asks for two of one kind: activation 'relu' and 'silu'"),
        ("lenet+silu", "unknown encoder 'lenet'; nearest: lenet5"),
        ("flat+batch", "encoder 'flat' has no layer that a norm could follow; nearest: flat"),
        ("flat+relu", "encoder 'flat' has no activation that could be exchanged"),
        ("lenet5+lsuv", "'lsuv' needs a batch of real inputs; nearest without: orthogonal"),
        ("lenet5+", "there is no activation, norm or initialisation ''"),
    ],
)
def test_wrong_names(name: str, said: str) -> None:
    with pytest.raises(RlabError, match=said.replace("+", r"\+")):
        make_encoder(name, (1, 28, 28))
