"""Narrower encoders: the same stack of layers with fewer neurons and channels, ``lenet5+width=3.9.60.40``.

The numbers are what the layers give, from the first to the last. A layer whose outputs one other layer takes can be
narrowed by itself: what it no longer gives, that one no longer takes. Where outputs are added to others, as those of
the blocks of a ResNet, no channel can go alone, so that these layers stay, and those inside of the blocks are narrowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn

from rlab.errors import RlabError
from rlab.nn.layers import ChannelNorm, ChannelNormReLU
from rlab.nn.layers.activations import BENDS

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, ChannelNorm, ChannelNormReLU)
"""Layers that have a number or two for each channel."""

EACH = (*BENDS, nn.Identity, nn.Dropout, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
"""Layers that treat each channel by itself and know nothing of their number."""

FUNCTIONS = ("relu", "flatten", "contiguous")
"""Functions and methods that do so."""

CHANNELS_LAST = (0, 2, 3, 1)

EXAMPLES = "mlp, lenet5, minatar, nature, vgg11 and mobilenet-v1, and the inside of residual blocks, such as resnet18's"


@dataclass(frozen=True)
class Layer:
    """A layer that can be narrowed.

    Attributes:
        module: gives as many numbers, or maps, as the first axis of its weight is long.
        followers: what lies between it and the layer that takes them and has numbers for each of them.
        channels_last: whether its maps are made flat with the channels as their last axis.
        reader: the layer that takes them; None: they are the encoder's features.
    """

    module: nn.Linear | nn.Conv2d
    followers: tuple[nn.Module, ...]
    channels_last: bool
    reader: nn.Linear | nn.Conv2d | None

    @property
    def width(self) -> int:
        """How many numbers or maps it gives."""
        return len(self.module.weight)


class _Tracer(fx.Tracer):
    """Follows a call into modules that are made of others, and into nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children()) or super().is_leaf_module(m, module_qualified_name)


class _Fixed(Exception):
    """Why a layer cannot be narrowed."""


def layers_of(encoder: nn.Module, name: str) -> list[Layer]:
    """Return the layers of an encoder that can be narrowed, in their order.

    Raises:
        RlabError: there are none.
    """
    try:
        nodes = list(_Tracer().trace(encoder).nodes)
    except Exception as e:  # whatever a forward does that depends on numbers
        raise _refused(name, "what it computes depends on what it is given") from e
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    layers: list[Layer] = []
    reasons: list[str] = []
    for node in nodes:
        module = encoder.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and _is_layer(module):
            try:
                layers.append(_layer(encoder, node, calls))
            except _Fixed as e:
                reasons.append(str(e))
    if not layers:
        raise _refused(name, reasons[0] if reasons else "it has no layers")
    return layers


def _is_layer(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


def _layer(encoder: nn.Module, start: fx.Node, calls: Mapping[Any, int]) -> Layer:
    """Follow what a layer gives to the one that takes it.

    Raises:
        _Fixed: something on the way cannot do with fewer channels.
    """
    module = encoder.get_submodule(str(start.target))
    assert isinstance(module, nn.Linear | nn.Conv2d)
    followers: list[nn.Module] = []
    channels_last = False
    node = start
    while True:
        if node.op == "call_module" and calls[node.target] > 1:
            raise _Fixed(f"it uses {node.target} twice")
        if len(node.users) != 1:
            raise _Fixed("it has skips, and what is added to other channels cannot go alone")
        (node,) = node.users
        if node.op == "output":
            return Layer(module, tuple(followers), channels_last, None)
        if len(node.all_input_nodes) > 1:
            raise _Fixed("it has skips, and what is added to other channels cannot go alone")
        if node.op == "call_module":
            there = encoder.get_submodule(str(node.target))
            if _is_layer(there):
                if calls[node.target] > 1:
                    raise _Fixed(f"it uses {node.target} twice")
                return Layer(module, tuple(followers), channels_last, there)
            followers += _follower(there)
        elif node.op in ("call_method", "call_function"):
            called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            if called == "permute" and node.args[1:] == CHANNELS_LAST:
                channels_last = True
            elif not (called in FUNCTIONS or (called == "mean" and node.args[1:] == ((2, 3),))):
                raise _Fixed(f"it calls {called}")
        else:
            raise _Fixed(f"it uses {node.target}")


def _follower(module: nn.Module) -> list[nn.Module]:
    """A module after a layer, if it has numbers for each channel; none if it knows nothing of them."""
    kind = type(module)
    grouped = isinstance(module, nn.Conv2d) and module.groups > 1
    each = isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels
    if kind is nn.PReLU:
        return [] if module.num_parameters == 1 else [module]
    if (kind in NORMS and not _mixes(module)) or (kind is nn.Conv2d and each):
        return [module]
    if kind in EACH:
        return []
    raise _Fixed(f"it has a layer {kind.__name__}{' over groups of channels' if kind in NORMS or grouped else ''}")


def _mixes(module: nn.Module) -> bool:
    """Whether a norm is over groups of channels, or has more numbers than one for each channel."""
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) > 1
    return isinstance(module, nn.GroupNorm) and module.num_groups not in (1, module.num_channels)


