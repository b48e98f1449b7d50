"""Recipes of words and dialogue: word2vec, HRED, VHRED. Torch is imported when one is built."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.data.own import OwnSettings
from rlab.data.text.settings import TextSettings
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import FitConfig
from rlab.tasks.sequence.dialogue_config import (
    DialogueDataConfig,
    DialogueExperiment,
    DialogueModelConfig,
    LatentConfig,
)
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
        takes=("text",),
        memory_hint="take a smaller --vocabulary or --width",
        warm_start=note_text,
    )
)


MODELS: dict[str, tuple[str, DialogueModelConfig, LatentConfig]] = {
    "hred": (
        "answers by the dialogue so far: hierarchical encoder-decoder (Serban et al. 2016)",
        DialogueModelConfig(),
        LatentConfig(),
    ),
    "vhred": (
        "HRED with a latent variable for each turn (Serban et al. 2017)",
        DialogueModelConfig(latent=32),
        LatentConfig(anneal=0.5, free_bits=2.0, word_drop=0.25),
    ),
}
"""Recipe -> (summary, model, what is done against collapse)."""


def default_dialogue(recipe: str, data: str) -> DialogueExperiment:
    """The settings that a model starts from on a data set of dialogues."""
    part = DialogueDataConfig(data=data or DialogueDataConfig().data)
    examples = DATASETS.get(part.data).examples
    _, model, against = MODELS[recipe]
    pace = max(examples, 1_000)
    run = RunConfig(evaluate_steps=pace, checkpoint_steps=10 * pace, log_steps=max(pace // 10, 1))
    large = examples > 2_000
    model = replace(model, width=256 if large else 64, latent=model.latent and (32 if large else 8))
    fit = FitConfig(epochs=5 if large else 10, batch_size=16, learning_rate=2e-3, max_grad_norm=1.0)
    return DialogueExperiment(run, part, model, against, fit)


def build_dialogue(experiment: DialogueExperiment, context: Any) -> Any:
    """Build the Learner of a model that answers.

    Raises:
        RlabError: the data are no dialogues, or a setting is not for this task.
    """
    import torch

    from rlab.data.datasets import load
    from rlab.nn.optim import decayed, make_optimiser
    from rlab.seeding import derive
    from rlab.tasks.sequence.dialogue import Conversation, DialogueModel
    from rlab.tasks.trainer import Trainer

    run, part, how = experiment.run, experiment.data, experiment.fit
    if (kind := DATASETS.get(part.data).kind) != "dialogues":
        raise RlabError(f"answers are learned from dialogues, and '{part.data}' is of kind {kind}; "
                        "nearest: --data rule-dialogues")  # fmt: skip
    if how.optimiser == "lbfgs" or how.label_smoothing or how.precision == "bf16":
        raise RlabError("a model of dialogues takes neither lbfgs nor --label-smoothing, and computes in fp32; "
                        "nearest: --optimiser adamw --label-smoothing 0 --precision fp32")  # fmt: skip
    data = load(part.data, derive(run.seed, "data"), part.validation)
    data = data.with_vocabulary(part.vocabulary, part.longest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(run.seed, "network"))
        model = DialogueModel(len(data.tokenizer), experiment.model)
    groups = [group for group in decayed(model, how.weight_decay) if group["params"]]
    task = Conversation(
        data,
        model,
        make_optimiser(how.optimiser, groups, lr=how.learning_rate),
        settings=experiment.model,
        latent=experiment.latent,
        epochs=how.epochs,
        batch_size=how.batch_size,
        max_grad_norm=how.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(task, how, run.seed, context.device)


def describe_dialogue(experiment: DialogueExperiment) -> dict[str, str]:
    """Describe a run, as `rlab train` prints it before the run starts: label -> text."""
    part, model = experiment.data, experiment.model
    known = {"all": "all turns before", "last": "the last turn", "none": "nothing"}[model.context]
    return {"data": f"{part.data}, {experiment.fit.epochs} epochs, {100 * part.validation:g} % held out",
            "answers": f"from {known}" + (f", {model.latent} latent numbers" if model.latent else "")}  # fmt: skip


for _name, _model in MODELS.items():
    RECIPES.register(_name)(
        Recipe(
            _model[0],
            partial(default_dialogue, _name),
            build_dialogue,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_dialogue,
            draws=False,
            shown_by="chat",
            family="words and dialogue",
            takes=("dialogues",),
            memory_hint="take a smaller --batch-size or --vocabulary",
        )
    )
