"""Dropout in its kinds, DropConnect, noise: what they draw, what they keep, and exactness."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn import NoisyLinear
from rlab.nn.layers import (
    DropConnectLinear,
    GaussianNoise,
    VariationalDropout,
    drawing_from,
    dropout_mask,
    noisy_weights,
)
from rlab.nn.losses import squared_error
from rlab.nn.penalties import l2, weights_of


def random_network() -> nn.Module:
    return nn.Sequential(
        GaussianNoise(0.1), DropConnectLinear(6, 6, 0.3), nn.RReLU(), nn.Dropout(0.2), VariationalDropout(0.4)
    )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("layer", [nn.Dropout(0.2), VariationalDropout(0.2), nn.Dropout2d(0.2)], ids=str)
def test_kept_units_are_scaled_up(layer: nn.Module) -> None:
    """items 129, 130, 135: a text has the drop rate in its place: with p = 0.2 kept would become 5, not 1.25."""
    x = torch.ones(2, 300, 40, 1) if isinstance(layer, nn.Dropout2d) else torch.ones(2, 300, 40)
    out = layer(x)
    assert out.unique().tolist() == [0, 1.25]
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float(out.mean()) == pytest.approx(1, abs=0.04)
    assert not layer(x).equal(out), "a new mask for every batch, not one for an epoch"
    assert layer.eval()(x).equal(x)


def test_spatial_dropout_drops_whole_maps() -> None:
    """item 134"""
    out = nn.Dropout2d(0.5)(torch.ones(64, 8, 3, 3))
    assert (out.amax((2, 3)) == out.amin((2, 3))).all()
    assert not (out[:, :, 0, 0] == out[:1, :, 0, 0]).all()


def test_variational_mask_stays_over_time() -> None:
    """item 136"""
    layer = VariationalDropout(0.5)
    out = layer(torch.ones(7, 5, 30))
    assert (out == out[0]).all()
    assert not (out[:, 0] == out[:, 1]).all(), "sequences have masks of their own"
    assert layer(torch.ones(0, 5, 30)).shape == (0, 5, 30)


def test_gradients_pass_where_the_mask_does() -> None:
    x = torch.ones(3, 2, 8, requires_grad=True)
    out = VariationalDropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.equal(out.detach())


def test_a_mask_has_the_mean_1() -> None:
    mask = dropout_mask(torch.zeros(200_000), 0.3)
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float(mask.mean()) == pytest.approx(1, abs=4 * math.sqrt(0.3 / 0.7 / 200_000))


def test_dropconnect_in_training_and_evaluation() -> None:
    """Item 125."""
    layer = DropConnectLinear(4, 3, p=0.5)
    layer.weight.data.fill_(1.0)
    layer.bias.data.fill_(10.0)
    kept = (layer(torch.eye(4)) - 10).detach()  # [input, output]: the masked weights
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert not layer(torch.eye(4)).equal(kept + 10), "a new mask for every batch"
    assert layer.eval()(torch.ones(1, 4)).tolist() == [[14, 14, 14]]
    x = torch.ones(2, 4)
    layer.train()(x).sum().backward()
    assert layer.weight.grad is not None
    assert set(layer.weight.grad.unique().tolist()) <= {0.0, 4.0}, "dropped weights get no gradient"


def test_dropconnect_moments_match_samples() -> None:
    """Item 125."""
    layer = DropConnectLinear(2, 1, p=0.2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0]]))
        layer.bias.fill_(0.5)
        x = torch.tensor([[2.0, 4.0]])
        mean, variance = layer.moments(x)
        # mean 6 - 4 + 0.5; variance 0.2 / 0.8 (36 + 16) = 13
        assert mean.item() == pytest.approx(2.5)
        assert variance.item() == pytest.approx(13)
        drawn = torch.cat([layer(x) for _ in range(4_000)])
    assert float(drawn.mean()) == pytest.approx(2.5, abs=4 * math.sqrt(13 / 4_000))
    assert float(drawn.std()) == pytest.approx(math.sqrt(13), rel=0.05)


def test_gaussian_noise_is_for_training() -> None:
    layer, x = GaussianNoise(0.5), torch.full((100_000,), 3.0)
    out = layer(x)
    assert float(out.mean()) == pytest.approx(3, abs=4 * 0.5 / math.sqrt(100_000))
    assert float(out.std()) == pytest.approx(0.5, rel=0.02)
    assert layer.eval()(x).equal(x)


def test_input_noise_equals_l2_penalty() -> None:
    """Item 122. Weights 3 and -1, noise of 0.5: 1/2 (3 n + -1 m)^2 has the mean 0.25 (9 + 1) / 2 = 1.25."""
    layer, x = nn.Linear(2, 1), torch.rand(40, 2)
    layer.weight.data = torch.tensor([[3.0, -1.0]])
    many = x.repeat(2000, 1)
    with torch.no_grad():
        noisy = squared_error(layer(GaussianNoise(0.5)(many)), torch.ones(len(many), 1))
        clean = squared_error(layer(x), torch.ones(len(x), 1))
        penalty = 0.5**2 * l2(weights_of(layer))
    assert penalty.item() == 1.25
    assert float(noisy - clean) == pytest.approx(1.25, abs=0.06)  # four standard errors


@pytest.mark.parametrize("layer", [VariationalDropout(0), DropConnectLinear(3, 3, 0), GaussianNoise(0)], ids=str)
def test_without_noise_nothing_is_drawn(layer: nn.Module) -> None:
    x, before = torch.rand(2, 3, 3), torch.get_rng_state()
    assert layer(x).equal(layer.eval()(x))
    assert torch.get_rng_state().equal(before)


def test_weight_noise_is_removed_exactly() -> None:
    """Item 124."""
    network = nn.Sequential(nn.Linear(30, 40), nn.LayerNorm((2, 40)), nn.PReLU(), NoisyLinear(40, 5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with noisy_weights(network, 0.1):
        moved = {n: v - before[n] for n, v in network.state_dict().items() if not v.equal(before[n])}
        network(torch.randn(3, 2, 30)).sum().backward()
    assert set(moved) == {"0.weight", "3.weight"}
    assert float(moved["0.weight"].std()) == pytest.approx(0.1, rel=0.1)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert network[0].weight.grad is not None


def test_gradients_at_noisy_weights() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with noisy_weights(layer, 1.0):
        at = layer.weight.item()
        layer(torch.ones(1, 1)).square().sum().backward()
    assert layer.weight.grad.item() == pytest.approx(2 * at)
    assert at != layer.weight.item()


def test_weights_return_after_an_error() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), noisy_weights(layer, 0.1):
        raise ZeroDivisionError
    assert layer.weight.equal(before)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    with pytest.raises(RlabError, match="step the optimiser after it"), noisy_weights(layer, 0.1):
        adam.step()
    assert layer.weight.equal(before)


def test_drawing_from_seeds_every_layer() -> None:
    network, x = random_network(), torch.randn(4, 3, 6)
    generator, outside = torch.Generator().manual_seed(5), torch.get_rng_state()

    def draw() -> Tensor:
        with drawing_from(generator):
            return network(x)

    first = draw()
    state = generator.get_state()
    then = [draw(), draw()]
    assert torch.get_rng_state().equal(outside)
    torch.rand(17)  # others draw too
    generator.set_state(state)
    assert all(draw().equal(one) for one in then), "resumed in the middle"
    assert not then[0].equal(then[1])
    assert not first.equal(then[0])


def test_global_generator_returns_after_error() -> None:
    outside = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), drawing_from(torch.Generator()):
        raise ZeroDivisionError
    assert torch.get_rng_state().equal(outside)


@pytest.mark.parametrize("p", [-0.1, 1, 50, math.nan])
@pytest.mark.parametrize("kind", [VariationalDropout, lambda p: DropConnectLinear(2, 2, p)])
def test_bad_probability_is_refused(kind: type, p: float) -> None:
    with pytest.raises(RlabError, match=f"probability of 0 to less than 1, not {p}"):
        kind(p)


@pytest.mark.parametrize("std", [-1, math.nan, math.inf])
def test_bad_deviation_is_refused(std: float) -> None:
    with pytest.raises(RlabError, match=f"GaussianNoise takes a standard deviation of 0 or more, not {std}"):
        GaussianNoise(std)
    with pytest.raises(RlabError, match="noisy_weights"), noisy_weights(nn.Linear(1, 1), std):
        pass


def test_bfloat16_is_kept() -> None:
    x = torch.ones(2, 3, 6, dtype=torch.bfloat16)
    assert random_network().bfloat16()(x).dtype == torch.bfloat16
