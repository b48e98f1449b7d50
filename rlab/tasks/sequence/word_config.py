"""Settings of runs that learn word vectors. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least


@dataclass(frozen=True)
class WordDataConfig:
    """Settings of the text that word vectors are learned from."""

    data: str = "shakespeare-small"
    """A data set of text (`rlab data list`), or `text:FILE`."""
    digest: str = ""
    """Of `text:FILE`: its SHA-256, which a run notes when it starts; a resume refuses another one."""
    validation: float = 0.1
    """Share of the text, at its end, that is held out to be scored on the way. 0: nothing is held out, and no
    evaluation is made before the final one."""
    tokens: Literal["words", "japanese"] = "words"
    """What text is cut into: words, as white space divides them, or Japanese words by fugashi."""
    fold: bool = True
    """Take words in small letters and without the punctuation around them; what is punctuation alone is left out."""
    windows_end: Literal["paragraph", "line"] = "paragraph"
    """Where no window reaches across: an empty line, or every line's end, for files with one sentence a line."""
    min_count: int = 5
    """Words that occur less often in the training text are left out."""
    vocabulary: int = 0
    """Different words at the most, the most frequent ones; 0: all."""

    def __post_init__(self) -> None:
        at_least(self, validation=0, min_count=1, vocabulary=0)
        if self.validation >= 1:
            raise RlabError(f"--validation is {self.validation}; it must be a share below 1")


@dataclass(frozen=True)
class WordsConfig:
    """Settings of word2vec (Mikolov et al. 2013)."""

    method: Literal["skip-gram", "cbow"] = "skip-gram"
    """skip-gram: each neighbour of a word predicts it by itself. cbow: the mean of all neighbours does."""
    objective: Literal["negative-sampling", "softmax"] = "negative-sampling"
    """negative-sampling: tell a word from noise words. softmax: its probability among all words, for which every step
    computes with the whole vocabulary."""
    width: int = 100
    """Numbers in a vector."""
    window: int = 5
    """Neighbours on either side at the most; the reach of each window is drawn from 1 to this."""
    negative: int = 5
    """Noise words of a window, which all its neighbours share (Ji et al. 2016)."""
    power: float = 0.75
    """Noise words are drawn by how often they occur, to this power."""
    sample: float = 1e-3
    """Words that are a larger share of the text than this are passed over, the more often the more frequent they are;
    0: none is."""
    cbow_error: Literal["gradient", "whole"] = "gradient"
    """What each neighbour gets of an error of their mean: its gradient, or as in word2vec.c the whole of it."""
    epochs: int = 5
    """Passes over the text."""
    learning_rate: float = 0.05
    """At the beginning; it falls on a line to a thousandth of that."""

    def __post_init__(self) -> None:
        at_least(self, width=1, window=1, negative=1, power=0, sample=0, epochs=1, learning_rate=0)


@dataclass(frozen=True)
class WordsExperiment:
    """Settings of a run that learns word vectors."""

    run: RunConfig = field(default_factory=RunConfig)
    data: WordDataConfig = field(default_factory=WordDataConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
