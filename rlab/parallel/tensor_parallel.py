"""Layers split over processes: each has some of the units, and they exchange activations at every step.

As in Megatron-LM (Shoeybi et al. 2019): the first layer of a pair is split by its outputs, the second by its inputs, so
that one sum forward and one backward are all that is exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlab.errors import RlabError

Total = Callable[[Tensor], Tensor]
"""Adds up a tensor over all processes, in place, and returns it (`rlab.parallel.group.Group.sum`)."""


class SplitPair(nn.Module):
    """The part of one process of Linear, activation, Linear: x[B, D] -> y[B, O], the whole output in each.

    Args:
        first: the whole first layer; units are its outputs.
        activation: what comes between, unit by unit.
        second: the whole second layer.
        rank: the process's number.
        world: how many there are.
        total: see `Total`.

    Raises:
        RlabError: there are fewer units than processes, or the layers do not follow each other.
    """

    def __init__(self, first: nn.Linear, activation: nn.Module, second: nn.Linear, rank: int, world: int, total: Total):
        super().__init__()
        units = first.out_features
        if second.in_features != units:
            raise RlabError(f"a layer of {units} units is followed by one of {second.in_features} inputs")
        if not 0 <= rank < world or world > units:
            raise RlabError(f"{units} units cannot be split over {world} processes (rank {rank}); nearest: {units}")
        mine = torch.arange(units).tensor_split(world)[rank]
        self.first = nn.Linear(first.in_features, len(mine), bias=first.bias is not None)
        self.second = nn.Linear(len(mine), second.out_features, bias=False)
        self.activation, self.total = activation, total
        with torch.no_grad():
            self.first.weight.copy_(first.weight[mine])
            if first.bias is not None:
                self.first.bias.copy_(first.bias[mine])
            self.second.weight.copy_(second.weight[:, mine])
        self.bias = None if second.bias is None else nn.Parameter(second.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x[B, D] -> y[B, O]."""
        y = _SumForward.apply(self.second(self.activation(self.first(_SumBackward.apply(x, self.total)))), self.total)
        return y if self.bias is None else y + self.bias


class _SumForward(torch.autograd.Function):
    """Outputs are summed over processes; the gradient of each part is that of the sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, total: Total) -> Tensor:
        return total(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _SumBackward(torch.autograd.Function):
    """The input goes to all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, total: Total) -> Tensor:
        ctx.total = total
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.total(gradient.clone()), None
