"""Recipes of supervised learning, such as ``rlab train lenet --data mnist``; torch is imported when one is built."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.data.own import OwnSettings, at
from rlab.machine import cores
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import (
    ClassifyExperiment,
    DataConfig,
    ExamplesConfig,
    FitConfig,
    ModelConfig,
    TreesConfig,
    TreesExperiment,
    shape_of,
)

MODELS: dict[str, tuple[str, str]] = {
    "logistic": ("flat", "logistic regression, or linear regression of numbers: one layer"),
    "mlp": ("mlp", "two layers of 256 ReLU units below the last one"),
    "lenet": ("lenet5", "LeNet-5 with all connections (LeCun et al. 1998)"),
    "lenet-1998": ("lenet5-1998", "LeNet-5 as published: partial connections, trained sub-sampling, RBF output"),
    "alexnet": ("alexnet", "AlexNet (Krizhevsky et al. 2012) as torchvision has it"),
    **{f"vgg{n}": (f"vgg{n}-bn", f"VGG with {n} layers and BatchNorm (Simonyan & Zisserman 2015)")
       for n in (11, 13, 16, 19)},
    "googlenet": ("googlenet", "Inception (Szegedy et al. 2015) with BatchNorm"),
    **{f"resnet{n}": (f"resnet{n}", f"residual network of {n} layers for photographs (He et al. 2016)")
       for n in (18, 34, 50, 101)},
    **{f"resnet{n}": (f"resnet{n}", f"residual network of {n} layers for small images (He et al. 2016, section 4.2)")
       for n in (20, 32, 56, 110)},
    **{f"plain{n}": (f"plain{n}", f"resnet{n} without its shortcuts") for n in (20, 56)},
    "mobilenet-v1": ("mobilenet-v1", "depthwise separable convolutions (Howard et al. 2017)"),
    "mobilenet-v2": ("mobilenet-v2", "inverted residuals with linear bottlenecks (Sandler et al. 2018)"),
    "densenet121": ("densenet121", "every layer sees all before it (Huang et al. 2017)"),
    "nature-classifier": ("nature", "the encoder of DQN as a classifier, for images of at least 36x36"),
}  # fmt: skip
"""Recipe -> (encoder, summary). Any other encoder: `--encoder NAME`."""

TABLES = FitConfig(epochs=50, batch_size=32, learning_rate=1e-2)
"""For tables, of which a few hundred rows are many."""

SMALL = FitConfig(epochs=20, batch_size=64)
"""For a few thousand small images."""


def default_classify(recipe: str, data: str) -> ClassifyExperiment:
    """The settings that a model starts from on a data set."""
    name = data or "digits"
    source = DATASETS.get(name)
    refuse_text(name)
    images = source.kind in ("images", "segmentation")
    fit = FitConfig() if source.examples > 10_000 else SMALL if images else TABLES
    pace = max(source.examples or 10_000, 2_000)  # an epoch, of small sets several
    run = RunConfig(evaluate_steps=pace, checkpoint_steps=10 * pace, log_steps=pace // 10)
    part = DataConfig(data=name, preprocess="" if images else "standard")
    return ClassifyExperiment(run, part, ModelConfig(encoder=MODELS[recipe][0]), fit)


def build_classify(experiment: ClassifyExperiment, context: Any) -> Any:
    """Build the Learner: data, model, optimiser.

    Raises:
        RlabError: the data set or encoder is unknown, or they do not go together.
    """
    import torch

    from rlab.nn.ema import EMA
    from rlab.nn.optim import decayed, make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.seeding import derive
    from rlab.tasks.classification import Classification
    from rlab.tasks.targets import parse
    from rlab.tasks.trainer import Trainer

    run, part, settings, how = experiment.run, experiment.data, experiment.model, experiment.fit
    data = examples_of(part, run.seed)
    if data.kind == "segmentation":
        return _build_segment(experiment, data, context)
    data = data.split_labelled(part.labelled, run.seed) if part.labelled else data
    heads = parse(settings.tasks, data, part.class_weights)
    model: Any = _initial(experiment, data, heads[-1].outputs.stop, context)
    groups = parameter_groups(model, settings, how)
    features = _features(experiment, model, context)
    if features is not None:
        map_groups = decayed(features.map, how.weight_decay)
        groups += features.map.parameters() if how.optimiser == "lbfgs" else map_groups
    if experiment.unlabelled.semi == "mean-teacher":
        model = EMA(model, experiment.unlabelled.average)
    weight, terms, kept = _more_to_learn(experiment, data, heads[0].classes, model, features, context)
    task = Classification(
        data if experiment.unlabelled.semi != "none" or not part.labelled else data.drop_split("unlabelled"),
        model,
        make_optimiser(how.optimiser, groups, lr=how.learning_rate, **fused(how.optimiser)),
        batch_size=how.batch_size,
        augment=part.augment,
        preprocess=part.preprocess,
        label_smoothing=how.label_smoothing,
        heads=heads,
        weight=weight,
        terms=terms,
        per_epoch=_updates(data, how) if part.labelled else None,
        items=data.bootstrap(run.seed) if part.bootstrap else None,
        bf16=use_bf16(how.precision, torch.device(context.device), data.kind == "images"),
        max_grad_norm=how.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    check_last_batch(model, len(data.items("train")), how.batch_size)
    return Trainer(task, how, run.seed, context.device, kept)


def _build_segment(experiment: ClassifyExperiment, data: Any, context: Any) -> Any:
    """The Learner of images with masks.

    Raises:
        RlabError: the encoder has no maps, or a setting is for classes of whole images.
    """
    import torch

    from rlab.errors import RlabError
    from rlab.nn.optim import make_optimiser
    from rlab.nn.precision import use_bf16
    from rlab.seeding import derive
    from rlab.tasks.segmentation import Segmentation
    from rlab.tasks.trainer import Trainer

    run, part, how = experiment.run, experiment.data, experiment.fit
    plain = replace(ClassifyExperiment(), run=run, data=part, model=experiment.model, fit=how)
    plain = replace(plain, data=replace(part, labelled=0, bootstrap=False), fit=replace(how, label_smoothing=0.0))
    plain = replace(plain, model=replace(experiment.model, tasks=ModelConfig().tasks, dropout=None))
    if experiment != plain:
        raise RlabError(
            f"data set '{part.data}' has a class for every pixel; --labelled, --semi, --teacher, --bootstrap, --tasks, "
            "--dropout and --label-smoothing are for a class of the whole image"
        )
    model = _initial(experiment, data, len(data.classes), context)
    task = Segmentation(
        data,
        model,
        make_optimiser(
            how.optimiser, parameter_groups(model, experiment.model, how), lr=how.learning_rate, **fused(how.optimiser)
        ),
        batch_size=how.batch_size,
        augment=part.augment,
        preprocess=part.preprocess,
        class_weights=part.class_weights,
        bf16=use_bf16(how.precision, torch.device(context.device), True),
        max_grad_norm=how.max_grad_norm,
        seed=derive(run.seed, "batches"),
        device=context.device,
    )
    check_last_batch(model, len(data.items("train")), how.batch_size)
    return Trainer(task, how, run.seed, context.device)


def examples_of(part: ExamplesConfig, seed: int) -> Any:
    """Load a data set as a run with this seed uses it: split, reduced and resized as the settings say.

    Raises:
        RlabError: there is no such set, or not so many examples.
    """
    from rlab.data.datasets import TensorDataset, load
    from rlab.errors import RlabError
    from rlab.seeding import derive

    refuse_text(part.data)
    drawn_by = derive(seed if part.split_seed is None else part.split_seed, "data")
    data = load(part.data, drawn_by, part.validation, own=own_settings(part))
    if not isinstance(data, TensorDataset):
        raise RlabError(
            f"data set '{part.data}' is no labelled images, tables or series, which this recipe learns from"
        )
    if part.examples:
        data = data.subsample(part.examples, seed)
    return data.resized(shape_of(part.shape)) if part.shape else data


def refuse_text(name: str) -> None:
    """Refuse a data set of text, which recipes of images, tables and series do not learn from.

    Raises:
        RlabError: it is one.
    """
    from rlab.errors import RlabError

    source = DATASETS.get(name)
    if source.corpus is not None or (source.own is not None and source.own.tokens):
        raise RlabError(
            f"data set '{name}' is of kind {source.kind}, and this recipe learns from images, tables and series; "
            "`rlab list models` has those of text"
        )


def own_settings(part: ExamplesConfig) -> OwnSettings:
    """How a user's files are read."""
    shape = shape_of(part.shape) if part.shape else None
    return OwnSettings(part.target, part.missing, shape, part.test_file, part.digest)


