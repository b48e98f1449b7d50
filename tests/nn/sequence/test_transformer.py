"""Transformers: positions, gates, caches and what an encoder with a decoder sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.transformer import EncoderDecoder, GRUGate, Transformer, rotate, rotation, sinusoids

WAYS: list[dict[str, Any]] = [
    {"positions": "learned", "norm": "pre", "ffn": "gelu", "bias": False},
    {"positions": "sinusoidal", "norm": "post", "ffn": "relu"},
    {"positions": "rotary", "norm": "pre", "ffn": "swiglu"},
    {"positions": "none", "norm": "post", "ffn": "swiglu"},
    {"gated": True},
]


def make(**options: Any) -> Transformer:
    torch.manual_seed(0)
    net = Transformer(8, 8, 2, heads=2, context=8, **options).double().eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.4)
    return net


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
def test_a_cache_changes_nothing(way: dict[str, Any]) -> None:
    """One by one, in parts of several steps, and all at once."""
    net, x = make(**way), torch.randn(2, 8, 8).double()
    whole = net(x)
    for sizes in ([1] * 8, [3, 1, 4]):
        cache, out = None, []
        for part in x.split(sizes, dim=1):
            y, cache = net.extend(part, cache)
            out.append(y)
        torch.testing.assert_close(torch.cat(out, dim=1), whole, atol=1e-9, rtol=0)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
def test_no_layer_leaks_the_future(way: dict[str, Any]) -> None:
    """The gradient of what each layer gives before step 5 is zero for inputs from step 5 on."""
    net, x = make(**way), torch.randn(2, 8, 8).double().requires_grad_()
    outputs: list[torch.Tensor] = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, given, out: outputs.append(out[0]))
    net(x)
    assert len(outputs) == 2
    for out in outputs:
        (grad,) = torch.autograd.grad(out[:, :5].square().sum(), x, retain_graph=True)
        assert not grad[:, 5:].any()
        assert grad[:, :5].any(2).all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_positions_tell_the_order(positions: str) -> None:
    """Without them the last step sees a bag of what came before; with them, another order is another output."""
    x, order = torch.randn(1, 8, 8).double(), [3, 0, 5, 1, 6, 2, 4, 7]
    bag, net = make(positions="none", causal=False), make(positions=positions, causal=False)
    torch.testing.assert_close(bag(x)[:, -1], bag(x[:, order])[:, -1], atol=1e-9, rtol=0)
    assert (net(x)[:, -1] - net(x[:, order])[:, -1]).abs().max() > 1e-3


def test_rotary_products_depend_on_the_distance() -> None:
    q, k = torch.randn(1, 6).double(), torch.randn(1, 6).double()

    def product(m: int, n: int) -> float:
        return (rotate(q, rotation(torch.tensor([m]), 6)) @ rotate(k, rotation(torch.tensor([n]), 6)).T).item()

    assert product(7, 3) == pytest.approx(product(1004, 1000), abs=1e-9)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)
    assert product(5, 5) == pytest.approx((q @ k.T).item())


def test_sinusoids_have_their_wavelengths() -> None:
    table = sinusoids(torch.tensor([0, 1]), 4)
    assert table[0].tolist() == [0, 1, 0, 1]
    assert table[1].tolist() == pytest.approx([0.8414710, 0.5403023, 0.0099998, 0.9999500], abs=1e-6)


def test_a_gate_lets_its_input_through_at_first() -> None:
    """Weights 0: z = sigmoid(-2), so x is kept by 1 - z; the gate is torch's GRU cell with x as the state."""
    gate, x, y = GRUGate(3), torch.randn(2, 3), torch.randn(2, 3)
    cell = nn.GRUCell(3, 3, bias=False)  # torch's z is ours turned round
    w, u = cell.weight_ih.data, cell.weight_hh.data
    gate.of_y.weight.data = torch.cat([w[:3], -w[3:6], w[6:]])
    gate.of_x.weight.data, gate.candidate.weight.data = torch.cat([u[:3], -u[3:6]]), u[6:]
    gate.bias.data.zero_()
    r = torch.sigmoid(y @ w[:3].T + x @ u[:3].T)
    n = torch.tanh(y @ w[6:].T + (r * x) @ u[6:].T)  # the reset gate before the product
    z = torch.sigmoid(y @ w[3:6].T + x @ u[3:6].T)
    torch.testing.assert_close(gate(x, y), (1 - z) * n + z * x)
    for p in (gate.of_y, gate.of_x, gate.candidate):
        p.weight.data.zero_()
    gate.bias.data.fill_(2.0)
    torch.testing.assert_close(gate(x, y), x * torch.sigmoid(torch.tensor(2.0)))


def test_gtrxl_remembers_as_far_as_its_layers_reach() -> None:
    """Context 4 and 2 layers: 3 steps back for each, so an input matters 6 steps later and not 7."""
    torch.manual_seed(0)
    net = make_sequence_encoder("gtrxl", 3, 8, 2, context=4).double()
    x = torch.randn(1, 12, 3).double().requires_grad_()
    out, _ = net.unroll(x, torch.zeros(1, net.state_dim).double())
    for run in (out, net(x)):
        (grad,) = torch.autograd.grad(run[0, 10].square().sum(), x, retain_graph=True)
        assert grad[0].any(1).tolist() == [False] * 4 + [True] * 7 + [False]


def test_the_encoders_padding_is_not_attended_to() -> None:
    """Item 246: altered padding changes nothing, real tokens do; a source of length 0 has finite gradients."""
    torch.manual_seed(0)
    net = EncoderDecoder(8, 2, 0.0, heads=2)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8, requires_grad=True)
    mask = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    out = net(source, mask, target)
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in [target, *net.parameters()] if p.grad is not None)
    changed = torch.where(mask.unsqueeze(2), source, source + 1)
    torch.testing.assert_close(net(changed, mask, target), out, atol=0, rtol=0)
    changed = torch.where(mask.unsqueeze(2), source + torch.randn(8), source)
    assert ((net(changed, mask, target) - out).abs().amax((1, 2)) > 1e-6).tolist() == [True, True, False]


def test_swiglu_has_as_many_weights() -> None:
    """2/3 of the hidden units, with three matrices in the place of two."""
    count = {f: sum(p.numel() for p in Transformer(96, 96, 1, ffn=f).parameters()) for f in ("gelu", "swiglu")}
    assert count["swiglu"] == pytest.approx(count["gelu"], rel=0.01)
