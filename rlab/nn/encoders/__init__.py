"""Encoders: observation or image to feature vector, found by name. Any head sits on any encoder."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.registry import Registry


class Encoder(Protocol):
    """What a registered factory returns: a `torch.nn.Module` with these members.

    It is made for the shape that `image_shape` gives and sees its inputs in that order: images are always [C, H, W],
    whatever an environment has.
    """

    out_dim: int
    """D, the number of features."""

    def __call__(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] (float, images scaled to 0..1) -> features[B, D]."""


Factory = Callable[[tuple[int, ...]], torch.nn.Module]


class Encoders(Registry[Factory]):
    """The registry of encoders, in which ``mlp-500-30`` is an mlp of layers with 500 and 30 units."""

    def get(self, name: str) -> Factory:
        """Look a name up.

        Raises:
            RlabError: the name is unknown; the message gives the nearest valid ones.
        """
        widths = mlp_widths(name)
        if not widths:
            return super().get(name)
        from rlab.nn.encoders.mlp import MLP

        return partial(MLP, widths=widths)

    def __contains__(self, name: str) -> bool:
        return bool(mlp_widths(name)) or super().__contains__(name)


def mlp_widths(name: str) -> tuple[int, ...]:
    """Read the widths out of a name: "mlp-500-30" -> (500, 30); of any other name ()."""
    found = re.fullmatch(r"mlp((?:-[1-9][0-9]{0,4})+)", name)
    return tuple(int(width) for width in found[1].split("-")[1:]) if found else ()


ENCODERS = Encoders("encoder")
"""name -> factory(input shape without batch) -> Encoder."""

SMALLEST = 5
"""Height and width below which nothing is taken for an image: a convolution would see next to nothing."""

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
        minatar,
        mlp,
        mobilenet,
        nature,
        neocognitron,
        recurrent,
        residual,
        resnet,
        vgg,
    )


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which encoders see inputs of a shape: [C, H, W] for three axes or a stack of such.

    Of three axes the last one holds the channels if the first two are at least 5 and either they alone agree (84x84x3,
    9x9x17), or the last one is shorter and at most 4, or less than half as long (210x160x3, 6x7x2). Else the first one
    does. A stack of K images has K times their channels. Other shapes stay as they are.
    """
    if len(shape) == 4:
        channels, *sides = image_shape(shape[1:])
        return (shape[0] * channels, *sides)
    return (shape[2], *shape[:2]) if is_channels_last(shape) else shape


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three axes holds the channels, by the rule of `image_shape`."""
    if len(shape) != 3:
        return False
    first, second, last = shape
    side = min(first, second)
    return side >= SMALLEST and (first == second != last or (last < side and (last <= 4 or 2 * last < side)))


def _reorder(encoder: torch.nn.Module, shape: tuple[int, ...]) -> None:
    """Let an encoder made for `image_shape(shape)` take inputs of that shape, whatever axes lie before it."""
    last, stacked = is_channels_last(shape[-3:]), len(shape) == 4

    def order(module: torch.nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = given[0].movedim(-1, -3) if last else given[0]
        return x.flatten(-4, -3) if stacked else x, *given[1:]

    if last or stacked:
        encoder.register_forward_pre_hook(order)


def make_encoder(
    name: str,
    shape: tuple[int, ...],
    recurrent: bool = False,
    batch: Tensor | None = None,
    memory: str = "lstm",
) -> torch.nn.Module:
    """Build an encoder for inputs of a shape; ``auto`` takes nature for images, minatar for small ones, mlp for the
    rest. Images may have their channels first or last, or be a stack of such (see `image_shape`).

    ``auto-norm`` does the same with LayerNorm: nature-norm, minatar-norm or mlp-norm. Activations, norms and
    initialisations are exchanged by ``+``: ``resnet20+silu+group+orthogonal`` (see `modifiers`).

    Args:
        name: a registered name, or auto, and parts.
        shape: of one input, without batch.
        recurrent: whoever asks carries a state: an encoder that has none gets a sequence encoder on top. The result
            takes ``(x[T, B, *shape], state[B, S], first bool[T, B])`` and gives ``(features[T, B, D], state)``; S is
            its ``state_dim``.
        batch: real inputs[B, *shape], for the initialisation lsuv.
        memory: the sequence encoder of a recurrent one, with options: ``gtrxl+layers=2`` (see `recurrent`).

    Raises:
        RlabError: the name is unknown, the encoder does not take that shape, or it is recurrent and nobody asked for
            that.
    """
    load_all()
    from rlab.nn.encoders import modifiers, nature
    from rlab.nn.encoders.recurrent import recurrent_encoder

    given, shape = shape, image_shape(shape)
    if recurrent:
        encoder = recurrent_encoder(name, shape, memory)
        _reorder(encoder, given)
    else:
        base = modifiers.split_name(name)[0]
        if base in AUTO:
            side = min(shape[1:]) if len(shape) == 3 else 0
            fits = "nature" if side >= nature.SMALLEST else "minatar" if side >= SMALLEST else "mlp"
            name, base = fits + name.removeprefix("auto"), fits + base.removeprefix("auto")
        encoder = ENCODERS.get(base)(shape)
        _reorder(encoder, given)
        if base != name:
            modifiers.exchange(encoder, name, batch)
        if getattr(encoder, "recurrent", False):
            raise RlabError(
                f"encoder '{name}' is recurrent, and this agent carries no state from step to step; nearest: the agent "
                "drqn, or --memory lstm where there is that flag"
            )
    if not isinstance(getattr(encoder, "out_dim", None), int):
        raise RlabError(f"encoder '{name}' has no integer attribute out_dim")
    return encoder
