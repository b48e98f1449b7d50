"""Heads for action values: one number an action, or a distribution of returns in K numbers an action."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Linear = Callable[[int, int], nn.Module]
"""(inputs, outputs) -> a linear layer; `NoisyLinear` in place of `torch.nn.Linear` makes a head explore."""


class QHead(nn.Module):
    """features[..., D] -> Q[..., A] (Mnih et al. 2015), or [..., A, K] with `atoms` K above 1.

    Dueling (Wang et al. 2016, eq. 9): a second stream gives the state's value V, and
    Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a'); with atoms, atom by atom (Hessel et al. 2018).

    Args:
        in_dim: D.
        actions: A.
        atoms: K.
        dueling: whether there is a stream for the state's value.
        hidden: units of a hidden layer with ReLU in each stream; 0: none.
        linear: makes the layers.
    """

    def __init__(
        self,
        in_dim: int,
        actions: int,
        atoms: int = 1,
        dueling: bool = False,
        hidden: int = 0,
        linear: Linear = nn.Linear,
    ):
        super().__init__()
        self.atoms = atoms

        def stream(out_dim: int) -> nn.Module:
            if not hidden:
                return linear(in_dim, out_dim)
            return nn.Sequential(linear(in_dim, hidden), nn.ReLU(), linear(hidden, out_dim))

        self.values = stream(actions * atoms)  # the advantages, if dueling
        self.state_value = stream(atoms) if dueling else None

    def forward(self, features: Tensor) -> Tensor:
        """features[..., D] -> [..., A], or [..., A, K] if K > 1."""
        values: Tensor = self.values(features)
        if self.atoms > 1:
            values = values.unflatten(-1, (-1, self.atoms))
        if self.state_value is None:
            return values
        over = -1 if self.atoms == 1 else -2  # the axis of actions
        state_value = self.state_value(features)
        if self.atoms > 1:
            state_value = state_value.unsqueeze(-2)
        return state_value + values - values.mean(dim=over, keepdim=True)


class ImplicitQHead(nn.Module):
    """Quantiles of the return at any fractions: features[B, D], taus[B, N] -> [B, A, N] (Dabney et al. 2018b, eq. 4).

    The features are multiplied by phi(tau) = ReLU(linear(cos(pi i tau), i = 0 .. cosines - 1)) and go through a
    `QHead`.

    Args:
        in_dim: D.
        actions: A.
        cosines: of the embedding of a fraction.
        dueling, hidden, linear: of the `QHead`.
    """

    def __init__(
        self,
        in_dim: int,
        actions: int,
        cosines: int = 64,
        dueling: bool = False,
        hidden: int = 0,
        linear: Linear = nn.Linear,
    ):
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(cosines, in_dim), nn.ReLU())
        self.head = QHead(in_dim, actions, 1, dueling, hidden, linear)
        self.frequencies: Tensor  # [cosines]
        self.register_buffer("frequencies", math.pi * torch.arange(cosines).float(), persistent=False)

    def forward(self, features: Tensor, taus: Tensor) -> Tensor:
        """features[B, D], taus[B, N] in 0..1 -> quantiles[B, A, N]."""
        phi = self.embedding((taus.unsqueeze(-1) * self.frequencies).cos())  # [B, N, D]
        quantiles: Tensor = self.head(features.unsqueeze(1) * phi)  # [B, N, A]
        return quantiles.transpose(1, 2)
