"""Text as data sets of token ids: a stream, pairs of sentences, labelled sentences, and steps with labels.

All hold their tokens in one row without padding; `collate` cuts a batch out of it and pads what is shorter with `PAD`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlab.data.splits import VALIDATION, split_items
from rlab.data.text.corpora import LONGEST_LINE, Corpus, Labelled, Pairs, Steps, Stream
from rlab.data.text.settings import TextSettings
from rlab.data.text.tokens import PAD, UNK, Tokenizer, learn_tokenizer, source_ids, target_ids
from rlab.errors import RlabError

POOL = 50
"""Batches whose items are sorted by length together."""

TEST = 0.1
"""Share of a stream, at its end, that is the test split where none is published."""


@dataclass(frozen=True)
class Ragged:
    """Rows of ids of different lengths.

    Attributes:
        flat: the ids of all rows, one row behind the other, int32[n].
        offsets: where rows begin, and the end of the last one, int64[N + 1]; on the CPU.
    """

    flat: Tensor
    offsets: Tensor

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> Ragged:
        """Join rows."""
        lengths = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
        flat = np.fromiter((n for row in rows for n in row), np.int32, int(lengths.sum()))
        return Ragged(torch.from_numpy(flat), lengths.cumsum(0))

    @property
    def lengths(self) -> Tensor:
        """Of the rows, int64[N]."""
        return self.offsets.diff()

    def __getitem__(self, row: int) -> list[int]:
        ids: list[int] = self.flat[int(self.offsets[row]) : int(self.offsets[row + 1])].tolist()
        return ids

    def gather(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Rows int64[B] as ids int64[B, T], padded with `PAD`, and which of them are no padding, bool[B, T]."""
        start, lengths = self.offsets[items], self.lengths[items]
        steps = torch.arange(int(lengths.max()) if len(items) else 0)
        mask = steps < lengths[:, None]
        places = (start[:, None] + steps).clamp_(max=max(len(self.flat) - 1, 0)).to(self.flat.device)
        mask = mask.to(self.flat.device)
        return torch.where(mask, self.flat[places].long(), PAD), mask

    def to(self, device: torch.device) -> Ragged:
        """The same rows, whose ids are on a device."""
        return replace(self, flat=self.flat.to(device))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Make a batch of rows of ids: int64[B, T], padded with `PAD`, and which of them are no padding, bool[B, T]."""
    return Ragged.of(rows).gather(torch.arange(len(rows)))


def by_length(items: Tensor, lengths: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Put items in an order in which those of a batch are of about equal length.

    A random order is cut into pools of `POOL` batches, each pool is sorted, and the batches of all are drawn in any
    order; a batch that is not full stays the last.

    Args:
        items: int64[n].
        lengths: of the items, in the same order, int64[n].
        batch: B.
        generator: what the order is drawn by.
    """
    order = torch.randperm(len(items), generator=generator)
    pools = [pool[lengths[pool].argsort(stable=True)] for pool in order.split(POOL * batch)]
    full = torch.cat(pools) if pools else order
    count = len(items) // batch
    batches = torch.randperm(count, generator=generator)
    whole = full[: count * batch].view(count, batch)[batches].flatten()
    return items[torch.cat([whole, full[count * batch :]])]


