"""Recurrent cells as equations: one step of time each, in torch's parameter layout.

`given` is what the inputs give to a step, ``x W_ih' + b_ih``, which is computed for all steps at once. Every cell
returns its new state, whose first part is its output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, ...]
"""(h,) or (h, c), each [B, H]."""

Step = Callable[[Tensor, State, Tensor, Tensor, Tensor | None], State]
"""(given[B, G H], state, U[G H, H], bias[G H], peepholes[3, H] or None) -> the state after the step."""


def rnn_step(given: Tensor, state: State, u: Tensor, bias: Tensor, peepholes: Tensor | None = None) -> State:
    """h' = tanh(W x + U h + b) (Elman 1990)."""
    return (torch.tanh(given + F.linear(state[0], u, bias)),)


def lstm_step(given: Tensor, state: State, u: Tensor, bias: Tensor, peepholes: Tensor | None = None) -> State:
    """LSTM with a forget gate (Gers et al. 2000), and with peepholes where there are any (Gers & Schmidhuber 2000).

    Blocks are in torch's order: input gate, forget gate, candidate, output gate. Peepholes let the input and forget
    gates see the cell before the step, the output gate the cell after it.
    """
    h, c = state
    i, f, g, o = (given + F.linear(h, u, bias)).chunk(4, dim=1)
    if peepholes is not None:
        i, f = i + peepholes[0] * c, f + peepholes[1] * c
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    if peepholes is not None:
        o = o + peepholes[2] * c
    return o.sigmoid() * c.tanh(), c


def lstm_1997_step(given: Tensor, state: State, u: Tensor, bias: Tensor, peepholes: Tensor | None = None) -> State:
    """LSTM as it was first published (Hochreiter & Schmidhuber 1997): nothing is forgotten.

    The cell is the constant error carousel: its gradient from step to step is exactly 1. Blocks: input gate,
    candidate, output gate.
    """
    h, c = state
    i, g, o = (given + F.linear(h, u, bias)).chunk(3, dim=1)
    c = c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(given: Tensor, state: State, u: Tensor, bias: Tensor, peepholes: Tensor | None = None) -> State:
    """GRU whose reset gate works after the product, tanh(W x + r * (U h)), as in cuDNN and torch.

    Blocks: reset, update, candidate; h' = (1 - z) n + z h.
    """
    (h,) = state
    w_r, w_z, w_n = given.chunk(3, dim=1)
    u_r, u_z, u_n = F.linear(h, u, bias).chunk(3, dim=1)
    r, z = (w_r + u_r).sigmoid(), (w_z + u_z).sigmoid()
    n = torch.tanh(w_n + r * u_n)
    return (n + z * (h - n),)


def gru_before_step(given: Tensor, state: State, u: Tensor, bias: Tensor, peepholes: Tensor | None = None) -> State:
    """GRU as it was published: the reset gate works before the product, tanh(W x + U (r * h)) (Cho et al. 2014).

    Blocks and z as in `gru_step`.
    """
    (h,) = state
    size = h.shape[1]
    w_r, w_z, w_n = given.chunk(3, dim=1)
    u_r, u_z = F.linear(h, u[: 2 * size], bias[: 2 * size]).chunk(2, dim=1)
    r, z = (w_r + u_r).sigmoid(), (w_z + u_z).sigmoid()
    n = torch.tanh(w_n + F.linear(r * h, u[2 * size :], bias[2 * size :]))
    return (n + z * (h - n),)


@dataclass(frozen=True)
class Cell:
    """A kind of cell: its equation and the sizes of its parameters."""

    step: Step
    gates: int
    """G, blocks of rows in its weights."""
    states: int = 1
    """Parts of its state: h, or h and c."""
    forget: int | None = None
    """Which block is the forget gate's, whose bias starts at 1."""
    peepholes: bool = False


CELLS = {
    "rnn": Cell(rnn_step, 1),
    "lstm": Cell(lstm_step, 4, 2, forget=1),
    "lstm-peephole": Cell(lstm_step, 4, 2, forget=1, peepholes=True),
    "lstm-1997": Cell(lstm_1997_step, 3, 2),
    "gru": Cell(gru_step, 3),
    "gru-before": Cell(gru_before_step, 3),
}


def over_time(step: Callable[..., State], state: State, given: Tensor) -> tuple[Tensor, State]:
    """Go through time: given[B, T, G], (state, t, given[B, G]) -> state; all h [B, T, H], and the last state.

    In an export time may be of any length, so that a loop becomes one operation.
    """
    steps = given.shape[1]
    if torch.compiler.is_exporting() and not isinstance(steps, int):
        from torch._higher_order_ops.scan import scan

        def scanned(state: State, row: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
            after = step(state, *row)
            return after, after[0].clone()

        state = tuple(part.contiguous() for part in state)
        state, out = scan(scanned, state, (torch.arange(steps), given.transpose(0, 1)))
        return out.transpose(0, 1), state
    out = []
    for t in range(steps):
        state = step(state, t, given[:, t])
        out.append(state[0])
    return torch.stack(out, dim=1), state


def linear_scan(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """All h_t = a_t h_{t-1} + b_t of a[B, T, H], b[B, T, H] and h_0 [B, H]: [B, T, H], in about 2 sqrt(T) steps.

    Time is cut into sqrt(T) chunks. All chunks go through their steps at once, each from zero; then what every chunk
    starts from is carried from one to the next, and is added.
    """
    if torch.compiler.is_exporting():
        return over_time(lambda state, _, ab: (ab[:, 0] * state[0] + ab[:, 1],), (h,), torch.stack([a, b], 2))[0]
    batch, time, size = a.shape
    chunk = max(1, round(time**0.5))
    count = -(-time // chunk)
    missing = count * chunk - time
    if missing:
        a, b = F.pad(a, (0, 0, 0, missing)), F.pad(b, (0, 0, 0, missing))
    a, b = a.view(batch, count, chunk, size), b.view(batch, count, chunk, size)
    local, factor = [b[:, :, 0]], [a[:, :, 0]]
    for t in range(1, chunk):
        local.append(a[:, :, t] * local[-1] + b[:, :, t])
        factor.append(a[:, :, t] * factor[-1])
    starts = [h]
    for n in range(count - 1):
        starts.append(factor[-1][:, n] * starts[-1] + local[-1][:, n])
    carried = torch.stack(factor, dim=2) * torch.stack(starts, dim=1).unsqueeze(2)
    return (torch.stack(local, dim=2) + carried).view(batch, count * chunk, size)[:, :time]
