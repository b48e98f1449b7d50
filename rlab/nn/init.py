"""Weights at the start."""

from __future__ import annotations

from torch import nn


def orthogonal(module: nn.Module, gain: float) -> None:
    """Make the weights of all convolutions and linear layers orthogonal times `gain`, their biases 0.

    Saxe et al. 2014; a gain of sqrt(2) keeps the size of activations through ReLUs.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
