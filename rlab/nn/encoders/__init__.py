"""Encoders: observation or image to feature vector, found by name. Any head sits on any encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.registry import Registry


class Encoder(Protocol):
    """What a registered factory returns: a `torch.nn.Module` with these members."""

    out_dim: int
    """D, the number of features."""

    def __call__(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] (float, images scaled to 0..1) -> features[B, D]."""


ENCODERS: Registry[Callable[[tuple[int, ...]], torch.nn.Module]] = Registry("encoder")
"""name -> factory(input shape without batch) -> Encoder."""

AUTO = ("auto", "auto-norm")
"""Names that stand for an encoder by the shape of its input."""


def load_all() -> None:
    """Register the encoders of the lab."""
    from rlab.nn.encoders import (  # noqa: F401 - they do it when imported
        alexnet,
        densenet,
        go_resnet,
        googlenet,
        impala,
        lenet,
        lstm,
        minatar,
        mlp,
        mobilenet,
        nature,
        neocognitron,
        residual,
        resnet,
        vgg,
    )


def make_encoder(
    name: str, shape: tuple[int, ...], recurrent: bool = False, batch: Tensor | None = None
) -> torch.nn.Module:
    """Build an encoder for inputs of a shape; ``auto`` takes nature for images [C, H, W], minatar for
    small ones, mlp for the rest.

    ``auto-norm`` does the same with LayerNorm: nature-norm, minatar-norm or mlp-norm. Activations, norms and
    initialisations are exchanged by ``+``: ``resnet20+silu+group+orthogonal`` (see `parts`).

    Args:
        name: a registered name, or auto, and parts.
        shape: of one input, without batch.
        recurrent: whoever asks carries a state: an encoder that has none gets an LSTM on top (see `lstm`). The result
            takes ``(x[T, B, *shape], state[B, S], first bool[T, B])`` and gives ``(features[T, B, D], state)``; S is
            its ``state_dim``.
        batch: real inputs[B, *shape], for the initialisation lsuv.

    Raises:
        RlabError: the name is unknown, the encoder does not take that shape, or it is recurrent and nobody asked for
            that.
    """
    load_all()
    from rlab.nn.encoders import lstm, minatar, nature, parts

    if recurrent:
        encoder = lstm.recurrent_encoder(name, shape)
    else:
        base = parts.split_name(name)[0]
        if base in AUTO:
            side = min(shape[1:]) if len(shape) == 3 else 0
            fits = "nature" if side >= nature.SMALLEST else "minatar" if side >= minatar.SMALLEST else "mlp"
            name, base = fits + name.removeprefix("auto"), fits + base.removeprefix("auto")
        encoder = ENCODERS.get(base)(shape)
        if base != name:
            parts.exchange(encoder, name, batch)
        if getattr(encoder, "recurrent", False):
            raise RlabError(
                f"encoder '{name}' is recurrent, and this agent carries no state from step to step; nearest: the agent "
                "drqn, or --recurrent where there is that flag"
            )
    if not isinstance(getattr(encoder, "out_dim", None), int):
        raise RlabError(f"encoder '{name}' has no integer attribute out_dim")
    return encoder
