"""Pruning: weights or whole units that contribute least are taken away (LeCun et al. 1990; Han et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rlab.errors import RlabError


def prunable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that pruning looks at: those of at least two axes, no biases and no scales of norms."""
    return {name: p for name, p in module.named_parameters() if p.dim() > 1}


def magnitude_masks(weights: Mapping[str, Tensor], share: float, layerwise: bool = False) -> dict[str, Tensor]:
    """Say which weights stay: the largest in absolute value.

    Args:
        weights: by name.
        share: of all weights that go, 0 <= share < 1.
        layerwise: the same share of each tensor; else the smallest of all tensors together go (global).

    Returns:
        Masks by name, bool, True where a weight stays. Exactly ``floor(share * n)`` of n weights go.

    Raises:
        RlabError: a share out of range.
    """
    if not 0 <= share < 1:
        raise RlabError(f"the share of weights to prune is {share:g}; it must be at least 0 and below 1")
    if layerwise:
        return {name: _largest({name: w}, share)[name] for name, w in weights.items()}
    return _largest(weights, share)


def _largest(weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    flat = torch.cat([w.detach().abs().reshape(-1) for w in weights.values()])
    keep = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    keep[flat.argsort(stable=True)[: int(share * len(flat))]] = False  # as many as asked, whatever is equal
    parts = keep.split([w.numel() for w in weights.values()])
    return {name: part.reshape(w.shape) for (name, w), part in zip(weights.items(), parts, strict=True)}


def apply_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights that go to 0, in place; those that are buffers, such as a codebook, too."""
    named = module.state_dict()  # its tensors are the module's own
    for name, mask in masks.items():
        named[name].mul_(mask.to(named[name].device))


def sparsity(weights: Iterable[Tensor]) -> float:
    """Return the share of zeros."""
    held = list(weights)
    return 1 - sum(int(w.count_nonzero()) for w in held) / max(sum(w.numel() for w in held), 1)
