"""How text becomes tokens and batches: settings that every kind of text data shares. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from rlab.errors import RlabError, nearest

KINDS = ("characters", "words", "sentencepiece", "japanese")
"""What text can be cut into. words: at white space, as the corpus has them; japanese: words by fugashi and UniDic."""

SHORTEST_VOCABULARY = 8
"""Pieces, beside which there are four ids of no piece."""


@dataclass(frozen=True)
class TextSettings:
    """How text is cut and batched.

    Attributes:
        tokens: one of `KINDS`; empty: what is usual for the data set.
        vocabulary: pieces at the most, the most frequent ones of the training split; 0: 4,000 of sentencepiece, all
            characters, and all words that occur twice.
        window: L, the number of tokens that a language model predicts in one item.
        longest: tokens of a sentence at the most; a data set with a longer one is refused.
        target_tokens: of pairs, what the targets are cut into; empty: the same as the sources.
    """

    tokens: str = ""
    vocabulary: int = 0
    window: int = 256
    longest: int = 512
    target_tokens: str = ""

    def __post_init__(self) -> None:
        for kind in (self.tokens, self.target_tokens):
            if kind and kind not in KINDS:
                raise RlabError(f"there are no tokens '{kind}'; {nearest(kind, KINDS)}")
        if self.vocabulary and self.vocabulary < SHORTEST_VOCABULARY:
            raise RlabError(
                f"the vocabulary is {self.vocabulary}; it must be at least {SHORTEST_VOCABULARY}, or 0: what is usual"
            )
        if min(self.window, self.longest) < 1:
            name = "window" if self.window < 1 else "longest"
            raise RlabError(f"{name} is {getattr(self, name)}; it must be at least 1")
