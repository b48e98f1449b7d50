"""A stage of a pipeline in a process of its own, for tests."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlab.parallel.group import Group
from rlab.parallel.pipeline import Stage

TRIES = 4
"""Steps, of which the one with the least waiting counts: other programs make stages wait longer, never shorter."""


class Slow(torch.autograd.Function):
    """Takes its time, both ways, without computing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        time.sleep(seconds)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        time.sleep(ctx.seconds)
        return slope, None


class Sleeping(nn.Module):
    def __init__(self, seconds: float):
        super().__init__()
        self.weight, self.seconds = nn.Parameter(torch.ones(())), seconds

    def forward(self, x: Tensor) -> Tensor:
        return Slow.apply(x * self.weight, self.seconds)


def measured(group: Group, request: dict[str, Any]) -> dict[str, Any]:
    """How far this stage's gradients and the loss are from those of the whole network, and its share of waiting."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 10), nn.GELU(), nn.LayerNorm(10), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3)
    ).double()
    x, y = torch.randn(29, 6).double(), torch.randint(0, 3, (29,))
    loss = cross_entropy(model(x), y)
    loss.backward()
    here = model[3 * group.rank : 3 * group.rank + 3]
    slopes = [p.grad for p in here.parameters()]
    here.zero_grad(set_to_none=True)
    micro, seconds = request["micro"], request["seconds"]
    found = Stage(here, micro[-1], group).step(x, y, cross_entropy)
    errors = [(a - p.grad).abs().max() for a, p in zip(slopes, here.parameters(), strict=True) if a is not None]
    waits = []
    for number in micro:
        stage, tries = Stage(Sleeping(seconds), number, group), []
        for _ in range(TRIES):
            stage.step(torch.ones(number, 1), torch.ones(number, 1), lambda a, b: (a - b).square().mean())
            tries.append(stage.waits)
        waits.append(min(tries))
    return {"error": max(map(float, [*errors, (found - loss.detach()).abs()])), "waits": waits}
