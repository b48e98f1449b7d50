"""Cells as equations, against torch's fused kernels and against values by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.cells import gru_before_step, gru_step, linear_scan, lstm_1997_step, lstm_step
from rlab.nn.sequence.recurrent import FUSED, MinGRULayer, RecurrentLayer


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.parametrize(("dtype", "atol", "rtol"), [(torch.float64, 1e-10, 0.0), (torch.float32, 1e-6, 1e-5)])
def test_equations_equal_the_fused_kernels(kind: str, dtype: torch.dtype, atol: float, rtol: float) -> None:
    """Items 209, 211, 217, 221, 224, 229: over 500 steps, outputs, last states and gradients of inputs and weights."""
    torch.manual_seed(0)
    layer = RecurrentLayer(kind, 3, 5).to(dtype)
    x = torch.randn(2, 500, 3, dtype=dtype, requires_grad=True)
    state = tuple(torch.randn(2, 5, dtype=dtype) for _ in range(layer.states))
    results = []
    for run in (layer, layer.loop):
        out, after = run(x, state)
        loss = out.square().mean() + sum(s.sum() for s in after)
        results.append((out, *after, *torch.autograd.grad(loss, [x, *layer.weights()])))
    for fused, own in zip(*results, strict=True):
        torch.testing.assert_close(own, fused, atol=atol, rtol=rtol)


def test_gru_resets_after_or_before_the_product() -> None:
    """Item 224: h = [1, 1], U of the candidate all ones, r = [1, 0], z = 0."""
    far, h = 50.0, torch.ones(1, 2, dtype=torch.float64)
    given = torch.tensor([[far, -far, -far, -far, 0.0, 0.0]], dtype=torch.float64)
    u = torch.cat([torch.zeros(4, 2), torch.ones(2, 2)]).double()
    bias = torch.zeros(6).double()
    after, before = (step(given, (h,), u, bias, None)[0][0].tolist() for step in (gru_step, gru_before_step))
    assert after == pytest.approx([math.tanh(2), 0], abs=1e-12)
    assert before == pytest.approx([math.tanh(1), math.tanh(1)], abs=1e-12)


def test_peepholes_see_the_cell_before_and_after() -> None:
    """All weights 0 but the peepholes: i and f see c, o sees the new c."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    c = torch.full((1, 1), 2.0)
    given = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    state = lstm_step(
        given, (torch.zeros(1, 1), c), torch.zeros(4, 1), torch.zeros(4), torch.tensor([[0.5], [-1], [3]])
    )
    new = sigmoid(0.2 - 2.0) * 2.0 + sigmoid(0.1 + 1.0) * math.tanh(0.3)
    assert state[1].item() == pytest.approx(new, rel=1e-6)
    assert state[0].item() == pytest.approx(sigmoid(0.4 + 3 * new) * math.tanh(new), rel=1e-6)


def test_without_a_forget_gate_the_error_is_carried_whole() -> None:
    """Item 218: the gradient of the cell from step to step is exactly 1 along the carousel."""
    c = torch.randn(2, 3, requires_grad=True)
    u, bias = torch.zeros(9, 3), torch.zeros(9)
    last = c
    for _ in range(20):
        _, last = lstm_1997_step(torch.randn(2, 9), (torch.zeros(2, 3), last), u, bias, None)
    (grad,) = torch.autograd.grad(last.sum(), c)
    assert torch.equal(grad, torch.ones_like(c))


@pytest.mark.parametrize("name", ["lstm", "bilstm", "lstm-peephole"])
def test_forget_bias_is_one_in_every_layer(name: str) -> None:
    """The sum of both biases is 1 in every layer and direction, and 0 in the other gates."""
    for layer in make_sequence_encoder(name, 3, 4, 3).layers:
        *_, first, second = layer.weights()
        assert (first + second).tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_lstm_without_a_forget_gate_has_three_blocks() -> None:
    """Item 223: numbers of parameters, 4, 3 or 3 (GRU) times W, U and two biases; 2 blocks without U in minGRU."""
    counts = {
        name: sum(p.numel() for p in make_sequence_encoder(name, 3, 5).parameters())
        for name in ("rnn", "lstm", "lstm-peephole", "lstm-1997", "gru", "gru-before", "mingru")
    }
    block = 5 * 3 + 5 * 5 + 2 * 5
    assert counts == {
        "rnn": block,
        "lstm": 4 * block,
        "lstm-peephole": 4 * block + 15,
        "lstm-1997": 3 * block,
        "gru": 3 * block,
        "gru-before": 3 * block,
        "mingru": 2 * (5 * 3 + 5),
    }


