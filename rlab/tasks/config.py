"""Settings of supervised training as typed dataclasses. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.run.config import RunConfig, at_least, within


def shape_of(text: str) -> tuple[int, int, int]:
    """Read an image shape, channels x height x width: "4x84x84" -> (4, 84, 84).

    Raises:
        RlabError: it is not written so.
    """
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() and side.isascii() for side in sides):
        raise RlabError(f"--shape is '{text}'; write channels x height x width: 4x84x84")
    channels, height, width = (int(side) for side in sides)
    return channels, height, width


@dataclass(frozen=True)
class ExamplesConfig:
    """Settings of the data that a model is trained on, and of what is held out."""

    data: str = "digits"
    """A data set (`rlab data list`), `images:DIR` with one folder of pictures a class, `csv:FILE`, or pictures with
    boxes, `voc:DIR` and `coco:DIR`."""
    target: str = ""
    """Of `csv:`: the column that is predicted."""
    missing: Literal["refuse", "mean"] = "refuse"
    """Of `csv:`: refuse missing numbers, or take the mean of the column's training examples."""
    test_file: str = ""
    """Of `images:` and `csv:`: a file that names the test examples, one a line: pictures by their path below DIR, rows
    by their line in FILE. Empty: folders `train` and `test` of DIR, or drawn."""
    digest: str = ""
    """Of `images:` and `csv:`: SHA-256 of all files, which a run notes when it starts; a resume refuses others."""
    validation: float = 0.1
    """Share of the training examples, of every class, that is held out: it decides when to stop and which parameters
    are the best. The test examples never do. 0: nothing is held out, no evaluation is made before the final one (but
    of what makes samples), and the last parameters are taken."""
    split_seed: int | None = None
    """Seed of what is held out, and of the test examples where none are published; None: the run's. Runs of different
    seeds have the same test examples with the same split seed."""
    examples: int = 0
    """Train on this many examples, of every class its share; 0: on all."""
    shape: str = ""
    """Show images in another shape, channels x height x width: 4x84x84 is that of an Atari game, so that an encoder can
    travel between both. They are resized once, in memory. Empty: as they are."""

    def __post_init__(self) -> None:
        at_least(self, validation=0, examples=0)
        kind = self.data.partition(":")[0]
        if kind != "csv":
            only_with(self, "--data csv:FILE", "target", "missing")
        if kind not in ("csv", "images", "voc", "coco"):
            only_with(self, "--data images:DIR or --data csv:FILE", "test_file", "digest")
        if self.shape:
            shape_of(self.shape)
        if self.validation >= 1:
            raise RlabError(f"--validation is {self.validation}; it must be a share below 1")
        if self.split_seed is not None:
            at_least(self, split_seed=0)


@dataclass(frozen=True)
class DataConfig(ExamplesConfig):
    """Settings of the data that a network is trained on, and of what is held out."""

    bootstrap: bool = False
    """Train on as many examples as there are, drawn with replacement by the run's seed: a member of a bagged ensemble
    (Breiman 1996), which `rlab eval RUN RUN ...` takes together."""
    labelled: int = 0
    """Only this many of the training examples, of every class as many, have a label; an epoch has as many updates as if
    all had one. The others are of use to --semi alone. 0: all."""
    augment: str = ""
    """What is done to training images, batch by batch: `flip,crop:4,rotate:15` (`rlab data show --augment` draws
    it)."""
    preprocess: str = ""
    """Fitted to the training inputs and applied to all: minmax, standard, pca or zca (pca:0.01 adds 0.01 to every
    variance). Bytes are 0..1 in any case."""
    class_weights: Literal["none", "balanced"] = "none"
    """Of classes in the loss. balanced: the inverse of how often they are in the training examples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, labelled=0)


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the model: an encoder and a linear layer on it."""

    encoder: str = "lenet5"
    """A registered encoder, or a run whose encoder this one starts from."""
    freeze: bool = False
    """Keep the encoder of the other run as it is; only the layer on it learns."""
    encoder_rate: float = 1.0
    """Factor of the encoder's learning rate: below 1 keeps more of what another run has learned."""
    rate_decay: float = 1.0
    """Factor of the learning rate from each stage of the encoder to the one below it: the first layers, which know what
    all images have, change least (discriminative rates, Howard & Ruder 2018). 1: all alike."""
    tasks: str = ""
    """What is asked of each input, with the weight of its loss: `class,ink:0.1,centre:0.1`. One linear layer each on
    the same encoder; the first is what is scored. class, number (the label), group (class modulo 2), ink (mean
    brightness), spread (deviation), centre (of mass). Empty: the label alone."""
    dropout: float | None = None
    """Share of the features that are dropped in training, below the last layer; None: as published."""

    def __post_init__(self) -> None:
        at_least(self, encoder_rate=0, rate_decay=0)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise RlabError(f"--dropout is {self.dropout}; it must be a share below 1")