def _refused(name: str, why: str) -> RlabError:
    return RlabError(
        f"the neurons and channels of encoder '{name}' cannot be taken out, for {why}; plain stacks of layers can be "
        f"made narrower, such as {EXAMPLES}"
    )


def importance(encoder: nn.Module, name: str) -> list[Tensor]:
    """Measure what each layer's neurons or channels weigh: the L1 norm of their weights (Li et al. 2017), [width]."""
    return [layer.module.weight.detach().abs().flatten(1).sum(1) for layer in layers_of(encoder, name)]


def keep(encoder: nn.Module, name: str, kept: Sequence[Tensor]) -> Tensor:
    """Keep of each layer only some of its neurons or channels, in place; return which features are left, int64[D'].

    What the next layer computed from the others is lost, and nothing else changes; norms over channels take their
    means over those that are left.

    Args:
        encoder: see `layers_of`.
        name: of the encoder, for messages.
        kept: of each layer that can be narrowed, int64[at most its width], in order.
    """
    layers = layers_of(encoder, name)
    features = torch.arange(int(encoder.out_dim))  # type: ignore[arg-type]
    for layer, index in zip(layers, kept, strict=True):
        width, module, reader = layer.width, layer.module, layer.reader
        total = len(features) if reader is None else reader.weight.shape[1]
        left = _places(index, width, total // width, layer.channels_last)
        _take(module, ("weight", "bias"), 0, index)
        for follower in layer.followers:
            own = next(len(t) for t in (*follower.parameters(), *follower.buffers()) if t.dim())
            _take(follower, None, 0, _places(index, width, own // width, layer.channels_last))
            _count(follower)
        if reader is None:
            features = left
        else:
            _take(reader, ("weight",), 1, left)
            _count(reader)
        _count(module)
    encoder.out_dim = len(features)  # type: ignore[assignment]
    return features


def _places(index: Tensor, width: int, positions: int, channels_last: bool) -> Tensor:
    """Where the numbers of some channels lie if all maps are made flat: int64[channels * positions]."""
    place = torch.arange(positions)
    if channels_last:
        return (place[:, None] * width + index).flatten()
    return (index[:, None] * positions + place).flatten()


def _take(module: nn.Module, names: Sequence[str] | None, axis: int, index: Tensor) -> None:
    """Keep some rows (axis 0) or columns (axis 1) of a module's tensors; None: of all that have axes."""
    held = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for name, tensor in held.items():
        if tensor.dim() > axis and (names is None or name in names):
            with torch.no_grad():
                left = tensor.index_select(axis, index.to(tensor.device))
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(module, name, nn.Parameter(left, tensor.requires_grad) if is_parameter else left)


def _count(module: nn.Module) -> None:
    """Let a module's numbers of channels be those of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        if module.groups > 1:
            module.groups = module.in_channels = module.out_channels = len(module.weight)
        else:
            module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = (len(module.weight),)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = len(module.weight) if module.num_groups > 1 else 1
        module.num_channels = len(module.weight)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        module.num_features = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def narrow(encoder: nn.Module, name: str, text: str) -> None:
    """Make an encoder as narrow as its name says, in place; of each layer the first neurons or channels stay.

    Args:
        encoder: as it is without that.
        name: of it, for messages.
        text: "3.9.60.40".

    Raises:
        RlabError: none of its layers can be narrowed, or it has not these.
    """
    full = [layer.width for layer in layers_of(encoder, name)]
    whole = text.replace(".", "").isascii() and text.replace(".", "").isdigit() and "" not in text.split(".")
    widths = [int(number) for number in text.split(".")] if whole else []
    if len(widths) != len(full) or not all(1 <= width <= most for width, most in zip(widths, full, strict=True)):
        as_it_is = ".".join(map(str, full))
        raise RlabError(
            f"encoder '{name}' has layers of {as_it_is}, and width={text} does not say of each how many are left; "
            f"nearest: {name}+width={as_it_is}"
        )
    keep(encoder, name, [torch.arange(width) for width in widths])
