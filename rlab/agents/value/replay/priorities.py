"""Proportional priorities over the places of a memory: a sum tree (Schaul et al. 2016, section 3.3, appendix B.2.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlab.kernels import compiled

SMALLEST = 1e-6
"""Added to every error, so that no transition is lost for good (Schaul et al. 2016, section 3.3)."""


@compiled()
def assign(tree: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """Set leaves and recompute the sums above them; of one place named twice the last value stays.

    A sum is always that of its two children, never a running difference: the tree depends on its leaves alone,
    whatever the order in which they came, so a resumed run draws what the unbroken one draws.

    Args:
        tree: float64[2 L] with L a power of two; 1 is the root, 2i and 2i + 1 are i's children, leaves start at L.
        places: int64[B], each below L.
        values: float64[B], not negative.
    """
    first = len(tree) // 2
    for i in range(len(places)):
        node = first + places[i]
        tree[node] = values[i]
        node //= 2
        while node >= 1:
            tree[node] = tree[2 * node] + tree[2 * node + 1]
            node //= 2


@compiled()
def find(tree: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """The place in whose share of the total each mass falls; never one of value 0 while the total is above 0.

    Args:
        tree: float64[2 L], as in `assign`.
        masses: float64[B] in [0, total).

    Returns:
        int64[B]: the first place whose sum of values up to and with it exceeds the mass.
    """
    first = len(tree) // 2
    places = np.empty(len(masses), np.int64)
    for i in range(len(masses)):
        mass, node = masses[i], 1
        while node < first:
            left = tree[2 * node]
            # Rounding can carry a mass to where nothing is; there is always something on the other side.
            if (mass < left or tree[2 * node + 1] <= 0) and left > 0:
                node = 2 * node
            else:
                mass -= left
                node = 2 * node + 1
        places[i] = node - first
    return places


class Priorities:
    """p^alpha of every place; 0 where there is nothing to draw.

    Args:
        places: how many there are.
        alpha: 0 draws uniformly, 1 in proportion to the error.
    """

    def __init__(self, places: int, alpha: float):
        self.places = places
        self.alpha = alpha
        self.tree = np.zeros(2 << max(0, places - 1).bit_length())
        self.largest = 1.0
        """The largest p^alpha so far: what a new entry enters with, so that each is drawn soon."""

    @property
    def leaves(self) -> np.ndarray:
        """float64[places], a view."""
        first = len(self.tree) // 2
        return self.tree[first : first + self.places]

    @staticmethod
    def bytes_needed(places: int) -> int:
        """Main memory of the tree."""
        return 8 * (2 << max(0, places - 1).bit_length())

    def enter(self, places: np.ndarray, drawable: np.ndarray) -> None:
        """Give new entries at places int64[B] the largest priority, or 0 where drawable bool[B] is False."""
        assign(self.tree, places.astype(np.int64), np.where(drawable, self.largest, 0.0))

    def update(self, places: np.ndarray, errors: np.ndarray) -> None:
        """Set p = |error| + SMALLEST at places int64[B]. A place that cannot be drawn stays so.

        So an update that comes after its place was written anew does no harm: an episode's last frame is not brought
        to life, and another step keeps a priority that is corrected when it is first drawn.
        """
        values = (np.abs(errors).astype(np.float64) + SMALLEST) ** self.alpha
        alive = self.leaves[places] > 0
        if alive.any():
            assign(self.tree, places[alive].astype(np.int64), values[alive])
            self.largest = max(self.largest, float(values[alive].max()))

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw int64[size] places, one from each of `size` equal shares of the total (appendix B.2.1)."""
        return find(self.tree, (np.arange(size) + rng.random(size)) / size * self.tree[1])

    def weights(self, places: np.ndarray, beta: float) -> np.ndarray:
        """w = (n P)^-beta over the batch's largest (section 3.4): float32[B]; n and the total cancel out."""
        p = self.leaves[places]
        return ((p / p.min()) ** -beta).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """The leaves; sums follow from them."""
        return {"leaves": self.leaves, "largest": self.largest}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` describes."""
        assign(self.tree, np.arange(self.places), np.asarray(state["leaves"], np.float64))
        self.largest = state["largest"]
