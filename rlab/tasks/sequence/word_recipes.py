"""Recipes of words and dialogue: word2vec, HRED, VHRED. Torch is imported when one is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.data.own import OwnSettings
from rlab.data.text.settings import TextSettings
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.sequence.word_config import WordDataConfig, WordsConfig, WordsExperiment


def default_words(data: str) -> WordsExperiment:
    """The settings that word vectors start from on a text."""
    part = WordDataConfig(data=data or WordDataConfig().data)
    large = DATASETS.get(part.data).examples >= 700  # windows of 256 tokens
    run = RunConfig(threads=0, evaluate_steps=200_000, checkpoint_steps=2_000_000, log_steps=40_000)
    return WordsExperiment(run, part, WordsConfig(epochs=5 if large else 20))


def build_words(experiment: WordsExperiment, context: Any) -> Any:
    """Build the Learner of word vectors.

    Raises:
        RlabError: the data are no text, or have too few words.
    """
    from rlab.data.datasets import load
    from rlab.seeding import derive
    from rlab.tasks.sequence.word_vectors import Words, WordsLearner, WordVectors

    part, seed = experiment.data, experiment.run.seed
    if (kind := DATASETS.get(part.data).kind) != "text":
        raise RlabError(f"word vectors are learned from text, and '{part.data}' is of kind {kind}; nearest: text:FILE")
    settings = TextSettings(tokens=part.tokens, window=1)
    data = load(part.data, derive(seed, "data"), part.validation, own=OwnSettings(digest=part.digest), text=settings)
    return WordsLearner(WordVectors(Words.of(data, part), experiment.words, seed))


def describe_words(experiment: WordsExperiment) -> dict[str, str]:
    """Describe a run, as `rlab train` prints it before the run starts: label -> text."""
    part, how = experiment.data, experiment.words
    return {"data": f"{part.data}, {how.epochs} epochs, {100 * part.validation:g} % held out",
            "method": f"{how.method}, {how.objective}, {how.width} numbers a word"}  # fmt: skip


def note_text(experiment: Any) -> tuple[Any, None]:
    """The same settings, with the whole path and the digest of a user's own text.

    Raises:
        RlabError: the file cannot be read, or another digest was asked for.
    """
    part = experiment.data
    files = DATASETS.get(part.data).own
    if files is None:
        return experiment, None
    part = replace(part, data=f"{part.data.partition(':')[0]}:{files.path}")
    if not part.digest:  # else reading it refuses another one
        part = replace(part, digest=files.digest(OwnSettings()))
    return replace(experiment, data=part), None


RECIPES.register("word2vec")(
    Recipe(
        "word vectors by skip-gram or CBOW (Mikolov et al. 2013)",
        default_words,
        build_words,
        subject=("data",),
        unit="words",
        budget="words.epochs",
        describe=describe_words,
        resume="threads share the vectors without locks, so that only with --threads 1 it is the same run to the bit",
        family="words and dialogue",
        memory_hint="take a smaller --vocabulary or --width",
        warm_start=note_text,
    )
)
