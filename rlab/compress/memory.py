"""How much memory a network takes for one input and for many: its weights, and the tensors of a forward pass.

Tensors are counted while they live, so that the number is the same on every run and machine. What kernels use within an
operation, and the process itself, are not in it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlab.compress.latency import BATCHES, repeated
from rlab.nn.graph import Graph


@dataclass(frozen=True)
class Memory:
    """What a network takes in fp32.

    Attributes:
        name: of the network, in words.
        weights: bytes of its parameters and buffers.
        activations: batch -> the most bytes that inputs, outputs and what lies between take at once.
    """

    name: str
    weights: int
    activations: dict[int, int]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values, in bytes."""
        return {
            "name": self.name,
            "weights": self.weights,
            "activations": {str(batch): size for batch, size in self.activations.items()},
        }


def memory(graph: Graph, name: str, batches: Sequence[int] = BATCHES) -> Memory:
    """Count the bytes of a network's weights and of the tensors of its forward pass, for several batches."""
    module = graph.module.cpu().eval()
    held = [*module.parameters(), *module.buffers()]
    activations = {}
    for batch in batches:
        inputs = [x.clone() for x in repeated(graph, batch)]
        with torch.inference_mode(), _Living(held, inputs) as living:
            module(*inputs)
        activations[batch] = living.most
    return Memory(name, sum(tensor.nbytes for tensor in held), activations)


def memory_table(rows: Sequence[Memory]) -> list[str]:
    """Lay out what some networks take as lines of text, in MB."""
    if not rows:
        return []
    batches = list(rows[0].activations)
    lines = [
        "memory in MB, fp32".ljust(28) + "".join(t.rjust(12) for t in ("weights", *(f"batch {b}" for b in batches)))
    ]
    for row in rows:
        sizes = [row.weights, *(row.activations.get(batch) for batch in batches)]
        cells = ["-" if size is None else f"{size / 1e6:.3g}" for size in sizes]
        lines.append(f"  {row.name}".ljust(28) + "".join(cell.rjust(12) for cell in cells))
    return lines


class _Living(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, as long as they live.

    Args:
        known: tensors that do not count, nor their views.
        inputs: what is there from the start.
    """

    def __init__(self, known: Sequence[Tensor], inputs: Sequence[Tensor]):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.owners: Counter[int] = Counter()
        self.now = self.most = 0
        for x in inputs:
            self._add(x)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.known:
            return
        self.now += 0 if self.owners[place] else size
        self.owners[place] += 1
        self.most = max(self.most, self.now)
        weakref.finalize(tensor, self._remove, place, size)

    def _remove(self, place: int, size: int) -> None:
        self.owners[place] -= 1
        self.now -= 0 if self.owners[place] else size
