"""Convolution of one channel, max-pooling 2x2 and ReLU as one matrix product, for CPUs.

oneDNN works on 16 channels at a time, so the first convolution of grey images leaves most of each instruction unused.
Here overlapping patches of the image are rows, and the weights, repeated at each place that the kernel can take inside
a patch, are the matrix that they are multiplied with: some products are by zeros, but all instructions are full. What
lies around the product goes by compiled loops in `conv_pool_kernels`. LeNet's first stage takes a third of the time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from rlab.nn.layers.pool import HalvingPool

TILE = 4
"""A patch becomes so many rows and columns of the convolution, and half as many of the pooling."""

CHUNK = 64
"""Images at a time, so that what is between the loops stays near the processor."""


class GreyConvolutions(nn.Sequential):
    """`torch.nn.Sequential`; a (Conv2d, HalvingPool, ReLU) at its start is computed at once for grey images on a CPU.

    In float32, also under autocast, which would not be faster. Whoever looks inside by hooks gets module by module.
    """

    def forward(self, images: Tensor) -> Tensor:
        """images[B, C, H, W] -> what the last module gives."""
        modules = list(self)
        if not _suits(modules[:3], images):
            return super().forward(images)
        conv: Any = modules[0]
        with torch.autocast("cpu", enabled=False):
            maps = conv_pool(images.float(), conv.weight, conv.bias, conv.padding[0])
        for module in modules[3:]:
            maps = module(maps)
        return maps


def _suits(modules: list[nn.Module], images: Tensor) -> bool:
    """Whether three modules are what `conv_pool` computes of these images, and nobody listens to them."""
    if [type(module) for module in modules] != [nn.Conv2d, HalvingPool, nn.ReLU]:
        return False
    if type(images) is not Tensor:  # one that only stands for numbers, as where multiply-adds are counted
        return False
    if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules):
        return False
    conv: Any = modules[0]
    kernel, frame = conv.kernel_size[0], conv.padding[0]
    sides = [side + 2 * frame - kernel + 1 for side in images.shape[2:]]
    return bool(
        conv.in_channels == 1
        and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
        and (conv.kernel_size, conv.padding) == ((kernel, kernel), (frame, frame))
        and conv.padding_mode == "zeros"
        and conv.bias is not None
        and all(side > 0 and side % TILE == 0 for side in sides)
        and conv.weight.device.type == images.device.type == "cpu"
        and conv.weight.dtype == torch.float32
        and not images.requires_grad
        and not torch.compiler.is_compiling()
    )


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor, frame: int) -> Tensor:
    """relu(max_pool2d(conv2d(x, weight, bias, padding=frame), 2)), without a gradient of x.

    Args:
        x: float32[B, 1, H, W] on the CPU.
        weight: [D, 1, k, k].
        bias: [D].
        frame: zeros around the image; H + 2 frame - k + 1, and so for W, are multiples of `TILE`.

    Returns:
        float32[B, D, h, w], channels last. A number of x that is not finite spoils all that its patches become.
    """
    if not torch.is_grad_enabled():
        weight, bias = weight.detach(), bias.detach()
    pooled: Tensor = _ConvPool.apply(x, weight, bias, frame)
    return pooled


def _plain(x: Tensor, weight: Tensor, bias: Tensor, frame: int) -> Tensor:
    return F.relu(F.max_pool2d(F.conv2d(x, weight, bias, padding=frame), 2))


class _ConvPool(Function):
    """Rows of the product: image, patch's row and column. Its columns: place in the pooling, in the patch, map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, frame: int) -> Tensor:
        from rlab.nn.layers import conv_pool_kernels as kernels

        batch, (maps, _, kernel, _) = len(x), weight.shape
        side = TILE + kernel - 1
        grid = [(s + 2 * frame - kernel + 1) // TILE for s in x.shape[2:]]
        matrix = _spread(weight)
        keep = any(ctx.needs_input_grad)
        patches = x.new_empty(batch if keep else min(CHUNK, batch), *grid, side, side)
        product = x.new_empty(min(CHUNK, batch), *grid, 4, len(matrix) // 4)
        place = x.new_empty(len(patches), *grid, len(matrix) // 4)
        out = x.new_empty(batch, *(s * TILE // 2 for s in grid), maps)
        arrays = [
            tensor.detach().numpy() for tensor in (x.reshape(batch, *x.shape[2:]), patches, product, bias, out, place)
        ]
        a_image, a_patches, a_product, a_bias, a_out, a_place = arrays
        for part in _parts(batch):
            n = part.stop - part.start
            to = part if keep else slice(0, n)
            kernels.cut(a_image[part], a_patches[to], TILE, frame)
            torch.mm(patches[to].view(-1, side * side), matrix.T, out=product[:n].view(-1, len(matrix)))
            kernels.pool(a_product[:n], a_bias, a_out[part], a_place[to])
        ctx.save_for_backward(x, weight, bias, patches, place)
        ctx.frame = frame
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        from rlab.nn.layers import conv_pool_kernels as kernels

        x, weight, bias, patches, place = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have one itself
            wanted = [t for t in (weight, bias) if t.requires_grad]
            out = _plain(x, weight, bias, ctx.frame)
            gradients = iter(torch.autograd.grad(out, wanted, d_out, create_graph=True))
            return (None, *(next(gradients) if t.requires_grad else None for t in (weight, bias)), None)
        columns, taps = 4 * place.shape[3], patches.shape[3] * patches.shape[4]
        d_matrix, d_bias = x.new_zeros(columns, taps), torch.zeros_like(bias)
        d_product = x.new_empty(min(CHUNK, len(x)), *place.shape[1:3], 4, place.shape[3])
        given = d_out.permute(0, 2, 3, 1).contiguous()
        a_place, a_given, a_product, a_bias = (tensor.numpy() for tensor in (place, given, d_product, d_bias))
        for part in _parts(len(x)):
            n = part.stop - part.start
            kernels.unpool(a_place[part], a_given[part], a_product[:n], a_bias)
            d_matrix.addmm_(d_product[:n].view(-1, columns).T, patches[part].view(-1, taps))
        return None, _gathered(d_matrix, weight), d_bias, None


def _parts(batch: int) -> list[slice]:
    return [slice(lo, min(lo + CHUNK, batch)) for lo in range(0, batch, CHUNK)]


def _spread(weight: Tensor) -> Tensor:
    """weight[D, 1, k, k] -> [TILE * TILE D, side * side], side being TILE + k - 1: a row for each place and map."""
    maps, _, kernel, _ = weight.shape
    padded = F.pad(weight.reshape(maps, -1), (0, 1))[:, _sources(kernel)]
    return padded.permute(1, 0, 2).reshape(TILE * TILE * maps, -1)


def _gathered(d_matrix: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `_spread`: d_matrix -> [D, 1, k, k]."""
    maps, _, kernel, _ = weight.shape
    places = _places(kernel)
    of_places = d_matrix.view(len(places), maps, -1).gather(2, places[:, None].expand(-1, maps, -1))
    return of_places.sum(0).view(weight.shape)


@lru_cache
def _places(kernel: int) -> Tensor:
    """int64[TILE * TILE, k * k]: where in a patch [side, side] lies what the kernel sees from each place.

    Places of the pooling come first, then those of the patch: the four of which the largest is taken lie apart.
    """
    side, cells = TILE + kernel - 1, range(TILE // 2)
    of = [(2 * i + y, 2 * j + x) for y in (0, 1) for x in (0, 1) for i in cells for j in cells]
    return torch.tensor([[(y + u) * side + x + v for u in range(kernel) for v in range(kernel)] for y, x in of])


@lru_cache
def _sources(kernel: int) -> Tensor:
    """int64[TILE * TILE, side * side], the other way round: which of a kernel's numbers lies there; k * k: none."""
    places, side = _places(kernel), TILE + kernel - 1
    sources = torch.full((len(places), side * side), kernel * kernel)
    return sources.scatter_(1, places, torch.arange(kernel * kernel).expand(len(places), -1))
