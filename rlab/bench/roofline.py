"""What a processor can do at the most: by its arithmetic, or by its memory (the roofline of Williams et al. 2009).

An operation with few products for each byte waits for memory, however many products a second the processor could make.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def best_seconds(work: Callable[[], Any], seconds: float, device: str = "cpu") -> float:
    """The shortest time of a call among those of so many seconds."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    work()
    wait()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        work()
        wait()
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end:
            return best


def layers(device: str) -> dict[str, tuple[Callable[[], Tensor], float, float]]:
    """Name -> (work, floating-point operations, bytes that it must read and write): float32, larger than caches."""
    size = 4096
    x1, x256 = torch.rand(1, size, device=device), torch.rand(256, size, device=device)
    dense = nn.Linear(size, size, bias=False, device=device)
    maps = torch.rand(128, 64, 28, 28, device=device)
    few = maps[:16].contiguous()
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False, device=device)
    depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False, device=device)
    n, weights = maps.numel(), size * size
    return {
        "ReLU on maps": (lambda: maps.relu(), n, 8.0 * n),
        "dense, batch 1": (lambda: dense(x1), 2.0 * weights, 4.0 * (weights + 2 * size)),
        "dense, batch 256": (lambda: dense(x256), 512.0 * weights, 4.0 * (weights + 512 * size)),
        "conv 3x3 per channel": (lambda: depthwise(maps), 18.0 * n, 8.0 * n),
        "conv 3x3": (lambda: conv(few), 18.0 * 64 * few.numel(), 4.0 * (2 * few.numel() + 9 * 64 * 64)),
    }


def measure(threads: int, seconds: float, say: Callable[[str], None], device: str = "cpu") -> dict[str, Any]:
    """Measure the roof, and how far below it common layers are.

    Args:
        threads: of torch.
        seconds: of each measurement.
        say: told what is being measured.
        device: torch device.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        say("memory and arithmetic ...")
        source = torch.rand(16 << 20, device=device)
        target = torch.empty_like(source)
        bandwidth = 8 * source.numel() / best_seconds(lambda: target.copy_(source), seconds, device)
        a = torch.rand(1024, 1024, device=device)
        peak = 2 * 1024**3 / best_seconds(lambda: a @ a, seconds, device)
        done: dict[str, tuple[float, float]] = {}
        with torch.no_grad():
            for name, (work, operations, moved) in layers(device).items():
                say(f"{name} ...")
                done[name] = (operations / best_seconds(work, seconds, device), operations / moved)
    finally:
        torch.set_num_threads(before)
    peak = max(peak, *(speed for speed, _ in done.values()))  # a busy machine may have disturbed the product
    rows = [
        {
            "layer": name,
            "intensity": intensity,
            "gflops": speed / 1e9,
            "roof_gflops": min(peak, intensity * bandwidth) / 1e9,
            "limited_by": "arithmetic" if intensity * bandwidth > peak else "memory",
        }
        for name, (speed, intensity) in done.items()
    ]
    return {
        "device": device,
        "threads": threads,
        "gbytes_per_s": bandwidth / 1e9,
        "peak_gflops": peak / 1e9,
        "ridge": peak / bandwidth,
        "rows": rows,
    }
