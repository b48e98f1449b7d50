"""Dialogues as a data set: what two sides say in turn, as token ids. `sgd_dialogues`, and some made by a rule.

The module imports torch when a data set is made, not before: the catalog names what is here.
"""

from __future__ import annotations

import io
import json
import lzma
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rlab.data.splits import split_items
from rlab.errors import RlabError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rlab.data.text.datasets import Ragged
    from rlab.data.text.tokens import Tokenizer

Read = Callable[[str], bytes]
"""A file's name -> its checked content."""

VOCABULARY, LONGEST = 4_000, 40
"""Words of a vocabulary, and of a turn, of which more are cut off, unless a task wants others."""

_PIECE = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def spaced(text: str) -> str:
    """Write text in small letters, on one line, with a space between words and signs."""
    return " ".join(_PIECE.findall(text.lower()))


def joined(text: str) -> str:
    """Write what `spaced` made as people do: no space before a comma or inside a time, a capital letter first."""
    text = re.sub(r" ([,.!?;:%)])", r"\1", text)
    text = re.sub(r"([($#]) ", r"\1", text)
    text = re.sub(r"(\d): (\d)", r"\1:\2", text)
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Dialogues:
    """Dialogues of several turns each; an item is a dialogue.

    Attributes:
        name: of the set.
        texts: the turns of each dialogue, as `spaced` writes them, [N].
        tokenizer: of words, learned from the training split.
        ids: of all turns, one dialogue behind the other: `BOS`, the words, `EOS`.
        first: each dialogue's first turn, and the end of the last one, int64[N + 1].
        splits: name -> items, int64[n], ascending.
        vocabulary: different words at the most.
        longest: words of a turn at the most.
    """

    name: str
    texts: tuple[tuple[str, ...], ...]
    tokenizer: Tokenizer
    ids: Ragged
    first: Tensor
    splits: dict[str, Tensor]
    vocabulary: int = VOCABULARY
    longest: int = LONGEST
    kind: ClassVar[str] = "dialogues"

    @classmethod
    def of(
        cls,
        name: str,
        texts: Sequence[Sequence[str]],
        splits: Mapping[str, np.ndarray],
        vocabulary: int = VOCABULARY,
        longest: int = LONGEST,
    ) -> Dialogues:
        """Make a data set of dialogues.

        Args:
            name: of the set.
            texts: the turns of each dialogue.
            splits: name -> dialogues.
            vocabulary: different words at the most, the most frequent ones of the training split.
            longest: words of a turn at the most; what is longer is cut.

        Raises:
            RlabError: a dialogue has fewer than two turns.
        """
        import torch

        from rlab.data.text.datasets import Ragged
        from rlab.data.text.tokens import learn_tokenizer, target_ids

        short = [number for number, turns in enumerate(texts) if len(turns) < 2]
        if short:
            raise RlabError(f"dialogue {short[0]} of data set '{name}' has fewer than two turns")
        said = tuple(tuple(map(spaced, turns)) for turns in texts)
        train = (turn for item in splits["train"] for turn in said[item])
        tokenizer = learn_tokenizer("words", train, vocabulary)
        rows = [target_ids(tokenizer, " ".join(turn.split()[:longest])) for turns in said for turn in turns]
        first = torch.tensor([0, *map(len, said)]).cumsum(0)
        items = {split: torch.from_numpy(np.asarray(some)) for split, some in splits.items()}
        return cls(name, said, tokenizer, Ragged.of(rows), first, items, vocabulary, longest)

    def with_vocabulary(self, vocabulary: int, longest: int) -> Dialogues:
        """Cut the same dialogues anew, with another vocabulary and longest turn."""
        if (vocabulary, longest) == (self.vocabulary, self.longest):
            return self
        splits = {split: items.numpy() for split, items in self.splits.items()}
        return self.of(self.name, self.texts, splits, vocabulary, longest)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """What makes ids of text, by what it is for."""
        return {"text": self.tokenizer}

    def collate(self, items: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gather dialogues: ``tokens`` int64[B, U, T], and ``mask`` bool[B, U, T] of what is no padding.

        A row is a turn from `BOS` to `EOS`; where a dialogue has fewer turns than the longest, all of a row is padding.
        """
        import torch

        start, many = self.first[items], self.first[items + 1] - self.first[items]
        places = start[:, None] + torch.arange(int(many.max()))
        there = torch.arange(int(many.max())) < many[:, None]
        rows, mask = self.ids.gather(places[there])
        tokens = rows.new_zeros(*there.shape, rows.shape[1])
        whole = mask.new_zeros(*there.shape, rows.shape[1])
        there = there.to(rows.device)
        tokens[there], whole[there] = rows, mask
        return {"tokens": tokens, "mask": whole}

    def unknown(self, split: str) -> float:
        """Share of a split's words that the vocabulary has not."""
        from rlab.data.text.tokens import UNK

        ids = [row for item in self.splits[split].tolist() for turn in range(int(self.first[item]),
               int(self.first[item + 1])) for row in self.ids[turn][1:-1]]  # fmt: skip
        return ids.count(UNK) / max(len(ids), 1)

    def to(self, device: torch.device) -> Dialogues:
        """The same set, whose tokens are on a device."""
        return self if self.ids.flat.device == device else replace(self, ids=self.ids.to(device))


def sgd(read: Read, seed: int = 0, validation: float | None = None) -> Dialogues:
    """Read `sgd_dialogues`: whole dialogues of the published training part are held out for validation.

    Test is the published one; the published dev part is a split of its own, ``dev``. Services of these two are in part
    not in training.

    Raises:
        RlabError: a line is no dialogue.
    """
    parts = {name: _jsonl(read(f"{name}.jsonl.xz"), f"{name}.jsonl") for name in ("train", "test", "dev")}
    sizes = np.cumsum([0, *map(len, parts.values())])
    test = np.arange(sizes[1], sizes[2])
    splits = split_items("sgd_dialogues", int(sizes[2]), None, test, seed, validation)
    splits["dev"] = np.arange(sizes[2], sizes[3])
    return Dialogues.of("sgd_dialogues", [turns for part in parts.values() for turns in part], splits)


def _jsonl(packed: bytes, file: str) -> list[list[str]]:
    """The turns of the dialogues of a file, one a line."""
    found = []
    with lzma.open(io.BytesIO(packed)) as lines:
        for number, line in enumerate(lines, 1):
            try:
                found.append([str(text) for _, text in json.loads(line)["turns"]])
            except (ValueError, TypeError, KeyError):
                raise RlabError(f"{file}, line {number} is no dialogue") from None
    return found


_WANTS = {
    "a table": ("people", ("two", "four", "six")),
    "a taxi": ("people", ("one", "two", "three")),
    "a room": ("nights", ("one", "two", "five")),
    "a ticket": ("people", ("one", "three", "four")),
}
_PLACES = ("kyoto", "osaka", "nara", "kobe", "sendai", "sapporo")
_TIMES = ("today", "tomorrow", "on monday", "on friday", "next week")
_OPENINGS = ("i need {what} .", "can you book {what} ?", "i would like {what} .", "please find me {what} .")
_THANKS = ("thank you .", "great , thanks .", "that is all .")


def by_rule(read: Read | None = None, seed: int = 0, validation: float | None = None, n: int = 600) -> Dialogues:
    """Make dialogues by a rule: someone books something, is asked where, when and for how many, and gets it confirmed.

    What is asked and confirmed depends on what was said turns before, so that an answer needs the dialogue so far.
    """
    generator = np.random.default_rng(0)  # the same dialogues for every run; only splits are drawn by its seed

    def one_of(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    texts = []
    for _ in range(n):
        what = one_of(tuple(_WANTS))
        unit, numbers = _WANTS[what]
        place, time, number = one_of(_PLACES), one_of(_TIMES), one_of(numbers)
        count = unit if number != "one" else "person" if unit == "people" else "night"
        asked = [("where ?", f"in {place} ."), ("when ?", f"{time} , please ."),
                 (f"for how many {unit} ?", f"for {number} .")]  # fmt: skip
        turns = [one_of(_OPENINGS).format(what=what)]
        for at in generator.permutation(3):
            turns += asked[at]
        turns += [f"{what} in {place} {time} for {number} {count} ?", one_of(("yes .", "yes , please ."))]
        turns += [f"your {what.split()[1]} in {place} is booked .", one_of(_THANKS), "good bye ."]
        texts.append(turns)
    return Dialogues.of("rule-dialogues", texts, split_items("rule-dialogues", n, None, None, seed, validation))
