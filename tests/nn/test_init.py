"""Initialisations: their variances by formula, what they leave alone, LSUV on a deep net."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rlab.errors import RlabError
from rlab.nn.init import INITS, fill, initialise, lsuv

STDS = {
    "constant": lambda fan_in, fan_out: 0.0,
    "normal": lambda fan_in, fan_out: 0.01,
    "xavier-uniform": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "xavier-normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "he-uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "he-normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "orthogonal": lambda fan_in, fan_out: math.sqrt(1 / max(fan_in, fan_out)),  # of linear layers
}


def test_all_are_looked_at() -> None:
    assert {*STDS, "lsuv"} == set(INITS)


@pytest.mark.parametrize("name", sorted(STDS))
@settings(max_examples=5, deadline=None)
@given(fan_in=st.integers(60, 300), fan_out=st.integers(60, 300), seed=st.integers(0, 2**32 - 1))
def test_weights_have_the_variance_of_the_formula_and_biases_are_0(
    name: str, fan_in: int, fan_out: int, seed: int
) -> None:
    """Item 086."""
    torch.manual_seed(seed)
    layer = nn.Linear(fan_in, fan_out)
    initialise(layer, name)
    expected = STDS[name](fan_in, fan_out)
    # a standard deviation of n numbers is off by 1 / sqrt(2 n) of itself; six of that
    assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=6 / math.sqrt(2 * fan_in * fan_out))
    assert abs(float(layer.weight.detach().mean())) <= 6 * expected / math.sqrt(fan_in * fan_out)
    assert not layer.bias.any()
    if name.endswith("uniform"):
        assert float(layer.weight.detach().abs().max()) <= math.sqrt(3) * expected * (1 + 1e-6)


@pytest.mark.parametrize("name", sorted(STDS))
def test_layers_of_any_layout_are_filled(name: str) -> None:
    rows, last = (nn.Conv2d(4, 6, 3).to(memory_format=how) for how in (torch.contiguous_format, torch.channels_last))  # type: ignore[call-overload]
    for layer in (rows, last):
        torch.manual_seed(0)
        initialise(layer, name)
    assert last.weight.equal(rows.weight)
    assert last.weight.stride() != rows.weight.stride()


def test_convolutions_count_their_kernels() -> None:
    """Fan in 8 * 25 = 200, fan out 64 * 25 = 1600."""
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 64, 5)
    initialise(conv, "he-normal")
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / 200), rel=0.04)
    initialise(conv, "xavier-uniform")
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / 1800), rel=0.04)


def test_what_is_no_linear_layer_and_no_convolution_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.PReLU(), nn.Conv3d(1, 1, 1), nn.Embedding(3, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialise(network, "constant")
    changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert changed == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_weights_under_a_parametrization_take_theirs_too() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(40, 30))
    initialise(layer, "normal")
    assert float(layer.parametrizations.weight.original.detach().std()) == pytest.approx(0.01, rel=0.1)
    fill(layer, nn.init.ones_)
    assert layer.parametrizations.weight.original.eq(1).all()


def deep(depth: int = 20, width: int = 64) -> nn.Sequential:
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())])


def variances(network: nn.Module, x: Tensor) -> list[float]:
    found: list[float] = []
    hooks = [
        m.register_forward_hook(lambda _, __, out: found.append(float(out.var(correction=0))))
        for m in network.modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return found


def test_lsuv_gives_every_one_of_20_layers_the_variance_1_where_others_fade() -> None:
    torch.manual_seed(0)
    network, x = deep(), 5 * torch.rand(128, 64) + 3
    initialise(network, "normal")
    assert variances(network, x)[-1] < 1e-30
    initialise(network, "orthogonal")
    assert not 0.5 < variances(network, x)[-1] < 2
    initialise(network, "lsuv", x)
    found = variances(network, x)
    assert len(found) == 20
    assert found == pytest.approx([1] * 20, abs=0.01)
    assert all(not m.bias.any() for m in network if isinstance(m, nn.Linear))


def test_lsuv_follows_the_order_of_running_not_of_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(72, 5)
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.dense(self.conv(x).relu().flatten(1))

    torch.manual_seed(0)
    network, x = Backwards(), 9 * torch.randn(64, 1, 8, 8)
    lsuv(network, x)
    assert variances(network, x) == pytest.approx([1, 1], abs=0.01)


def test_lsuv_changes_weights_only_and_draws_no_dropout() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 8))
    network[1].eval()
    x = torch.randn(256, 8)
    lsuv(network, x)
    assert network.training
    assert not network[1].training
    assert network[1].num_batches_tracked == 0
    assert variances(network.eval(), x) == pytest.approx([1, 1], abs=0.01)


def test_a_shared_layer_and_one_that_does_not_run() -> None:
    torch.manual_seed(0)
    twice = nn.Linear(6, 6)
    network = nn.Sequential(twice, nn.Tanh(), twice)
    network.spare = nn.Linear(3, 3)
    network.forward = lambda x: twice(twice(x).tanh())  # type: ignore[method-assign]
    lsuv(network, 3 * torch.randn(64, 6))
    assert variances(network, torch.zeros(1, 6))  # it still runs
    weight = network.spare.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(3))


@pytest.mark.parametrize(
    ("network", "name", "batch", "says"),
    [
        (nn.Linear(2, 2), "lsuvv", None, "unknown initialisation 'lsuvv'; nearest: lsuv"),
        (nn.Linear(2, 2), "lsuv", None, "needs a batch"),
        (nn.ReLU(), "he-normal", None, "ReLU has no linear layer"),
        (nn.Sequential(nn.Linear(2, 2)), "lsuv", torch.zeros(4, 2), "layer '0' gives a variance of 0"),
        (nn.Linear(2, 2), "lsuv", torch.full((4, 2), math.nan), "layer 'Linear' gives a variance of nan"),
        (spectral_norm(nn.Linear(2, 2)), "lsuv", 9 * torch.eye(2), "rescaling its weights does not make it 1"),
    ],
)
def test_bad_input_is_one_sentence(network: nn.Module, name: str, batch: Tensor | None, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        initialise(network, name, batch)
