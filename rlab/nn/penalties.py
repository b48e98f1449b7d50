"""Penalties and constraints on weights and activations: pure functions, and three that change weights after a step.

Penalties take a list of weights, ``l2(weights_of(network))``, so that a part of a network can have its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError

SCALES = (nn.LayerNorm, nn.RMSNorm)
"""Norms whose scale can have two dimensions or more; that of all others has one."""


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """List the parameters that penalties are for: of two dimensions or more; no biases, norms' scales or noise scales.

    A parameter that stands in several places comes once.

    Raises:
        RlabError: there are none.
    """
    weights: dict[nn.Parameter, None] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            scale = isinstance(part, SCALES) or name.endswith("_sigma")  # `NoisyLinear` has the latter
            if parameter.dim() >= 2 and "bias" not in name and not scale:
                weights[parameter] = None
    if not weights:
        raise RlabError(f"{type(module).__name__} has no weights: no parameter of two dimensions or more but norms")
    return list(weights)


def l1(weights: Sequence[Tensor]) -> Tensor:
    """sum |w| (lasso); a scalar. Its subgradient hardly ever gives exact zeros: `shrink` does."""
    return _total([w.abs().sum() for w in weights])


def l2(weights: Sequence[Tensor]) -> Tensor:
    """1/2 sum w^2 (ridge), so that its gradient is w; a scalar.

    The same as an optimiser's decoupled weight decay for plain SGD only (Loshchilov & Hutter 2019).
    """
    return _total([w.square().sum() for w in weights]) / 2


def elastic(weights: Sequence[Tensor], ratio: float) -> Tensor:
    """ratio * l1 + (1 - ratio) * l2 (Zou & Hastie 2005), as scikit-learn's ElasticNet with l1_ratio; a scalar.

    Raises:
        RlabError: the ratio is not in 0..1.
    """
    if not 0 <= ratio <= 1:
        raise RlabError(f"elastic takes the share of L1, 0..1, not {ratio}; nearest: {0 if ratio < 0 else 1}")
    return ratio * l1(weights) + (1 - ratio) * l2(weights)


def distance(weights: Sequence[Tensor], anchor: Sequence[Tensor]) -> Tensor:
    """||w - a||^2 over all weights: what ties a model to another one's weights; a scalar.

    Gradients flow into both; detach the anchor where it stays.

    Raises:
        RlabError: they do not pair up.
    """
    return _total([d.square().sum() for d in _differences(weights, anchor)])


@torch.no_grad()
def project(weights: Sequence[Tensor], anchor: Sequence[Tensor], radius: float) -> None:
    """Move weights to the nearest place with ||w - a|| <= radius over all of them; for after a step, in place.

    Raises:
        RlabError: they do not pair up, or the radius is negative.
    """
    if not radius >= 0:
        raise RlabError(f"project takes a radius of 0 or more, not {radius}; nearest: 0")
    apart = _differences(weights, anchor)
    # in float64, for the sum of many squares would round beyond the radius
    far = torch.stack([torch.linalg.vector_norm(d, dtype=torch.float64) for d in apart]).norm()
    scale = radius / far  # 1 or more: they are within; not a number: radius 0, and they are where the anchor is
    for w, a in zip(weights, anchor, strict=True):
        w.copy_(torch.where(scale < 1, a + (w - a) * scale.to(w.dtype), w))


@torch.no_grad()
def shrink(weights: Sequence[Tensor], amount: float) -> None:
    """w = sign(w) max(|w| - amount, 0), the proximal step of amount * l1, in place; exact zeros.

    After a step of gradient descent of rate r on the rest of the loss, `amount` is r times the penalty's factor (ISTA:
    Daubechies et al. 2004).

    Raises:
        RlabError: the amount is negative.
    """
    if not 0 <= amount < float("inf"):
        raise RlabError(f"shrink takes a finite amount of 0 or more, not {amount}; nearest: 0")
    for w in weights:
        w.copy_(F.softshrink(w, amount))


def activation_l1(activations: Tensor) -> Tensor:
    """Activations[B, *] -> mean over the batch of sum |h|; a scalar."""
    return activations.abs().sum() / len(activations)


def activation_kl(activations: Tensor, rho: float) -> Tensor:
    """Activations[B, D] in 0..1 -> sum over units of KL(rho || mean over the batch), a scalar (Ng 2011, section 3).

    KL(r || m) = r log(r / m) + (1 - r) log((1 - r) / (1 - m)); means within a rounding of 0 or 1 count as that far off.

    Raises:
        RlabError: rho is not strictly within 0..1, or (on a CPU only: elsewhere looking would wait) a mean is outside.
    """
    if not 0 < rho < 1:
        raise RlabError(f"activation_kl takes a wished mean between 0 and 1, not {rho}; nearest: 0.05")
    mean = activations.float().mean(0)
    if mean.device.type == "cpu" and bool(((mean < 0) | (mean > 1)).any()):
        worst = float(mean.detach().flatten()[(mean - 0.5).abs().argmax()])
        raise RlabError(f"activation_kl is for sigmoids' 0..1, and a mean is {worst:g}; nearest: activation_l1")
    tiny = torch.finfo(mean.dtype).eps
    mean = mean.clamp(tiny, 1 - tiny)
    wished = torch.full_like(mean, rho)
    return (wished * (wished / mean).log() + (1 - wished) * ((1 - wished) / (1 - mean)).log()).sum()


def _differences(weights: Sequence[Tensor], anchor: Sequence[Tensor]) -> list[Tensor]:
    shapes, others = [tuple(w.shape) for w in weights], [tuple(a.shape) for a in anchor]
    if shapes != others:
        raise RlabError(f"weights of shapes {shapes} cannot be tied to weights of shapes {others}")
    return [w - a for w, a in zip(weights, anchor, strict=True)]


def _total(parts: list[Tensor]) -> Tensor:
    if not parts:
        raise RlabError("a penalty of no weights at all")
    return torch.stack(parts).sum()
