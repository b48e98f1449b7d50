"""Micro-batches: gradients of a batch piece by piece, on one machine (accumulation) or over stages (GPipe).

Huang et al. 2019: stages of a network work on different micro-batches at the same time. Before the first and after the
last one stages wait for each other: (p - 1) / (m + p - 1) of the time with p stages and m micro-batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.parallel.group import Group
from rlab.tasks.task import Learn, Losses, backpropagate

Tick = dict[int, int]
"""Stage -> the micro-batch that it works on."""


def accumulated(parts: int) -> Learn:
    """Make what a task learns by (`SingleLossTask.learn`), with the activations of one micro-batch in memory at a time.

    The gradient is that of the whole batch, for each micro-batch counts by what its loss is divided by; BatchNorm sees
    micro-batches.

    Args:
        parts: micro-batches of a batch, at the most.

    Raises:
        RlabError: there are none.
    """
    if parts < 1:
        raise RlabError(f"a batch is learned from in at least 1 micro-batch, not {parts}")

    def learn(
        losses: Callable[[Batch], Losses], denominator: Callable[[Batch], float], batches: Sequence[Batch]
    ) -> Losses:
        micro = [
            _part(batch, items)
            for batch in batches
            for items in torch.arange(len(batch)).tensor_split(min(parts, len(batch)))
        ]
        return backpropagate(losses, denominator, micro)

    return learn


def _part(batch: Batch, items: Tensor) -> Batch:
    def of(node: Any) -> Any:
        if isinstance(node, Tensor):
            return node[items.to(node.device)]
        if isinstance(node, dict):
            return {name: of(value) for name, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [node[i] for i in items] if len(node) == len(batch) else type(node)(of(value) for value in node)
        return node

    return replace(batch, tensors=of(dict(batch.tensors)), items=batch.items[items])


def ticks(stages: int, micro: int) -> list[Tick]:
    """Plan a step: forward through all stages, then back; in a tick each stage works on one micro-batch or waits.

    Raises:
        RlabError: there are fewer micro-batches than stages, so that some stages would never work at the same time.
    """
    if stages < 1 or micro < stages:
        raise RlabError(
            f"{micro} micro-batches cannot keep {stages} stages of a pipeline busy; nearest: {max(stages, 1)}"
        )
    length = micro + stages - 1
    forward = [{s: t - s for s in range(stages) if 0 <= t - s < micro} for t in range(length)]
    return forward + [dict(tick) for tick in reversed(forward)]


def bubble(plan: Sequence[Tick], stages: int) -> float:
    """The share of a plan in which stages wait: (p - 1) / (m + p - 1)."""
    return 1 - sum(map(len, plan)) / (stages * len(plan))


class Pipeline:
    """A network cut into stages, which exchange activations and gradients for each micro-batch.

    Here the stages work in turn, tick by tick as planned, so that equality and waiting can be seen on one processor;
    `Stage` is one of them in a process of its own.

    Args:
        stages: parts of the network, each fed with what the one before returns.
        micro: micro-batches of a step.

    Raises:
        RlabError: there are fewer micro-batches than stages, or a stage has BatchNorm, whose moments would be those of
            micro-batches.
    """

    def __init__(self, stages: Sequence[nn.Module], micro: int):
        self.stages, self.micro = list(stages), micro
        self.plan = ticks(len(stages), micro)
        self.sent = 0
        """Numbers that stages have sent to each other."""
        for stage in stages:
            _refuse_batch_norm(stage)

    def step(self, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Add the gradients of the mean loss of a batch to the parameters; return the loss.

        Args:
            x: [B, ...], with at least as many rows as there are micro-batches.
            y: targets, [B, ...].
            loss: (outputs, targets) -> their mean loss.
        """
        xs, ys = _split(x, y, self.micro)
        last = len(self.stages) - 1
        inputs: dict[tuple[int, int], Tensor] = {(0, m): part for m, part in enumerate(xs)}
        outputs: dict[tuple[int, int], Tensor] = {}
        gradients: dict[tuple[int, int], Tensor] = {}
        total = torch.zeros(())
        half = len(self.plan) // 2
        for number, tick in enumerate(self.plan):
            for s, m in tick.items():
                if number < half:
                    outputs[s, m] = self.stages[s](inputs[s, m])
                    if s < last:
                        inputs[s + 1, m] = self._send(outputs[s, m]).requires_grad_()
                    continue
                if s == last:
                    share = loss(outputs.pop((s, m)), ys[m]) * (len(ys[m]) / len(y))
                    share.backward()
                    total = total + share.detach()
                else:
                    outputs.pop((s, m)).backward(gradients.pop((s, m)))
                arrived = inputs.pop((s, m))
                if s:
                    assert arrived.grad is not None
                    gradients[s - 1, m] = self._send(arrived.grad)
        return total

    def _send(self, tensor: Tensor) -> Tensor:
        self.sent += tensor.numel()
        return tensor.detach().clone()


