"""Data sets as tensors in memory, with splits for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data import waves
from rlab.data.annotations import AnnotatedImages
from rlab.data.catalog import DATASETS
from rlab.data.detection import from_annotated
from rlab.data.files import reader
from rlab.data.media import refuse_shape
from rlab.data.own import OwnSettings
from rlab.data.readers import Arrays
from rlab.data.sound import Recordings
from rlab.data.splits import split_items
from rlab.data.text.datasets import make
from rlab.data.text.settings import TextSettings
from rlab.errors import RlabError, nearest, printable
from rlab.seeding import derive

IMAGES = ("images", "segmentation")
"""Kinds whose x is [N, C, H, W]."""

DIMS = {"images": 4, "segmentation": 4, "table": 2, "series": 3}
"""Kind -> dimensions of x."""


@dataclass(frozen=True)
class TensorDataset:
    """Labelled tensors in memory: images, masks, tables or series. Making one checks it.

    Attributes:
        name: of the set.
        kind: images, segmentation, table or series.
        x: images uint8[N, C, H, W] or float32 in 0..1, tables float32[N, D], series float32[N, T, C].
        y: classes int64[N], numbers float32[N] or [N, K], masks uint8[N, H, W].
        classes: their names; None for regression.
        splits: name -> items, int64[n], ascending.
        lengths: of series, int64[N]; x is zero from there on.
        columns: names of the D columns of a table, if they are known.

    Raises:
        RlabError: shapes do not fit, a number is not finite, a label is out of range, or a split is empty or shares
            items with another.
    """

    name: str
    kind: str
    x: Tensor
    y: Tensor
    classes: tuple[str, ...] | None
    splits: dict[str, Tensor]
    lengths: Tensor | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_x(self)
        _check_y(self)
        _check_splits(self)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one item."""
        return tuple(self.x.shape[1:])

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather items int64[B]: ``x`` float32[B, *shape] (bytes become 0..1), ``y``, and of series ``lengths``."""
        here = items.to(self.x.device)
        batch = {"x": as_float(self.x[here]), "y": self.y[here]}
        return batch if self.lengths is None else batch | {"lengths": self.lengths[items].to(self.x.device)}

    def to(self, device: torch.device) -> TensorDataset:
        """Copy x and y as a whole to a device, so that a batch costs no copy between devices."""
        return self if self.x.device == device else replace(self, x=self.x.to(device), y=self.y.to(device))

    def items(self, split: str) -> Tensor:
        """Return the items of a split, int64[n].

        Raises:
            RlabError: there is no such split.
        """
        if split not in self.splits:
            raise RlabError(f"data set '{self.name}' has no split '{split}'; {nearest(split, self.splits)}")
        return self.splits[split]

    def inputs(self, split: str) -> Tensor:
        """Return the inputs of a split as networks take them: float32[n, *shape], bytes scaled to 0..1."""
        return as_float(self.x[self.items(split)])

    def targets(self, split: str) -> Tensor:
        """Return the targets of a split."""
        return self.y[self.items(split)]

    def counts(self, split: str) -> list[int]:
        """Count the items (of masks: pixels) of each class in a split; empty for regression."""
        if self.classes is None:
            return []
        return torch.bincount(self.targets(split).flatten().long(), minlength=len(self.classes)).tolist()

    def resized(self, shape: tuple[int, int, int]) -> TensorDataset:
        """Resize images to another shape [C, H, W]: bilinear, antialiased; masks by the nearest pixel.

        One channel becomes equal ones, several become their mean where their number differs. The bytes in memory
        change with the shape. Items in no split are black then.

        Raises:
            RlabError: these are no images, or the shape is none.
        """
        if self.kind not in IMAGES:
            raise RlabError(f"data set '{self.name}' is of kind {self.kind}, so it cannot be resized")
        if shape == self.shape:
            return self
        refuse_shape(shape, len(self))
        x, y, size = self.x.new_zeros(len(self), *shape), self.y, shape[1:]
        for items in torch.cat(list(self.splits.values())).unique().split(1_000):
            images = F.interpolate(self.x[items].float(), size, mode="bilinear", antialias=True, align_corners=False)
            if shape[0] != self.shape[0]:
                images = images.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
            x[items] = (images if x.is_floating_point() else images.round()).to(x.dtype)
        if self.kind == "segmentation":
            y = F.interpolate(y[:, None].float(), size, mode="nearest")[:, 0].to(y.dtype)
        return replace(self, x=x, y=y)

    def subsample(self, n: int, seed: int, split: str = "train", even: bool = False) -> TensorDataset:
        """Keep only n of the items of a split, of every class its share, or as many; drawn by the seed.

        Raises:
            RlabError: there are not so many.
        """
        items = self.items(split).numpy()
        if not 1 <= n <= len(items):
            whose = {"train": "training", "test": "test"}.get(split, split)
            raise RlabError(f"data set '{self.name}' has {len(items):,} {whose} items, so {n:,} cannot be drawn")
        groups = np.zeros(len(self), np.int64) if self.classes is None or self.y.dim() > 1 else self.y.numpy()
        order = np.random.default_rng(derive(seed, "fewer")).permutation(items)
        rank = np.empty(len(order))  # of an item in its class, as a part of the class: small ranks of all come first
        for group in np.unique(groups[order]):
            members = np.flatnonzero(groups[order] == group)
            rank[members] = (np.arange(len(members)) + 0.5) / (1 if even else len(members))
        chosen = np.sort(order[np.argsort(rank, kind="stable")[:n]])
        return replace(self, splits=self.splits | {split: torch.from_numpy(chosen)})

    def split_labelled(self, n: int, seed: int) -> TensorDataset:
        """Keep n of the training items, of every class as many; the others become the split "unlabelled".

        Raises:
            RlabError: there are not so many, none would be left, or there are fewer than classes.
        """
        items, classes = self.items("train"), len(self.classes or "1")
        if not classes <= n < len(items):
            raise RlabError(
                f"{n:,} of the {len(items):,} training items of '{self.name}' cannot be all that are labelled: there "
                f"must be at least {classes}, one of every class, and one without a label"
            )
        fewer = self.subsample(n, seed, even=True)
        rest = items[~torch.isin(items, fewer.items("train"))]
        return replace(fewer, splits=fewer.splits | {"unlabelled": rest})

    def bootstrap(self, seed: int) -> Tensor:
        """Draw as many training items as there are, with replacement: int64[n]."""
        items = self.items("train")
        return items[
            torch.from_numpy(np.random.default_rng(derive(seed, "bootstrap")).integers(len(items), size=len(items)))
        ]

    def drop_split(self, split: str) -> TensorDataset:
        """Remove a split."""
        return replace(self, splits={name: items for name, items in self.splits.items() if name != split})


def as_float(x: Tensor) -> Tensor:
    """Convert to float32; bytes are scaled to 0..1."""
    return x.float().mul_(1 / 255) if x.dtype == torch.uint8 else x.float()


def model_inputs(x: np.ndarray, data: TensorDataset) -> Tensor:
    """Make a model's inputs float32[B, *shape] of an array [B, *shape] like the data that it was trained on.

    Data of bytes take whole numbers 0..255, which become 0..1; images of floats take floats in 0..1; tables and series
    of floats take any real numbers.

    Raises:
        RlabError: the array is of another shape, type or range: scaled by another rule, it would be another input.
    """
    if tuple(x.shape[1:]) != data.shape or x.ndim == 0:
        raise RlabError(f"this model takes inputs of shape {list(data.shape)}, not {list(x.shape[1:])}")
    whole = x.dtype.kind in "iu"
    if not whole and x.dtype.kind != "f":
        raise RlabError(f"this model takes numbers, not {x.dtype}")
    low, high = (x.min(), x.max()) if x.size else (0, 0)
    if not np.isfinite([low, high]).all():
        raise RlabError("this model takes finite numbers; there are NaN or Inf in the inputs")
    if data.x.dtype == torch.uint8:
        if not whole or low < 0 or high > 255:
            raise RlabError(
                f"this model was trained on bytes, whole numbers 0..255; these are {x.dtype} from {low:g} to {high:g}"
                + ("; nearest: (255 * x).round().astype('uint8')" if low >= 0 and high <= 1 and not whole else "")
            )
        return as_float(torch.from_numpy(np.require(x, np.uint8, ["C", "W"])))
    if data.kind in IMAGES and (whole or low < 0 or high > 1):
        raise RlabError(
            f"this model was trained on images of floats in 0..1; these are {x.dtype} from {low:g} to {high:g}, so "
            "divide them by the largest value that a pixel can have"
        )
    return torch.from_numpy(np.require(x, np.float32, ["C", "W"]))


def load(
    name: str,
    seed: int = 0,
    validation: float | None = None,
    report: Callable[[str], None] | None = None,
    own: OwnSettings | None = None,
    text: TextSettings | None = None,
) -> Any:
    """Load a data set, downloading it if it is nowhere: a `TensorDataset`, a `DetectionDataset`, one of text, or what
    its source makes.

    The published test split stays as it is, and the validation split is drawn from the rest. Where none is published,
    both are drawn. Draws are stratified and depend on the seed alone.

    Args:
        name: a registered name, ``package.module:name``, ``images:DIR``, ``voc:DIR``, ``coco:DIR``, ``csv:FILE``,
            ``text:FILE``, ``pairs:FILE`` or ``wav:DIR``.
        seed: of the draw.
        validation: its share: of the training items (default 0.1), or of all (default 0.15) where no test split is
            published, which then is 0.15. 0: no validation split. Of running text it is the end of what is trained
            on, and a test split that is not published the last tenth.
        report: takes a line for each download.
        own: how a user's own files are read.
        text: how text becomes tokens and windows.

    Raises:
        RlabError: the set is unknown, not there, damaged, or nothing that the lab makes tensors of.
    """
    source = DATASETS.get(name)
    if source.own is not None:
        found = source.own.load(own or OwnSettings())
        if isinstance(found, AnnotatedImages):
            return from_annotated(source.own.name, found, seed, validation)
        if isinstance(found, Recordings):
            return waves.make(source.own.name, found, seed, validation)
        if not isinstance(found, Arrays):
            made = make(str(source.own.path), found, text or TextSettings(), source.tokens, seed, validation)
            return replace(made, name=source.own.name)
        return from_arrays(source.own.name, source.kind, found, seed, validation)
    if source.corpus is not None:
        corpus = source.corpus(reader(name, report))
        return make(name.rpartition(":")[2], corpus, text or TextSettings(), source.tokens, seed, validation)
    if source.make is not None:
        return source.make(reader(name, report), seed, validation)
    if source.load is None:
        raise RlabError(
            f"data set '{name}' ({source.kind}) can be listed, fetched and verified, but not loaded yet; "
            f"loadable: {', '.join(n for n in DATASETS if DATASETS.get(n).loadable)}"
        )
    arrays = source.load(reader(name, report))
    if isinstance(arrays, AnnotatedImages):
        return from_annotated(name.rpartition(":")[2], arrays, seed, validation)
    if isinstance(arrays, Recordings):
        return waves.make(name.rpartition(":")[2], arrays, seed, validation)
    return from_arrays(name.rpartition(":")[2], source.kind, arrays, seed, validation)


def from_arrays(name: str, kind: str, arrays: Arrays, seed: int = 0, validation: float | None = None) -> TensorDataset:
    """Make a data set of arrays.

    Raises:
        RlabError: what is wrong with them.
    """
    found = {field: _plain(name, field, getattr(arrays, field)) for field in ("x", "y", "test", "lengths", "strata")}
    strata, test, lengths = found["strata"], found["test"], found["lengths"]
    if test is not None and test.dtype == bool:
        test = np.flatnonzero(test)
    if strata is None and arrays.classes is not None and found["y"].ndim == 1:
        strata = found["y"]
    splits = split_items(name, len(found["x"]), strata, test, seed, validation)
    if arrays.missing:
        found["x"] = _with_means(name, found["x"], splits["train"], arrays.columns)
    x, y = torch.from_numpy(found["x"]), torch.from_numpy(found["y"])
    if y.dim() == 1 and not y.is_floating_point():
        y = y.long()
    return TensorDataset(
        name=name,
        kind=kind,
        x=x if x.dtype == torch.uint8 else x.float(),
        y=y.float() if arrays.classes is None else y,
        classes=None if arrays.classes is None else tuple(printable(str(label)) for label in arrays.classes),
        splits={split: torch.from_numpy(items) for split, items in splits.items()},
        lengths=None if lengths is None else torch.from_numpy(lengths),
        columns=None if arrays.columns is None else tuple(map(printable, arrays.columns)),
    )


def _with_means(name: str, x: np.ndarray, train: np.ndarray, columns: tuple[str, ...] | None) -> np.ndarray:
    """A table in which NaN has become the mean of the column's training examples."""
    there = ~np.isnan(x[train])
    empty = np.flatnonzero(~there.any(0))
    if len(empty):
        which = columns[empty[0]] if columns else empty[0] + 1
        raise RlabError(f"column '{which}' of data set '{name}' has no number in the training examples, so no mean")
    means = np.where(there, x[train], 0).sum(0, dtype=np.float64) / there.sum(0)
    return np.where(np.isnan(x), means.astype(x.dtype), x)


