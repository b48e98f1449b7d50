"""Networks of agents that compute differently in training and in evaluation, by dropout or BatchNorm.

An agent learns in training mode; it acts, makes targets and is evaluated in evaluation mode. Which of the two it does
is told by whether gradients are wanted. Most networks have no modes, and cost nothing here.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from rlab.nn.layers import drawing_from
from rlab.seeding import derive


def depends_on_mode(encoder: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether an encoder computes, draws or keeps anything else in training than in evaluation.

    It is tried out on a copy, so that a user's own layers are known, too.

    Args:
        encoder: of inputs[B, *shape], or a recurrent one.
        shape: of one input.
    """
    results = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for mode in (False, True):
            torch.manual_seed(0)
            x = torch.rand(2, *shape)
            given: tuple[Any, ...] = (x,)
            if getattr(encoder, "recurrent", False):
                width: int = encoder.state_dim  # type: ignore[assignment]
                given = x.unsqueeze(0), torch.zeros(2, width), torch.ones(1, 2, dtype=torch.bool)
            tried = copy.deepcopy(encoder).train(mode)
            output = tried(*given)
            results.append(
                [*(output if isinstance(output, tuple) else (output,)), *tried.buffers(), torch.get_rng_state()]
            )
    return not all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def encode(encoder: nn.Module, modes: bool, *given: Any) -> Any:
    """Call an encoder: in training mode where gradients are wanted, else in evaluation mode.

    What is frozen stays in evaluation mode. The encoder is in evaluation mode before and after.

    Args:
        encoder: in evaluation mode.
        modes: what `depends_on_mode` says of it.
        given: its inputs.
    """
    if not (modes and torch.is_grad_enabled()):
        return encoder(*given)
    below = getattr(encoder, "below", encoder)  # a recurrent layer may learn on a frozen encoder
    encoder.train()
    if not any(p.requires_grad for p in below.parameters()):
        below.eval()
    try:
        return encoder(*given)
    finally:
        encoder.eval()


def drawing_for(modes: bool, device: torch.device, seed: int, *of: str | int) -> AbstractContextManager[None]:
    """While open, what layers draw follows from the seed and what it is drawn for, such as an update's number.

    So a checkpoint needs no state of a generator. Without modes nothing is drawn, and nothing is done.

    Args:
        modes: what `depends_on_mode` says, or True where it was not asked.
        device: where the layers are.
        seed: of the run.
        of: what is drawn for.
    """
    return drawing_from(torch.Generator().manual_seed(derive(seed, *of)), device) if modes else nullcontext()
