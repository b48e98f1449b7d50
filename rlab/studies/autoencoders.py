"""Autoencoders of dense layers trained in a few lines, for studies, as a whole or layer by layer; what codes hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlab.nn.autoencoders import Autoencoder, make_autoencoder
from rlab.nn.layers import drawing_from
from rlab.nn.optim import make_optimiser
from rlab.seeding import derive
from rlab.studies.supervised import fit

Batchwise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def autoencoder(encoder: str, shape: Sequence[int], code: int, seed: int, **more: Any) -> Autoencoder:
    """Build an autoencoder whose weights follow from the seed; arguments as of `make_autoencoder`."""
    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        return make_autoencoder(encoder, tuple(shape), code, **more)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, summed over an example's numbers, mean over the batch."""
    return (outputs - targets).square().sum() / len(targets)


def train(
    model: nn.Module,
    x: Tensor,
    steps: int,
    seed: int,
    *,
    rate: float,
    optimiser: str = "adam",
    noise: float = 0.0,
    penalty: Callable[[], Tensor | float] = lambda: 0.0,
    look: Callable[[], Any] = lambda: None,
    points: int = 1,
) -> list[Any]:
    """Train a model to give back x[N, *], in batches of 64.

    Args:
        model: x to x.
        x: examples.
        steps: updates.
        seed: of the order of examples and of the noise.
        rate: learning rate.
        optimiser: a registered name.
        noise: standard deviation of what is added to inputs, not to targets.
        penalty, look, points: see `rlab.studies.supervised.fit`.
    """
    dice = torch.Generator().manual_seed(derive(seed, "noise"))

    def change(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return (inputs + noise * torch.randn(inputs.shape, generator=dice) if noise else inputs), targets

    stepped = make_optimiser(optimiser, model.parameters(), lr=rate)
    size = min(64, len(x))
    return fit(
        model, x, x, stepped, steps=steps, batch_size=size, seed=seed, loss=squared, penalty=penalty, change=change,
        look=look, points=points,
    )  # fmt: skip


def train_greedily(
    model: Autoencoder, x: Tensor, steps: int, seed: int, *, rate: float, optimiser: str = "adam"
) -> None:
    """Train each layer to give back the one below, for as many updates each."""
    for number, pair in enumerate(model.pairs()):
        train(nn.Sequential(*pair), x, steps, derive(seed, "layer", number), rate=rate, optimiser=optimiser)
        with torch.no_grad():
            x = pair.encode(x)


@torch.no_grad()
def explained(model: nn.Module, x: Tensor, given: Tensor | None = None) -> float:
    """Share of the variance of x[N, *] that its reconstruction (that of `given`, if there is one) explains."""
    model.eval()
    lost = (model(x if given is None else given) - x).square().sum()
    return float(1 - lost / (x - x.mean(0)).square().sum())


def probe(codes: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, penalty: float = 1e-2) -> float:
    """Share of the test examples that a linear classifier of codes[N, D] tells, fitted by least squares.

    Codes are standardised, so that `penalty` times the number of examples means the same for all.
    """
    mean, spread = codes.mean(0), codes.std(0).clamp(min=1e-6)
    train_x, test_x = (
        torch.cat([(part - mean) / spread, torch.ones(len(part), 1)], 1).double() for part in (codes, test)
    )
    target = nn.functional.one_hot(labels).double()
    ridge = penalty * len(codes) * torch.eye(train_x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(train_x.T @ train_x + ridge, train_x.T @ target)
    return float(((test_x @ weights).argmax(1) == test_labels).double().mean())
