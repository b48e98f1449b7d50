"""Normalisation layers by name, and LayerNorm over channels, which torch has in another layout only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
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
        """maps[B, C, h, w]: mean 0 and variance 1 over C, then scaled and shifted per channel."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelNormReLU(ChannelNorm):
    """`ChannelNorm` and ReLU after it; bfloat16 maps that lie channels last on a CPU take one pass for both."""

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, C, h, w] -> the same shape, nothing below 0."""
        rows = maps.permute(0, 2, 3, 1)
        plain = maps.device.type != "cpu" or maps.dtype != torch.bfloat16 or not rows.is_contiguous()
        if plain or torch.compiler.is_compiling():
            return F.relu(super().forward(maps))
        return _NormReLU.apply(rows, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class _NormReLU(Function):
    """relu(layer_norm(rows)) of rows bf16[..., C], by `norm_kernels`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        from rlab.nn.layers import norm_kernels

        out, channels = torch.empty_like(rows), rows.shape[-1]
        moments = torch.empty(rows.numel() // channels, 2)
        norm_kernels.forward(_halves(rows), _floats(weight), _floats(bias), eps, _halves(out), moments.numpy())
        ctx.save_for_backward(rows, weight, bias, moments)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        from rlab.nn.layers import norm_kernels

        rows, weight, bias, moments = ctx.saved_tensors
        d_rows, d_affine = torch.empty_like(rows), torch.zeros(2, rows.shape[-1])
        norm_kernels.backward(
            _halves(rows),
            _halves(d_out.contiguous()),
            _floats(weight),
            _floats(bias),
            moments.numpy(),
            _halves(d_rows),
            d_affine.numpy(),
        )
        return d_rows, d_affine[0], d_affine[1], None


def _halves(rows: Tensor) -> Any:
    """The bits of rows bf16[..., C] as an array [R, C] on the same memory."""
    return rows.detach().view(torch.uint16).view(-1, rows.shape[-1]).numpy()


def _floats(numbers: Tensor) -> Any:
    return numbers.detach().float().numpy()


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
