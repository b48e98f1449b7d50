"""Sequence encoders: networks that map features over time to features, whole or step by step, found by name.

One class serves text, sound, agents that remember and world models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

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