@pytest.mark.parametrize("time", [1, 2, 3, 17, 100])
def test_the_parallel_scan_equals_its_recursion(time: int) -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, time, 3).double().requires_grad_(), torch.randn(2, time, 3).double().requires_grad_()
    start = torch.randn(2, 3).double().requires_grad_()
    h, slow = start, []
    for t in range(time):
        h = a[:, t] * h + b[:, t]
        slow.append(h)
    fast = linear_scan(a, b, start)
    torch.testing.assert_close(fast, torch.stack(slow, dim=1))
    for one, other in zip(
        torch.autograd.grad(fast.square().sum(), (a, b, start)),
        torch.autograd.grad(torch.stack(slow, dim=1).square().sum(), (a, b, start)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_min_gru_is_its_equation() -> None:
    layer = MinGRULayer(3, 2)
    x, h = torch.randn(1, 1, 3), torch.randn(1, 2)
    gate, candidate = layer.linear(x[:, 0]).chunk(2, dim=1)
    z = torch.sigmoid(gate)
    torch.testing.assert_close(layer(x, (h,))[0][:, 0], (1 - z) * h + z * candidate)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_both_directions_equal_two_networks(merge: str) -> None:
    """Item 230: two layers of both directions, against torch's layers by hand, each sequence to its own length."""
    torch.manual_seed(0)
    net = make_sequence_encoder("bilstm", 3, 4, 2, merge=merge)
    x, lengths = torch.randn(3, 6, 3), [6, 5, 3]
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    out, state = net.encode(x, mask)
    for row, length in enumerate(lengths):
        y, states = x[row : row + 1, :length], []
        for level in range(2):
            forwards, backwards = (net.layers[2 * level + d].core for d in range(2))
            one, (h1, c1) = forwards(y)
            other, (h2, c2) = backwards(y.flip(1))
            states += [h1[0], c1[0], h2[0], c2[0]]
            y = torch.cat([one, other.flip(1)], 2) if merge == "concat" else one + other.flip(1)
        torch.testing.assert_close(out[row, :length], y[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(state[row], torch.cat(states, 1)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru-before", "mingru", "lstm-1997"])
def test_states_are_those_at_each_own_end(name: str) -> None:
    """Item 231: an output at every step, and one state at the end of lengths 6, 5, 3 and 0 (zero)."""
    net, x = make_sequence_encoder(name, 3, 4, 2), torch.randn(4, 6, 3)
    mask = torch.arange(6) < torch.tensor([6, 5, 3, 0])[:, None]
    _, state = net.encode(x, mask)
    for row, length in enumerate([6, 5, 3]):
        torch.testing.assert_close(state[row], net.encode(x[row : row + 1, :length])[1][0], atol=1e-6, rtol=0)
    assert not state[3].any()


def test_variational_dropout_is_the_same_at_all_times() -> None:
    """Inputs of ones: what is dropped at one step is dropped at every step; in evaluation nothing is."""
    torch.manual_seed(0)
    net = make_sequence_encoder("gru", 50, 4, dropout=0.5, variational=True)
    seen: list[torch.Tensor] = []
    net.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(torch.ones(2, 7, 50))
    assert torch.equal(seen[0], seen[0][:, :1].expand(-1, 7, -1))
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(seen[0][0], seen[0][1])
    net.eval()(torch.ones(2, 7, 50))
    assert torch.equal(seen[1], torch.ones(2, 7, 50))


def test_recurrent_dropout_drops_the_same_units_of_h() -> None:
    """Torch's cell with a fixed mask on h; evaluation goes by the fused kernel, with whole weights."""
    net = make_sequence_encoder("lstm", 3, 4, recurrent_dropout=0.5)
    layer, x = net.layers[0], torch.randn(2, 6, 3)
    cell = nn.LSTMCell(3, 4)
    for name, weights in layer.core.named_parameters():
        getattr(cell, name.removesuffix("_l0")).data.copy_(weights)
    kept = torch.tensor([[2.0, 0, 2, 0], [0, 2, 2, 2]])
    h, c = torch.zeros(2, 4), torch.zeros(2, 4)
    out, _ = layer.loop(x, (h, c), None, kept)
    for t in range(6):
        h, c = cell(x[:, t], (h * kept, c))
        torch.testing.assert_close(out[:, t], h, atol=1e-6, rtol=0)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
