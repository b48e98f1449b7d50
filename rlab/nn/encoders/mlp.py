"""The multilayer perceptron for flat inputs."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from rlab.nn.encoders import ENCODERS

WIDTH = 256
DEPTH = 2


@ENCODERS.register("mlp")
class MLP(nn.Module):
    """Fully connected layers with ReLU: any shape, flattened, to `width` features."""

    def __init__(self, shape: tuple[int, ...], width: int = WIDTH, depth: int = DEPTH):
        super().__init__()
        sizes = [math.prod(shape), *[width] * depth]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.out_dim = width

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> [B, out_dim]."""
        return self.layers(obs)
