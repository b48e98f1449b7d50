"""Images for studies: settings that many share, networks that begin by a seed, one way to train them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rlab.seeding import derive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rlab.studies.supervised import Examples

Network = TypeVar("Network", bound="nn.Module")


@dataclass(frozen=True)
class Images:
    """Which images are learned, and for how long."""

    data: str = "fashion_mnist"
    """Name of the data set."""
    train: int = 3_000
    """Training images."""
    test: int = 2_000
    """Test images."""
    steps: int = 400
    """Updates."""
    batch_size: int = 64
    """Images of an update."""
    learning_rate: float = 3e-3
    """Of Adam."""


SMALL = {"data": "digits", "train": 600, "test": 0, "steps": 150}
"""For the small budget: scikit-learn's digits, 8x8, with all 270 that are kept for tests."""

SMOKE = {"data": "digits", "train": 80, "test": 60, "steps": 3, "batch_size": 32}


def pictures(settings: Images, seed: int, margin: int = 0) -> Examples:
    """The images of a seed, float[N, 1, H, W] in 0..1, in a frame of zeros of `margin` pixels.

    Raises:
        RlabError: the data set is not there.
    """
    from torch.nn.functional import pad

    from rlab.studies.supervised import examples

    data = examples(settings.data, seed, settings.train, settings.test)
    return data._replace(x=pad(data.x, (margin,) * 4), x_test=pad(data.x_test, (margin,) * 4))


def built(make: Callable[[], Network], seed: int) -> Network:
    """What `make` makes, with weights that follow from the seed alone."""
    import torch

    from rlab.nn.layers import drawing_from

    with drawing_from(torch.Generator().manual_seed(derive(seed, "network"))):
        return make()


def trained(network: Network, x: Tensor, y: Tensor, settings: Images, seed: int, **more: Any) -> Network:
    """The same network after Adam's updates on cross-entropy; only what wants gradients moves.

    Args:
        network: images [B, 1, H, W] -> logits [B, K].
        x, y: the training images and their classes.
        settings: how long.
        seed: of the batches.
        more: as `supervised.fit` takes it.
    """
    from rlab.nn.optim import make_optimiser
    from rlab.studies.supervised import fit

    moving = [p for p in network.parameters() if p.requires_grad]
    optimiser = make_optimiser("adam", moving, lr=settings.learning_rate)
    fit(network, x, y, optimiser, steps=settings.steps, batch_size=settings.batch_size, seed=seed, **more)
    return network


def size(network: nn.Module) -> int:
    """How many weights are trained."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
