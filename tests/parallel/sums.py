"""Sums over ranks that are threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch import Tensor


class Sums:
    """What `rlab.parallel.group.Group.sum` does, between threads."""

    def __init__(self, world: int):
        self.world, self.barrier = world, threading.Barrier(world)
        self.parts: dict[int, Tensor] = {}

    def of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def total(tensor: Tensor) -> Tensor:
            self.parts[rank] = tensor.clone()
            self.barrier.wait(60)
            tensor.zero_()
            for other in range(self.world):
                tensor += self.parts[other]
            self.barrier.wait(60)
            return tensor

        return total
