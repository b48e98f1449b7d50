"""Tokenizers: text to ids and back, by characters, words or sentencepiece. A vocabulary is learned from training text.

Ids 0 to 3 stand for no piece of text: padding, an unknown piece, the beginning and the end of a sentence.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rlab.data.text.settings import KINDS
from rlab.errors import RlabError, nearest

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Ids of padding, of an unknown piece, of the beginning and of the end of a sentence."""

SPECIAL = 4
"""The first id of a piece of text."""

UNKNOWN = "<unk>"
"""How an unknown piece is written; this word of a corpus stands for one, too."""

SUBWORDS = 4_000
"""Pieces of sentencepiece, unless more or fewer are asked for."""

BLOCK = 1 << 20
"""Characters that are encoded at a time, so that a large text needs little memory beside it."""

CUT = 1_000
"""Characters of a line after which sentencepiece and MeCab, which limit lines, begin a new one."""


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def name(self) -> str:
        """One of `rlab.data.text.settings.KINDS`."""

    def __len__(self) -> int:
        """K, the number of ids, those of no piece included."""

    def pieces(self, text: str) -> list[str]:
        """Cut text into pieces, known or not; a line's end is a piece of its own."""

    def encode(self, text: str) -> list[int]:
        """Make ids of text, without beginning and end; what the vocabulary has not becomes `UNK`."""

    def encode_array(self, text: str) -> np.ndarray:
        """As `encode`, int32[n], for text of any size."""

    def decode(self, ids: Iterable[int]) -> str:
        """Make text of ids; padding, beginnings and ends are left out.

        Raises:
            RlabError: there is no such id.
        """

    def state(self) -> dict[str, Any]:
        """What `tokenizer_from` makes the same tokenizer of, as JSON."""


