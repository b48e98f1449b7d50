"""A simple recurrent network as a well-known listing has it: sigmoid units without biases, weights from N(0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.nn.sequence import SEQUENCE_ENCODERS
from rlab.nn.sequence.cells import CELLS, Cell, State
from rlab.nn.sequence.recurrent import Recurrent


def elman_step(given: Tensor, state: State, u: Tensor, bias: Tensor | None, peepholes: Tensor | None = None) -> State:
    """h' = sigmoid(W x + U h)."""
    return (torch.sigmoid(given + F.linear(state[0], u, bias)),)


CELLS["elman"] = Cell(elman_step, 1)


@SEQUENCE_ENCODERS.register("elman")
class Elman(Recurrent):
    """A simple recurrent network of sigmoid units without biases, h' = sigmoid(W x + U h); `rnn` learns faster.

    Args:
        in_dim: D, features of each input.
        width: H, units of each layer.
        layers: how many, one on the other.
        dropout: of each layer's inputs but the first one's.
    """

    def __init__(self, in_dim: int, width: int = 16, layers: int = 1, dropout: float = 0.0):
        super().__init__("elman", in_dim, width, layers, dropout)
        for layer in self.layers:
            for name in ("weight_ih", "weight_hh"):
                nn.init.normal_(layer.get_parameter(name))
            for name in ("bias_ih", "bias_hh"):
                setattr(layer, name, None)
