"""Walks down functions of a few numbers, for studies of optimisers: every start is a row of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.nn.optim import make_optimiser, scale_rates
from rlab.seeding import derive

Surface = Callable[[Tensor], Tensor]
"""x[N, D] -> [N]; a row's value depends on that row alone."""


def walk(
    surface: Surface,
    starts: Any,
    optimiser: str,
    steps: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    schedule: Callable[[float], float] | None = None,
    **options: Any,
) -> np.ndarray:
    """Let an optimiser go down from each start by itself (so not `lbfgs`, which looks at all rows together).

    Args:
        surface: what is minimised.
        starts: [N, D].
        optimiser: a registered name.
        steps: updates.
        seed: of the noise.
        noise: standard deviation of what is added to every partial derivative.
        schedule: part of the walk -> factor of the learning rate; None: it stays.
        options: of the optimiser, as `lr`.

    Returns:
        [steps + 1, N, D]; not finite from where a row diverges.
    """
    x = torch.tensor(np.asarray(starts, float), requires_grad=True)
    stepping = make_optimiser(optimiser, [x], **options)
    generator = torch.Generator().manual_seed(derive(seed, "noise"))
    path = np.empty((steps + 1, *x.shape))
    path[0] = starts
    for step in range(steps):
        if schedule is not None:
            scale_rates(stepping, schedule(step / steps))
        (x.grad,) = torch.autograd.grad(surface(x).sum(), x)
        if noise:
            x.grad += noise * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        stepping.step()
        path[step + 1] = x.detach().numpy()
    return path


def tuned(rates: Sequence[float], value: Callable[[float], float], worst: float) -> tuple[float, float]:
    """The smallest value that a learning rate of the grid comes to, and that rate.

    Args:
        rates: what is tried.
        value: rate -> what shall be small.
        worst: stands for what is not finite, and for all beyond it.
    """
    ends = [(min(v, worst) if math.isfinite(v := value(rate)) else worst, rate) for rate in rates]
    return min(ends)


def spectrum(condition: float, size: int) -> np.ndarray:
    """Curvatures [size] from 1 / condition to 1, the same ratio from one to the next."""
    return np.geomspace(1 / condition, 1, size)
