"""Recurrent encoders: any sequence encoder with a state on any feed-forward encoder, as DRQN has an LSTM there.

What remembers is named by a text: a registered name and options, ``gtrxl+layers=2+width=64``. With ``in_dim=N`` a
linear layer of the agent's own makes N features of those below; so an encoder that was trained on something else fits
on any observations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS, make_encoder
from rlab.nn.encoders.modifiers import PLUS, split_name
from rlab.nn.precision import autocast
from rlab.nn.sequence import make_sequence_encoder

MOST = 512
"""Units at the most (Hausknecht & Stone 2015); on a narrower encoder as many as it has features."""


@dataclass(frozen=True)
class Memory:
    """What remembers: the registered name of a sequence encoder, and its options; `str` makes the text of it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return PLUS.join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def read_memory(text: str) -> Memory:
    """Read ``name+option=value+...``; whole numbers, numbers, true and false are read as such.

    Raises:
        RlabError: a part is no option.
    """
    name, *parts = text.split(PLUS)
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key.isidentifier() and equals and value):
            raise RlabError(f"--memory is '{text}', and '{part}' is no option; write name{PLUS}option=value")
        options[key] = _value(value)
    return Memory(name, options)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


class LSTM(nn.LSTMCell):
    """An LSTM (Hochreiter & Schmidhuber 1997), which forgets where an episode starts.

    `torch.nn.LSTM` resets nothing on its way. The state is hidden and cell beside each other.

    Args:
        in_dim: features that come in.
        width: units.
    """

    causal = True

    def __init__(self, in_dim: int, width: int):
        super().__init__(in_dim, width)
        self.in_dim, self.out_dim, self.state_dim = in_dim, width, 2 * width

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """See `rlab.nn.sequence.SequenceEncoder.unroll`."""
        keep = (~first).float().T.unsqueeze(2)
        # What the observations give is computed at once, in the order of time.
        given = F.linear(x.transpose(0, 1), self.weight_ih, self.bias_ih + self.bias_hh)  # [T, B, 4 D]
        out = []
        h, c = state.chunk(2, dim=1)
        for t in range(len(given)):
            h, c = keep[t] * h, keep[t] * c
            i, f, g, o = (given[t] + F.linear(h, self.weight_hh)).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out).transpose(0, 1), torch.cat([h, c], dim=1)


class RecurrentEncoder(nn.Module):
    """Observations go through a feed-forward encoder one by one, and through a sequence encoder in the order of time.

    The state is one flat tensor, so that a replay stores it without knowing what is in it. Where `first`, an episode
    starts: the state before it is zero there, whatever came in.

    Args:
        shape: of one observation.
        below: name of the feed-forward encoder.
        memory: what remembers, see `read_memory`.
    """

    recurrent = True

    def __init__(self, shape: tuple[int, ...], below: str = "auto", memory: str = "lstm"):
        super().__init__()
        self.below = make_encoder(below, shape)
        features: int = self.below.out_dim  # type: ignore[assignment]
        self.core = make_core(memory, features)
        width: int = self.core.in_dim  # type: ignore[assignment]
        self.project = nn.Identity() if width == features else nn.Linear(features, width)
        self.out_dim: int = self.core.out_dim  # type: ignore[assignment]
        self.state_dim: int = self.core.state_dim  # type: ignore[assignment]

    def forward(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x[T, B, *shape], state[B, state_dim], first bool[T, B] -> (features[T, B, D], state after them).

        What remembers computes in float32, whatever the encoder below does: rounding would pile up over time.
        """
        features = self.below(x.flatten(0, 1)).unflatten(0, first.shape)
        with autocast(x.device, bf16=False):
            given = self.project(features.float()).transpose(0, 1)
            out, state = self.core.unroll(given, state, first.T)  # type: ignore[operator]
        return out.transpose(0, 1), state


def make_core(memory: str, features: int) -> nn.Module:
    """Make the sequence encoder that a text names, with a state and for so many features.

    Raises:
        RlabError: there is none of that name, it has no such option, it carries no state from step to step, or it knows
            no more positions than its context has, which an episode may outlast.
    """
    wanted = read_memory(memory)
    options = dict(wanted.options)
    in_dim = options.pop("in_dim", features)
    options.setdefault("width", min(in_dim, MOST))
    if wanted.name == "lstm" and options.keys() == {"width"}:
        return LSTM(in_dim, options["width"])
    core = make_sequence_encoder(wanted.name, in_dim, **options)
    if not (core.state_dim and core.causal):
        raise RlabError(f"--memory is '{wanted.name}', which carries no state from step to step; nearest: gru")
    if getattr(core, "positions", "") == "learned":
        raise RlabError(
            f"--memory is '{wanted.name}' with learned positions, which end with its context of {core.context} steps, "
            "and an episode may go on; nearest: positions=rotary"
        )
    return core


@ENCODERS.register("lstm")
def lstm(shape: tuple[int, ...]) -> RecurrentEncoder:
    """An LSTM on the encoder that auto takes; ``make_encoder(name, shape, recurrent=True)`` puts one on any other."""
    return RecurrentEncoder(shape)


def recurrent_encoder(name: str, shape: tuple[int, ...], memory: str = "lstm") -> nn.Module:
    """The recurrent encoder of a name, or what remembers on the feed-forward one of that name.

    Raises:
        RlabError: the name is unknown, or the encoder below does not take that shape.
    """
    base, parts = split_name(name)
    if base == "lstm" or base.startswith("auto"):
        return RecurrentEncoder(shape, PLUS.join(["auto" if base == "lstm" else base, *parts]), memory)
    made = ENCODERS.get(base)(shape)
    if not getattr(made, "recurrent", False):
        return RecurrentEncoder(shape, name, memory)
    if parts:
        raise RlabError(f"encoder '{base}' is recurrent, so its parts cannot be exchanged; nearest: {base}")
    if memory != "lstm":
        raise RlabError(f"encoder '{base}' remembers by itself, so --memory {memory} has no place; nearest: lstm")
    if not isinstance(getattr(made, "state_dim", None), int):
        raise RlabError(f"encoder '{name}' is recurrent, but has no integer attribute state_dim")
    return made
