"""Decoders of dense layers, for codes of any data: the mirror image of an mlp, and one layer alone."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from rlab.nn.decoders import DECODERS


class MLPDecoder(nn.Module):
    """Fully connected layers with ReLU between them: codes[B, D] -> [B, *shape].

    Args:
        shape: of an item.
        code_dim: D.
        widths: of the hidden layers; none: one layer.
    """

    def __init__(self, shape: tuple[int, ...], code_dim: int, widths: tuple[int, ...] = ()):
        super().__init__()
        sizes = [code_dim, *widths, math.prod(shape)]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1], nn.Unflatten(1, shape))

    def forward(self, code: Tensor) -> Tensor:
        """code[B, D] -> [B, *shape]."""
        data: Tensor = self.layers(code)
        return data


DECODERS.register("mlp")(MLPDecoder)
DECODERS.register("linear")(lambda shape, code_dim, widths: MLPDecoder(shape, code_dim))