class _Pieces:
    """A vocabulary of pieces.

    Args:
        pieces: in the order of their ids, the first of which is 4.
    """

    name = ""
    glue = ""
    """What stands between two pieces in text."""

    def __init__(self, pieces: Sequence[str]):
        self.vocabulary = tuple(pieces)
        self.ids = {piece: number for number, piece in enumerate(self.vocabulary, SPECIAL)}
        if len(self.ids) != len(self.vocabulary):
            twice = Counter(self.vocabulary).most_common(1)[0][0]
            raise RlabError(f"a vocabulary has {twice!r} twice")

    def __len__(self) -> int:
        return SPECIAL + len(self.vocabulary)

    def pieces(self, text: str) -> list[str]:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        return [self.ids.get(piece, UNK) for piece in self.pieces(text)]

    def encode_array(self, text: str) -> np.ndarray:
        return np.array(self.encode(text), np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        pieces = [self.vocabulary[n - SPECIAL] if n >= SPECIAL else UNKNOWN for n in _textual(ids, len(self))]
        if not self.glue:
            return "".join(pieces)
        return "".join(
            piece if n == 0 or "\n" in (piece, pieces[n - 1]) else self.glue + piece for n, piece in enumerate(pieces)
        )

    def state(self) -> dict[str, Any]:
        return {"kind": self.name, "pieces": list(self.vocabulary)}


class Characters(_Pieces):
    """Every character is a token."""

    name = "characters"

    def pieces(self, text: str) -> list[str]:
        """The characters."""
        return list(text)

    @cached_property
    def _table(self) -> np.ndarray:
        """Id of every code point, up to one behind the last that is known."""
        points = np.array([ord(piece) for piece in self.vocabulary if len(piece) == 1], np.int64)
        table = np.full(int(points.max(initial=0)) + 2, UNK, np.int32)
        table[points] = [self.ids[chr(point)] for point in points]
        return table

    def encode_array(self, text: str) -> np.ndarray:
        """By one look into a table for each character."""
        ids = np.empty(len(text), np.int32)
        for start in range(0, len(text), BLOCK):
            points = _points(text[start : start + BLOCK])
            ids[start : start + BLOCK] = self._table[np.minimum(points, len(self._table) - 1)]
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of the characters."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids


class Words(_Pieces):
    """What stands between white space is a token, as the corpus has cut it; a line's end is one, too."""

    name = "words"
    glue = " "

    def pieces(self, text: str) -> list[str]:
        """The words and the ends of lines."""
        return _by_line(text, str.split)


class JapaneseWords(_Pieces):
    """Words of Japanese text, as fugashi (MeCab) finds them with the dictionary UniDic.

    Raises:
        RlabError: fugashi or its dictionary is not installed.
    """

    name = "japanese"

    def __init__(self, pieces: Sequence[str]):
        super().__init__(pieces)
        self._tagger = japanese_tagger()

    def pieces(self, text: str) -> list[str]:
        """The words and the ends of lines; white space is left out."""
        return _by_line(_valid(text.replace("\0", "\ufffd")), self._cut)

    def _cut(self, line: str) -> list[str]:
        return [str(word.surface) for part in _parts(line) for word in self._tagger(part)]


class SentencePiece:
    """Parts of words that occur often (byte-pair encoding, Sennrich et al. 2016), by sentencepiece.

    Args:
        model: what `SentencePieceTrainer` wrote.

    Raises:
        RlabError: it is no such model.
    """

    name = "sentencepiece"

    def __init__(self, model: bytes):
        import sentencepiece

        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            raise RlabError(f"these {len(model):,} bytes are no model of sentencepiece") from None
        self._newline = self._processor.piece_to_id("\n")

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int) -> SentencePiece:
        """Learn a vocabulary of at most so many pieces.

        Raises:
            RlabError: there is no text, or it has more characters than the vocabulary.
        """
        import sentencepiece

        model = io.BytesIO()
        lines = (part for text in texts for line in text.split("\n") for part in _parts(line) if part.strip())
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                model_writer=model,
                vocab_size=SPECIAL + vocabulary,
                hard_vocab_limit=False,  # a small text has fewer pieces
                model_type="bpe",
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                unk_surface=UNKNOWN,
                user_defined_symbols=["\n"],
                normalization_rule_name="identity",  # so that decoding gives the text again
                remove_extra_whitespaces=False,
                character_coverage=1.0,
                num_threads=1,
                minloglevel=4,
            )
        except RuntimeError as e:
            reason = "the training text is empty" if "sentences_.empty" in str(e) else "it needs a larger vocabulary"
            raise RlabError(f"sentencepiece cannot learn {vocabulary:,} pieces: {reason}") from None
        return cls(model.getvalue())

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def pieces(self, text: str) -> list[str]:
        """Parts of words, of which ▁ begins a word, and the ends of lines."""
        return _by_line(_valid(text), self._cut)

    def _cut(self, line: str) -> list[str]:
        return [piece for part in _parts(line) for piece in self._processor.encode(part, out_type=str)]

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str) -> np.ndarray:
        """Line by line."""
        rows: list[int] = []
        for number, line in enumerate(_valid(text).split("\n")):
            if number:
                rows.append(self._newline)
            for part in _parts(line):
                rows += self._processor.encode(part)
        return np.array(rows, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Text, line by line."""
        lines: list[list[int]] = [[]]
        for n in _textual(ids, len(self)):
            if n == self._newline:
                lines.append([])
            else:
                lines[-1].append(n)
        return "\n".join(self._processor.decode(line) for line in lines)

    def state(self) -> dict[str, Any]:
        """The model in base64."""
        return {"kind": self.name, "model": base64.b64encode(self.model).decode()}


_OF_PIECES: dict[str, Callable[[Sequence[str]], _Pieces]] = {
    cls.name: cls for cls in (Characters, Words, JapaneseWords)
}


def learn_tokenizer(kind: str, texts: Iterable[str], vocabulary: int = 0) -> Tokenizer:
    """Learn a vocabulary from the training text.

    Args:
        kind: one of `rlab.data.text.settings.KINDS`.
        texts: of the training split.
        vocabulary: pieces at the most; 0: as `rlab.data.text.settings.TextSettings` says.

    Raises:
        RlabError: there is no such kind, no text, or the extra `japanese` is not installed.
    """
    if kind == SentencePiece.name:
        return SentencePiece.learn(texts, vocabulary or SUBWORDS)
    if kind not in _OF_PIECES:
        raise RlabError(f"there are no tokens '{kind}'; {nearest(kind, KINDS)}")
    make = _OF_PIECES[kind]
    counts = _characters(texts) if kind == Characters.name else Counter(_cut(texts, make(()).pieces))
    counts.pop(UNKNOWN, None)
    if not counts:
        raise RlabError(f"there is no text to learn {kind} from")
    if kind == Characters.name and not vocabulary:
        return make(sorted(counts))
    # A word that occurs once is unknown, so that the id of unknown ones is learned, too.
    often = [piece for piece, n in counts.items() if n > 1 or vocabulary or piece == "\n"] or list(counts)
    often.sort(key=lambda piece: (-counts[piece], piece))
    return make(often[: vocabulary or None])


def tokenizer_from(state: Mapping[str, Any]) -> Tokenizer:
    """Make a tokenizer of what its `state` returned; a run's folder keeps that.

    Raises:
        RlabError: it is no such state.
    """
    kind, pieces = state.get("kind"), state.get("pieces")
    try:
        if kind == SentencePiece.name:
            return SentencePiece(base64.b64decode(state["model"], validate=True))
    except (KeyError, TypeError, binascii.Error):
        raise RlabError("the state of the tokenizer sentencepiece has no model in base64") from None
    if kind not in _OF_PIECES:
        raise RlabError(f"the state of a tokenizer is of kind {kind!r}; {nearest(str(kind), KINDS)}")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise RlabError(f"the state of the tokenizer {kind} has no list of pieces")
    return _OF_PIECES[kind](pieces)


def source_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a sentence that a model reads: its pieces and `EOS`, so that even an empty one has a token."""
    return [*tokenizer.encode(text), EOS]


def target_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a sentence that a model writes: `BOS`, its pieces, `EOS`."""
    return [BOS, *tokenizer.encode(text), EOS]


def japanese_tagger() -> Any:
    """Fugashi's tagger with the dictionary unidic-lite.

    Raises:
        RlabError: one of them is not installed.
    """
    try:
        for package in ("unidic_lite", "fugashi"):
            importlib.import_module(package)
        return importlib.import_module("fugashi").Tagger()
    except (ImportError, RuntimeError):
        raise RlabError("Japanese words need fugashi and unidic-lite: pip install 'rlab-rl[japanese]'") from None


def _valid(text: str) -> str:
    """The text without halves of surrogate pairs, which no UTF-8 has: a prompt of other bytes brings such."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _points(text: str) -> np.ndarray:
    """The code points, uint32[n]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _characters(texts: Iterable[str]) -> Counter[str]:
    """How often characters occur."""
    counts, text = np.zeros(sys.maxunicode + 1, np.int64), "".join(texts)
    for start in range(0, len(text), BLOCK):
        often = np.bincount(_points(text[start : start + BLOCK]))
        counts[: len(often)] += often
    return Counter({chr(point): int(counts[point]) for point in counts.nonzero()[0]})


def _cut(texts: Iterable[str], pieces: Callable[[str], list[str]]) -> Iterator[str]:
    for text in texts:
        for line in text.splitlines(keepends=True):
            yield from pieces(line)


def _by_line(text: str, cut: Callable[[str], list[str]]) -> list[str]:
    pieces: list[str] = []
    for number, line in enumerate(text.split("\n")):
        pieces += ["\n", *cut(line)] if number else cut(line)
    return pieces


def _parts(line: str) -> Iterator[str]:
    """A line in parts of at most `CUT` characters, divided at spaces where there are any; the space is left out."""
    start = 0
    while len(line) - start > CUT:
        space = line.rfind(" ", start + 1, start + CUT)
        end = space if space > 0 else start + CUT
        yield line[start:end]
        start = end + (space > 0)
    yield line[start:]


def _textual(ids: Iterable[int], size: int) -> Iterator[int]:
    for n in map(int, ids):
        if not 0 <= n < size:
            raise RlabError(f"there is no token {n}; ids are 0 to {size - 1}")
        if n not in (PAD, BOS, EOS):
            yield n
