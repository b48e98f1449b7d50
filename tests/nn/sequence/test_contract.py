"""What every registered sequence encoder keeps, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.sequence import SEQUENCE_ENCODERS, load_all, make_sequence_encoder

load_all()
NAMES = list(SEQUENCE_ENCODERS)
STEPS = 9


def make(name: str, **options: Any) -> Any:
    """Two layers in float64; a Transformer sees fewer steps than there are."""
    torch.manual_seed(0)
    more = {"context": 4, "heads": 2} if issubclass(kind(name), nn.Module) and attends(name) else {}
    encoder = make_sequence_encoder(name, 3, 8, 2, **(more | options)).double().eval()
    for p in encoder.parameters():  # also those that start at zero
        nn.init.normal_(p, std=0.4)
    return encoder


def attends(name: str) -> bool:
    return name in ("transformer", "gtrxl")


def kind(name: str) -> type:
    return type(make_sequence_encoder(name, 1, 2))


def inputs(batch: int = 3) -> Tensor:
    return torch.randn(batch, STEPS, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_the_promised_names_are_there() -> None:
    """Names that recipes and runs on disk have."""
    assert {"rnn", "lstm", "lstm-peephole", "lstm-1997", "gru", "gru-before", "mingru"} < set(NAMES)
    assert {"birnn", "bilstm", "bigru", "transformer", "gtrxl"} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_gives_zero(name: str) -> None:
    """Lengths 6, 5, 3 and 0 in one batch are the same one by one; only real steps matter."""
    encoder, x, lengths = make(name), inputs(4), (6, 5, 3, 0)
    mask = torch.arange(STEPS) < torch.tensor(lengths)[:, None]
    x.requires_grad_()
    out = encoder(x, mask)
    out.square().sum().backward()
    assert x.grad is not None
    assert all(torch.isfinite(p.grad).all() for p in [x, *encoder.parameters()] if p.grad is not None)
    assert not x.grad[~mask].any()
    assert x.grad[mask].any(1).all()
    assert not out[~mask].any()
    for row, length in enumerate(lengths[:3]):
        close(out[row, :length], encoder(x[row : row + 1, :length])[0])
    with torch.no_grad():
        close(encoder(x.masked_fill(~mask.unsqueeze(2), 1e3), mask), out)


@pytest.mark.parametrize("name", NAMES)
def test_a_causal_encoder_sees_no_future(name: str) -> None:
    """Whatever comes at step 4: the outputs before it are the same to the bit, and it gets no gradient of them."""
    encoder, x = make(name), inputs().requires_grad_()
    changed = x.detach().clone()
    changed[:, 4] += 1
    before, after = encoder(x), encoder(changed)
    assert torch.equal(before[:, :4], after[:, :4]) == encoder.causal
    assert not torch.equal(before[:, 4:], after[:, 4:])
    (grad,) = torch.autograd.grad(before[:, :4].square().sum(), x)
    assert bool(grad[:, 4:].any()) != encoder.causal


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).state_dim])
def test_unrolling_equals_single_steps_and_separate_sequences(name: str) -> None:
    """With sequences that start on the way, from a state that is not zero, and in two parts."""
    encoder, x = make(name), inputs()
    first = torch.zeros(3, STEPS, dtype=torch.bool)
    first[0, 0] = first[1, 4] = first[2, 3] = first[2, 4] = first[2, 8] = True
    zeros = torch.zeros(3, encoder.state_dim, dtype=torch.float64)
    close(encoder.unroll(x, zeros)[0], encoder(x))
    _, state = encoder.unroll(inputs().flip(0), zeros)
    whole, end = encoder.unroll(x, state, first)
    assert end.shape == zeros.shape
    one, stepped = state, []
    for t in range(STEPS):
        out, one = encoder.step(x[:, t], torch.where(first[:, t, None], 0.0, one))
        stepped.append(out)
    close(torch.stack(stepped, dim=1), whole)
    left, middle = encoder.unroll(x[:, :5], state, first[:, :5])
    right, last = encoder.unroll(x[:, 5:], middle, first[:, 5:])
    close(torch.cat([left, right], dim=1), whole)
    close(encoder.step(x[:, 0], last)[0], encoder.step(x[:, 0], end)[0])
    close(whole[0], encoder(x[:1])[0])
    close(whole[1, 4:], encoder(x[1:2, 4:])[0])
    close(whole[2, 4:8], encoder(x[2:, 4:8])[0])


@pytest.mark.parametrize("name", [n for n in NAMES if make(n).state_dim])
def test_truncated_backpropagation_stops_at_the_detach(name: str) -> None:
    """Item 211: the second part's gradient reaches the first part's inputs, unless the state is detached."""
    encoder, x = make(name), inputs()
    head, tail = x[:, :4].clone().requires_grad_(), x[:, 4:]
    _, state = encoder.unroll(head, torch.zeros(3, encoder.state_dim, dtype=torch.float64))
    (grad,) = torch.autograd.grad(encoder.unroll(tail, state)[0].sum(), head, retain_graph=True)
    assert grad.any()
    cut = encoder.unroll(tail, state.detach())[0].sum()
    assert torch.autograd.grad(cut, head, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", [n for n in NAMES if not attends(n)])
def test_recurrent_layers_stay_float32_under_autocast(name: str) -> None:
    """Bfloat16 on a CPU has crashed torch's LSTM; and it rounds more with every step."""
    encoder, x = make(name).float().train(), inputs().float()
    mask = torch.arange(STEPS) < torch.tensor([9, 4, 2])[:, None]
    plain = encoder(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(x.bfloat16().float(), mask)
        assert encoder(x.bfloat16(), mask).dtype == torch.float32
    out.sum().backward()
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, encoder(x.bfloat16().float(), mask), atol=0, rtol=0)
    torch.testing.assert_close(out, plain, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("lstn", {}, "unknown sequence encoder 'lstn'; nearest: lstm"),
        ("lstm", {"heads": 4}, "sequence encoder 'lstm' has no option 'heads'; valid: bidirectional"),
        ("bigru", {"merge": "add"}, "two directions cannot be merged by 'add'"),
        ("gru", {"layers": 0}, "'gru' takes layers of 1 or more, not 0"),
        ("gru", {"dropout": 1.0}, r"dropout takes a probability in \[0, 1\), not 1.0"),
        ("mingru", {"recurrent_dropout": 0.5}, "no recurrent weights to drop from"),
        ("transformer", {"width": 8, "heads": 3}, "width 8 cannot have 3 heads.*nearest: 2"),
        ("transformer", {"width": 6, "heads": 2}, "an even number of features each"),
        ("transformer", {"positions": "lerned"}, "no positions 'lerned'; nearest: learned"),
        ("transformer", {"context": 0}, "context is 1 step or more, not 0"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RlabError, match=sentence):
        make_sequence_encoder(name, 3, **({"width": 8} | options))


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(RlabError, match=r"bidirectional network.*has no step"):
        make("bilstm").step(inputs()[:, 0], torch.zeros(3, 0))
    with pytest.raises(RlabError, match=r"not causal.*has no step"):
        make("transformer", causal=False).step(inputs()[:, 0], torch.zeros(3, 0))
    with pytest.raises(RlabError, match="this mask has gaps"):
        make("gru")(inputs(1), torch.tensor([[True, False, True] * 3]))
    with pytest.raises(RlabError, match="9 steps are more than this Transformer's context of 4"):
        make("transformer", positions="learned")(inputs())
