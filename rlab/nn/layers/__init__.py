"""Layers that torch does not have."""

from rlab.nn.layers.noisy import NoisyLinear
from rlab.nn.layers.norm import ChannelNorm, ChannelNormReLU
from rlab.nn.layers.spectral import SpectralConv2d

__all__ = ["ChannelNorm", "ChannelNormReLU", "NoisyLinear", "SpectralConv2d"]
