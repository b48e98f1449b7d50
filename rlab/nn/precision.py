"""In how many bits networks compute."""

from __future__ import annotations

import torch


def use_bf16(precision: str, device: torch.device, images: bool) -> bool:
    """Whether an encoder computes in bf16: asked for, or images on hardware that has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if not images:
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
