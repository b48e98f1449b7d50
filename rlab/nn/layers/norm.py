"""Normalisation layers by name, and LayerNorm over channels, which torch has in another layout only."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.registry import Registry

NORMS: Registry[Callable[[nn.Module], nn.Module]] = Registry("norm")
"""name -> function from a linear layer or convolution to the same with that normalisation.

So one name serves layers of every dimension, and spectral norm, which is of weights, as well as the others, which are
of what the layer gives.
"""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm (Ba et al. 2016) over the C channels of each position by itself: maps[B, C, h, w] -> the same shape.

    What Flax calls LayerNorm of maps, and so what PQN's authors used. Over a whole map a ball of four pixels hardly
    moves the mean; here it decides its position's. Fastest on channels-last maps, which it does not copy.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, C, h, w]: mean 0 and variance 1 over C, then scaled and shifted per channel.

        In the precision of scale and shift, also for bfloat16 maps: on a CPU torch adds up their gradients in that of
        the maps, and over many positions they would be up to 30 % off.
        """
        return super().forward(maps.permute(0, 2, 3, 1).to(self.weight.dtype)).to(maps.dtype).permute(0, 3, 1, 2)


class ChannelNormReLU(ChannelNorm):
    """`ChannelNorm` and ReLU after it, as one layer: its keys are those of the norm."""

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, C, h, w] -> the same shape, nothing below 0."""
        return F.relu(super().forward(maps))


def _channels(layer: nn.Module) -> int:
    channels = getattr(layer, "out_channels", getattr(layer, "out_features", None))
    if not isinstance(channels, int):
        raise RlabError(f"a norm goes on a linear layer or a convolution, not on {type(layer).__name__}")
    return channels


@NORMS.register("none")
def unnormalised(layer: nn.Module) -> nn.Module:
    """Return the layer itself, without normalisation."""
    _channels(layer)
    return layer


@NORMS.register("batch")
def batch_norm(layer: nn.Module) -> nn.Module:
    """Normalise each channel over a batch and its positions; running moments in evaluation (Ioffe & Szegedy 2015)."""
    channels, dimensions = _channels(layer), layer.weight.dim()  # type: ignore[operator]
    norm = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(dimensions, nn.BatchNorm1d)
    return nn.Sequential(layer, norm(channels))


@NORMS.register("layer")
def layer_norm(layer: nn.Module) -> nn.Module:
    """Normalise each example over all its features, of maps over channels and positions (Ba et al. 2016).

    `ChannelNorm` is over the channels of each position by itself.
    """
    channels = _channels(layer)
    return nn.Sequential(layer, nn.LayerNorm(channels) if isinstance(layer, nn.Linear) else nn.GroupNorm(1, channels))


@NORMS.register("instance")
def instance_norm(layer: nn.Module) -> nn.Module:
    """Normalise each channel of each example over its positions (Ulyanov et al. 2016), with scale and shift."""
    channels = _channels(layer)
    if isinstance(layer, nn.Linear):
        raise RlabError("norm 'instance' is over the positions of maps, which a linear layer has not; nearest: layer")
    return nn.Sequential(layer, nn.GroupNorm(channels, channels))


@NORMS.register("group")
def group_norm(layer: nn.Module) -> nn.Module:
    """Normalise each example by groups of channels (Wu & He 2018): at most 32 groups, of at least 4 channels."""
    channels = _channels(layer)
    return nn.Sequential(layer, nn.GroupNorm(math.gcd(32, channels, max(channels // 4, 1)), channels))


@NORMS.register("spectral")
def spectral_norm(layer: nn.Module) -> nn.Module:
    """Divide weights by their largest singular value (Miyato et al. 2018), by torch's parametrization.

    Its estimate moves in every forward of training; that of `SpectralConv2d` only when it is told to.
    """
    _channels(layer)
    return nn.utils.parametrizations.spectral_norm(layer)
