"""Normalisation and initialisation against their definitions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.init import orthogonal
from rlab.nn.layers import NORMS, ChannelNorm, ChannelNormReLU


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


def exactly(norm: ChannelNormReLU, maps: Tensor, d_out: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients (maps, weight, bias) of relu(norm(maps)) in float64."""
    double = ChannelNorm(norm.normalized_shape[0]).double()
    double.load_state_dict({name: value.double() for name, value in norm.state_dict().items()})
    x = maps.double().requires_grad_()
    out = F.relu(double(x))
    return out, *torch.autograd.grad(out, (x, double.weight, double.bias), d_out.double())


@pytest.mark.parametrize("channels", [3, 5, 32, 64])
def test_norm_and_relu_are_exact_up_to_rounding(channels: int) -> None:
    """The gradients of weight and bias are sums over positions: in bfloat16 they would be 5 to 30 % off."""
    torch.manual_seed(channels)
    norm = ChannelNormReLU(channels)
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.normal_()
    maps = (3 * torch.randn(16, channels, 9, 7) + 1).bfloat16().contiguous(memory_format=torch.channels_last)
    d_out = torch.randn_like(maps)
    x = maps.clone().requires_grad_()
    out = norm(x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    found = out, *torch.autograd.grad(out, (x, norm.weight, norm.bias), d_out)
    exact = exactly(norm, maps, d_out)
    for quantity, mine, true in zip(("out", "maps", "weight", "bias"), found, exact, strict=True):
        tolerance = 2**-8 if quantity in ("out", "maps") else 1e-4
        torch.testing.assert_close(
            mine.double(), true, rtol=tolerance, atol=tolerance * float(true.detach().abs().max())
        )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_and_relu_are_the_same_in_every_layout_and_precision(
    precision: torch.dtype, layout: torch.memory_format
) -> None:
    maps = torch.randn(2, 6, 5, 4)
    norm = ChannelNormReLU(6)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        out = norm(maps.to(precision).contiguous(memory_format=layout))
    torch.testing.assert_close(out.float(), F.relu(ChannelNorm(6)(maps)), rtol=0.02, atol=0.02)


def test_what_is_not_a_number_is_not_rectified_away() -> None:
    maps = torch.randn(1, 4, 2, 2).bfloat16().contiguous(memory_format=torch.channels_last)
    maps[0, 2, 1, 0] = float("nan")
    out = ChannelNormReLU(4)(maps)
    assert out[0, :, 1, 0].isnan().all()
    assert out.isnan().sum() == 4


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


def by_name(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """What the norm of a name makes of a layer that passes x on."""
    with torch.no_grad():
        torch.nn.init.dirac_(layer.weight) if layer.weight.dim() > 2 else torch.nn.init.eye_(layer.weight)
        layer.bias.zero_()
        return NORMS.get(name)(layer)(x)


@pytest.mark.parametrize(
    ("name", "over", "shape"),
    [("batch", (0, 2, 3), (3, 8, 4, 5)), ("layer", (1, 2, 3), (3, 8, 4, 5)), ("instance", (2, 3), (3, 8, 4, 5))],
)
def test_norms_of_maps_by_name_are_over_what_they_say(name: str, over: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = 3 * torch.randn(shape) + 2
    expected = (x - x.mean(over, keepdim=True)) / torch.sqrt(x.var(over, keepdim=True, correction=0) + 1e-5)
    torch.testing.assert_close(by_name(name, nn.Conv2d(8, 8, 1), x), expected, rtol=1e-4, atol=1e-5)


def test_norms_of_features_by_hand() -> None:
    """Items 087, 089: of [[0, 2], [4, 2]]: batch over columns, layer over rows; variances 4 and 0, 1 and 1."""
    x = torch.tensor([[0.0, 2.0], [4.0, 2.0]])
    batch = by_name("batch", nn.Linear(2, 2), x)
    assert batch.flatten().tolist() == pytest.approx([-1, 0, 1, 0], abs=1e-4)
    layer = by_name("layer", nn.Linear(2, 2), x)
    assert layer.flatten().tolist() == pytest.approx([-1, 1, 1, -1], abs=1e-4)


def test_groups_lie_between_layer_and_instance() -> None:
    """Item 090: two groups of four of eight channels; a group of all is layer norm, groups of one are instance norm."""
    x = torch.randn(3, 8, 4, 5)
    grouped = x.unflatten(1, (2, 4))
    expected = (grouped - grouped.mean((2, 3, 4), keepdim=True)) / torch.sqrt(
        grouped.var((2, 3, 4), keepdim=True, correction=0) + 1e-5
    )
    torch.testing.assert_close(by_name("group", nn.Conv2d(8, 8, 1), x), expected.flatten(1, 2), rtol=1e-4, atol=1e-5)
    counts = {c: NORMS.get("group")(nn.Conv2d(1, c, 1))[1].num_groups for c in (1, 6, 16, 64, 128, 512)}
    assert counts == {1: 1, 6: 1, 16: 4, 64: 16, 128: 32, 512: 32}


def test_batch_norm_evaluates_with_running_moments_and_layer_norm_takes_one_example() -> None:
    """Items 087, 089: momentum 0.1: after a batch of mean 5 and variance 2 (unbiased) they are 0.5 and 0.9 + 0.2."""
    linear = nn.Linear(1, 1)
    with torch.no_grad():
        linear.weight.fill_(1)
        linear.bias.zero_()
    network = NORMS.get("batch")(linear)
    network(torch.tensor([[4.0], [6.0]]))
    out = network.eval()(torch.tensor([[0.5], [0.5 + math.sqrt(1.1)]]))
    assert out.flatten().tolist() == pytest.approx([0, 1], abs=1e-4)
    assert NORMS.get("layer")(nn.Conv2d(2, 4, 1))(torch.randn(1, 2, 1, 1)).isfinite().all()


def test_spectral_norm_by_name_divides_by_the_largest_singular_value() -> None:
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, -4.0], [2.0, 0.0]]))
    network = NORMS.get("spectral")(linear)
    for _ in range(30):
        network(torch.ones(1, 2))
    torch.testing.assert_close(network.weight, torch.tensor([[0.0, -1.0], [0.5, 0.0]]))


@pytest.mark.parametrize(
    ("name", "layer", "says"),
    [
        ("instence", nn.Linear(1, 1), "unknown norm 'instence'; nearest: instance"),
        ("instance", nn.Linear(1, 1), "a linear layer has not; nearest: layer"),
        ("batch", nn.ReLU(), "on a linear layer or a convolution, not on ReLU"),
    ],
)
def test_a_norm_that_cannot_be(name: str, layer: nn.Module, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        NORMS.get(name)(layer)


@pytest.mark.parametrize("name", sorted(NORMS))
@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 8), nn.Conv1d(3, 8, 2), nn.Conv2d(3, 8, 2), nn.Conv3d(3, 8, 2)], ids=str
)
def test_every_norm_goes_on_every_layer(name: str, layer: nn.Module) -> None:
    if name == "instance" and isinstance(layer, nn.Linear):
        return
    out = NORMS.get(name)(copy.deepcopy(layer))(torch.randn(4, 3, *[3] * (layer.weight.dim() - 2)))
    assert out.shape == (4, 8, *[2] * (layer.weight.dim() - 2))
