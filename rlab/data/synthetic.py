"""Synthetic tables: mixtures of Gaussians in the plane, on which the modes that a generator loses can be counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlab.data.readers import Arrays, Read

POINTS = 20_000
"""Of a mixture, every mode as many."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of round Gaussians of equal weight.

    Attributes:
        centres: their means, float[K, 2].
        deviation: their standard deviation in each direction.
    """

    centres: np.ndarray
    deviation: float


def _ring(modes: int, radius: float) -> np.ndarray:
    angles = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _grid(side: int, step: float) -> np.ndarray:
    ticks = step * (np.arange(side) - (side - 1) / 2)
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)


MIXTURES = {
    "gaussians-8": Mixture(_ring(8, 2.0), 0.02),
    "gaussians-25": Mixture(_grid(5, 2.0), 0.05),
}
"""A ring (Metz et al. 2017, section 3.1) and a grid (Srivastava et al. 2017, section 4.1)."""


def gaussians(read: Read, name: str) -> Arrays:
    """Draw a mixture; the class of a point is its mode. It is the same set every time, and no file is read."""
    mixture, rng = MIXTURES[name], np.random.default_rng(0)
    modes = np.arange(POINTS) % len(mixture.centres)
    x = mixture.centres[modes] + mixture.deviation * rng.standard_normal((POINTS, 2))
    return Arrays(x.astype(np.float32), modes, tuple(map(str, range(len(mixture.centres)))), columns=("x", "y"))
