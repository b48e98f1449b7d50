"""Waveforms as data sets: mu-law codes of recordings, whole or in windows, with class, speaker and place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rlab.data.sound import RATE, Recordings, mu_law
from rlab.data.splits import split_items
from rlab.data.text.datasets import by_length
from rlab.errors import RlabError, printable
from rlab.seeding import derive

SILENCE = 128
"""The code of 0, with which batches are padded."""


@dataclass(frozen=True)
class WaveDataset:
    """Recordings as codes, of which an item is a window: some codes to be predicted, and those before them.

    Made by `make`, where an item is a whole recording; `in_windows` cuts long ones.

    Attributes:
        name: of the set.
        codes: mu-law codes of all recordings, one behind the other, uint8[n].
        offsets: where recordings begin, and the end of the last one, int64[N + 1]; on the CPU, as all below.
        labels: the class of each, int64[N].
        by: the speaker of each, int64[N].
        classes: names of the classes.
        speakers: names of the speakers; one where nobody knows.
        splits: name -> items, int64[n], ascending.
        windows: of each item, its recording and where in it the codes to be predicted begin, int64[M, 2].
        length: codes of an item to be predicted, at the most; 0: all of a recording.
        context: codes before them that an item has, too, where there are so many.
    """

    name: str
    codes: Tensor
    offsets: Tensor
    labels: Tensor
    by: Tensor
    classes: tuple[str, ...]
    speakers: tuple[str, ...]
    splits: dict[str, Tensor]
    windows: Tensor
    length: int = 0
    context: int = 0
    kind: ClassVar[str] = "waves"
    rate: ClassVar[int] = RATE

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def lengths(self) -> Tensor:
        """Of the recordings in samples, int64[N]."""
        return self.offsets.diff()

    def recording(self, number: int) -> Tensor:
        """The codes of a recording, uint8[T]."""
        return self.codes[int(self.offsets[number]) : int(self.offsets[number + 1])]

    def _spans(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of items their recordings, and there the first code, the first to be predicted and the end, int64[B] each."""
        owner, start = self.windows[items].unbind(1)
        whole = self.lengths[owner]
        end = torch.minimum(start + self.length, whole) if self.length else whole
        return owner, (start - self.context).clamp(min=0), start, end

    def sizes(self, items: Tensor) -> Tensor:
        """How many codes items have, those before included, int64[B]."""
        _, first, _, end = self._spans(items)
        return end - first

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Cut windows out.

        Returns:
            ``codes`` int64[B, T]; ``mask`` bool[B, T], those to be predicted; ``label`` and ``speaker`` int64[B];
            ``position`` float32[B, T], the place in the recording, from 0 to below 1.
        """
        owner, first, start, end = self._spans(items)
        places = first[:, None] + torch.arange(int((end - first).max()))
        there = places < end[:, None]
        flat = (self.offsets[owner][:, None] + places).clamp_(max=len(self.codes) - 1)
        here = self.codes.device
        codes = torch.where(there.to(here), self.codes[flat.to(here)].long(), SILENCE)
        position = torch.where(there, places / self.lengths[owner][:, None], 0).float()
        return {
            "codes": codes,
            "mask": (there & (places >= start[:, None])).to(here),
            "label": self.labels[owner].to(here),
            "speaker": self.by[owner].to(here),
            "position": position.to(here),
        }

    def arrange(self, items: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Put windows of about equal lengths into a batch."""
        return by_length(items, self.sizes(items), batch, generator)

    def in_windows(self, length: int, context: int) -> WaveDataset:
        """The same recordings, each as windows of `length` codes that lie behind each other, with `context` before."""
        if self.length or self.context:
            raise RlabError(f"data set '{self.name}' is cut into windows already")
        lengths = self.lengths.tolist()
        starts = [list(range(0, n, length)) for n in lengths]
        first = np.cumsum([0, *map(len, starts)])
        windows = [(owner, start) for owner, of_one in enumerate(starts) for start in of_one]
        splits = {
            split: torch.from_numpy(np.concatenate([np.arange(first[n], first[n + 1]) for n in items.tolist()]))
            for split, items in self.splits.items()
        }
        return replace(self, splits=splits, windows=torch.tensor(windows), length=length, context=context)

    def part(self, split: str) -> Tensor:
        """The numbers of a split's recordings, int64[n], ascending."""
        return self.windows[self.splits[split], 0].unique()

    def to(self, device: torch.device) -> WaveDataset:
        """The same set, whose codes are on a device."""
        return self if self.codes.device == device else replace(self, codes=self.codes.to(device))


def chosen(data: WaveDataset, count: int, seed: int) -> list[int]:
    """Draw some training recordings by the seed, ascending."""
    items = data.part("train")
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(derive(seed, "examples")))
    numbers: list[int] = items[order[:count]].sort().values.tolist()
    return numbers


def make(name: str, found: Recordings, seed: int = 0, validation: float | None = None) -> WaveDataset:
    """Make a data set of recordings.

    Args:
        name: of the set.
        found: the recordings.
        seed: of splits that are drawn, of every class its share.
        validation: see `rlab.data.datasets.load`.

    Raises:
        RlabError: there are too few recordings for the splits.
    """
    splits = split_items(name, len(found.sounds), found.labels, found.test, seed, validation)
    for split, items in splits.items():
        if len(items) == 0:
            near = "; nearest: --validation 0" if split == "validation" else ""
            raise RlabError(
                f"the split '{split}' of data set '{name}' is empty: there are {len(found.sounds):,} recordings in all"
                f"{near}"
            )
    for number, sound in enumerate(found.sounds):
        if len(sound) == 0:
            raise RlabError(f"recording {number} of data set '{name}' has no sample")
    codes = np.concatenate([mu_law(sound) for sound in found.sounds])
    offsets = np.cumsum([0, *map(len, found.sounds)])
    every = torch.arange(len(found.sounds))
    return WaveDataset(
        name,
        torch.from_numpy(codes),
        torch.from_numpy(offsets),
        torch.from_numpy(found.labels.astype(np.int64)),
        torch.from_numpy(found.by.astype(np.int64)),
        tuple(map(printable, found.classes)),
        tuple(map(printable, found.speakers)),
        {split: torch.from_numpy(items) for split, items in splits.items()},
        torch.stack([every, torch.zeros_like(every)], 1),
    )
