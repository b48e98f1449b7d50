"""The multilayer perceptron for flat inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS

WIDTH = 256
DEPTH = 2


class MLP(nn.Module):
    """Fully connected layers with ReLU (LayerNorm before it if `norm`): any shape, flattened, to the last width.

    Args:
        shape: of an input.
        width, depth: of layers that are all alike.
        norm: LayerNorm before every ReLU.
        widths: of each layer, in place of `width` and `depth`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = WIDTH,
        depth: int = DEPTH,
        norm: bool = False,
        widths: Sequence[int] = (),
    ):
        super().__init__()
        sizes = [math.prod(shape), *(widths or [width] * depth)]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), *[nn.LayerNorm(n_out)] * norm, nn.ReLU()]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.out_dim = sizes[-1]

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> [B, out_dim]."""
        return self.layers(obs)


class Flat(nn.Module):
    """Inputs as features: a head on it is a linear model."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.out_dim = math.prod(shape)

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> [B, prod(shape)]."""
        return obs.flatten(1)


ENCODERS.register("flat")(Flat)
ENCODERS.register("mlp")(MLP)
ENCODERS.register("mlp-norm")(partial(MLP, norm=True))
