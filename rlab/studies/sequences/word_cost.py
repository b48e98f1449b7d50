"""What a word of the text costs in learning word vectors: by noise words, by the whole vocabulary, by a neural net."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rlab.studies.plots import columns, count_ticks, curves, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

if TYPE_CHECKING:
    from rlab.tasks.sequence.word_vectors import Words


@dataclass(frozen=True)
class Settings:
    """Texts by a rule, whose paragraphs are of one topic each."""

    vocabularies: tuple[int, ...] = (500, 2_000, 8_000)
    """Different words of the texts on which time is measured."""
    timed: int = 2_000
    """Words of such a text, or all of a smaller one."""
    repeats: int = 3
    """Passes over it that are timed, by the processor's clock; the fastest counts."""
    length: int = 200_000
    """Words of the text on which vectors are compared, which has the first of those vocabularies."""
    less: int = 10
    """The softmax learns from this part of it, one in so many words."""
    topics: int = 10
    """How many."""
    epochs: int = 3
    """Passes over it."""
    width: int = 64
    """Numbers of a vector."""
    hidden: int = 128
    """Units of the neural language model."""
    before: int = 4
    """Words that it predicts the next one from."""


def neural_pass(tokens: Any, vocabulary: int, settings: Settings, seed: int) -> Callable[[], None]:
    """Return a pass of the neural language model of Bengio et al. 2003 over a text, in batches of 32 predictions."""
    import torch
    from torch import nn

    from rlab.nn.optim import make_optimiser
    from rlab.studies.images import built

    words = torch.from_numpy(tokens.astype(np.int64)).unfold(0, settings.before + 1, 1)
    model = built(
        lambda: nn.Sequential(
            nn.Embedding(vocabulary, settings.width),
            nn.Flatten(),
            nn.Linear(settings.before * settings.width, settings.hidden),
            nn.Tanh(),
            nn.Linear(settings.hidden, vocabulary),
        ),
        seed,
    )
    optimiser = make_optimiser("sgd", model.parameters(), lr=0.1)

    def learn() -> None:
        for rows in words.split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(rows[:, :-1]), rows[:, -1]).backward()
            optimiser.step()

    return learn


def beginning(words: Words, length: int) -> Words:
    """Cut a text off behind so many words; its vocabulary stays."""
    tokens, begins = words.splits["train"]
    return replace(words, splits={"train": (tokens[:length], begins[:length])})


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Processor microseconds a word by the vocabulary, and percent of nearest words that are of a word's topic."""
    from rlab.studies.topics import found, topical, vectors_of
    from rlab.tasks.sequence.word_config import WordsConfig
    from rlab.tasks.sequence.word_vectors import WordVectors

    def pass_over(vocabulary: int) -> Callable[[], object]:
        text = topical(10 * vocabulary, settings.topics, vocabulary // settings.topics, seed).words
        part = beginning(text, settings.timed)
        tokens = part.splits["train"][0]
        if variant == "neural":
            return neural_pass(tokens, len(text), settings, seed)
        how = WordsConfig(objective=variant, width=settings.width, epochs=1, sample=0)
        model = WordVectors(part, how, seed)
        return lambda: model.learn(0, len(tokens), (how.learning_rate, how.learning_rate), 0)

    times = []
    for vocabulary in settings.vocabularies:
        learn, took = pass_over(vocabulary), []
        learn()  # compiles, where that was not done yet
        for _ in range(settings.repeats):
            began = time.process_time()
            learn()
            took.append(time.process_time() - began)
        times.append(1e6 * min(took) / min(settings.timed, 10 * vocabulary))
    numbers = {
        "clock_word": np.round(times, 2),
        "clock_large": times[-1],
        "clock_grows": times[-1] / times[0],
        "vocabularies": settings.vocabularies,
    }
    if variant == "neural":
        return numbers
    text = topical(settings.length, settings.topics, settings.vocabularies[0] // settings.topics, seed)
    part = settings.length // (settings.less if variant == "softmax" else 1)
    words = beginning(text.words, part)
    how = WordsConfig(objective=variant, width=settings.width, epochs=settings.epochs)
    return numbers | {"near": found(vectors_of(words, how, seed), text, 2, settings.length)}


def draw(figure: Any, results: Results) -> None:
    """Time by the vocabulary, and scores."""
    upper, lower = figure.subplots(2, 1)
    vocabularies = next(iter(results.values()))[0]["vocabularies"]
    curves(upper, vocabularies, columns(results, "clock_word"), ("words of the vocabulary", "microseconds a word"))
    count_ticks(upper, vocabularies)
    upper.set(yscale="log")
    known = {name: rows for name, rows in results.items() if name != "neural language model"}
    dots(lower, columns(known, "near"), "nearest words of the same topic, %")


STUDIES.register("word-cost")(
    Study(
        claim="Word2vec is so simple that it learns from very many words: with noise words its time does not grow with "
        "the vocabulary, as that of a softmax over all words and of a neural language model do, and it is far less.",
        claim_ja="Word2vec は単純なので、非常に多くの単語から学習できる。全単語の softmax を使う場合や"
        "ニューラル言語モデルと違い、ネガティブサンプリングの学習時間は語彙の大きさとともに増えず、はるかに短い。",
        source="item 251; Mikolov et al. 2013; Bengio et al. 2003",
        settings=Settings(),
        smoke={
            "vocabularies": (20, 40),
            "timed": 200,
            "repeats": 1,
            "length": 600,
            "topics": 2,
            "epochs": 1,
            "width": 16,
        },
        small={"vocabularies": (500, 8_000), "timed": 1_000, "repeats": 2, "length": 40_000, "epochs": 2},
        small_seeds=6,
        variants={
            "negative sampling": "negative-sampling",
            "softmax": "softmax",
            "neural language model": "neural",
        },
        measure=measure,
        contrasts=(
            Contrast(
                "with noise words the largest vocabulary takes less than twice the time of the smallest",
                {"negative sampling/clock_grows": -1},
                above=-2,
            ),
            Contrast("with a softmax it takes three times as long or more", {"softmax/clock_grows": 1}, above=3),
            Contrast(
                "there a word costs the softmax ten times as much or more",
                {"softmax/clock_large": 1, "negative sampling/clock_large": -10},
            ),
            Contrast(
                "and so it does in a neural language model",
                {"neural language model/clock_large": 1, "negative sampling/clock_large": -10},
            ),
            Contrast(
                "noise words find more words of a topic than a softmax that learns from a tenth of the text",
                {"negative sampling/near": 1, "softmax/near": -1},
            ),
        ),
        draw=draw,
        seeds=8,
    )
)
