"""Action values from features."""

from __future__ import annotations

from torch import Tensor, nn


class QHead(nn.Module):
    """One linear layer: features[B, D] -> Q[B, A] (Mnih et al. 2015)."""

    def __init__(self, in_dim: int, actions: int):
        super().__init__()
        self.values = nn.Linear(in_dim, actions)

    def forward(self, features: Tensor) -> Tensor:
        """features[B, D] -> Q[B, A]."""
        return self.values(features)