@dataclass(frozen=True)
class TextDataset:
    """One stream of tokens, of which an item is a window: it begins at token `item` and has L + 1 tokens.

    A model predicts the last L tokens of a window from the first L. A window ends where its split ends, so the last
    one may be shorter. The windows of a split lie behind each other and predict every token of it once; the first
    token of the test split is predicted from the last one before it. In training they begin at another place in each
    epoch.

    Attributes:
        name: of the set.
        tokens: ids of the whole stream, int32[n].
        tokenizer: what made them, learned from the training split.
        splits: name -> starts of windows, int64[m], ascending.
        ends: name -> the token behind the split, in the order of the splits.
        window: L.
        streams: B, if rows are to be read on: window k + 1 of an epoch's row b follows its window k, so that a state
            can be carried from batch to batch of B (`in_streams`). 0: windows come in any order.
    """

    name: str
    tokens: Tensor
    tokenizer: Tokenizer
    splits: dict[str, Tensor]
    ends: dict[str, int]
    window: int
    streams: int = 0
    kind: ClassVar[str] = "text"

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """What makes ids of text, by what it is for."""
        return {"text": self.tokenizer}

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, split: str) -> Tensor:
        """The tokens of a split, int32[n]."""
        names = list(self.ends)
        place = names.index(split)
        return self.tokens[self.ends[names[place - 1]] if place else 0 : self.ends[split]]

    def _ends(self, items: Tensor) -> Tensor:
        """Where the splits end that windows begin in, int64[B]."""
        ends = torch.tensor(list(self.ends.values()))
        return ends[torch.searchsorted(ends, items + 1, right=True)]

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Cut windows out: ``tokens`` int64[B, L + 1], and ``mask`` bool[B, L + 1] if one is padded.

        L is shorter if all windows of the batch are.
        """
        end = torch.minimum(items + self.window + 1, self._ends(items))
        steps = torch.arange(int((end - items).max()))
        places = items[:, None] + steps
        mask = places < end[:, None]
        here = self.tokens.device
        ids = self.tokens[places.clamp_(max=len(self.tokens) - 1).to(here)].long()
        if mask.all():
            return {"tokens": ids}
        mask = mask.to(here)
        return {"tokens": torch.where(mask, ids, PAD), "mask": mask}

    def arrange(self, items: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Move the windows of an epoch by 0 to L - 1 tokens, and put them in any order, or in that of streams.

        Raises:
            RlabError: the streams are of another batch size.
        """
        if self.streams not in (0, batch):
            raise RlabError(f"data set '{self.name}' has {self.streams} streams; its batch size cannot be {batch}")
        last = self._ends(items) - 1 - self.window  # where a whole window may begin at the latest
        if self.streams:
            most = min(self.window - 1, max(int((last - items).min()), 0))
            move = int(torch.randint(most + 1, (), generator=generator))
            return items.view(batch, -1).T.flatten() + move
        move = int(torch.randint(self.window, (), generator=generator))
        moved = torch.maximum(torch.minimum(items + move, last), items)
        return moved[torch.randperm(len(items), generator=generator)]

    def in_streams(self, batch: int) -> TextDataset:
        """The same text, of which `batch` parts are read side by side, each in its order (truncated BPTT).

        Windows that do not fill a batch are left out.

        Raises:
            RlabError: the training split has fewer windows than that.
        """
        items = self.splits["train"]
        if len(items) < batch:
            raise RlabError(
                f"the training split of '{self.name}' has {len(items):,} windows of {self.window} tokens, too few for "
                f"{batch} streams; make the window or the batch smaller"
            )
        kept = items[: len(items) // batch * batch]
        return replace(self, streams=batch, splits=self.splits | {"train": kept})

    def unknown(self, split: str) -> float:
        """Share of a split's tokens that the vocabulary has not."""
        return float((self.part(split) == UNK).double().mean())

    def to(self, device: torch.device) -> TextDataset:
        """The same set, whose tokens are on a device."""
        return self if self.tokens.device == device else replace(self, tokens=self.tokens.to(device))


@dataclass(frozen=True)
class PairDataset:
    """Pairs of sentences: a model reads the source and writes the target.

    Attributes:
        name: of the set.
        sources, targets: the sentences as text, [N].
        source_tokenizer, target_tokenizer: learned from the training split.
        source, target: their ids; sources end with `EOS`, targets begin with `BOS` and end with `EOS`.
        splits: name -> items, int64[n], ascending. ``test_unseen`` are those of ``test`` whose target is that of no
            training pair, where some are.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    source: Ragged
    target: Ragged
    splits: dict[str, Tensor]
    kind: ClassVar[str] = "pairs"

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """What makes ids of text, by what it is for."""
        return {"source": self.source_tokenizer, "target": self.target_tokenizer}

    def __len__(self) -> int:
        return len(self.sources)

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather pairs: ``source`` int64[B, S], ``target`` int64[B, T]; ``source_mask``, ``target_mask`` bool."""
        source, source_mask = self.source.gather(items)
        target, target_mask = self.target.gather(items)
        return {"source": source, "source_mask": source_mask, "target": target, "target_mask": target_mask}

    def arrange(self, items: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Put pairs of about equal lengths into a batch."""
        lengths = self.target.lengths[items] * (int(self.source.lengths.max()) + 1) + self.source.lengths[items]
        return by_length(items, lengths, batch, generator)

    def unknown(self, split: str) -> float:
        """Share of a split's tokens, of both sides, that the vocabularies have not."""
        return _unknown(self.splits[split], self.source, self.target)

    def to(self, device: torch.device) -> PairDataset:
        """The same set, whose tokens are on a device."""
        if self.source.flat.device == device:
            return self
        return replace(self, source=self.source.to(device), target=self.target.to(device))


@dataclass(frozen=True)
class LabelledText:
    """Sentences with classes.

    Attributes:
        name: of the set.
        texts: the sentences, [N].
        tokenizer: learned from the training split.
        ids: of the sentences, each with `EOS` at its end.
        y: classes int64[N].
        classes: their names.
        splits: name -> items, int64[n], ascending.
    """

    name: str
    texts: tuple[str, ...]
    tokenizer: Tokenizer
    ids: Ragged
    y: Tensor
    classes: tuple[str, ...]
    splits: dict[str, Tensor]
    kind: ClassVar[str] = "labelled text"

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """What makes ids of text, by what it is for."""
        return {"text": self.tokenizer}

    def __len__(self) -> int:
        return len(self.texts)

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather sentences: ``tokens`` int64[B, T], ``mask`` bool[B, T], ``y`` int64[B]."""
        tokens, mask = self.ids.gather(items)
        return {"tokens": tokens, "mask": mask, "y": self.y[items.to(self.y.device)]}

    def arrange(self, items: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Put sentences of about equal length into a batch."""
        return by_length(items, self.ids.lengths[items], batch, generator)

    def unknown(self, split: str) -> float:
        """Share of a split's tokens that the vocabulary has not."""
        return _unknown(self.splits[split], self.ids)

    def to(self, device: torch.device) -> LabelledText:
        """The same set, whose tokens are on a device."""
        return self if self.y.device == device else replace(self, ids=self.ids.to(device), y=self.y.to(device))


@dataclass(frozen=True)
class LabelledSteps:
    """Sequences with a label at every step.

    Attributes:
        name: of the set.
        x: inputs float32[N, T, C].
        y: classes int64[N, T].
        mask: bool[N, T], which steps are learned and scored.
        lengths: int64[N]; on the CPU.
        classes: names of the labels.
        inputs: names of the C channels.
        splits: name -> items, int64[n], ascending. Sequences of ``longer`` are longer than those of training.
    """

    name: str
    x: Tensor
    y: Tensor
    mask: Tensor
    lengths: Tensor
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    splits: dict[str, Tensor]
    kind: ClassVar[str] = "labelled steps"

    def __len__(self) -> int:
        return len(self.x)

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather sequences, as long as the longest: ``x`` [B, T, C], ``y``, ``mask`` [B, T], ``lengths`` int64[B]."""
        lengths, here = self.lengths[items], items.to(self.x.device)
        longest = int(lengths.max())
        batch = {key: getattr(self, key)[here, :longest] for key in ("x", "y", "mask")}
        return batch | {"lengths": lengths.to(self.x.device)}

    def arrange(self, items: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Put sequences of about equal length into a batch."""
        return by_length(items, self.lengths[items], batch, generator)

    def to(self, device: torch.device) -> LabelledSteps:
        """The same set on a device."""
        if self.x.device == device:
            return self
        return replace(self, x=self.x.to(device), y=self.y.to(device), mask=self.mask.to(device))


def make(
    name: str,
    corpus: Corpus,
    settings: TextSettings,
    tokens: str = "characters",
    seed: int = 0,
    validation: float | None = None,
) -> TextDataset | PairDataset | LabelledText | LabelledSteps:
    """Make a data set of text.

    Args:
        name: of the set; of a user's file its path, for messages.
        corpus: what a reader returned.
        settings: how it is cut and batched.
        tokens: what is usual for the set.
        seed: of splits that are drawn.
        validation: share of what is not the published test split; see `rlab.data.datasets.load`.

    Raises:
        RlabError: the text is too short for its splits, a sentence is too long, or tokens cannot be made.
    """
    kind = settings.tokens or tokens
    if isinstance(corpus, Stream):
        return _stream(name, corpus, settings, kind, validation)
    if isinstance(corpus, Pairs):
        return _pairs(name, corpus, settings, kind, seed, validation)
    if isinstance(corpus, Labelled):
        return _labelled(name, corpus, settings, kind, seed, validation)
    return _steps(name, corpus, seed, validation)


def joined(data: PairDataset, split: str, k: int) -> PairDataset:
    """Join every k pairs of a split that follow each other to one, with spaces: the same sentences, k times as long.

    Args:
        data: pairs.
        split: of which; the new data set has this split alone.
        k: how many; 1: the split as it is. Pairs that are left over are left out.

    Raises:
        RlabError: there is no such split, or it has fewer than k pairs.
    """
    if split not in data.splits or not 1 <= k <= len(data.splits[split]):
        raise RlabError(f"{k} pairs of '{split}' of data set '{data.name}' cannot be joined")
    items = data.splits[split].tolist()
    groups = [items[n : n + k] for n in range(0, len(items) - k + 1, k)]
    sources = tuple(" ".join(data.sources[n] for n in group) for group in groups)
    targets = tuple(" ".join(data.targets[n] for n in group) for group in groups)
    return replace(
        data,
        sources=sources,
        targets=targets,
        source=Ragged.of([source_ids(data.source_tokenizer, text) for text in sources]),
        target=Ragged.of([target_ids(data.target_tokenizer, text) for text in targets]),
        splits={split: torch.arange(len(groups))},
    )


def _stream(name: str, corpus: Stream, settings: TextSettings, kind: str, validation: float | None) -> TextDataset:
    text, test = corpus.text, corpus.test
    if test is None:
        cut = len(text) - max(round(TEST * len(text)), 1)
        text, test = text[:cut], text[cut:]
    share = VALIDATION if validation is None else validation
    if not 0 <= share < 1:
        raise RlabError(f"the validation share of '{name}' is {share:g}; it must be at least 0 and leave text to train")
    parts = {"train": text}
    if share:
        cut = len(text) - max(round(share * len(text)), 1)
        parts = {"train": text[:cut], "validation": text[cut:]}
    parts["test"] = test
    if not parts["train"].strip():
        whole = len(text) + len(test)
        raise RlabError(
            f"{name} has {whole:,} character{'s' * (whole != 1)}, too few to learn from and to hold some out"
        )
    tokenizer = learn_tokenizer(kind, [parts["train"]], settings.vocabulary)
    rows = [tokenizer.encode_array(part) for part in parts.values()]
    for split, row in zip(parts, rows, strict=True):
        if len(row) < 1 + (split == "train"):
            raise RlabError(f"{name} is too short: its {split} split has {len(row)} token{'s' * (len(row) != 1)}")
    ends = dict(zip(parts, np.cumsum([len(row) for row in rows]).tolist(), strict=True))
    window, splits, start = settings.window, {}, 0
    for split, end in ends.items():
        starts = torch.arange(start, end - 1, window)
        if split == "train":  # whole windows, unless there is none
            starts = starts[: max((end - 1) // window, 1)]
        splits[split] = starts
        start = end - 1
    return TextDataset(name, torch.from_numpy(np.concatenate(rows)), tokenizer, splits, ends, window)


def _pairs(
    name: str, corpus: Pairs, settings: TextSettings, kind: str, seed: int, validation: float | None
) -> PairDataset:
    splits = dict(corpus.splits) or split_items(name, len(corpus.sources), None, None, seed, validation)
    if validation == 0:
        splits.pop("validation", None)
    _check_not_empty(name, splits)
    train = splits["train"].tolist()
    known = {corpus.targets[n] for n in train}
    unseen = np.array([n for n in splits["test"].tolist() if corpus.targets[n] not in known], np.int64)
    if 0 < len(unseen) < len(splits["test"]):
        splits["test_unseen"] = unseen
    sides: list[tuple[Tokenizer, Ragged]] = []
    for texts, ids, cut in (
        (corpus.sources, source_ids, kind),
        (corpus.targets, target_ids, settings.target_tokens or kind),
    ):
        _check_characters(name, texts, corpus.lines)
        tokenizer = learn_tokenizer(cut, (texts[n] for n in train), settings.vocabulary)
        sides.append((tokenizer, _ragged(name, texts, tokenizer, ids, settings, corpus.lines)))
    (source_tokenizer, source), (target_tokenizer, target) = sides
    return PairDataset(
        name, tuple(corpus.sources), tuple(corpus.targets), source_tokenizer, target_tokenizer, source, target,
        {split: torch.from_numpy(items) for split, items in splits.items()},
    )  # fmt: skip


def _labelled(
    name: str, corpus: Labelled, settings: TextSettings, kind: str, seed: int, validation: float | None
) -> LabelledText:
    splits = split_items(name, len(corpus.texts), corpus.y, None, seed, validation)
    _check_not_empty(name, splits)
    _check_characters(name, corpus.texts, None)
    tokenizer = learn_tokenizer(kind, (corpus.texts[n] for n in splits["train"].tolist()), settings.vocabulary)
    ids = _ragged(name, corpus.texts, tokenizer, source_ids, settings, None)
    tensors = {split: torch.from_numpy(items) for split, items in splits.items()}
    y = torch.from_numpy(corpus.y)
    return LabelledText(name, tuple(corpus.texts), tokenizer, ids, y, corpus.classes, tensors)


def _steps(name: str, corpus: Steps, seed: int, validation: float | None) -> LabelledSteps:
    longer = np.zeros(0, np.int64) if corpus.longer is None else corpus.longer
    usual = np.setdiff1d(np.arange(len(corpus.x)), longer)
    drawn = split_items(name, len(usual), None, None, seed, validation)
    splits = {split: torch.from_numpy(usual[items]) for split, items in drawn.items()}
    if len(longer):
        splits["longer"] = torch.from_numpy(longer)
    x, y, mask, lengths = (torch.from_numpy(a) for a in (corpus.x, corpus.y, corpus.mask, corpus.lengths))
    return LabelledSteps(name, x, y, mask, lengths, corpus.classes, corpus.inputs, splits)


def _ragged(
    name: str,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    ids: Callable[[Tokenizer, str], list[int]],
    settings: TextSettings,
    lines: Sequence[int] | None,
) -> Ragged:
    rows = [ids(tokenizer, text) for text in texts]
    for n, row in enumerate(rows):
        if len(row) > settings.longest + 2:
            raise RlabError(
                f"{_where(name, n, lines)}: a sentence has {len(row):,} tokens of {tokenizer.name}; it may have "
                f"{settings.longest:,}"
            )
    return Ragged.of(rows)


def _check_characters(name: str, texts: Sequence[str], lines: Sequence[int] | None) -> None:
    for n, text in enumerate(texts):
        if len(text) > LONGEST_LINE:
            raise RlabError(
                f"{_where(name, n, lines)}: a sentence has {len(text):,} characters; it may have {LONGEST_LINE:,}"
            )


def _check_not_empty(name: str, splits: Mapping[str, np.ndarray]) -> None:
    for split, items in splits.items():
        if not len(items):
            number = sum(map(len, splits.values()))
            raise RlabError(f"{name} has {number} example{'s' * (number != 1)}, of which none is left for '{split}'")


def _where(name: str, n: int, lines: Sequence[int] | None) -> str:
    return f"{name}, {f'line {lines[n]}' if lines else f'item {n}'}"


def _unknown(items: Tensor, *sides: Ragged) -> float:
    ids: list[Any] = [ids[mask] for ids, mask in (side.gather(items) for side in sides)]
    return float((torch.cat(ids) == UNK).double().mean())
