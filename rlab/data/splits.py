"""Which items of a data set are for training, for validation and for the test. Imports no torch."""

from __future__ import annotations

import numpy as np

from rlab.errors import RlabError
from rlab.seeding import derive

VALIDATION = 0.1
"""Share of the training items that become the validation split where a test split is published."""

PART = 0.15
"""Share of all items that each of validation and test gets where no test split is published."""


def split_items(
    name: str,
    n: int,
    strata: np.ndarray | None,
    test: np.ndarray | None,
    seed: int,
    validation: float | None,
) -> dict[str, np.ndarray]:
    """Draw the splits that are not published.

    Args:
        name: of the set, for messages.
        n: number of items.
        strata: group of each item, int64[n]: each split gets its share of every group, rounded; None is one group.
        test: items of the published test split.
        seed: of the draw.
        validation: see `rlab.data.datasets.load`.

    Returns:
        train, validation (unless it is 0) and test -> items, ascending.

    Raises:
        RlabError: a share is out of range, or nothing is left for a split.
    """
    share = validation if validation is not None else (PART if test is None else VALIDATION)
    if not 0 <= share < (1 - PART if test is None else 1):
        raise RlabError(
            f"the validation share of '{name}' is {share:g}; it must be at least 0 and leave items to train"
        )
    groups = np.zeros(n, np.int64) if strata is None else strata
    if len(groups) != n:
        raise RlabError(f"data set '{name}' has {n:,} items but {len(groups):,} labels")
    generator = np.random.default_rng(derive(seed, "splits"))
    rest = np.arange(n)
    if test is None:
        test = _draw(rest, groups, PART, generator)
        share /= 1 - PART
    rest = np.setdiff1d(rest, test)
    held = _draw(rest, groups, share, generator) if share else rest[:0]
    splits = {"train": np.setdiff1d(rest, held), "validation": held, "test": np.sort(test)}
    return splits if share else {"train": rest, "test": splits["test"]}


def _draw(items: np.ndarray, groups: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """A share of the items, and of each group of them (to the item, by the largest remainders), ascending."""
    members = [items[groups[items] == group] for group in np.unique(groups[items])]
    wanted = np.array([share * len(of_group) for of_group in members])
    sizes = np.floor(wanted).astype(int)
    more = round(share * len(items)) - int(sizes.sum())
    sizes[np.argsort(sizes - wanted, kind="stable")[:more]] += 1
    drawn = [generator.permutation(of_group)[:n] for of_group, n in zip(members, sizes, strict=True)]
    return np.sort(np.concatenate(drawn)) if drawn else items[:0]
