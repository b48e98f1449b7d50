"""Scaling, standardisation and whitening: fitted to training data, applied to any, and invertible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.registry import Registry

CHUNK = 8192
"""Items that are in float64 at a time."""


@dataclass(frozen=True)
class Transform:
    """y = (x - shift) @ forward, over items of D numbers.

    Attributes:
        name: what it is.
        shape: of one item; D is its product.
        shift: float32[D].
        forward: float32[D], which stands for a diagonal matrix, or float32[D, K].
        backward: the inverse (with K < D: onto the K directions that are kept): float32[D] or float32[K, D].
    """

    name: str
    shape: tuple[int, ...]
    shift: Tensor
    forward: Tensor
    backward: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x[B, *shape] -> float32[B, *shape]; [B, K] after a PCA that keeps fewer than D directions.

        Raises:
            RlabError: items of another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise RlabError(
                f"{self.name} was fitted to items of shape {list(self.shape)}, these have {list(x.shape[1:])}"
            )
        here = self._at(x)
        y = _times(x.float().flatten(1) - here.shift, here.forward)
        return y.view(x.shape) if y.shape[1] == math.prod(self.shape) else y

    def inverse(self, y: Tensor) -> Tensor:
        """The items [B, *shape] that became y."""
        here = self._at(y)
        return (_times(y.flatten(1), here.backward) + here.shift).view(-1, *self.shape)

    def _at(self, x: Tensor) -> Transform:
        if x.device == self.shift.device:
            return self
        parts = (part.to(x.device) for part in (self.shift, self.forward, self.backward))
        return Transform(self.name, self.shape, *parts)


PREPROCESSING: Registry[Callable[..., Transform]] = Registry("preprocessing")
"""name -> function that fits it to x float[N, ...]."""


def _times(x: Tensor, matrix: Tensor) -> Tensor:
    return x * matrix if matrix.dim() == 1 else x @ matrix


def _diagonal(name: str, x: Tensor, shift: Tensor, spread: Tensor) -> Transform:
    """Each number less `shift`, divided by `spread`; a constant one is only shifted."""
    spread = torch.where(spread > 0, spread, 1.0).float()
    return Transform(name, tuple(x.shape[1:]), shift.float(), 1 / spread, spread)


@PREPROCESSING.register("minmax")
def minmax(x: Tensor) -> Transform:
    """Scale to 0..1: tables by the range of each number, images and series by that of each channel.

    Raises:
        RlabError: no items, or a number that is not finite.
    """
    _check("minmax", x)
    grouped = _by_channel(x)
    low, high = grouped.amin((0, 2)), grouped.amax((0, 2))
    return _diagonal("minmax", x, _spread_out(low, x), _spread_out(high - low, x))


@PREPROCESSING.register("standard")
def standard(x: Tensor) -> Transform:
    """Mean 0 and standard deviation 1 (of N): tables by number, images [N, C, H, W] and series [N, T, C] by channel.

    Raises:
        RlabError: no items, or a number that is not finite.
    """
    _check("standard", x)
    grouped = _by_channel(x)
    mean = grouped.mean((0, 2), dtype=torch.float64)
    square = torch.zeros_like(mean)
    for part in grouped.split(CHUNK):
        square += (part.double() - mean[:, None]).square().sum((0, 2))
    deviation = (square / (grouped.shape[0] * grouped.shape[2])).sqrt()
    deviation[deviation <= 1e-7 * mean.abs()] = 0  # a constant, but for rounding
    return _diagonal("standard", x, _spread_out(mean, x), _spread_out(deviation, x))


@PREPROCESSING.register("pca")
def pca(x: Tensor, eps: float = 0.0, components: int | None = None) -> Transform:
    """PCA whitening: y = (x - mean) U (L + eps)^-1/2, with covariance (of N - 1) U L U^T, greatest variance first.

    Directions without variance (constant columns, sums of others, fewer items than numbers) become 0.

    Args:
        x: float[N, ...].
        eps: added to every variance, against the noise in small ones; with 0, y has the identity as covariance.
        components: K, how many directions are kept; None keeps all.

    Raises:
        RlabError: a negative eps, or too many components.
    """
    mean, variances, directions = _eigen("pca", x, eps, components)
    size = _sizes(variances, eps)
    return _matrix("pca", x, mean, directions * _inverse(size), (directions * size).T)


@PREPROCESSING.register("zca")
def zca(x: Tensor, eps: float = 0.0) -> Transform:
    """ZCA whitening: y = (x - mean) U (L + eps)^-1/2 U^T, of all whitenings the one that changes x least (Bell 1997).

    Directions without variance become 0, as in `pca`.

    Args:
        x: float[N, ...].
        eps: added to every variance.

    Raises:
        RlabError: a negative eps.
    """
    mean, variances, directions = _eigen("zca", x, eps, None)
    size = _sizes(variances, eps)
    return _matrix("zca", x, mean, directions * _inverse(size) @ directions.T, directions * size @ directions.T)


def fit(name: str, x: Tensor, **settings: float | int | None) -> Transform:
    """Fit a registered preprocessing to training data float[N, ...].

    Args:
        name: of it; ``pca:0.01`` and ``zca:0.01`` add this `eps` to every variance.
        x: the data.
        settings: of the preprocessing.

    Raises:
        RlabError: the name is unknown, or the data do not allow it.
    """
    plain, _, eps = name.partition(":")
    if eps and plain in PREPROCESSING:
        if plain not in ("pca", "zca"):
            raise RlabError(f"preprocessing '{name}': {plain} takes no number; nearest: {plain}")
        try:
            name, settings["eps"] = plain, float(eps)
        except ValueError:
            raise RlabError(f"preprocessing '{name}': '{eps}' is no number; nearest: {plain}:0.01") from None
    return PREPROCESSING.get(name)(x, **settings)


def _sizes(variances: Tensor, eps: float) -> Tensor:
    """What y is divided by: float64[K], 0 for a direction without variance."""
    return torch.where(variances > 0, variances + eps, 0.0).sqrt()


def _inverse(size: Tensor) -> Tensor:
    return torch.where(size > 0, 1 / size, 0.0)


def _matrix(name: str, x: Tensor, mean: Tensor, forward: Tensor, backward: Tensor) -> Transform:
    return Transform(name, tuple(x.shape[1:]), mean.float(), forward.float(), backward.float())


def _eigen(name: str, x: Tensor, eps: float, components: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], variances [K] and directions [D, K] in float64, greatest variance first.

    A variance that rounding of x to float32, or of the decomposition, could have made is 0.
    """
    _check(name, x)
    flat = x.flatten(1)
    n, d = flat.shape
    if not (math.isfinite(eps) and eps >= 0):
        raise RlabError(f"eps of {name} is {eps:g}; it must be at least 0")
    if components is not None and not 1 <= components <= d:
        raise RlabError(f"{name} is to keep {components} components; there are 1 to {d}")
    if n < 2:
        raise RlabError(f"{name} needs at least two items, not {n}")
    mean = flat.mean(0, dtype=torch.float64)
    covariance = torch.zeros(d, d, dtype=torch.float64, device=x.device)
    square = torch.zeros(d, dtype=torch.float64, device=x.device)
    for part in flat.split(CHUNK):
        square += part.double().square().sum(0)
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    variances, directions = torch.linalg.eigh(covariance / (n - 1))
    rounding = directions.square().T @ (square / n * torch.finfo(torch.float32).eps ** 2)
    least = rounding + d * torch.finfo(torch.float64).eps * variances[-1].clamp_min(0)
    variances = torch.where(variances > least, variances, 0.0)
    variances, directions = variances.flip(0)[:components], directions.flip(1)[:, :components]
    return mean, variances, directions


def _by_channel(x: Tensor) -> Tensor:
    """[N, ...] -> [N, C, M]: tables [N, D, 1], images [N, C, H*W], series [N, T, C] -> [N, C, T]."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.flatten(2) if x.dim() > 3 else x.flatten(1)[:, :, None]


def _spread_out(by_channel: Tensor, x: Tensor) -> Tensor:
    """One number a channel [C] -> one for each number of an item [D]."""
    shape = tuple(x.shape[1:])
    if x.dim() == 3:
        return by_channel.expand(shape).flatten()
    return by_channel.view(-1, *[1] * (len(shape) - 1)).expand(shape).flatten()


def _check(name: str, x: Tensor) -> None:
    if x.dim() < 2 or x.numel() == 0:
        raise RlabError(f"{name} is fitted to items [N, ...], not to {list(x.shape)}")
    if not x.is_floating_point():
        raise RlabError(f"{name} is fitted to float numbers, not {x.dtype}; scale bytes to 0..1 first")
    if not torch.isfinite(x).all():
        raise RlabError(f"{name} cannot be fitted: there are NaN or Inf in the data")
