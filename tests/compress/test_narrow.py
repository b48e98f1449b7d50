"""Narrower encoders: what is left after neurons and channels were taken out, and which networks that can be done to."""

from __future__ import annotations

import pytest
import torch

from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.encoders.modifiers import with_widths
from rlab.nn.encoders.narrow import importance, keep, layers_of
from rlab.nn.encoders.residual import CIFAR, Bottleneck, Layout, ResidualNet

STACKS = {
    "mlp": (5,),
    "mlp-8-6-4+silu": (5,),
    "lenet5": (1, 12, 12),
    "lenet5+batch+prelu": (1, 12, 12),
    "minatar": (3, 10, 10),
    "nature": (2, 36, 36),
    "nature-conv": (2, 36, 40),
    "mobilenet-v1": (3, 32, 32),
    "mobilenet-v2": (3, 32, 32),
    "resnet20": (1, 12, 12),
    "resnet20+silu": (1, 12, 12),
    "impala": (4, 16, 16),
}
"""Encoder -> shape of an input. None of them has a norm over channels; the last four have skips."""


def halves(encoder: torch.nn.Module, name: str, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Set half of what each layer gives to 0 and return the other half's places."""
    left = []
    with torch.no_grad():
        for layer, norms in zip(layers_of(encoder, name), importance(encoder, name), strict=True):
            order = torch.randperm(len(norms), generator=torch.Generator().manual_seed(len(left)))
            layer.module.weight[order[len(norms) // 2 :]] = 0
            if layer.module.bias is not None:
                layer.module.bias[order[len(norms) // 2 :]] = 0
            left.append(order[: len(norms) // 2].sort().values)
    return left


@pytest.mark.parametrize("name", STACKS)
def test_channels_of_zero_change_nothing(name: str) -> None:
    shape = STACKS[name]
    torch.manual_seed(0)
    encoder = make_encoder(name, shape).eval()
    left = halves(encoder, name, shape)
    x = torch.rand(3, *shape)
    before, size = encoder(x), sum(p.numel() for p in encoder.parameters())
    features = keep(encoder, name, left)
    after = encoder(x)
    torch.testing.assert_close(after, before[:, features], rtol=1e-4, atol=1e-5)
    assert after.shape[1] == encoder.out_dim
    assert sum(p.numel() for p in encoder.parameters()) < 0.6 * size
    again = make_encoder(with_widths(name, [len(index) for index in left]), shape).eval()
    again.load_state_dict(encoder.state_dict())
    assert again.out_dim == encoder.out_dim
    torch.testing.assert_close(again(x), after)


def test_inside_of_bottlenecks_is_narrowed() -> None:
    """Two of the three convolutions of each block; what is added to the stream stays."""
    torch.manual_seed(0)
    encoder = ResidualNet((3, 12, 12), Layout(Bottleneck, (1, 2), 8, CIFAR)).eval()
    assert [layer.width for layer in layers_of(encoder, "bottlenecks")] == [8, 8, 16, 16, 16, 16]
    left, x = halves(encoder, "bottlenecks", (3, 12, 12)), torch.rand(2, 3, 12, 12)
    before = encoder(x)
    assert torch.equal(keep(encoder, "bottlenecks", left), torch.arange(64))
    torch.testing.assert_close(encoder(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp-norm", (5,)), ("minatar-norm", (3, 10, 10)), ("lenet5+layer", (1, 12, 12))]
)
def test_norms_over_channels_are_narrowed(name: str, shape: tuple[int, ...]) -> None:
    """They take means over the channels that are left, so that outputs are others."""
    encoder = make_encoder(name, shape).eval()
    left = [norms.topk(len(norms) // 2).indices.sort().values for norms in importance(encoder, name)]
    keep(encoder, name, left)
    again = make_encoder(with_widths(name, [len(index) for index in left]), shape).eval()
    again.load_state_dict(encoder.state_dict())
    x = torch.rand(2, *shape)
    torch.testing.assert_close(again(x), encoder(x))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet20+width=1", "layers of 16.16.16.32.32.32.64.64.64, and width=1 does not say of each"),
        ("resnet20-gn+width=1", "cannot be taken out, for it has a layer GroupNorm over groups of channels; "),
        ("lenet5-1998+width=1", "it has a layer Squash; plain stacks of layers can be made narrower, such as mlp"),
        ("lenet5+width=3.8.60", "layers of 6.16.120.84, and width=3.8.60 does not say of each"),
        ("lenet5+width=7.8.60.40", "nearest: lenet5[+]width=6.16.120.84"),
        ("lenet5+width=0.8.60.40", "nearest: lenet5[+]width=6.16.120.84"),
        ("lenet5+width=a", "nearest: lenet5[+]width=6.16.120.84"),
    ],
)
def test_other_networks_are_refused(name: str, says: str) -> None:
    with pytest.raises(RlabError, match=says):
        make_encoder(name, (1, 32, 32))
