"""A recurrent model of an environment: what is seen, paid and over next, given all that was seen and done.

Of vectors the next observation is a mixture of Gaussians for each number (Bishop 1994; the MDN-RNN of Ha & Schmidhuber
2018). Small images such as MinAtar's, whose cells are on or off, need no autoencoder: each cell is a probability.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.inputs import Inputs
from rlab.nn.sequence import make_sequence_encoder

LARGEST = 4_096
"""Numbers of an observation at the most: each of them is predicted."""


class WorldModel(nn.Module):
    """Codes of observations and actions -> distribution of the next code, reward, and whether the episode is over.

    Args:
        space: of one observation.
        actions: A.
        width: units of the GRU.
        hidden: units of the layer that predicts.
        mixtures: K, Gaussians for each number of a vector.

    Attributes:
        size: D, numbers of a code: the observation, flat; of vectors standardised.
        state_dim: S, numbers of what is remembered.

    Raises:
        RlabError: observations are too large.
    """

    def __init__(self, space: gym.Space[Any], actions: int, width: int, hidden: int, mixtures: int):
        super().__init__()
        self.inputs = Inputs(space)
        self.size, self.actions, self.mixtures = math.prod(self.inputs.shape), actions, mixtures
        self.binary = self.inputs.image or bool(self.inputs.classes)
        if self.size > LARGEST:
            raise RlabError(
                f"world-model takes observations of at most {LARGEST:,} numbers, for it predicts each, not "
                f"{self.size:,}; nearest: --env MinAtar/Breakout"
            )
        self.memory = make_sequence_encoder("gru", self.size + actions, width)
        self.state_dim = int(self.memory.state_dim)  # type: ignore[arg-type]
        each = 1 if self.binary else 3 * mixtures
        self.body = nn.Sequential(nn.Linear(width + self.size + actions, hidden), nn.ReLU())
        self.next = nn.Linear(hidden, self.size * each)
        # Whether an episode is over shows in what comes next, as in a pole that has fallen.
        self.outcome = nn.Sequential(
            nn.Linear(width + 2 * self.size + actions, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))

    def standardise(self, obs: np.ndarray) -> None:
        """Let codes of vectors obs[n, *shape] have mean 0 and deviation 1."""
        if not self.binary:
            rows = self.inputs(torch.from_numpy(obs)).flatten(1)
            self.shift.copy_(rows.mean(0))
            self.scale.copy_(rows.std(0).clamp_min(1e-3))

    def code(self, obs: Tensor) -> Tensor:
        """obs[..., *shape] -> codes [..., D]."""
        flat = self.inputs(obs).reshape(
            *obs.shape[: obs.ndim - (len(self.inputs.shape) - bool(self.inputs.classes))], -1
        )
        return (flat - self.shift) / self.scale

    def joined(self, code: Tensor, action: Tensor) -> Tensor:
        """code[..., D], action int64[...] -> [..., D + A]."""
        return torch.cat([code, F.one_hot(action, self.actions).float()], -1)

    def unroll(self, given: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Remember joined[B, T, D + A] from state[B, S], first bool[B, T] -> (memory after each [B, T, W], state)."""
        memory: tuple[Tensor, Tensor] = self.memory.unroll(given, state, first)  # type: ignore[operator]
        return memory

    def step(self, given: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The same, one step on: joined[B, D + A], state[B, S] -> (memory [B, W], state after it)."""
        memory: tuple[Tensor, Tensor] = self.memory.step(given, state)  # type: ignore[operator]
        return memory

    def predict(self, memory: Tensor, given: Tensor) -> Tensor:
        """memory[..., W], joined[..., D + A] -> what `draw` draws the next code from [..., D, each]."""
        nexts: Tensor = self.next(self.body(torch.cat([memory, given], -1)))
        return nexts.unflatten(-1, (self.size, -1))

    def judge(self, memory: Tensor, given: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """The same and the next code[..., D] -> reward [...], logit of the end [...]."""
        reward, over = self.outcome(torch.cat([memory, given, code], -1)).unbind(-1)
        return reward, over

    def surprise(self, nexts: Tensor, code: Tensor, before: Tensor) -> Tensor:
        """Negative log-likelihood of the next code[..., D] in nats, summed over D; before[..., D] is the present."""
        if self.binary:
            return F.binary_cross_entropy_with_logits(nexts.squeeze(-1), code, reduction="none").sum(-1)
        log_p, mean, log_std = self._mixture(nexts)
        z = (code - before).unsqueeze(-1).sub(mean) * (-log_std).exp()
        each = log_p - 0.5 * z * z - log_std - 0.5 * math.log(2 * math.pi)
        return -each.logsumexp(-1).sum(-1)

    def draw(self, nexts: Tensor, before: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Draw the next code[..., D]; with a higher temperature it is less certain."""
        if self.binary:
            p = (nexts.squeeze(-1) / temperature).sigmoid()
            return (_uniform(p.shape, generator, p.device) < p).float()
        log_p, mean, log_std = self._mixture(nexts)
        gumbel = -(-_uniform(log_p.shape, generator, log_p.device).clamp(1e-20, 1 - 1e-7).log()).log()
        chosen = (log_p / temperature + gumbel).argmax(-1, keepdim=True)
        noise = torch.randn(before.shape, generator=generator).to(before.device)
        std = log_std.gather(-1, chosen).squeeze(-1).exp() * math.sqrt(temperature)
        return before + mean.gather(-1, chosen).squeeze(-1) + std * noise

    def _mixture(self, nexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log weights, means of the change, log deviations: [..., D, K] each."""
        weight, mean, log_std = nexts.chunk(3, -1)
        return weight.log_softmax(-1), mean, log_std.clamp(-7, 3)


def _uniform(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator).to(device)  # drawn on the CPU, alike on every device