def note_files(experiment: Any) -> Any:
    """The same settings, with the whole paths of a user's files, and their digest.

    Raises:
        RlabError: a file cannot be read, or another digest was asked for.
    """
    part = experiment.data
    files = DATASETS.get(part.data).own
    if files is None:
        return experiment
    if part.test_file:
        part = replace(part, test_file=os.path.abspath(at(part.test_file)))
    part = replace(part, data=f"{part.data.partition(':')[0]}:{files.path}")
    if not part.digest:  # else reading them refuses another one
        part = replace(part, digest=files.digest(own_settings(part)))
    return replace(experiment, data=part)


def _updates(data: Any, how: FitConfig) -> int:
    """Of an epoch, if all training examples have a label."""
    return -(-(len(data.items("train")) + len(data.items("unlabelled"))) // how.batch_size)


def _initial(experiment: ClassifyExperiment, data: Any, outputs: int, context: Any) -> Any:
    """The model as training finds it: alike on every device, or with the encoder of another run."""
    import torch

    from rlab.data.batches import Batches
    from rlab.data.preprocess import fit
    from rlab.nn.encoders.modifiers import split_name
    from rlab.seeding import derive
    from rlab.tasks.transfer import freeze, start_from

    first = None
    if LSUV in split_name(experiment.model.encoder)[1]:
        prepare = fit(experiment.data.preprocess, data.inputs("train")) if experiment.data.preprocess else None
        first = Batches(data, LOOKED_AT, derive(experiment.run.seed, "first"), transform=prepare).at(0, 0).x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "network"))
        model = make_model(experiment.model, data.shape, outputs, data.kind, first)
    if context.start is not None:
        start_from([model.encoder], context.start)
    if experiment.model.freeze:
        freeze([model.encoder])
    return model


