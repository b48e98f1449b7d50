"""Layers that draw random numbers in training, beside torch's own Dropout and Dropout2d (spatial dropout).

Like those they draw from torch's global generator, for torch's own cannot take another; `drawing_from` makes all of
them exact at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.penalties import weights_of


@contextmanager
def drawing_from(generator: torch.Generator, device: torch.device | str = "cpu") -> Iterator[None]:
    """While open, torch's global generators of the CPU and of `device` are seeded by one draw from a generator.

    So whatever draws inside follows from `generator`, whose state a checkpoint keeps, and nothing outside is altered.

    Args:
        generator: the CPU's, so that every device is seeded alike.
        device: where the layers are.
    """
    place = torch.device(device)
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    used = [torch.default_generator]
    if place.type == "cuda":
        torch.cuda.init()
        used.append(torch.cuda.default_generators[torch.cuda.current_device() if place.index is None else place.index])
    before = [one.get_state() for one in used]
    try:
        for one in used:
            one.manual_seed(seed)
        yield
    finally:
        for one, state in zip(used, before, strict=True):
            one.set_state(state)


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """A new mask of the shape of `like`: 0 with probability p, else 1 / (1 - p), so that its mean is 1.

    A recurrent network that multiplies its state by one and the same mask at every step of a sequence has the
    recurrent dropout of Gal & Ghahramani 2016.
    """
    return torch.empty_like(like, requires_grad=False).bernoulli_(1 - p).div_(1 - p)


class VariationalDropout(nn.Module):
    """Dropout of sequences with the same mask at all times (Gal & Ghahramani 2016, section 4).

    Args:
        p: probability to drop, in [0, 1).
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = _probability(p, "VariationalDropout")

    def forward(self, x: Tensor) -> Tensor:
        """x[T, B, *] -> the same shape; each of the B sequences has a mask of its own, new in every call."""
        return x * dropout_mask(x[:1], self.p) if self.training and self.p and len(x) else x

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"p={self.p}"


class DropConnectLinear(nn.Linear):
    """`torch.nn.Linear` that drops weights (Wan et al. 2013), a new mask in every call; biases stay.

    In training what is kept is scaled by 1 / (1 - p), so evaluation takes the weights as they are: the mean network.
    Wan et al. draw a mask for every example, and evaluate by samples of a Gaussian with the moments of the activation
    before the nonlinearity f (section 3.2); with `moments` that is
    ``f(mean + variance.sqrt() * torch.randn(samples, *mean.shape)).mean(0)``.

    Args:
        in_features: inputs.
        out_features: outputs.
        p: probability to drop a weight, in [0, 1).
        bias: as in `torch.nn.Linear`.
    """

    def __init__(self, in_features: int, out_features: int, p: float = 0.5, bias: bool = True):
        super().__init__(in_features, out_features, bias)
        self.p = _probability(p, "DropConnectLinear")

    def forward(self, x: Tensor) -> Tensor:
        """x[..., in_features] -> [..., out_features]."""
        dropping = self.training and self.p
        return F.linear(x, self.weight * dropout_mask(self.weight, self.p) if dropping else self.weight, self.bias)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x[..., in_features] -> mean and variance over masks, each [..., out_features].

        The latter is p / (1 - p) sum_i (w_ji x_i)^2: theirs, p' (1 - p') (W * W)(x * x), with p' = 1 - p kept and
        the scaling of training.
        """
        variance = F.linear(x.square(), self.weight.square()) * (self.p / (1 - self.p))
        return F.linear(x, self.weight, self.bias), variance

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{super().extra_repr()}, p={self.p}"


class GaussianNoise(nn.Module):
    """Adds Gaussian noise to inputs or activations in training; nothing in evaluation.

    On the inputs of a linear model with half squared errors it is, in the mean, std^2 times the penalty `l2` (Bishop
    1995).

    Args:
        std: of the noise, in units of what it is added to.
    """

    def __init__(self, std: float):
        super().__init__()
        self.std = _deviation(std, "GaussianNoise")

    def forward(self, x: Tensor) -> Tensor:
        """x[...] -> the same shape."""
        return x + self.std * torch.randn_like(x) if self.training and self.std else x

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"std={self.std}"


@contextmanager
def noisy_weights(module: nn.Module, std: float) -> Iterator[None]:
    """While open, Gaussian noise lies on the weights of a module; after it they are what they were, to the bit.

    Forward and backward go inside, the optimiser's step after it: gradients are those at the noisy weights. Biases
    and the scales of norms stay (`weights_of`).

    Raises:
        RlabError: the standard deviation is negative, or weights were changed inside, if only by noise of another such
            block; that change is undone.
    """
    _deviation(std, "noisy_weights")
    weights = weights_of(module)
    before = [w.detach().clone() for w in weights]
    try:
        with torch.no_grad():
            for w in weights:
                w.add_(torch.randn_like(w), alpha=std)
        versions = [w._version for w in weights]
        yield
        if versions != [w._version for w in weights]:
            raise RlabError(
                "weights were changed while noisy_weights was open, which is undone; step the optimiser after it"
            )
    finally:
        with torch.no_grad():
            for w, old in zip(weights, before, strict=True):
                w.copy_(old)


def _probability(p: float, whose: str) -> float:
    if not 0 <= p < 1:
        raise RlabError(
            f"{whose} drops with a probability of 0 to less than 1, not {p}; nearest: {0 if p < 0 else 0.5}"
        )
    return p


def _deviation(std: float, whose: str) -> float:
    if not 0 <= std < float("inf"):
        raise RlabError(f"{whose} takes a standard deviation of 0 or more, not {std}; nearest: 0")
    return std
