"""Skip-gram and CBOW: vectors of rare words, of frequent ones, and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A text by a rule, whose paragraphs are of one topic each."""

    length: int = 1_000_000
    """Words."""
    topics: int = 20
    """How many."""
    each: int = 200
    """Words of a topic, by Zipf's law."""
    epochs: int = 3
    """Passes over the text."""
    width: int = 64
    """Numbers of a vector."""
    rare: int = 50
    """A word that occurs as often or less is rare; one that does four times as often, frequent."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of nearest words that are of a word's topic, of rare and frequent ones, and processor seconds."""
    from rlab.studies.topics import found, topical, vectors_of
    from rlab.tasks.sequence.word_config import WordsConfig

    text = topical(settings.length, settings.topics, settings.each, seed)
    # As in word2vec.c, each neighbour of CBOW gets the whole error; with its part of it alone, CBOW learns less yet.
    how = WordsConfig(method=variant, cbow_error="whole", width=settings.width, epochs=settings.epochs)
    vectors_of(topical(200, 2, 5, seed).words, how, seed)  # compiles, where that was not done yet
    began = time.process_time()
    model = vectors_of(text.words, how, seed)
    took = time.process_time() - began
    return {
        "rare": found(model, text, 2, settings.rare),
        "frequent": found(model, text, 4 * settings.rare, settings.length),
        "clock_seconds": took,
    }


def draw(figure: Any, results: Results) -> None:
    """Scores and time."""
    labels = {"rare": "rare, % near", "frequent": "frequent, % near", "clock_seconds": "seconds"}
    for axes, (name, label) in zip(figure.subplots(3, 1), labels.items(), strict=True):
        dots(axes, columns(results, name), label)


STUDIES.register("rare-words")(
    Study(
        claim="Skip-gram finds better vectors of rare words than CBOW, CBOW takes less time.",
        claim_ja="まれな単語では、skip-gram のほうが CBOW よりよいベクトルになる。CBOW のほうが、時間はかからない。",
        source="item 252; Mikolov et al. 2013; its authors' notes on word2vec, 2013",
        settings=Settings(),
        smoke={"length": 600, "topics": 3, "each": 8, "epochs": 1, "width": 16, "rare": 5},
        small={"length": 400_000, "topics": 10, "rare": 40},
        small_seeds=8,
        variants={"skip-gram": "skip-gram", "cbow": "cbow"},
        measure=measure,
        contrasts=(
            Contrast("of rare words skip-gram finds more", {"skip-gram/rare": 1, "cbow/rare": -1}, above=1),
            Contrast(
                "its lead is larger than of frequent ones",
                {"skip-gram/rare": 1, "cbow/rare": -1, "skip-gram/frequent": -1, "cbow/frequent": 1},
            ),
            Contrast("CBOW takes less time", {"skip-gram/clock_seconds": 1, "cbow/clock_seconds": -1}),
        ),
        draw=draw,
        seeds=8,
    )
)
