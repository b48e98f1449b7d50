"""Measure the share of dead units: those that are 0 on a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rlab.nn.layers import ChannelNormReLU

RECTIFIERS = (nn.ReLU, ChannelNormReLU)


class Activity:
    """The units that were active while `watch` was open; a layer that computed twice counts twice."""

    def __init__(self) -> None:
        self._alive: list[Tensor] = []

    def record(self, output: Tensor) -> None:
        """Record a layer's output: maps[B, C, H, W] with C units, or features[..., D] with D units."""
        over = (0, 2, 3) if output.dim() == 4 else tuple(range(output.dim() - 1))
        self._alive.append((output != 0).amax(dim=over))

    def dead(self) -> float | None:
        """The share of units that were 0 wherever they were looked at, None if there were none.

        So a dormant neuron of threshold 0 (Sokar et al. 2023, definition 3.1).
        """
        return 1.0 - torch.cat(self._alive).float().mean().item() if self._alive else None


@contextmanager
def watch(network: nn.Module) -> Iterator[Activity]:
    """While open, record the outputs of a network's rectifying layers; the network is not changed."""
    activity = Activity()

    def look(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        activity.record(output.detach())

    hooks = [layer.register_forward_hook(look) for layer in network.modules() if isinstance(layer, RECTIFIERS)]
    try:
        yield activity
    finally:
        for hook in hooks:
            hook.remove()
