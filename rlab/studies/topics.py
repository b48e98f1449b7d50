"""A text whose words have topics, by a rule, so that studies of word vectors know the right neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.seeding import derive
from rlab.tasks.sequence.word_config import WordsConfig
from rlab.tasks.sequence.word_vectors import Words, WordVectors, unit_rows

STRAY = 0.5
"""Part of the words with a topic that are of any topic, not of their paragraph's."""

COMMON = 10
"""Words that belong to no topic; half of the text."""

TOGETHER = 5_000
"""Words that are learned in one call: too few for a second thread, so that a seed is the same twice."""


class Topical(NamedTuple):
    """A text, and the topic int64[V] of each of its words; -1: none."""

    words: Words
    topic: NDArray[np.int64]


def topical(length: int, topics: int, each: int, seed: int) -> Topical:
    """Draw a text of paragraphs of 20 words, each about one topic, whose words occur by Zipf's law.

    Args:
        length: words.
        topics: how many.
        each: words of a topic.
        seed: of the draw.
    """
    generator = np.random.default_rng(derive(seed, "text"))
    share = 1 / np.arange(1, each + 1)
    about = generator.integers(topics, size=length // 20).repeat(20)
    strays = generator.random(len(about)) < STRAY
    about = np.where(strays, generator.integers(topics, size=len(about)), about)
    drawn = about * each + generator.choice(each, len(about), p=share / share.sum())
    common = topics * each + generator.integers(COMMON, size=len(about))
    text = np.where(generator.random(len(about)) < 0.5, common, drawn)
    counts = np.bincount(text, minlength=topics * each + COMMON)
    order = np.lexsort((np.arange(len(counts)), -counts))
    order = order[counts[order] > 0]
    rank = np.zeros(len(counts), np.int64)
    rank[order] = np.arange(len(order))
    begins = np.arange(len(text)) % 20 == 0
    tokens = rank[text].astype(np.int32)
    topic = np.where(order < topics * each, order // each, -1)
    names = tuple(f"w{word}" for word in order)
    return Topical(Words("topics", names, counts[order], {"train": (tokens, begins)}), topic)


def vectors_of(words: Words, settings: WordsConfig, seed: int) -> WordVectors:
    """Learn vectors of a text on one thread."""
    model = WordVectors(words, settings, seed)
    length = len(words.splits["train"][0])
    whole = settings.epochs * length
    for epoch in range(settings.epochs):
        for start in range(0, length, TOGETHER):
            stop = min(start + TOGETHER, length)
            first, last = (settings.learning_rate * (1 - (epoch * length + at) / whole) for at in (start, stop))
            model.learn(start, stop, (first, last), epoch)
    return model


def found(model: WordVectors, text: Topical, least: int, most: int) -> float:
    """Percent of the five nearest words that are of a word's topic: mean over words that occur least .. most times."""
    rows = unit_rows(model.embeddings()[1])
    of_topic = text.topic >= 0
    near = rows @ rows[of_topic].T
    near[of_topic.nonzero()[0], np.arange(of_topic.sum())] = -2  # itself
    asked = of_topic & (text.words.counts >= least) & (text.words.counts <= most)
    nearest = np.argsort(-near[asked], axis=1, kind="stable")[:, :5]
    return 100 * float((text.topic[of_topic][nearest] == text.topic[asked][:, None]).mean())