class Stage:
    """A stage of a pipeline in a process of its own, which exchanges activations and gradients with its neighbours.

    Every process makes its stage and calls `step` with the same batch; the ranks of the group are the places in the
    network.

    Args:
        module: this process's part of the network, fed with what the one before returns.
        micro: micro-batches of a step.
        group: the processes.

    Raises:
        RlabError: there are fewer micro-batches than stages, or the stage has BatchNorm, whose moments would be those
            of micro-batches.
    """

    def __init__(self, module: nn.Module, micro: int, group: Group):
        self.module, self.micro, self.group = module, micro, group
        self.plan = [tick[group.rank] for tick in ticks(group.world, micro) if group.rank in tick]
        self.seconds = self.busy = 0.0
        """Of the last step, and the part of it in which this stage computed."""
        _refuse_batch_norm(module)

    def step(self, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Add the gradients of the mean loss of a batch to the parameters; return the loss, in every process.

        Args:
            x: [B, ...], with at least as many rows as there are micro-batches; used by the first stage.
            y: targets, [B, ...]; used by the last one.
            loss: (outputs, targets) -> their mean loss.

        Raises:
            LostRank: a process does not answer.
        """
        xs, ys = _split(x, y, self.micro)
        group, rank, last = self.group, self.group.rank, self.group.world - 1
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        sent: list[Callable[[], None]] = []
        total = torch.zeros((), dtype=torch.float64, device=group.device)
        began, self.busy = time.perf_counter(), 0.0
        for m in self.plan[: self.micro]:
            given = group.receive(rank - 1).requires_grad_() if rank else xs[m]
            with self._computing():
                made = self.module(given)
            if rank < last:
                sent.append(group.send(made.detach(), rank + 1))
            kept[m] = given, made
        for m in self.plan[self.micro :]:
            given, made = kept.pop(m)
            slope = group.receive(rank + 1) if rank < last else None
            with self._computing():
                if slope is None:
                    made = loss(made, ys[m]) * (len(ys[m]) / len(y))
                    total += made.detach()
                made.backward(slope)
            if rank:
                assert given.grad is not None
                sent.append(group.send(given.grad, rank - 1))
        for wait in sent:
            wait()
        group.sum(total)
        self.seconds = time.perf_counter() - began
        return total

    @property
    def waits(self) -> float:
        """The share of the last step in which this stage waited for others: (p - 1) / (m + p - 1) if all are alike."""
        return 1 - self.busy / self.seconds

    @contextmanager
    def _computing(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.busy += time.perf_counter() - began


def _refuse_batch_norm(stage: nn.Module) -> None:
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in stage.modules()):
        raise RlabError("BatchNorm over micro-batches is not that of the batch; nearest: GroupNorm or LayerNorm")


def _split(x: Tensor, y: Tensor, micro: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    if len(x) < micro:
        raise RlabError(f"{len(x)} examples do not make {micro} micro-batches; nearest: {len(x)}")
    return x.tensor_split(micro), y.tensor_split(micro)
