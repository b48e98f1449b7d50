"""Text of data sets as their files have it, before anything is a token: streams, pairs, labelled sentences.

Readers take a file's name and return one of these forms. Imports no torch.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np

from rlab.errors import RlabError

Read = Callable[[str], bytes]
"""A file's name -> its checked content."""

LONGEST_LINE = 10_000
"""Characters of a sentence at the most."""


@dataclass(frozen=True)
class Stream:
    """One running text.

    Attributes:
        text: all of it, or what is not in `test`.
        test: the published end that is the test split, which follows `text`; None: the last tenth of `text`.
    """

    text: str
    test: str | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences.

    Attributes:
        sources: what is read, [N].
        targets: what is written, [N].
        splits: published ones, name -> items int64[n]; empty: they are drawn.
        lines: of the file, from which the pairs are, [N]; None: the same in files of their own.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    lines: Sequence[int] | None = None


@dataclass(frozen=True)
class Labelled:
    """Sentences with classes.

    Attributes:
        texts: [N].
        y: classes int64[N].
        classes: their names.
    """

    texts: Sequence[str]
    y: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """Sequences with a label at every step.

    Attributes:
        x: inputs float32[N, T, C]; zero from a sequence's length on.
        y: classes int64[N, T].
        mask: bool[N, T], which steps are learned and scored.
        lengths: int64[N].
        classes: names of the labels.
        inputs: names of the C channels.
        longer: items int64[n] of an extra split ``longer``, of lengths that training has not.
    """

    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray
    lengths: np.ndarray
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    longer: np.ndarray | None = None


Corpus = Stream | Pairs | Labelled | Steps
"""What a reader of text returns."""


def shakespeare(read: Read) -> Stream:
    """Read tinyshakespeare; its test split is the last 111,540 characters, a tenth."""
    text = read("input.txt").decode()
    cut = int(0.9 * len(text))
    return Stream(text[:cut], text[cut:])


def shakespeare_small(read: Read) -> Stream:
    """Read the part of Shakespeare that the package brings; `read` is not used."""
    return Stream(files("rlab.data.text").joinpath("shakespeare_small.txt").read_text("utf-8"))


def wikitext(read: Read) -> Stream:
    """Read WikiText-2 without its training part: trained is on what was published for validation."""
    return Stream(*(unix_lines(read(name).decode()) for name in ("valid.txt", "test.txt")))


def aozora(read: Read, file: str) -> Stream:
    """Read a text of Aozora Bunko."""
    return Stream(aozora_text(read(file).decode()))


def aozora_text(text: str) -> str:
    """Take from a text of Aozora Bunko what is not the author's: head, foot, readings, notes of who typed it.

    Readings stand in 《》 behind their word, which ｜ may begin; notes in ［＃］, for a letter behind ※.
    """
    text = unix_lines(text)
    rules = [at.end() for at in re.finditer(r"^-{20,}\n", text, re.MULTILINE)][:2]
    text = text[rules[-1] :] if rules else text
    text = re.split(r"^底本：", text, maxsplit=1, flags=re.MULTILINE)[0]
    text = re.sub(r"※［＃[^］]*］", "〓", text)  # a letter that has no code: printers' sign for one that is missing
    text = re.sub(r"［＃[^］]*］|《[^》]*》|[｜〔〕]", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def enja(read: Read) -> Pairs:
    """Read small_parallel_enja from Japanese to English, with its published splits.

    Raises:
        RlabError: two files have different numbers of lines.
    """
    sources: list[str] = []
    targets: list[str] = []
    splits = {}
    for split, part in (("train", "train"), ("validation", "dev"), ("test", "test")):
        ja, en = (read(f"{part}.{language}").decode().rstrip("\n").split("\n") for language in ("ja", "en"))
        if len(ja) != len(en):
            raise RlabError(f"{part}.ja has {len(ja):,} lines, but {part}.en {len(en):,}")
        splits[split] = np.arange(len(sources), len(sources) + len(ja))
        sources += ja
        targets += en
    return Pairs(sources, targets, splits)


def sentence_polarity(read: Read, archive: str) -> Labelled:
    """Read the sentences of film reviews from rt-polarity.neg and .pos in an archive."""
    texts: list[str] = []
    y: list[int] = []
    with zipfile.ZipFile(io.BytesIO(read(archive))) as packed:
        for label, end in enumerate(("neg", "pos")):
            data = packed.read(f"sentence_polarity/rt-polarity.{end}").decode("latin-1")
            lines = [line.strip() for line in data.split("\n") if line.strip()]
            texts += lines
            y += [label] * len(lines)
    return Labelled(texts, np.array(y, np.int64), ("negative", "positive"))


def unix_lines(text: str) -> str:
    """The text with every kind of line end as one newline."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pairs_of(text: str, name: str) -> Pairs:
    """Make pairs of a user's table: a line has a sentence, a tab and its translation.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        RlabError: a line has not two columns, one of them is empty or too long, or there is no pair; by file and line.
    """
    sources: list[str] = []
    targets: list[str] = []
    lines: list[int] = []
    for number, line in enumerate(unix_lines(text).split("\n"), 1):
        if not line.strip():
            continue
        if len(line) > 2 * LONGEST_LINE:
            raise RlabError(
                f"{name}, line {number}: it has {len(line):,} characters; a sentence may have {LONGEST_LINE:,}"
            )
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2:
            columns = "one column" if len(cells) == 1 else f"{len(cells)} columns"
            raise RlabError(f"{name}, line {number}: it has {columns}; it takes two, divided by a tab")
        for cell, which in zip(cells, ("first", "second"), strict=True):
            if not cell:
                raise RlabError(f"{name}, line {number}: its {which} column is empty")
        sources.append(cells[0])
        targets.append(cells[1])
        lines.append(number)
    if not sources:
        raise RlabError(f"{name} is empty; it takes pairs of sentences, one a line, divided by a tab")
    return Pairs(sources, targets, lines=lines)
