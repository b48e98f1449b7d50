"""Shuffled batches out of memory: every one can be had by its epoch and number, so that a run resumes exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlab.data.augment import Change, augment, parse
from rlab.data.dataset import IMAGES, Dataset, as_float
from rlab.errors import RlabError
from rlab.seeding import derive


class Batch(NamedTuple):
    """B items.

    Attributes:
        x: float32[B, *shape]; bytes are scaled to 0..1.
        y: as in the data set; with mixup float32[B, K], the shares of K classes.
        items: which ones they are, int64[B], on the CPU.
        lengths: of series, int64[B], else None.
        place: the epoch and the number that it was asked for by.
    """

    x: Tensor
    y: Tensor
    items: Tensor
    lengths: Tensor | None = None
    place: tuple[int, int] = (0, 0)


class Batches:
    """Batches of one split, ``len()`` of them an epoch; the last of an epoch may be smaller.

    The order depends on (seed, epoch) alone, the augmentation on (seed, epoch, number): the same batch comes out
    however often, and in whatever order, it is asked for. The data lie on the device as a whole, as they are in the
    set (MNIST takes 55 MB), so that a batch costs a gather and no copy between devices.

    Args:
        dataset: where items come from.
        batch: B.
        seed: of order and augmentation.
        device: where batches are wanted.
        augment: changes of images, such as ``"flip,crop:4"``, or what `rlab.data.augment.parse` made of it. Masks
            follow.
        split: which items.
        shuffle: a new order every epoch; else the split's own.
        transform: applied to x last, such as a fitted `rlab.data.preprocess.Transform`.
        per_epoch: how many whole batches an epoch has, through which passes over the split follow each other without
            a gap; None: an epoch is one pass.
        items: these in place of all items of the split, int64[n]; one may come several times.

    Raises:
        RlabError: no such split, augmentation of what is no image, or a size out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        augment: str | tuple[Change, ...] = (),
        split: str = "train",
        shuffle: bool = True,
        transform: Callable[[Tensor], Tensor] | None = None,
        per_epoch: int | None = None,
        items: Tensor | None = None,
    ):
        if batch < 1:
            raise RlabError(f"the batch size is {batch}; it must be at least 1")
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.device = torch.device(device)
        self.changes = parse(augment) if isinstance(augment, str) else augment
        self.shuffle = shuffle
        self.transform = transform
        self.per_epoch = per_epoch
        if self.changes and dataset.kind not in IMAGES:
            raise RlabError(f"augmentation changes images, and '{dataset.name}' is of kind {dataset.kind}")
        self._items = dataset.items(split) if items is None else items
        self._x = dataset.x.to(self.device)
        self._y = dataset.y.to(self.device)
        self._order: tuple[int, Tensor] = (-1, self._items)

    def __len__(self) -> int:
        return -(-len(self._items) // self.batch) if self.per_epoch is None else self.per_epoch

    @property
    def examples(self) -> int:
        """Of an epoch."""
        return len(self._items) if self.per_epoch is None else self.per_epoch * self.batch

    def order(self, epoch: int) -> Tensor:
        """All items in the order of an epoch (with `per_epoch`: of a pass), int64[n]."""
        if not self.shuffle:
            return self._items
        known, order = self._order  # read once: another thread may make the next batch
        if known != epoch:
            generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
            order = self._items[torch.randperm(len(self._items), generator=generator)]
            self._order = epoch, order
        return order

    def _chosen(self, epoch: int, number: int) -> Tensor:
        if self.per_epoch is None:
            return self.order(epoch)[number * self.batch : (number + 1) * self.batch]
        n, start = len(self._items), (epoch * self.per_epoch + number) * self.batch
        passes = [self.order(p) for p in range(start // n, (start + self.batch - 1) // n + 1)]
        return torch.cat(passes)[start % n :][: self.batch]

    def at(self, epoch: int, number: int, view: int = 0) -> Batch:
        """One batch.

        Args:
            epoch: from 0.
            number: of the batch in its epoch, below ``len()``.
            view: another one is the same items with other draws of the augmentation.

        Raises:
            RlabError: there is no such batch.
        """
        if not 0 <= number < len(self) or epoch < 0:
            raise RlabError(f"there is no batch {number} in epoch {epoch}; an epoch has {len(self)} batches, from 0")
        items = self._chosen(epoch, number)
        here = items.to(self.device)
        x, y = as_float(self._x[here]), self._y[here]
        if self.changes:
            draw = (epoch, number, view) if view else (epoch, number)
            generator = torch.Generator(self.device).manual_seed(derive(self.seed, "augment", *draw))
            x, y = self._augmented(x, y, generator)
        lengths = self.dataset.lengths
        return Batch(
            x if self.transform is None else self.transform(x),
            y,
            items,
            None if lengths is None else lengths[items].to(self.device),
            (epoch, number),
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on."""
        for number in range(start, len(self)):
            yield self.at(epoch, number)

    def _augmented(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.dataset.kind == "segmentation":
            done = augment(x, self.changes, generator, masks=y)
            assert done.masks is not None
            return done.images, done.masks
        classes = None if self.dataset.classes is None else len(self.dataset.classes)
        done = augment(x, self.changes, generator, targets=y, classes=classes)
        assert done.targets is not None
        return done.images, done.targets
