"""Heads for policies and state values on the features of any encoder."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

FORBIDDEN = torch.finfo(torch.float32).min
"""The logit of an action that must not be taken: its probability is exactly 0."""

SMALL = 0.01
"""Gain of a policy's last layer: the first policy is then nearly the same everywhere (Andrychowicz et al. 2021)."""


class Categorical(NamedTuple):
    """A distribution over A actions for each of B states: normalised log-probabilities[B, A]."""

    log_p: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """log pi(a|s) of int64[B] -> [B]."""
        return self.log_p.gather(1, action.long().unsqueeze(1)).squeeze(1)

    def entropy(self) -> Tensor:
        """-sum_a p log p -> [B]; a forbidden action adds 0."""
        return -(self.log_p.exp() * self.log_p).sum(1)

    def sample(self, uniform: Tensor) -> Tensor:
        """Draw int64[B] with uniform numbers [B, A] in [0, 1), by the largest log p - log(-log u) (Gumbel 1954)."""
        gumbel = -(-uniform.clamp_min(torch.finfo(torch.float32).tiny).log()).log()
        return (self.log_p + gumbel).argmax(1)

    def mode(self) -> Tensor:
        """The most probable action, int64[B]."""
        return self.log_p.argmax(1)


class Gaussian(NamedTuple):
    """Independent normal distributions over actions of K numbers: mean[B, K], log_std[K]."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """log pi(a|s) of float[B, K] -> [B]."""
        z = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * z * z - self.log_std - 0.5 * math.log(2 * math.pi)).sum(1)

    def entropy(self) -> Tensor:
        """Sum of 0.5 log(2 pi e) + log_std -> [B]."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(len(self.mean))

    def sample(self, normal: Tensor) -> Tensor:
        """Shift and scale standard normal numbers [B, K] -> [B, K]; no bound is applied."""
        return self.mean + self.log_std.exp() * normal

    def mode(self) -> Tensor:
        """The mean, [B, K]."""
        return self.mean


Policy = Categorical | Gaussian


class CategoricalHead(nn.Module):
    """One linear layer: features[B, D] -> a distribution over A actions."""

    def __init__(self, in_dim: int, actions: int):
        super().__init__()
        self.logits = nn.Linear(in_dim, actions)
        _start_small(self.logits)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Categorical:
        """features[B, D], mask bool[B, A] (True: allowed) or None -> Categorical over [B, A]."""
        logits = self.logits(features)
        if mask is not None:
            logits = torch.where(mask, logits, FORBIDDEN)
        return Categorical(torch.log_softmax(logits, 1))


class GaussianHead(nn.Module):
    """One linear layer for the means of K numbers; their standard deviations depend on no state.

    As in Schulman et al. 2015 (TRPO, appendix D).
    """

    def __init__(self, in_dim: int, numbers: int, log_std: float = 0.0):
        super().__init__()
        self.mean = nn.Linear(in_dim, numbers)
        self.log_std = nn.Parameter(torch.full((numbers,), log_std))
        _start_small(self.mean)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Gaussian:
        """features[B, D] -> Gaussian over [B, K]; there is no mask for continuous actions."""
        return Gaussian(self.mean(features), self.log_std)


class ValueHead(nn.Module):
    """One linear layer: features[B, D] -> V[B]."""

    def __init__(self, in_dim: int):
        super().__init__()
        self.value = nn.Linear(in_dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features[B, D] -> V[B]."""
        return self.value(features).squeeze(1)


def _start_small(layer: nn.Linear) -> None:
    nn.init.orthogonal_(layer.weight, SMALL)
    nn.init.zeros_(layer.bias)