def _features(experiment: ClassifyExperiment, model: Any, context: Any) -> Any:
    """What pulls a student's features to its teacher's; None: nothing does."""
    import torch

    from rlab.seeding import derive
    from rlab.tasks.teacher import Features

    teaching = experiment.teaching
    if not teaching.teacher_features:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "teacher-features"))
        return Features(
            model.encoder, experiment.model.encoder, teaching.teacher_dim, teaching.teacher_features, context.device
        )


def _more_to_learn(
    experiment: ClassifyExperiment,
    data: Any,
    classes: tuple[str, ...] | None,
    model: Any,
    features: Any,
    context: Any,
) -> tuple[float, list[Any], dict[str, Any]]:
    """(factor of the loss of the labels, what else is learned from, what of that belongs to a run's state)."""
    from rlab.data.batches import Batches
    from rlab.errors import RlabError
    from rlab.seeding import derive
    from rlab.tasks.semi_supervised import refuse_useless, term_of
    from rlab.tasks.teacher import Teacher, distil

    part, how, teaching, semi = experiment.data, experiment.fit, experiment.teaching, experiment.unlabelled
    weight, terms = 1.0, []
    kept: dict[str, Any] = {}
    if teaching.teacher:
        if classes is None:
            raise RlabError(
                f"a teacher's probabilities are of classes, and what is learned of '{part.data}' is numbers"
            )
        teacher = Teacher(make_model, classes, data.shape, part.data, context.device)
        kept["teacher"] = teacher
        if context.start is not None:
            teacher.start_from(context.start)
        terms.append(distil(teacher, teaching.temperature, teaching.distil, features))
        kept |= {} if features is None else {"teacher_features": features}
        weight -= teaching.distil
    if semi.semi != "none":
        refuse_useless(semi, part.data, classes, part.augment, model)
        seed, updates = derive(experiment.run.seed, "unlabelled"), _updates(data, how)
        others = Batches(data, how.batch_size, seed, context.device, part.augment, "unlabelled", per_epoch=updates)
        terms.append(term_of(semi, others, how.epochs))
    return weight, terms, kept


LSUV, LOOKED_AT = "lsuv", 256
"""The initialisation that looks at inputs, and at how many."""


def make_model(
    settings: ModelConfig, shape: tuple[int, ...], outputs: int, kind: str = "images", first: Any = None
) -> Any:
    """Build an encoder with a layer on it: inputs[B, *shape] -> [B, outputs], for masks [B, outputs, H, W]."""
    from rlab.nn.models import classifier, segmenter

    if kind == "segmentation":
        return segmenter(settings.encoder, shape, outputs, first)
    return classifier(settings.encoder, shape, outputs, dropout=settings.dropout, batch=first)


def check_last_batch(model: Any, examples: int, batch_size: int) -> None:
    """BatchNorm has no variance over one example.

    Raises:
        RlabError: the last batch of an epoch would be one.
    """
    from torch import nn

    from rlab.errors import RlabError

    normed = any(isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) for part in model.modules())
    if normed and 1 in (batch_size, examples % batch_size):
        fit = (str(size) for size in range(max(batch_size, 2), examples + 2) if examples % size != 1)
        other = next(fit, "an encoder without BatchNorm")  # there is but one example
        raise RlabError(
            f"--batch-size is {batch_size}; of {examples:,} training examples that leaves a batch of one, over which "
            f"BatchNorm has no variance; nearest: {other}"
        )