@dataclass(frozen=True)
class FitConfig:
    """Settings of the training: length, optimiser, schedule, regularisation."""

    epochs: int = 10
    """Passes over the training examples at the most."""
    batch_size: int = 128
    """Examples of an update; the last batch of an epoch has those that are left."""
    optimiser: str = "adamw"
    """sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam, adamw, adamax, nadam, radam or lbfgs."""
    learning_rate: float = 3e-3
    """Of the optimiser; the schedule multiplies it."""
    schedule: str = "one-cycle"
    """How the learning rate goes over the run: constant, step, exponential, cosine, warm-up or one-cycle."""
    weight_decay: float = 0.01
    """Of weights, not of biases and norms. Decoupled with adamw (Loshchilov & Hutter 2019), an L2 penalty of half this
    factor with the others."""
    label_smoothing: float = 0.0
    """Share of a target that all classes have together (Szegedy et al. 2016, section 7)."""
    max_grad_norm: float = 0.0
    """Gradients with a larger norm are scaled down to it; 0: never."""
    patience: int = 0
    """Stop when this many validations in a row were no better than the best one; 0: go through all epochs."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the encoder; auto: bf16 for images where the processor or GPU is faster in it."""
    accumulate: int = 1
    """Batches of an update: their gradients are added up, as of one batch that is so many times as large and would not
    fit into memory. The last update of an epoch has those that are left."""
    workers: int = 1
    """Processes that learn together, each from its part of every batch, as one would from the whole (data parallel)."""
    shard: bool = False
    """Divide parameters, gradients and moments among the processes of --workers, for a model that does not fit into
    each (FSDP)."""

    def __post_init__(self) -> None:
        at_least(self, epochs=1, batch_size=1, learning_rate=0, weight_decay=0, max_grad_norm=0, patience=0)
        at_least(self, accumulate=1, workers=1)
        within(self, 0, 1, "label_smoothing")


@dataclass(frozen=True)
class TeacherConfig:
    """Settings of distillation: learning from the probabilities of another run's model (Hinton et al. 2015)."""

    teacher: str = ""
    """A run with the same classes and inputs, whose probabilities are learned beside the labels; empty: none."""
    temperature: float = 4.0
    """What logits of both are divided by: above 1 shows more of what the teacher thinks of the wrong classes."""
    distil: float = 0.9
    """Share of the teacher in the loss; the labels have the rest."""
    teacher_features: float = 0.0
    """Factor of a loss that pulls the features of the encoder, through a linear map of their own, to those of the
    teacher's encoder (FitNets, Romero et al. 2015); the map is thrown away after training. 0: none."""
    teacher_dim: int = 0
    """How many features the teacher's encoder has, which a run notes when it starts."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "distil")
        at_least(self, teacher_features=0, teacher_dim=0)
        if not 0 < self.temperature < math.inf:
            raise RlabError(f"--temperature is {self.temperature}; it must be a number above 0")
        if not self.teacher:
            only_with(self, "--teacher RUN", "temperature", "distil", "teacher_features")
        if not self.teacher_features:
            only_with(self, "--teacher-features FACTOR", "teacher_dim")


@dataclass(frozen=True)
class SemiConfig:
    """Settings of semi-supervised learning, from examples without labels (`--labelled N` makes such)."""

    semi: Literal["none", "self-training", "consistency", "mean-teacher"] = "none"
    """self-training: what the model is sure of becomes a label (Lee 2013). consistency: two draws of --augment and
    dropout are to get the same probabilities (Laine & Aila 2017). mean-teacher: those that the moving average of the
    model gives, which is then what is scored (Tarvainen & Valpola 2017)."""
    semi_weight: float | None = None
    """Factor of the loss without labels; None: 1 with self-training, 10 with the others."""
    ramp_up: float = 0.3
    """Share of the run over which that factor grows from about 0."""
    threshold: float = 0.95
    """Of self-training: probability from which on a guess becomes a label."""
    average: float = 0.99
    """Of mean-teacher: share of the average that stays at an update."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "ramp_up", "threshold")
        if self.semi_weight is not None:
            at_least(self, semi_weight=0)
        if not 0 <= self.average < 1:
            raise RlabError(f"--average is {self.average}; it must be a share below 1")
        if self.semi == "none":
            only_with(self, "--semi METHOD", "semi_weight", "ramp_up")
        if self.semi != "self-training":
            only_with(self, "--semi self-training", "threshold")
        if self.semi != "mean-teacher":
            only_with(self, "--semi mean-teacher", "average")


def only_with(config: Any, what: str, *names: str) -> None:
    """Refuse settings that would do nothing: others than the default without what they are for."""
    for f in fields(config):
        if f.name in names and getattr(config, f.name) != f.default:
            flag = f"--{f.name.replace('_', '-')}"
            raise RlabError(f"{flag} is {getattr(config, f.name)}, which does nothing without {what}")


@dataclass(frozen=True)
class ClassifyExperiment:
    """Settings of a run that learns to classify."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    teaching: TeacherConfig = field(default_factory=TeacherConfig)
    unlabelled: SemiConfig = field(default_factory=SemiConfig)

    def __post_init__(self) -> None:
        if self.unlabelled.semi != "none" and not self.data.labelled:
            raise RlabError(
                f"--semi {self.unlabelled.semi} learns from examples without labels, and --labelled 0 leaves none; "
                "nearest: --labelled 100"
            )


@dataclass(frozen=True)
class TreesConfig:
    """Settings of an ensemble of trees, as scikit-learn grows it."""

    method: Literal["forest", "adaboost"] = "forest"
    """forest: each tree on a bootstrap sample, each split on a draw of the inputs (Breiman 2001). adaboost: each tree
    on the examples by how wrong those before it are (Freund & Schapire 1997)."""
    members: int = 100
    """How many trees."""
    depth: int = 0
    """Of a tree at the most. 0: as in scikit-learn, any in a forest; with adaboost 1 of classes and 3 of numbers."""

    def __post_init__(self) -> None:
        at_least(self, members=1, depth=0)


@dataclass(frozen=True)
class TreesExperiment:
    """Settings of a run that grows an ensemble of trees."""

    run: RunConfig = field(default_factory=RunConfig)
    data: ExamplesConfig = field(default_factory=ExamplesConfig)
    trees: TreesConfig = field(default_factory=TreesConfig)
