"""How long a network takes for one input and for many, in the precisions and engines that there are for it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlab.compress.export import run_session
from rlab.nn.graph import Graph
from rlab.nn.onnx import session_of
from rlab.run.contract import Stop, seconds_of

BATCHES = (1, 256)

SECONDS = 0.1
"""For which a batch is repeated, once it has been seen to take less."""

LONGEST = 20.0
"""Seconds above which a batch is not tried, by what one input takes."""


@dataclass(frozen=True)
class Latency:
    """What a network takes in one precision.

    Attributes:
        name: precision and engine, such as "int8, ONNX Runtime".
        threads: of the engine.
        seconds: the fastest of several calls, batch -> seconds; None where that would have taken too long.
    """

    name: str
    threads: int
    seconds: dict[int, float | None]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values, in milliseconds."""
        ms = {str(batch): None if t is None else 1000 * t for batch, t in self.seconds.items()}
        return {"name": self.name, "threads": self.threads, "ms": ms}


def latencies(graph: Graph, files: dict[str, Path], stop: Stop) -> list[Latency]:
    """Measure a network on this machine's CPU: in torch as fp32 and bf16, and what was exported.

    Args:
        graph: the network.
        files: name -> an ONNX file of it.
        stop: polled between calls.

    Raises:
        Stopped: a stop was requested.
    """
    module, threads = graph.module.cpu().eval(), torch.get_num_threads()

    def in_torch(*inputs: Tensor) -> object:
        return module(*inputs)

    with torch.inference_mode():
        rows = [Latency("fp32, torch", threads, _measured(graph, in_torch, stop))]
        with _in_bf16(module):
            rows.append(Latency("bf16, torch", threads, _measured(graph, in_torch, stop)))
    for name, file in files.items():
        session = session_of(file, threads)

        def in_engine(*inputs: Tensor, session: Any = session) -> object:
            return run_session(session, graph, inputs)

        rows.append(Latency(f"{name}, ONNX Runtime", threads, _measured(graph, in_engine, stop, plain=True)))
    return rows


def table(rows: Sequence[Latency]) -> list[str]:
    """Lay out some latencies as lines of text, in milliseconds."""
    if not rows:
        return []
    head = f"latency in ms, {rows[0].threads} thread{'s' if rows[0].threads > 1 else ''}"
    lines = [head.ljust(28) + "".join(f"batch {batch}".rjust(12) for batch in rows[0].seconds)]
    for row in rows:
        cells = ["-" if t is None else f"{1000 * t:.3g}" for t in row.seconds.values()]
        lines.append(f"  {row.name}".ljust(28) + "".join(cell.rjust(12) for cell in cells))
    return lines


def repeated(graph: Graph, batch: int) -> list[Tensor]:
    """Make a batch of a graph's examples, as often as it takes: [B, ...] of each input."""
    return [
        x.repeat(math.ceil(batch / len(x)), *(1,) * (x.dim() - 1))[:batch].contiguous() for x in graph.inputs.values()
    ]


def _measured(graph: Graph, call: Callable[..., object], stop: Stop, plain: bool = False) -> dict[int, float | None]:
    found: dict[int, float | None] = {}
    each = 0.0
    for batch in BATCHES:
        inputs = repeated(graph, batch)
        if not plain:
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
        found[batch] = None if each * batch > LONGEST else _fastest(partial(call, *inputs), stop)
        each = each or found[batch] or 0.0
    return found


def _fastest(call: Callable[[], object], stop: Stop) -> float:
    seconds = seconds_of(call, 1, stop)
    times = int(SECONDS / seconds)
    return min(seconds, seconds_of(call, times, stop)) if times > 1 else seconds


@contextlib.contextmanager
def _in_bf16(module: nn.Module) -> Iterator[None]:
    """Within, a network computes in bfloat16, also one that decides on it by itself."""
    own: list[Any] = [part for part in module.modules() if hasattr(part, "bf16")]
    before = [part.bf16 for part in own]
    for part in own:
        part.bf16 = True
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        for part, value in zip(own, before, strict=True):
            part.bf16 = value
