"""Batches of a data set, each determined by seed, epoch and number, so that a run can resume exactly.

A data set is anything with splits and a ``collate``; `rlab.data.datasets.TensorDataset` is the one of labelled tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from rlab.data.augment import Change, augment, parse
from rlab.data.datasets import IMAGES, TensorDataset
from rlab.data.detection import DetectionDataset
from rlab.errors import RlabError, nearest
from rlab.seeding import derive

Tree = Mapping[str, Any]
"""Tensors by name, or further trees, tuples and lists of them; the first axis of a tensor is the batch's."""


@dataclass(frozen=True)
class Batch:
    """A batch: B items as a tree of tensors.

    Attributes:
        tensors: by name. Labelled tensors have ``x``, float32[B, *shape], and ``y``; series have ``lengths``, too.
        items: which ones they are, int64[B], on the CPU.
        place: the epoch and the number that it was asked for by.
    """

    tensors: Tree
    items: Tensor
    place: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> Any:
        if name not in self.tensors:
            raise RlabError(f"a batch has no '{name}'; {nearest(name, self.tensors)}")
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def x(self) -> Tensor:
        """The inputs, float32[B, *shape]; bytes are scaled to 0..1."""
        inputs: Tensor = self["x"]
        return inputs

    @property
    def y(self) -> Tensor:
        """The targets as in the data set; with mixup float32[B, K], the shares of K classes."""
        targets: Tensor = self["y"]
        return targets


class Dataset(Protocol):
    """Items with splits, which `Batches` makes batches of: text, pairs of sequences, images with boxes, waveforms.

    A set that also has ``arrange(items, batch, generator)`` orders the items of an epoch itself, such as by length.
    """

    @property
    def name(self) -> str:
        """The name of the set."""

    @property
    def splits(self) -> Mapping[str, Tensor]:
        """Name -> items, int64[n], ascending; at least ``train`` and ``test``."""

    def collate(self, items: Tensor, generator: torch.Generator) -> Tree:
        """Make a tree of tensors of items int64[B], padded where they differ in length; draws on `generator` alone."""

    def to(self, device: torch.device) -> Self:
        """The same set, whose `collate` makes tensors on a device."""


class DataModule(Protocol):
    """What a task learns from: batches by epoch and number, on which exact resume and data parallelism rest."""

    @property
    def splits(self) -> Mapping[str, Tensor]:
        """Name -> items, int64[n]."""

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def at(self, epoch: int, number: int, rank: int = 0, world: int = 1) -> Batch:
        """Make one batch of the training split, or the part of it that one of `world` processes learns from."""

    def ordered(self, split: str, batch: int) -> Iterator[Batch]:
        """Iterate over a split in batches, in its own order and unaugmented, for evaluations.

        Raises:
            RlabError: there is no such split.
        """


