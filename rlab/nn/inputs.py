"""Observations as environments give them -> what encoders take. The one place where images are scaled."""

from __future__ import annotations

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.encoders import make_encoder


class ObservationEncoder(nn.Module):
    """Scaling and a registered encoder: uint8 becomes 0..1, classes become one-hot, the rest float32.

    Args:
        space: of one observation: Box, Discrete, MultiDiscrete or MultiBinary.
        encoder: a registered name, or auto.

    Raises:
        RlabError: the space has no fixed shape, or the encoder does not take it.
    """

    def __init__(self, space: gym.Space, encoder: str):
        super().__init__()
        if space.shape is None:
            raise RlabError(f"encoders take Box, Discrete and Multi* observations, not {space}")
        self.classes = int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
        self.encoder = make_encoder(encoder, (self.classes,) if self.classes else space.shape)
        self.out_dim = int(self.encoder.out_dim)  # type: ignore[arg-type]

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] in the space's dtype -> features float32[B, D]."""
        if self.classes:
            x = F.one_hot(obs.long(), self.classes).float()
        elif obs.dtype == torch.uint8:
            x = obs.float().mul_(1 / 255)
        else:
            x = obs.float()
        return self.encoder(x)
