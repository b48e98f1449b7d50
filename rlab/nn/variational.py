"""Equations of variational autoencoders (Kingma & Welling 2014) and of importance weights (Burda et al. 2016).

All sums are over the numbers of a code, or the pixels of an image, and nothing is averaged over a batch: nats of each
example.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)), both [..., D] -> nats [...] (Kingma & Welling 2014, eq. 10)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | float = 0.0) -> Tensor:
    """Logarithm of the density of N(mean, variance) at z[..., D] -> nats [...]."""
    spread = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * (math.log(2 * math.pi) + spread + (z - mean).square() * (-spread).exp()).sum(-1)


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """Logarithm of the probability of pixels x[B, *] in 0..1 under logits[..., B, *] -> nats [..., B]."""
    nats = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
    return nats.flatten(logits.dim() - x.dim() + 1).sum(-1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Logarithm of the mean of the weights, log_weights[k, ...] -> [...], safe at any size."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """How many equal weights would say as much, (sum w)^2 / sum w^2 (Kong 1992): log_weights[k, ...] -> 1..k [...]."""
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
