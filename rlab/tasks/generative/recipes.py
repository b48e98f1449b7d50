"""Recipes of this room; torch is imported when one is built."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import ExamplesConfig, FitConfig
from rlab.tasks.generative.config import (
    AutoencoderConfig,
    AutoencoderExperiment,
    VAEConfig,
    VAEExperiment,
)
from rlab.tasks.recipes import describe_data, note_files

LARGE = 10_000
"""Examples from which on a data set needs fewer epochs."""


def start_of(data: str, epochs: tuple[int, int]) -> tuple[RunConfig, ExamplesConfig, FitConfig]:
    """The settings of run, data and fit that a model on a data set starts from.

    Args:
        data: its name; empty: digits.
        epochs: of a small data set, and of a large one.
    """
    name = data or "digits"
    examples = DATASETS.get(name).examples
    large = examples > LARGE
    pace = max(examples or LARGE, 2_000)  # an epoch, of small sets several
    run = RunConfig(evaluate_steps=pace, checkpoint_steps=10 * pace, log_steps=pace // 10)
    fit = FitConfig(
        epochs=epochs[large],
        batch_size=128 if large else 64,
        learning_rate=1e-3,
        schedule="cosine",
        weight_decay=0.0,
        precision="fp32",
    )
    return run, ExamplesConfig(data=name), fit


def default_autoencoder(data: str) -> AutoencoderExperiment:
    """The settings that an autoencoder starts from on a data set."""
    run, part, fit = start_of(data, (60, 15))
    images = DATASETS.get(part.data).kind != "table"
    return AutoencoderExperiment(run, part, AutoencoderConfig(code=32 if images else 2), fit)


def default_vae(data: str) -> VAEExperiment:
    """The settings that a VAE starts from on a data set."""
    run, part, fit = start_of(data, (60, 25))
    if DATASETS.get(part.data).examples > LARGE:
        return VAEExperiment(run, part, VAEConfig(), fit)
    # Of a few examples the mean image is learned long before any code is: without a warm-up codes stay unused.
    return VAEExperiment(run, part, VAEConfig(warm_up=10), replace(fit, learning_rate=3e-3))


def build_autoencoder(experiment: AutoencoderExperiment, context: Any) -> Any:
    """Build the Learner of an autoencoder.

    Raises:
        RlabError: the data set or encoder is unknown, or settings do not go together.
    """
    from rlab.errors import RlabError
    from rlab.nn.autoencoders import make_autoencoder
    from rlab.tasks.generative.autoencoder import Autoencoding, check_kind

    how, run, fit = experiment.model, experiment.run, experiment.fit
    data = _examples(experiment)
    check_kind(data)
    book = {"size": how.codebook, "slots": how.slots, "rate": how.codebook_rate, "commitment": how.commitment}
    make = partial(
        make_autoencoder,
        how.encoder,
        data.shape,
        how.code,
        decoder=how.decoder,
        tied=how.tied,
        squash=how.sparse == "kl",
        active=how.active if how.sparse == "largest" else 0,
        codebook=book if how.codebook else None,
    )
    model = _started(make, experiment, data, context)
    layers = len(model.pairs()) if how.greedy else 0
    if layers * how.greedy_epochs > fit.epochs and not run.minutes:
        raise RlabError(
            f"--greedy trains {layers} layers for {how.greedy_epochs} epochs each, and --epochs {fit.epochs} are less; "
            f"nearest: --epochs {layers * how.greedy_epochs}"
        )
    return _trainer(Autoencoding, model, data, experiment, context)


def build_vae(experiment: VAEExperiment, context: Any) -> Any:
    """Build the Learner of a VAE.

    Raises:
        RlabError: the data set or encoder is unknown, or settings do not go together.
    """
    from rlab.nn.autoencoders import make_vae
    from rlab.tasks.generative.vae import VariationalAutoencoding, check_images

    how = experiment.model
    data = _examples(experiment)
    check_images(data, how.conditional)
    classes = len(data.classes or ()) if how.conditional else 0
    make = partial(make_vae, how.encoder, data.shape, how.code, decoder=how.decoder, classes=classes)
    return _trainer(VariationalAutoencoding, _started(make, experiment, data, context), data, experiment, context)


def _examples(experiment: Any) -> Any:
    from rlab.tasks.recipes import examples_of

    return examples_of(experiment.data, experiment.run.seed)


def _started(make: Any, experiment: Any, data: Any, context: Any) -> Any:
    """The model as training finds it: alike on every device, or with the encoder of another run."""
    import torch

    from rlab.data.batches import Batches
    from rlab.data.preprocess import fit
    from rlab.nn.encoders.modifiers import split_name
    from rlab.seeding import derive
    from rlab.tasks.recipes import LOOKED_AT, LSUV
    from rlab.tasks.transfer import freeze, start_from

    seed, first = experiment.run.seed, None
    if LSUV in split_name(experiment.model.encoder)[1]:
        prepare = fit("standard", data.inputs("train")) if data.kind == "table" else None
        first = Batches(data, LOOKED_AT, derive(seed, "first"), transform=prepare).at(0, 0).x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        model = make(batch=first)
    if context.start is not None:
        start_from([model.encoder], context.start)
    if experiment.model.freeze:
        freeze([model.encoder])
    return model


def _trainer(task: Any, model: Any, data: Any, experiment: Any, context: Any) -> Any:
    """The Learner of a task of one model."""
    import torch

    from rlab.nn.optim import decayed, make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.seeding import derive
    from rlab.tasks.recipes import check_last_batch, fused
    from rlab.tasks.trainer import Trainer

    run, fit = experiment.run, experiment.fit
    check_last_batch(model, len(data.items("train")), fit.batch_size)
    learning = [p for p in model.parameters() if p.requires_grad]
    if fit.optimiser == "lbfgs":
        groups: Any = learning
    else:
        chosen = set(learning)
        parts = decayed(model, fit.weight_decay)
        parts = [part | {"params": [p for p in part["params"] if p in chosen]} for part in parts]
        groups = [part for part in parts if part["params"]]
    made = task(
        data,
        model,
        make_optimiser(fit.optimiser, groups, lr=fit.learning_rate, **fused(fit.optimiser)),
        experiment.model,
        batch_size=fit.batch_size,
        bf16=use_bf16(fit.precision, torch.device(context.device), data.kind == "images"),
        max_grad_norm=fit.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    return Trainer(made, fit, run.seed, context.device)


def warm_start(experiment: Any) -> tuple[Any, Any]:
    """Take the encoder of another run, if one is named, and note a user's files."""
    from rlab.tasks.transfer import warm_start_encoder

    return warm_start_encoder("model", note_files(experiment))


for _name, _summary, _default, _build in (
    (
        "autoencoder",
        "a code of examples, learned without labels: plain, stacked, sparse, denoising, with a codebook",
        default_autoencoder,
        build_autoencoder,
    ),
    (
        "vae",
        "a variational autoencoder (Kingma & Welling 2014): codes as distributions, and new images",
        default_vae,
        build_vae,
    ),
):
    RECIPES.register(_name)(
        Recipe(
            _summary,
            _default,
            _build,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_data,
            family="autoencoders and generative models",
            takes=("images",) if _name == "vae" else ("images", "table"),
            memory_hint="take a smaller --batch-size or a smaller encoder",
            warm_start=warm_start,
        )
    )
