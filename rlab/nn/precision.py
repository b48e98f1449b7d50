"""Choose the precision in which networks compute, and the memory layout of images."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

SMALL = 16
"""Images of less height and width, as MinAtar's, gain nothing from lying channels last."""


def use_bf16(precision: str, device: torch.device, images: bool) -> bool:
    """Whether an encoder computes in bf16: asked for, or images on hardware that is faster so."""
    if precision != "auto":
        return precision == "bf16"
    if not images:
        return False
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else bf16_pays()


def bf16_pays() -> bool:
    """Whether this processor is faster in bf16: with matrix instructions, or AMD's vectors.

    Intel's vectors alone are not: a Xeon with AVX-512 bf16 but without AMX had 84 GFLOP/s in bf16 and 162 in fp32.
    """
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and "Intel" not in able.get("cpu_name", "Intel")))


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[None]:
    """Within, layers compute in bf16 where torch says so, or, without `bf16`, in the precision of their inputs.

    An export is made in float32, and its format has no such context.
    """
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device.type, torch.bfloat16, bf16)


def channels_last(shape: tuple[int, ...], bf16: bool, norm: bool) -> bool:
    """Whether images [C, H, W] of a game should lie channels last: where maps are normed by place, and in fp32."""
    return len(shape) == 3 and (norm or (not bf16 and min(shape[1:]) >= SMALL))
