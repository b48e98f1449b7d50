"""Encoders with another activation, norm or initialisation: ``lenet5+silu+group+orthogonal``; or narrower ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from rlab.errors import RlabError, nearest
from rlab.nn.encoders.narrow import narrow
from rlab.nn.init import INITS, LAYERS, initialise
from rlab.nn.layers import ChannelNorm, ChannelNormReLU
from rlab.nn.layers.activations import ACTIVATIONS, BENDS
from rlab.nn.layers.norm import NORMS
from rlab.registry import Registry

PLUS = "+"

WIDTH = "width="
"""What a part begins with that says how narrow the layers are; see `rlab.nn.encoders.narrow`."""

NORMALISERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
"""Modules that a norm stands in for."""


def split_name(name: str) -> tuple[str, list[str]]:
    """ "lenet5+silu" -> ("lenet5", ["silu"])."""
    base, *parts = name.split(PLUS)
    return base, parts


def without_start(name: str) -> str:
    """The same encoder for weights that are learned already: "lenet5+silu+lsuv" -> "lenet5+silu"."""
    base, parts = split_name(name)
    return PLUS.join([base, *(part for part in parts if part not in INITS)])


def with_widths(name: str, widths: Sequence[int]) -> str:
    """Name the same encoder with layers of other widths: "lenet5+silu" -> "lenet5+width=3.8.60.42+silu"."""
    base, parts = split_name(name)
    others = (part for part in parts if not part.startswith(WIDTH))
    return PLUS.join([base, f"{WIDTH}{'.'.join(map(str, widths))}", *others])


def exchange(encoder: nn.Module, name: str, batch: Tensor | None) -> None:
    """Give an encoder the parts that its name asks for, each of a kind once.

    An activation replaces every other. A norm replaces every other, or follows every layer where there was none; on
    linear layers, which have no positions, "instance" is no norm. Layers without a bias get one if no norm shifts what
    they give. An initialisation gives all layers new weights. Before all that, a width makes the layers narrower.

    Args:
        encoder: changed in place.
        name: with its parts.
        batch: real inputs[B, *shape], which lsuv asks for.

    Raises:
        RlabError: a part is unknown or comes twice, or the encoder has nothing to exchange.
    """
    base, parts = split_name(name)
    chosen: dict[str, str] = {}
    for part in parts:
        kinds = [kind for kind, known in _KNOWN.items() if part in known] or ["width"] * part.startswith(WIDTH)
        if not kinds:
            known = [one for names in _KNOWN.values() for one in names]
            raise RlabError(f"encoder '{name}': there is no activation, norm or initialisation '{part}'; "
                            f"{nearest(part, known)}")  # fmt: skip
        if kinds[0] in chosen:
            raise RlabError(f"encoder '{name}' asks for two of one kind: {kinds[0]} '{chosen[kinds[0]]}' and '{part}'")
        chosen[kinds[0]] = part
    if "width" in chosen:
        narrow(encoder, base, chosen["width"].removeprefix(WIDTH))
    if "norm" in chosen and not _norms(encoder, chosen["norm"]):
        raise RlabError(f"encoder '{base}' has no layer that a norm could follow; nearest: {base}")
    if "activation" in chosen and not _activations(encoder, chosen["activation"]):
        raise RlabError(f"encoder '{base}' has no activation that could be exchanged; nearest: {base}")
    if "initialisation" in chosen:
        initialise(encoder, chosen["initialisation"], batch)


_KNOWN: dict[str, Registry[Any]] = {"activation": ACTIVATIONS, "norm": NORMS, "initialisation": INITS}


def _places(module: nn.Module, kinds: tuple[Any, ...]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(parent, name in it, child) of every child of these kinds, listed before any is exchanged."""
    parents = list(module.modules())
    yield from [(p, name, child) for p in parents for name, child in p.named_children() if isinstance(child, kinds)]


def _activations(encoder: nn.Module, name: str) -> int:
    """Exchange all; returns how many."""
    make, count = ACTIVATIONS.get(name), 0
    for parent, key, child in _places(encoder, (*BENDS, ChannelNormReLU)):
        if isinstance(child, ChannelNormReLU):
            setattr(parent, key, nn.Sequential(ChannelNorm(child.normalized_shape), make()))
        else:
            setattr(parent, key, make())
        count += 1
    return count


def _norms(encoder: nn.Module, name: str) -> int:
    """Exchange all, or add one to every layer; returns how many."""
    places = list(_places(encoder, NORMALISERS))
    layers = list(_places(encoder, LAYERS))
    norm = NORMS.get(name)
    for parent, key, child in places:
        fused = isinstance(child, ChannelNormReLU)
        new = _alone(norm, name, child)
        setattr(parent, key, nn.Sequential(new, nn.ReLU()) if fused else new)
    for parent, key, layer in layers:
        if name in UNSHIFTED and layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
        if name == "spectral" or (not places and _fits(name, layer)):
            setattr(parent, key, norm(layer))
    return len(places) or len(layers)


UNSHIFTED = ("none", "spectral")
"""Norms that leave a layer's own bias to shift what it gives."""


def _fits(name: str, layer: nn.Module) -> bool:
    return name != "instance" or not isinstance(layer, nn.Linear)


def _alone(norm: Callable[[nn.Module], nn.Module], name: str, old: nn.Module) -> nn.Module:
    """The norm itself, for as many channels as another one was for; nothing if it is a matter of the weights."""
    vectors = isinstance(old, (nn.BatchNorm1d, nn.LayerNorm)) and not isinstance(old, ChannelNorm)
    of = old.normalized_shape[-1] if isinstance(old, nn.LayerNorm) else old.weight.numel()  # type: ignore[operator]
    layer = nn.Linear(1, of) if vectors else nn.Conv2d(1, of, 1)
    if name in UNSHIFTED or not _fits(name, layer):
        return nn.Identity()
    return norm(layer)[1]  # type: ignore[index]
