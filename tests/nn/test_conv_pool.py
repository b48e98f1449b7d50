"""Convolution, pooling and ReLU of grey images as one product: torch's numbers and gradients, and when it is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from rlab.nn import make_encoder
from rlab.nn.layers import HalvingPool, conv_pool
from rlab.nn.layers.conv_pool import CHUNK, GreyConvolutions


def stage(kernel: int = 5, maps: int = 6, frame: int = 2, channels: int = 1) -> GreyConvolutions:
    return GreyConvolutions(nn.Conv2d(channels, maps, kernel, padding=frame), HalvingPool(), nn.ReLU())


def plain(modules: GreyConvolutions, images: Tensor) -> Tensor:
    conv = modules[0]
    assert isinstance(conv, nn.Conv2d)
    return F.relu(F.max_pool2d(F.conv2d(images, conv.weight, conv.bias, padding=conv.padding), 2))


def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets a number with each call of the product."""
    calls: list[int] = []
    product = conv_pool.conv_pool
    monkeypatch.setattr(conv_pool, "conv_pool", lambda *args: calls.append(1) or product(*args))
    return calls


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 6), maps=st.integers(1, 9), frame=st.integers(0, 3), down=st.integers(1, 4),
    across=st.integers(1, 4), batch=st.sampled_from([0, 1, 2, CHUNK + 3]), seed=st.integers(0, 9),
)  # fmt: skip
def test_it_is_torchs(kernel: int, maps: int, frame: int, down: int, across: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    height, width = (4 * n + kernel - 1 - 2 * frame for n in (down, across))
    assume(min(height, width) >= 1)
    modules = stage(kernel, maps, frame)
    images = torch.randint(-2, 3, (batch, 1, height, width)).float()  # many are equal
    with torch.no_grad():
        modules[0].weight.copy_(torch.randint(-2, 3, modules[0].weight.shape))
    grads = []
    for out in (modules(images), plain(modules, images)):
        modules.zero_grad()
        (out * (torch.arange(out.numel()) % 7 - 3).view(out.shape)).sum().backward()  # whole numbers: sums are exact
        grads.append((out.detach(), *(p.grad.clone() for p in modules.parameters())))
    assert conv_pool._suits(list(modules), images)
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(grads[0][1:], grads[1][1:], strict=True))
    with torch.no_grad():
        torch.testing.assert_close(modules(images), grads[0][0])


def test_a_hand_computed_stage() -> None:
    modules = stage(kernel=1, maps=2, frame=0)
    with torch.no_grad():
        modules[0].weight.copy_(torch.tensor([1.0, -1]).view(2, 1, 1, 1))
        modules[0].bias.copy_(torch.tensor([-10.0, 6]))
    out = modules(torch.arange(16.0).view(1, 1, 4, 4))
    assert out.tolist() == [[[[0, 0], [3, 5]], [[6, 4], [0, 0]]]]
    out.sum().backward()
    assert modules[0].weight.grad.flatten().tolist() == [13 + 15, 0 + 2]
    assert modules[0].bias.grad.tolist() == [2, 2]


def test_gradients_have_gradients() -> None:
    modules = stage()
    images = torch.rand(3, 1, 8, 8)
    seconds = []
    for out in (modules(images), plain(modules, images)):
        (first,) = torch.autograd.grad(out.square().sum(), modules[0].weight, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), modules[0].weight)
        seconds.append(second)
    torch.testing.assert_close(*seconds, rtol=1e-3, atol=1e-3)
    assert seconds[0].abs().sum() > 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_lost(value: float) -> None:
    modules, images = stage(), torch.rand(1, 1, 8, 8)
    images[0, 0, 3, 4] = value
    lost = modules(images).isfinite() & ~plain(modules, images).isfinite()
    assert not lost.any()


def test_where_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = together(monkeypatch)
    images = torch.rand(2, 1, 28, 28)
    lenet = make_encoder("lenet5", (1, 28, 28))
    assert [*lenet.state_dict()][:2] == ["convolutions.0.weight", "convolutions.0.bias"]
    features = lenet(images)
    assert len(calls) == 1
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(lenet(images).float(), features, rtol=0.05, atol=0.05)
    assert len(calls) == 2


def test_where_it_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = together(monkeypatch)
    modules, images = stage(), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(stage(channels=3)(torch.rand(2, 3, 8, 8)).shape, torch.Size([2, 6, 4, 4]))
    assert modules(torch.rand(2, 1, 10, 10)).shape == (2, 6, 5, 5)  # 10 is no multiple of a patch's 4
    assert GreyConvolutions(nn.Conv2d(1, 2, 3), nn.SiLU())(images).shape == (2, 2, 6, 6)
    grad = images.clone().requires_grad_()
    modules(grad).sum().backward()
    assert grad.grad is not None
    assert stage().double()(images.double()).dtype == torch.float64
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert stage()(torch.rand(2, 1, 8, 8)).shape == (2, 6, 4, 4)
    assert not calls

    seen = []
    hook = modules[1].register_forward_hook(lambda *_: seen.append(1))
    modules(images)
    assert (seen, calls) == ([1], [])
    hook.remove()
    modules(images)
    assert calls == [1]