def fused(optimiser: str) -> dict[str, bool]:
    """The option of those optimisers that torch can step through all parameters in one call."""
    return {"fused": True} if optimiser in ("adagrad", "adam", "adamw", "momentum", "nesterov", "sgd") else {}


def parameter_groups(model: Any, settings: ModelConfig, how: FitConfig) -> list[Any]:
    """What an optimiser is given: the parameters that learn, by rate and decay; for L-BFGS one list of all."""
    from rlab.errors import RlabError
    from rlab.nn.optim import decayed, staged

    if how.optimiser == "lbfgs":
        if how.weight_decay or settings.encoder_rate != 1 or settings.rate_decay != 1:
            raise RlabError("lbfgs takes all parameters alike; nearest: --weight-decay 0 --encoder-rate 1 "
                            "--rate-decay 1")  # fmt: skip
        return [p for p in model.parameters() if p.requires_grad]
    groups = []
    for module, factor in ((model.encoder, settings.encoder_rate), (model.head, 1.0)):
        held = list(module.parameters())
        if held and not any(p.requires_grad for p in held):
            continue
        parts = decayed(module, how.weight_decay) if held else []
        parts = [g | {"lr": factor * how.learning_rate} for g in parts if g["params"]]
        if module is model.encoder and settings.rate_decay != 1:
            parts = staged(module, parts, settings.rate_decay)
        groups += parts
    return groups


def warm_start(experiment: ClassifyExperiment) -> tuple[ClassifyExperiment, Any]:
    """Take the encoder and the teacher of other runs, as far as they are named, and note a user's files."""
    from rlab.run.warm_start import WarmStart
    from rlab.tasks import teacher, transfer

    experiment, start = transfer.warm_start_encoder("model", note_files(experiment))
    if not experiment.teaching.teacher:
        return experiment, start
    source = teacher.warm_start_teacher(experiment.teaching.teacher)
    if experiment.teaching.teacher_features:
        experiment = replace(experiment, teaching=replace(experiment.teaching, teacher_dim=source.note["features"]))
    return experiment, WarmStart({**start.sources, teacher.ROLE: source})


def describe_data(experiment: Any) -> dict[str, str]:
    """Describe a run on a data set, as `rlab train` prints it before the run starts: label -> text."""
    part = experiment.data
    held_out = f"{100 * part.validation:g} % held out" if part.validation else "nothing held out"
    if isinstance(experiment, TreesExperiment):
        return {"data": f"{part.data}, {held_out}", "members": f"{experiment.trees.members:,}"}
    labels = f", {part.labelled:,} labels" if getattr(part, "labelled", 0) else ""
    lines = {"data": f"{part.data}, {experiment.fit.epochs} epochs, {held_out}{labels}"}
    return lines | ({"augment": part.augment} if getattr(part, "augment", "") else {})


TREES = {
    "forest": ("random forest of scikit-learn (Breiman 2001)", 100),
    "adaboost": ("AdaBoost of scikit-learn, of small trees (Freund & Schapire 1997)", 50),
}
"""Recipe -> (summary, members)."""


def default_trees(recipe: str, data: str) -> TreesExperiment:
    """The settings that an ensemble of trees starts from."""
    refuse_text(data or "digits")
    run = RunConfig(threads=0, evaluate_steps=0, checkpoint_steps=0, log_steps=10)  # its steps are as many trees
    trees = TreesConfig(method=recipe, members=TREES[recipe][1])  # type: ignore[arg-type]
    return TreesExperiment(run, ExamplesConfig(data=data or "digits", validation=0.0), trees)


def build_trees(experiment: TreesExperiment, context: Any) -> Any:
    """Build the Learner of an ensemble of trees.

    Raises:
        RlabError: the data set is unknown, or nothing for trees.
    """
    from rlab.seeding import derive
    from rlab.tasks.trees import TreesLearner, TreesTask

    data = examples_of(experiment.data, experiment.run.seed)
    threads = experiment.run.threads
    number = cores() if threads == "auto" else threads or 1
    return TreesLearner(TreesTask(data, experiment.trees, derive(experiment.run.seed, "members")), number)


for _name, (_summary, _) in TREES.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_trees, _name),
            build_trees,
            subject=("data",),
            unit="members",
            budget="trees.members",
            describe=describe_data,
            family="ensembles of trees",
            takes=("images", "table"),
            warm_start=lambda experiment: (note_files(experiment), None),
        )
    )
for _name, (_encoder, _summary) in MODELS.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_classify, _name),
            build_classify,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_data,
            family="networks",
            takes=("images", "segmentation") if _encoder not in ("flat", "mlp") else ("images", "table", "series"),
            smallest=36 if _encoder == "nature" else 0,
            memory_hint="take a smaller --batch-size or a smaller encoder",
            warm_start=warm_start,
        )
    )
