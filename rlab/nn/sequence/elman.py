"""A simple recurrent network as a well-known listing has it: sigmoid units without biases, weights from N(0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.sequence import SEQUENCE_ENCODERS


@SEQUENCE_ENCODERS.register("elman")
class Elman(nn.Module):
    """A simple recurrent network of sigmoid units without biases, h' = sigma(x W + h U), as a `SequenceEncoder`.

    It is small and slow: every step is computed in turn. `rnn` is the one to use.

    Args:
        in_dim: D, features of each input.
        width: H, units.
        layers: 1.
        dropout: 0.

    Raises:
        RlabError: more layers, or dropout, were asked for.
    """

    causal = True

    def __init__(self, in_dim: int, width: int = 16, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        if layers != 1 or dropout:
            raise RlabError("elman is one layer without dropout; nearest: rnn, which can have both")
        self.in_dim, self.out_dim, self.state_dim = in_dim, width, width
        self.weight_in = nn.Parameter(torch.randn(in_dim, width))
        self.weight = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """features[B, T, D] and mask bool[B, T] (False: padding, at the end) -> [B, T, H]; padding comes out as 0."""
        out = self.unroll(x, x.new_zeros(len(x), self.state_dim))[0]
        return out if mask is None else out * mask.unsqueeze(2)

    def unroll(self, x: Tensor, state: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """features[B, T, D], state[B, H], first bool[B, T] -> ([B, T, H], state after them)."""
        out, given = [], x @ self.weight_in
        for t in range(x.shape[1]):
            if first is not None:
                state = state.masked_fill(first[:, t, None], 0.0)
            state = torch.sigmoid(given[:, t] + state @ self.weight)
            out.append(state)
        return torch.stack(out, 1), state

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features[B, D], state[B, H] -> ([B, H], state after it)."""
        state = torch.sigmoid(x @ self.weight_in + state @ self.weight)
        return state, state
