"""A recurrent encoder: an LSTM (Hochreiter & Schmidhuber 1997) on any feed-forward encoder, as DRQN has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.encoders import ENCODERS, make_encoder
from rlab.nn.encoders.modifiers import PLUS, split_name

MOST = 512
"""Units at the most (Hausknecht & Stone 2015); below a narrower encoder as many as it has features."""


class Lstm(nn.Module):
    """Observations go through a feed-forward encoder one by one, and through an LSTM in the order of time.

    The state is one flat tensor, hidden and cell beside each other, so that a memory stores it without knowing what
    is in it. Where `first`, an episode starts: the state before it is zero there, whatever came in.

    Args:
        shape: of one observation.
        below: name of the feed-forward encoder.
    """

    recurrent = True

    def __init__(self, shape: tuple[int, ...], below: str = "auto"):
        super().__init__()
        self.below = make_encoder(below, shape)
        features: int = self.below.out_dim  # type: ignore[assignment]
        self.core = nn.LSTMCell(features, min(features, MOST))
        self.out_dim = self.core.hidden_size
        self.state_dim = 2 * self.out_dim

    def forward(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x[T, B, *shape], state[B, state_dim], first bool[T, B] -> (features[T, B, D], state after them).

        The LSTM itself computes in float32, whatever the encoder below does: rounding would pile up over time.
        """
        features = self.below(x.flatten(0, 1)).unflatten(0, first.shape)
        core, keep = self.core, (~first).float().unsqueeze(2)
        out = []
        with torch.autocast(x.device.type, enabled=False):
            # torch.nn.LSTM resets nothing on its way. As there, what the observations give is computed at once.
            given = F.linear(features.float(), core.weight_ih, core.bias_ih + core.bias_hh)  # [T, B, 4 D]
            h, c = state.chunk(2, dim=1)
            for t in range(len(first)):
                h, c = keep[t] * h, keep[t] * c
                i, f, g, o = (given[t] + F.linear(h, core.weight_hh)).chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                out.append(h)
        return torch.stack(out), torch.cat([h, c], dim=1)


@ENCODERS.register("lstm")
def lstm(shape: tuple[int, ...]) -> Lstm:
    """An LSTM on the encoder that auto takes; ``make_encoder(name, shape, recurrent=True)`` puts one on any other."""
    return Lstm(shape)


def recurrent_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """The recurrent encoder of a name, or an LSTM on the feed-forward one of that name.

    Raises:
        RlabError: the name is unknown, or the encoder below does not take that shape.
    """
    base, parts = split_name(name)
    if base == "lstm" or base.startswith("auto"):
        return Lstm(shape, PLUS.join(["auto" if base == "lstm" else base, *parts]))
    made = ENCODERS.get(base)(shape)
    if not getattr(made, "recurrent", False):
        return Lstm(shape, name)
    if parts:
        raise RlabError(f"encoder '{base}' is recurrent, so its parts cannot be exchanged; nearest: {base}")
    if not isinstance(getattr(made, "state_dim", None), int):
        raise RlabError(f"encoder '{name}' is recurrent, but has no integer attribute state_dim")
    return made
