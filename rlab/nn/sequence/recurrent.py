"""Recurrent sequence encoders: stacked layers of a cell, in one direction or both.

Torch's fused kernels do the work of RNN, LSTM and GRU. What they cannot do (other cells, dropout of the recurrent
state) goes step by step through the equations of `cells`. All of them compute in float32 even under autocast:
rounding would pile up over time, and some CPUs have no bfloat16 LSTM.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlab.errors import RlabError, nearest
from rlab.nn.layers.stochastic import VariationalDropout, dropout_mask
from rlab.nn.precision import autocast
from rlab.nn.sequence import SEQUENCE_ENCODERS
from rlab.nn.sequence.cells import CELLS, State, linear_scan, over_time

FUSED: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentLayer(nn.Module):
    """One layer in one direction, from a cell's name.

    Args:
        kind: of `CELLS`, or mingru.
        in_dim: D, features of each input.
        width: H, units.
        recurrent_dropout: probability to drop a unit of h for a whole sequence on its way to the next step (Gal &
            Ghahramani 2016).
    """

    def __init__(self, kind: str, in_dim: int, width: int, recurrent_dropout: float = 0.0):
        super().__init__()
        self.width, self.recurrent_dropout = width, recurrent_dropout
        self.cell = cell = CELLS[kind]
        self.states = cell.states
        self.core: nn.RNNBase | None = None
        if kind in FUSED:
            self.core = core = FUSED[kind](in_dim, width, batch_first=True)  # type: ignore[call-arg, arg-type]
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            given = [getattr(core, name) for name in names]
        else:
            rows = cell.gates * width
            self.weight_ih = nn.Parameter(torch.empty(rows, in_dim))
            self.weight_hh = nn.Parameter(torch.empty(rows, width))
            self.bias_ih = nn.Parameter(torch.empty(rows))
            self.bias_hh = nn.Parameter(torch.empty(rows))
            given = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        self.peepholes = nn.Parameter(torch.zeros(3, width)) if cell.peepholes else None
        self._initialise(*given)

    def _initialise(self, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> None:
        """Each block of input weights by Glorot, of recurrent ones orthogonal; biases 0, the forget gate's 1.

        There are two biases, which are added: only one of them is 1.
        """
        for block in weight_ih.chunk(self.cell.gates):
            nn.init.xavier_uniform_(block)
        for block in weight_hh.chunk(self.cell.gates):
            nn.init.orthogonal_(block)
        with torch.no_grad():
            bias_ih.zero_()
            bias_hh.zero_()
            if self.cell.forget is not None:
                bias_ih.chunk(self.cell.gates)[self.cell.forget].fill_(1.0)

    def weights(self) -> list[Tensor]:
        """W[G H, D], U[G H, H] and their biases, in torch's layout."""
        owner, end = (self, "") if self.core is None else (self.core, "_l0")
        return [getattr(owner, name + end) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def forward(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """x[B, T, D], state of [B, H] each -> ([B, T, H], state after each sequence's own length).

        Without `lengths` every sequence is as long as T.
        """
        dropping = self.recurrent_dropout and self.training
        if self.core is None or dropping or torch.compiler.is_exporting():
            return self.loop(x, state, lengths, dropout_mask(state[0], self.recurrent_dropout) if dropping else None)
        before: Tensor | State = tuple(s.unsqueeze(0) for s in state)
        before = before if self.states == 2 else before[0]
        if lengths is None:
            out, after = self.core(x, before)
        else:
            packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
            out, after = self.core(packed, before)
            out, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        after = tuple(s.squeeze(0) for s in after) if self.states == 2 else (after.squeeze(0),)
        if lengths is not None:
            empty = (lengths == 0).unsqueeze(1)
            after = tuple(torch.where(empty, old, new) for old, new in zip(state, after, strict=True))
        return out, after

    def loop(
        self, x: Tensor, state: State, lengths: Tensor | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The same, step by step through the cell's equation; `kept`[B, H] multiplies h before every step."""
        w, u, bias_ih, bias_hh = self.weights()

        def step(state: State, t: Tensor | int, given: Tensor) -> State:
            before = state if kept is None else (state[0] * kept, *state[1:])
            after = self.cell.step(given, before, u, bias_hh, self.peepholes)
            if lengths is None:
                return after
            running = (lengths > t).unsqueeze(1)
            return tuple(torch.where(running, new, old) for new, old in zip(after, state, strict=True))

        return over_time(step, state, F.linear(x, w, bias_ih))


class MinGRULayer(nn.Module):
    """A GRU whose gate and candidate do not see h, so that all steps are computed at once (Feng et al. 2024).

    h' = (1 - z) h + z n with z = sigmoid(W_z x + b_z) and n = W_n x + b_n.
    """

    states = 1

    def __init__(self, in_dim: int, width: int):
        super().__init__()
        self.width = width
        self.linear = nn.Linear(in_dim, 2 * width)

    def forward(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """x[B, T, D], state (h[B, H],) -> ([B, T, H], state after each sequence's own length)."""
        gate, candidate = self.linear(x).chunk(2, dim=2)
        keep = torch.sigmoid(-gate)
        new = (1 - keep) * candidate
        if lengths is not None:
            padding = (torch.arange(x.shape[1], device=x.device) >= lengths[:, None]).unsqueeze(2)
            keep, new = keep.masked_fill(padding, 1.0), new.masked_fill(padding, 0.0)
        out = linear_scan(keep, new, state[0])
        return out, (out[:, -1],)


def make_layer(kind: str, in_dim: int, width: int, recurrent_dropout: float) -> RecurrentLayer | MinGRULayer:
    """Build one layer of a kind."""
    if kind != "mingru":
        return RecurrentLayer(kind, in_dim, width, recurrent_dropout)
    if recurrent_dropout:
        raise RlabError("mingru has no recurrent weights to drop from; nearest: recurrent_dropout 0, or gru")
    return MinGRULayer(in_dim, width)


class Recurrent(nn.Module):
    """A stack of recurrent layers as a `SequenceEncoder`.

    Args:
        kind: cell, see `CELLS`; or mingru.
        in_dim: D, features of each input.
        width: H, units of each layer and direction.
        layers: how many, one on the other.
        dropout: of each layer's inputs but the first one's.
        variational: drop the same units at all times of a sequence, from the first layer's inputs on (Gal &
            Ghahramani 2016).
        recurrent_dropout: of h on its way to the next step, the same units at all times. Costs the fused kernels.
        bidirectional: whether each layer also reads every sequence from its own end.
        merge: what a layer makes of its two directions: "concat" [2 H] or "sum" [H].
    """

    def __init__(
        self,
        kind: str,
        in_dim: int,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        *,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
    ):
        super().__init__()
        if merge not in ("concat", "sum"):
            raise RlabError(f"two directions cannot be merged by '{merge}'; {nearest(merge, ('concat', 'sum'))}")
        for name, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0 <= p < 1:
                raise RlabError(f"{name} takes a probability in [0, 1), not {p}")
        self.in_dim, self.width, self.merge = in_dim, width, merge
        self.directions = 2 if bidirectional else 1
        self.out_dim = width * (self.directions if merge == "concat" else 1)
        self.causal = not bidirectional
        sizes = [in_dim] + [self.out_dim] * (layers - 1)
        make = partial(make_layer, kind, width=width, recurrent_dropout=recurrent_dropout)
        self.layers = nn.ModuleList(make(in_dim=size) for size in sizes for _ in range(self.directions))
        self.final_dim = width * sum(layer.states for layer in self.layers)  # type: ignore[misc]
        """Numbers in a state, of both directions."""
        self.state_dim = self.final_dim if self.causal else 0
        drop = VariationalDropout if variational else nn.Dropout
        self.dropouts = nn.ModuleList(drop(dropout if n or variational else 0.0) for n in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """features[B, T, D] and mask bool[B, T] (False: padding, at the end) -> [B, T, out_dim]; padding gives 0."""
        if mask is not None and self.causal:  # the padding comes last, so nothing else sees it
            lengths_of(mask)
            return self._run(x, self.initial(x))[0].masked_fill(~mask.unsqueeze(2), 0.0)
        return self.encode(x, mask)[0]

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, and the state [B, final_dim] after each sequence's own last step, in both directions."""
        lengths = None if mask is None else lengths_of(mask)
        out, state = self._run(x, self.initial(x), lengths)
        return out if mask is None else out.masked_fill(~mask.unsqueeze(2), 0.0), state

    def unroll(self, x: Tensor, state: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """features[B, T, D], state[B, S], first bool[B, T] -> ([B, T, out_dim], state after them).

        Where `first`, a sequence starts: the state before it is zero there. Detach the state between two calls for
        truncated backpropagation through time.
        """
        self._needs_state()
        if first is None:
            return self._run(x, state)
        # Nothing starts between two cuts, so the fused kernels can do what lies there.
        later = (first[:, 1:].any(0).nonzero().squeeze(1) + 1).tolist() if x.shape[1] > 1 else []
        cuts = [0, *later, x.shape[1]]
        out = []
        for start, end in pairwise(cuts):
            state = state.masked_fill(first[:, start, None], 0.0)
            part, state = self._run(x[:, start:end], state)
            out.append(part)
        return (torch.cat(out, dim=1) if len(out) > 1 else out[0]), state

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features[B, D], state[B, S] -> ([B, out_dim], state after it)."""
        self._needs_state()
        out, state = self._run(x.unsqueeze(1), state)
        return out.squeeze(1), state

    def initial(self, x: Tensor) -> Tensor:
        """Zeros [B, final_dim]: the state before the first step of x[B, ...]."""
        return self._dtype_like(x).new_zeros(x.shape[0], self.final_dim)

    def _dtype_like(self, x: Tensor) -> Tensor:
        return x if x.dtype == torch.float64 else x.float()

    def _needs_state(self) -> None:
        if not self.causal:
            raise RlabError("a bidirectional network reads whole sequences and has no step; nearest: one direction")

    def _run(self, x: Tensor, state: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with autocast(x.device, bf16=False):
            x, state = self._dtype_like(x), self._dtype_like(state)
            parts, after = list(state.split(self.width, dim=1)), []
            for level in range(len(self.dropouts)):
                x, outputs = self._drop(x, level), []
                for backwards in range(self.directions):
                    layer: Any = self.layers[level * self.directions + backwards]
                    before, parts = tuple(parts[: layer.states]), parts[layer.states :]
                    out, new = layer(reverse(x, lengths) if backwards else x, before, lengths)
                    after += new
                    outputs.append(reverse(out, lengths) if backwards else out)
                if self.causal:
                    x = outputs[0]
                else:
                    x = torch.cat(outputs, dim=2) if self.merge == "concat" else outputs[0] + outputs[1]
            return x, torch.cat(after, dim=1)

    def _drop(self, x: Tensor, level: int) -> Tensor:
        drop = self.dropouts[level]
        if isinstance(drop, VariationalDropout):  # time comes first there
            return drop(x.transpose(0, 1)).transpose(0, 1)
        return drop(x) if drop.p else x


def lengths_of(mask: Tensor) -> Tensor:
    """Lengths int64[B] of a mask bool[B, T] of what is no padding.

    Raises:
        RlabError: padding stands before something that is none.
    """
    if not torch.compiler.is_exporting() and bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise RlabError("a recurrent network takes sequences with their padding at the end, and this mask has gaps")
    return mask.sum(1)


def reverse(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Reverse x[B, T, D] in time, each sequence within its own length; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    t = torch.arange(x.shape[1], device=x.device)
    ends = lengths[:, None]
    index = torch.where(t < ends, ends - 1 - t, t)
    return x.gather(1, index.unsqueeze(2).expand_as(x))


for _kind in (*CELLS, "mingru"):
    SEQUENCE_ENCODERS.register(_kind)(partial(Recurrent, _kind))
for _kind in FUSED:
    SEQUENCE_ENCODERS.register("bi" + _kind)(partial(Recurrent, _kind, bidirectional=True))
