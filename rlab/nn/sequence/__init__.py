"""Sequence encoders: networks that map features over time to features, whole or step by step, found by name.

One class serves text, sound, agents that remember and world models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from rlab.errors import RlabError, nearest
from rlab.registry import Registry


class SequenceEncoder(Protocol):
    """What a registered factory returns: a `torch.nn.Module` with these members.

    A state is one flat tensor [B, S] for each sequence, so that a replay or a checkpoint stores it without knowing
    what is in it; zeros are the state before the first step.
    """

    in_dim: int
    """D, the number of features that come in at each step."""
    out_dim: int
    """D', the number of features that go out."""
    state_dim: int
    """S, the numbers in a state; 0 where there is no step with a state, as in a bidirectional network."""
    causal: bool
    """Whether an output depends on no later input."""

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """features[B, T, D] and mask bool[B, T] (False: padding) -> [B, T, D']; padding comes out as 0."""

    def unroll(self, x: Tensor, state: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """features[B, T, D], state[B, S], first bool[B, T] -> ([B, T, D'], state after them).

        Where `first`, a sequence starts: the state before it is zero there, whatever came in.
        """

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features[B, D], state[B, S] -> ([B, D'], state after it)."""


SEQUENCE_ENCODERS: Registry[Callable[..., nn.Module]] = Registry("sequence encoder")
"""name -> factory(in_dim, width=..., layers=..., **options) -> SequenceEncoder."""


def load_all() -> None:
    """Register the sequence encoders of the lab."""
    from rlab.nn.sequence import elman, recurrent, transformer  # noqa: F401 - they do it when imported


def make_sequence_encoder(
    name: str, in_dim: int, width: int = 256, layers: int = 1, dropout: float = 0.0, **options: Any
) -> nn.Module:
    """Build a sequence encoder, a network over time, by its name.

    >>> encoder = make_sequence_encoder("gru", in_dim=3, width=8)
    >>> features = encoder(torch.zeros(2, 5, 3))  # two sequences of five steps
    >>> features.shape
    torch.Size([2, 5, 8])
    >>> state = torch.zeros(2, encoder.state_dim)
    >>> features, state = encoder.step(torch.zeros(2, 3), state)  # one step of each

    Args:
        name: a registered one: rnn, lstm, lstm-peephole, lstm-1997 (without forget gate), gru, gru-before (reset before
            the product), mingru; birnn, bilstm, bigru; transformer, gtrxl.
        in_dim: D, features of each input.
        width: features of each layer.
        layers: how many, one on the other.
        dropout: probability to drop a feature in training.
        options: of that encoder: see `recurrent.Recurrent` and `transformer.Transformer`.

    Returns:
        A `SequenceEncoder`.

    Raises:
        RlabError: the name or an option is unknown, or a value does not fit.
    """
    load_all()
    factory = SEQUENCE_ENCODERS.get(name)
    for what, value in (("in_dim", in_dim), ("width", width), ("layers", layers)):
        if value < 1:
            raise RlabError(f"sequence encoder '{name}' takes {what} of 1 or more, not {value}")
    given = options | ({"dropout": dropout} if dropout else {})
    parameters = inspect.signature(factory).parameters
    if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        for option in given:
            if option not in parameters:
                known = set(parameters) - {"in_dim", "width", "layers"}
                raise RlabError(f"sequence encoder '{name}' has no option '{option}'; {nearest(option, known)}")
    return factory(in_dim, width=width, layers=layers, **given)