def _plain(name: str, what: str, given: Any) -> Any:
    """An array as torch takes it: real numbers, in this machine's byte order."""
    if given is None:
        return None
    array = np.asarray(given)
    whole = what in ("test", "lengths", "strata")
    if array.dtype.kind not in ("bui" if whole else "buif") or array.ndim == 0:
        raise RlabError(
            f"data set '{name}' has {what} of {array.dtype} and shape {list(array.shape)}; it must be an array of "
            f"{'whole ' if whole else ''}numbers, one row for each item"
        )
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return np.require(array, kind, ["C", "W"])


def _check_x(data: TensorDataset) -> None:
    n, x = len(data.x), data.x
    if data.kind not in DIMS:
        raise RlabError(f"data set '{data.name}' is of kind '{data.kind}'; {nearest(data.kind, DIMS)}")
    if x.dim() != DIMS[data.kind]:
        form = {4: "[N, C, H, W]", 3: "[N, T, C]", 2: "[N, D]"}[DIMS[data.kind]]
        raise RlabError(f"data set '{data.name}' ({data.kind}) has x of shape {list(x.shape)}; it must be {form}")
    if x.numel() == 0:
        raise RlabError(f"data set '{data.name}' is empty (x has shape {list(x.shape)})")
    if x.dtype not in (torch.uint8, torch.float32):
        raise RlabError(f"data set '{data.name}' has x of {x.dtype}; it must be uint8 or float32")
    if len(data.y) != n:
        raise RlabError(f"data set '{data.name}' has {n:,} items but {len(data.y):,} labels")
    if x.is_floating_point():
        _check_finite(data.name, "x", x)
        if data.kind in IMAGES and (x.amin() < 0 or x.amax() > 1):
            low, high = x.amin().item(), x.amax().item()
            raise RlabError(
                f"data set '{data.name}' has pixels from {low:g} to {high:g}; they must lie in 0..1, or be uint8"
            )
    if data.lengths is not None:
        good = data.kind == "series" and data.lengths.shape == (n,)
        if not good or data.lengths.amin() < 1 or data.lengths.amax() > x.shape[1]:
            raise RlabError(f"data set '{data.name}' has lengths that are not one of 1..{x.shape[1]} for each series")


