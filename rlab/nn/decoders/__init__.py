"""Decoders: codes to data, each the counterpart of an encoder; found by the encoder's name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.encoders import image_shape, is_channels_last, mlp_widths
from rlab.nn.encoders.modifiers import PLUS, exchange, split_name
from rlab.nn.init import INITS
from rlab.nn.layers.activations import ACTIVATIONS
from rlab.registry import Registry

Factory = Callable[[tuple[int, ...], int, tuple[int, ...]], nn.Module]

DECODERS: Registry[Factory] = Registry("decoder")
"""name -> factory(shape of the data without batch, numbers of a code, widths of hidden layers) -> decoder.

A decoder maps codes[B, D] to data[B, *shape], unbounded: logits of pixels, or the numbers themselves. `shape` is
[C, H, W] of images; only "mlp" looks at the widths.
"""


def load_all() -> None:
    """Register the decoders of the lab."""
    from rlab.nn.decoders import dense, upsampling  # noqa: F401 - they do it when imported


def decoder_of(encoder: str, shape: tuple[int, ...]) -> str:
    """Return the decoder that matches a registered encoder: "linear" to flat, "mlp" to those of dense layers and to
    what are no images, "upsampling" to all others.
    """
    base = split_name(encoder)[0]
    if base == "flat":
        return "linear"
    dense = base.startswith("mlp") or len(image_shape(shape)) != 3 or min(image_shape(shape)[1:]) < 2
    return "mlp" if dense else "upsampling"


def make_decoder(
    encoder: str, shape: tuple[int, ...], code_dim: int, *, layer: bool = True, name: str = ""
) -> nn.Module:
    """Build the decoder that matches a registered encoder: codes[B, code_dim] -> data[B, *shape], unbounded.

    That of an mlp is its mirror image, that of images grows from small maps to any height and width. An activation and
    an initialisation that the encoder's name asks for ("mlp+sigmoid+xavier-normal") are the decoder's, too; norms and
    lsuv are not.

    Args:
        encoder: its name, with its parts.
        shape: of one item; images may have their channels first or last, or be a stack of such.
        code_dim: numbers of a code.
        layer: whether a layer of its own makes codes of the encoder's features; else they are the code, and the mirror
            image has one layer less.
        name: a registered decoder in place of the matching one.

    Raises:
        RlabError: the decoder is unknown, or does not make this shape.
    """
    load_all()
    if code_dim < 1:
        raise RlabError(f"a code has {code_dim} numbers; it must have at least 1")
    base, parts = split_name(encoder)
    widths = mlp_widths(base) or (256, 256)
    hidden = widths[::-1] if layer else widths[-2::-1]
    decoder = DECODERS.get(name or decoder_of(encoder, shape))(image_shape(shape), code_dim, hidden)
    bends = any(isinstance(part, nn.ReLU) for part in decoder.modules())
    wanted = [p for p in parts if (bends and p in ACTIVATIONS) or (p in INITS and p != "lsuv")]
    if wanted:
        exchange(decoder, PLUS.join(["decoder", *wanted]), None)
    _reorder(decoder, shape)
    return decoder


def _reorder(decoder: nn.Module, shape: tuple[int, ...]) -> None:
    """Let a decoder of `image_shape(shape)` give that shape: the way back of what `make_encoder` does to inputs."""
    last, stacked = is_channels_last(shape[-3:]), len(shape) == 4

    def order(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        made = made.unflatten(1, (shape[0], -1)) if stacked else made
        return made.movedim(-3, -1) if last else made

    if last or stacked:
        decoder.register_forward_hook(order)
