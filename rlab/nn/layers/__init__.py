"""Layers that torch does not have, and its own by name."""

from rlab.nn.layers.activations import ACTIVATIONS
from rlab.nn.layers.noisy import NoisyLinear
from rlab.nn.layers.norm import NORMS, ChannelNorm, ChannelNormReLU
from rlab.nn.layers.spectral import SpectralConv2d
from rlab.nn.layers.stochastic import (
    DropConnectLinear,
    GaussianNoise,
    VariationalDropout,
    drawing_from,
    dropout_mask,
    noisy_weights,
)

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "ChannelNorm",
    "ChannelNormReLU",
    "DropConnectLinear",
    "GaussianNoise",
    "NoisyLinear",
    "SpectralConv2d",
    "VariationalDropout",
    "drawing_from",
    "dropout_mask",
    "noisy_weights",
]