def _check_finite(name: str, what: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        item = int((~torch.isfinite(values)).flatten(1).any(1).nonzero()[0])
        raise RlabError(f"data set '{name}' has NaN or Inf in {what} of item {item}")


def _check_y(data: TensorDataset) -> None:
    y = data.y
    if data.classes is None:
        if not y.is_floating_point() or y.dim() > 2 or y.numel() == 0:
            raise RlabError(f"data set '{data.name}' has no classes, so y must be float [N] or [N, K], not {y.dtype}")
        _check_finite(data.name, "y", y[:, None])
        return
    dims = (len(y), *data.x.shape[2:]) if data.kind == "segmentation" else (len(y),)
    if tuple(y.shape) != dims:
        raise RlabError(f"data set '{data.name}' has y of shape {list(y.shape)}; it must be {list(dims)}")
    if y.is_floating_point():
        raise RlabError(f"data set '{data.name}' has classes, so y must be whole numbers, not {y.dtype}")
    if not data.classes:
        raise RlabError(f"data set '{data.name}' has an empty list of classes")
    twice = [a for a, b in pairwise(sorted(data.classes)) if a == b]
    if "" in data.classes:
        raise RlabError(f"data set '{data.name}' has a class without a name")
    if twice:
        raise RlabError(f"data set '{data.name}' has two classes named '{twice[0]}'; each needs a name of its own")
    wrong = (y < 0) | (y >= len(data.classes))
    if wrong.any():
        item = int(wrong.flatten(1).any(1).nonzero()[0]) if y.dim() > 1 else int(wrong.nonzero()[0])
        label = int(y[item][wrong[item]][0]) if y.dim() > 1 else int(y[item])
        raise RlabError(
            f"data set '{data.name}' has label {label} at item {item}; there are {len(data.classes)} classes, "
            f"0 to {len(data.classes) - 1}"
        )


def _check_splits(data: TensorDataset) -> None:
    assigned = torch.zeros(len(data.x), dtype=torch.bool)
    if not data.splits:
        raise RlabError(f"data set '{data.name}' has no splits")
    for split, items in data.splits.items():
        if len(items) == 0:
            near = "; nearest: --validation 0" if split == "validation" else ""
            raise RlabError(
                f"the split '{split}' of data set '{data.name}' is empty ({len(data.x):,} items in all){near}"
            )
        if items.amin() < 0 or items.amax() >= len(data.x):
            raise RlabError(f"the split '{split}' of data set '{data.name}' names items that do not exist")
        if assigned[items].any() or len(items.unique()) != len(items):
            raise RlabError(f"the split '{split}' of data set '{data.name}' has items twice, or shares them")
        assigned[items] = True
