"""Convert observations of environments to inputs of encoders; the one place where images are scaled."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.encoders import make_encoder
from rlab.nn.modes import depends_on_mode, encode


def is_image(space: gym.Space) -> bool:
    """Whether observations are pictures whose bytes are to be scaled to 0..1.

    They are if they are uint8 from 0 to 255 with three axes, or a stack of such. Other uint8 are numbers as any others:
    flags, counts, a console's memory. stable-baselines3 has the same rule, without stacks.
    """
    return (
        isinstance(space, Box)
        and space.dtype == np.uint8
        and len(space.shape) in (3, 4)
        and not space.low.any()
        and bool((space.high == 255).all())
    )


class Inputs(nn.Module):
    """Convert observations: images to 0..1 (see `is_image`), classes to one-hot, the rest to float32.

    Args:
        space: of one observation: Box, Discrete, MultiDiscrete or MultiBinary.

    Attributes:
        shape: of one input of the encoder.

    Raises:
        RlabError: the space has no fixed shape.
    """

    def __init__(self, space: gym.Space):
        super().__init__()
        if space.shape is None:
            raise RlabError(f"encoders take Box, Discrete and Multi* observations, not {space}")
        self.classes = int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
        self.shape = (self.classes,) if self.classes else space.shape
        self.image = is_image(space)

    def forward(self, obs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """obs[..., *shape] in the space's dtype -> [..., *self.shape], images in `dtype`, the rest in float32."""
        if self.classes:
            return F.one_hot(obs.long(), self.classes).float()
        return obs.to(dtype).mul_(1 / 255) if self.image else obs.float()


class ObservationEncoder(nn.Module):
    """A registered encoder of observations; in training mode only where gradients are wanted, see `encode`.

    Args:
        space: of one observation: Box, Discrete, MultiDiscrete or MultiBinary.
        encoder: a registered name, or auto.
        memory: what remembers, see `rlab.nn.encoders.recurrent`; "" is nothing.

    Attributes:
        out_dim: D, the number of features.
        state_dim: S, numbers in a recurrent state; 0 without a memory.

    Raises:
        RlabError: the space has no fixed shape, or the encoder does not take it.
    """

    def __init__(self, space: gym.Space, encoder: str, memory: str = ""):
        super().__init__()
        self.inputs = Inputs(space)
        self.encoder = make_encoder(encoder, self.inputs.shape, bool(memory), memory=memory)
        self.state_dim = int(self.encoder.state_dim) if memory else 0  # type: ignore[arg-type]
        self.out_dim = int(self.encoder.out_dim)  # type: ignore[arg-type]
        self.modes = depends_on_mode(self.encoder, self.inputs.shape)
        self.eval()

    def forward(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] in the space's dtype -> features float32[B, D]; each may be the first of an episode."""
        if self.state_dim:
            first = torch.ones(1, len(obs), dtype=torch.bool, device=obs.device)
            return self.unroll(obs.unsqueeze(0), torch.zeros(len(obs), self.state_dim, device=obs.device), first)[0][0]
        features: Tensor = encode(self.encoder, self.modes, self.inputs(obs))
        return features

    def unroll(self, obs: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """With a memory: obs[T, B, *shape], state[B, S], first bool[T, B] -> features[T, B, D], state after them."""
        features, after = encode(self.encoder, self.modes, self.inputs(obs), state, first)
        return features, after