class Batches:
    """A `DataModule`: batches of one split, ``len()`` of them an epoch; the last of an epoch may be smaller.

    The order depends on (seed, epoch) alone, what `collate` and the augmentation draw on (seed, epoch, number): the
    same batch comes out however often, and in whatever order, it is asked for.

    Args:
        dataset: where items come from.
        batch: B.
        seed: of order and augmentation.
        device: where batches are wanted.
        augment: changes of images, such as ``"flip,crop:4"``, or what `rlab.data.augment.parse` made of it. Masks
            follow.
        split: which items.
        shuffle: a new order every epoch, any one or what the data set's `arrange` draws; else the split's own.
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
        if split not in dataset.splits:
            raise RlabError(f"data set '{dataset.name}' has no split '{split}'; {nearest(split, dataset.splits)}")
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.device = torch.device(device)
        self.changes = parse(augment) if isinstance(augment, str) else augment
        self.split = split
        self.shuffle = shuffle
        self.transform = transform
        self.per_epoch = per_epoch
        kind = getattr(dataset, "kind", "other")
        if self.changes and kind not in IMAGES and not isinstance(dataset, DetectionDataset):
            raise RlabError(f"augmentation changes images, and '{dataset.name}' is of kind {kind}")
        self._items = dataset.splits[split] if items is None else items
        self._source = dataset.to(self.device)
        self._order: tuple[int, Tensor] = (-1, self._items)

    @property
    def splits(self) -> Mapping[str, Tensor]:
        """The data set's: name -> items, int64[n]."""
        return self.dataset.splits

    def __len__(self) -> int:
        return -(-len(self._items) // self.batch) if self.per_epoch is None else self.per_epoch

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""
        return len(self._items) if self.per_epoch is None else self.per_epoch * self.batch

    def order(self, epoch: int) -> Tensor:
        """Return all items in the order of an epoch (with `per_epoch`: of a pass), int64[n]."""
        if not self.shuffle:
            return self._items
        known, order = self._order  # read once: another thread may make the next batch
        if known != epoch:
            generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
            arrange: Callable[[Tensor, int, torch.Generator], Tensor] | None = getattr(self.dataset, "arrange", None)
            if arrange is None:
                order = self._items[torch.randperm(len(self._items), generator=generator)]
            else:
                order = arrange(self._items, self.batch, generator)
            self._order = epoch, order
        return order

    def _chosen(self, epoch: int, number: int) -> Tensor:
        if self.per_epoch is None:
            return self.order(epoch)[number * self.batch : (number + 1) * self.batch]
        n, start = len(self._items), (epoch * self.per_epoch + number) * self.batch
        passes = [self.order(p) for p in range(start // n, (start + self.batch - 1) // n + 1)]
        return torch.cat(passes)[start % n :][: self.batch]

    def at(self, epoch: int, number: int, rank: int = 0, world: int = 1, *, view: int = 0) -> Batch:
        """Make one batch.

        Args:
            epoch: from 0.
            number: of the batch in its epoch, below ``len()``.
            rank, world: every `world`-th item of the batch, from number `rank` on: what one of several processes
                learns from. Together they are the batch; the last one of an epoch may leave some of them none.
            view: another one is the same items with other draws of the augmentation.

        Raises:
            RlabError: there is no such batch or rank.
        """
        if not 0 <= number < len(self) or epoch < 0:
            raise RlabError(f"there is no batch {number} in epoch {epoch}; an epoch has {len(self)} batches, from 0")
        if not 0 <= rank < world:
            raise RlabError(f"there is no rank {rank} among {world} processes; valid: 0 to {world - 1}")
        items = self._chosen(epoch, number)[rank::world]
        draw = [epoch, number, *([view] if view or rank else []), *([rank] if rank else [])]
        generator = torch.Generator(self.device).manual_seed(derive(self.seed, "augment", *draw))
        tensors = dict(self._source.collate(items, generator))
        if self.changes:
            tensors |= self._augmented(tensors, generator)
        if self.transform is not None:
            tensors["x"] = self.transform(tensors["x"])
        return Batch(tensors, items, (epoch, number))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from number `start` on."""
        for number in range(start, len(self)):
            yield self.at(epoch, number)

    def ordered(self, split: str, batch: int) -> Iterator[Batch]:
        """Iterate over a split in batches, in its own order and unaugmented, for evaluations.

        Raises:
            RlabError: there is no such split.
        """
        whole = Batches(self.dataset, batch, 0, self.device, split=split, shuffle=False, transform=self.transform)
        return whole.epoch(0)

    def _augmented(self, tensors: dict[str, Any], generator: torch.Generator) -> Tree:
        if isinstance(self.dataset, DetectionDataset):
            return self.dataset.augmented(tensors, self.changes, generator)
        assert isinstance(self.dataset, TensorDataset)
        x, y = tensors["x"], tensors["y"]
        if self.dataset.kind == "segmentation":
            done = augment(x, self.changes, generator, masks=y)
            return {"x": done.images, "y": done.masks}
        classes = None if self.dataset.classes is None else len(self.dataset.classes)
        done = augment(x, self.changes, generator, targets=y, classes=classes)
        return {"x": done.images, "y": done.targets}
