"""By which power of their frequency noise words should be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A text by a rule, whose paragraphs are of one topic each; frequent words are not passed over."""

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


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Percent of the nearest words that are of a word's topic, and the share of noise that is of no topic."""
    from rlab.studies.topics import found, topical, vectors_of
    from rlab.tasks.sequence.word_config import WordsConfig

    text = topical(settings.length, settings.topics, settings.each, seed)
    how = WordsConfig(power=variant, sample=0, width=settings.width, epochs=settings.epochs)
    noise = text.words.counts.astype(float) ** variant
    return {
        "near": found(vectors_of(text.words, how, seed), text, 2, settings.length),
        "common": 100 * float(noise[text.topic < 0].sum() / noise.sum()),
    }


def draw(figure: Any, results: Results) -> None:
    """Scores by the power."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "near"), "nearest words of the same topic, %")
    dots(right, columns(results, "common"), "noise words of no topic, %")
    for axes in (left, right):
        axes.set_xlabel("power of the frequency", fontsize=9)


STUDIES.register("noise-powers")(
    Study(
        claim="Noise words that are drawn by their frequency to the power of 3/4 make better word vectors than those "
        "drawn by their frequency or all alike.",
        claim_ja="負例の単語を頻度の 3/4 乗に比例してサンプリングすると、頻度に比例する場合や一様な場合より、"
        "よい単語ベクトルが得られる。",
        source="item 250; Mikolov et al. 2013 (Distributed representations of words and phrases), section 2.2",
        settings=Settings(),
        smoke={"length": 600, "topics": 3, "each": 8, "epochs": 1, "width": 16},
        small={"length": 100_000, "topics": 10},
        small_seeds=10,
        variants={"0": 0.0, "0.75": 0.75, "1": 1.0},
        measure=measure,
        contrasts=(
            Contrast("better than by frequency", {"0.75/near": 1, "1/near": -1}),
            Contrast("better than all alike", {"0.75/near": 1, "0/near": -1}),
        ),
        draw=draw,
        seeds=10,
    )
)
