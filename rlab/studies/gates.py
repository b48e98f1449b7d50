"""An LSTM some of whose gates are always open, for studies of what a gate is for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from rlab.nn.sequence.recurrent import RecurrentLayer

ROWS = {"input": 0, "forget": 1, "output": 3}
"""Which block of an LSTM's weights a gate has, in torch's layout."""

OPEN = 30.0
"""A bias whose sigmoid is 1 in single precision."""


def hold_open(model: nn.Module, gates: Sequence[str]) -> None:
    """Hold gates ("input", "forget", "output") of all LSTM layers in a model open: they are 1 and learn nothing."""
    for layer in model.modules():
        if isinstance(layer, RecurrentLayer):
            for name, weights in zip(("w", "u", "b", "b"), layer.weights(), strict=True):
                learns = torch.ones_like(weights)
                with torch.no_grad():
                    for gate in gates:
                        rows = slice(ROWS[gate] * layer.width, (ROWS[gate] + 1) * layer.width)
                        weights[rows] = OPEN / 2 if name == "b" else 0.0
                        learns[rows] = 0.0
                weights.register_hook(partial(torch.mul, learns))
