"""Weight initialisations by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rlab.errors import RlabError
from rlab.registry import Registry

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What is initialised; transposed convolutions, embeddings, recurrent layers and norms keep what torch gave them."""

INITS: Registry[Callable[[nn.Module, Tensor | None], None]] = Registry("initialisation")
"""name -> function of a module and a batch of its inputs (only lsuv looks at it); `initialise` calls one."""


def initialise(module: nn.Module, name: str, batch: Tensor | None = None) -> None:
    """Give the linear layers and convolutions of a module new weights, from torch's global generator, and biases 0.

    Args:
        module: a network or a part of one.
        name: a registered initialisation.
        batch: inputs of the module, of a real batch; for lsuv.

    Raises:
        RlabError: the name is unknown, there is nothing to initialise, or lsuv has no batch or cannot succeed.
    """
    chosen = INITS.get(name)
    if not any(isinstance(layer, LAYERS) for layer in module.modules()):
        raise RlabError(f"initialisation '{name}': {type(module).__name__} has no linear layer and no convolution")
    chosen(module, batch)


def fill(module: nn.Module, weights: Callable[[Tensor], object]) -> None:
    """Fill the weights of all `LAYERS` in a module by an in-place function, as those of torch.nn.init; biases 0."""
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            new = torch.empty_like(layer.weight, memory_format=torch.contiguous_format)  # torch takes no other
            weights(new)
            _set_weight(layer, new)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def _set_weight(layer: nn.Module, new: Tensor) -> None:
    if is_parametrized(layer, "weight"):
        layer.weight = new  # the parametrization takes it; filled in place it would be lost
    else:
        layer.weight.copy_(new)  # type: ignore[operator]


def orthogonal(module: nn.Module, gain: float) -> None:
    """Make the weights of all convolutions and linear layers orthogonal times `gain`, their biases 0.

    Saxe et al. 2014; a gain of sqrt(2) keeps the size of activations through ReLUs.
    """
    fill(module, partial(nn.init.orthogonal_, gain=gain))


def lsuv(module: nn.Module, batch: Tensor, tolerance: float = 0.01, most: int = 10) -> None:
    """Layer-sequential unit variance (Mishkin & Matas 2016, algorithm 1; their tolerance is 0.1).

    Orthogonal weights, and then, layer by layer as they run, each weight is divided by the standard deviation of what
    its layer gives on the batch, until that has variance 1. The module is looked at in evaluation mode, so that
    nothing but weights and biases changes and no layer draws noise.

    Args:
        module: called as ``module(batch)``; its layers that do not run in this stay orthogonal.
        batch: real inputs[B, *shape].
        tolerance: how far from 1 a variance may stay.
        most: rescalings of one layer at the most.

    Raises:
        RlabError: a layer's output has no variance or is not finite, or rescaling its weight does not change it.
    """
    orthogonal(module, 1.0)
    names = {layer: name or type(layer).__name__ for name, layer in module.named_modules()}
    with torch.no_grad(), _evaluating(module):
        for layer in _outputs(module, batch):
            variance = math.nan
            for _ in range(most):
                variance = float(_outputs(module, batch)[layer].float().var(correction=0))
                if abs(variance - 1) <= tolerance or not 0 < variance < math.inf:
                    break
                _set_weight(layer, layer.weight / math.sqrt(variance))  # type: ignore[arg-type, operator]
            if not abs(variance - 1) <= tolerance:
                raise RlabError(
                    f"initialisation 'lsuv': layer '{names[layer]}' gives a variance of {variance:g} on this batch; "
                    "rescaling its weights does not make it 1; nearest: orthogonal"
                )


def _outputs(module: nn.Module, batch: Tensor) -> dict[nn.Module, Tensor]:
    """What each of the `LAYERS` gives on a batch when it first runs, in the order of running."""
    given: dict[nn.Module, Tensor] = {}
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    hooks = [layer.register_forward_hook(lambda at, _, output: given.setdefault(at, output)) for layer in layers]
    try:
        module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return given


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _without_batch(weights: Callable[[Tensor], object]) -> Callable[[nn.Module, Tensor | None], None]:
    return lambda module, batch: fill(module, weights)


@INITS.register("lsuv")
def _lsuv(module: nn.Module, batch: Tensor | None) -> None:
    if batch is None:
        raise RlabError("initialisation 'lsuv' needs a batch of real inputs; nearest without: orthogonal")
    lsuv(module, batch)


_WEIGHTS: dict[str, Callable[[Tensor], object]] = {
    "constant": nn.init.zeros_,
    "normal": partial(nn.init.normal_, std=0.01),
    "xavier-uniform": nn.init.xavier_uniform_,
    "xavier-normal": nn.init.xavier_normal_,
    "he-uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he-normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}
for _name, _weights in _WEIGHTS.items():
    INITS.register(_name)(_without_batch(_weights))
