"""Recipes of detectors and of segmentation; torch is imported when one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rlab.data.catalog import DATASETS
from rlab.errors import RlabError
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.tasks.config import FitConfig, shape_of
from rlab.tasks.detection.config import (
    AnnotatedConfig,
    DetectExperiment,
    FcnExperiment,
    RcnnExperiment,
    RegionsExperiment,
    SsdExperiment,
    UNetExperiment,
)
from rlab.tasks.recipes import describe_data, note_files, own_settings

DEFAULT = "digit-scenes"


def default_detect(kind: type[DetectExperiment], data: str) -> DetectExperiment:
    """The settings that a detector, or a segmentation, starts from on a data set."""
    name = data or DEFAULT
    pace = max(DATASETS.get(name).examples, 100) or 1_000
    run = RunConfig(evaluate_steps=4 * pace, checkpoint_steps=4 * pace, log_steps=max(1, pace // 4))
    fit = FitConfig(epochs=60, batch_size=16, learning_rate=2e-3, max_grad_norm=5.0, precision="fp32")
    return kind(run, AnnotatedConfig(name, augment="shift:2"), fit=fit)


def images_of(part: AnnotatedConfig, seed: int, masks: bool = False) -> Any:
    """Load a data set as a run with this seed uses it: split, reduced and resized as the settings say.

    Args:
        part: the settings.
        seed: of the run.
        masks: read outlines in a user's files as instance masks.

    Raises:
        RlabError: there is no such set, or not so many images.
    """
    from rlab.data.datasets import load
    from rlab.seeding import derive

    drawn_by = derive(seed if part.split_seed is None else part.split_seed, "data")
    source = DATASETS.get(part.data)
    if source.kind not in ("detection", "segmentation"):
        raise RlabError(
            f"data set '{part.data}' is of kind {source.kind}, and this recipe learns from images with boxes or masks; "
            f"nearest: {DEFAULT}"
        )
    data = load(part.data, drawn_by, part.validation, own=replace(own_settings(part), masks=masks))
    if part.examples:
        data = data.subsample(part.examples, seed)
    return data.resized(shape_of(part.shape)) if part.shape else data


def build_detect(make: Callable[..., Any], experiment: Any, context: Any) -> Any:
    """Build the Learner of a detector.

    Args:
        make: (settings, encoder's name, encoder, shape, classes) -> the model; `MAKERS` has them.
        experiment: the settings.
        context: of the run.

    Raises:
        RlabError: the data have no boxes, or the encoder no maps.
    """
    import torch

    from rlab.data.detection import DetectionDataset
    from rlab.nn.detection.select import Telling
    from rlab.tasks.detection.detection import Detection, with_proposals
    from rlab.tasks.trainer import Trainer

    settings, run, fit = experiment.model, experiment.run, experiment.fit
    data = images_of(experiment.data, run.seed)
    if not isinstance(data, DetectionDataset):
        raise RlabError(f"data set '{experiment.data.data}' has masks of classes, but no boxes; nearest: "
                        f"--data {DEFAULT}, or the recipes fcn and unet")  # fmt: skip
    for split in data.splits:
        if not sum(data.counts(split)):
            raise RlabError(f"the split '{split}' of data set '{data.name}' has no box, so that nothing could be "
                            "learned or scored; nearest: more images, or another --split-seed")  # fmt: skip
    crops = make is make_rcnn
    outside = settings.proposals if make in (make_rcnn, make_fast) else 0
    data = with_proposals(data, outside) if outside else data
    model = _started(experiment, context, _crop(data.shape) if crops else data.shape, partial(make, data=data))
    task = Detection(
        data,
        model,
        _optimiser(experiment, model),
        batch_size=fit.batch_size,
        augment=experiment.data.augment,
        telling=Telling(settings.score, settings.overlap, settings.most),
        proposals=outside,
        **_common(experiment, context, torch.device(context.device)),
    )
    return Trainer(task, fit, run.seed, context.device)


def build_segment(skips: bool, experiment: Any, context: Any) -> Any:
    """Build the Learner of a class for every pixel, and of instances where the data have such.

    Raises:
        RlabError: the data have no masks, or the encoder no maps.
    """
    import torch

    from rlab.data.detection import DetectionDataset
    from rlab.tasks.detection.instances import InstanceSegmentation, semantic
    from rlab.tasks.segmentation import Segmentation
    from rlab.tasks.trainer import Trainer

    run, fit = experiment.run, experiment.fit
    source = images_of(experiment.data, run.seed, masks=True)
    data = semantic(source) if isinstance(source, DetectionDataset) else source
    instances = isinstance(source, DetectionDataset)
    if experiment.model.edges and not instances:
        raise RlabError(f"--edges are those between instances, and data set '{data.name}' has masks of classes alone; "
                        "nearest: without --edges")  # fmt: skip
    make = partial(make_unet if skips else make_fcn, data=data, edges=instances and experiment.model.edges)
    model = _started(experiment, context, data.shape, make)
    common = _common(experiment, context, torch.device(context.device))
    common |= {"batch_size": fit.batch_size, "augment": experiment.data.augment}
    optimiser = _optimiser(experiment, model)
    task = (
        InstanceSegmentation(source, model, optimiser, edges=experiment.model.edges, **common)
        if isinstance(source, DetectionDataset)
        else Segmentation(data, model, optimiser, **common)
    )
    return Trainer(task, fit, run.seed, context.device)


def make_ssd(settings: Any, encoder: Any, data: Any) -> Any:
    """Build an SSD."""
    from rlab.nn.detection.ssd import Ssd

    more = {"negatives": settings.negatives, "mining": settings.mining, "cells": settings.cells}
    return Ssd(settings.encoder, encoder, data.shape, len(data.classes), **_maps(settings, data), **more)


def make_fast(settings: Any, encoder: Any, data: Any) -> Any:
    """Build a Fast R-CNN."""
    from rlab.nn.detection.rcnn import FastRcnn

    more = {"regions": settings.regions}
    return FastRcnn(settings.encoder, encoder, data.shape, len(data.classes), **_maps(settings, data), **more)


def make_faster(settings: Any, encoder: Any, data: Any) -> Any:
    """Build a Faster R-CNN."""
    from rlab.nn.detection.rcnn import FasterRcnn

    more = {"regions": settings.regions, "proposals": settings.proposals}
    return FasterRcnn(settings.encoder, encoder, data.shape, len(data.classes), **_maps(settings, data), **more)


def make_rcnn(settings: Any, encoder: Any, data: Any) -> Any:
    """Build an R-CNN."""
    from rlab.nn.detection.rcnn import Rcnn

    return Rcnn(settings.encoder, encoder, data.shape, len(data.classes), regions=settings.regions)


def make_fcn(settings: Any, encoder: Any, data: Any, edges: bool = False) -> Any:
    """Build a fully convolutional network (Long et al. 2015, FCN-32s)."""
    from rlab.nn.models import segmenter_on

    return segmenter_on(settings.encoder, encoder, data.shape, len(data.classes) + edges)


def make_unet(settings: Any, encoder: Any, data: Any, edges: bool = False) -> Any:
    """Build a U-Net."""
    from rlab.nn.detection.pyramid import SkipSegmenter

    return SkipSegmenter(
        settings.encoder, encoder, data.shape, len(data.classes) + edges, settings.width, settings.skips
    )


def _maps(settings: Any, data: Any) -> dict[str, Any]:
    stride = settings.stride or (4 if min(data.shape[1:]) < 256 and max(data.shape[1:]) < 256 else 8)
    return {
        "stride": stride,
        "levels": settings.levels,
        "width": settings.width,
        "top_down": settings.top_down,
    }


def _crop(shape: tuple[int, ...]) -> tuple[int, ...]:
    from rlab.nn.detection.rcnn import CROP

    return shape[0], CROP, CROP


def _started(experiment: Any, context: Any, shape: tuple[int, ...], make: Callable[[Any, Any], Any]) -> Any:
    """The model as training finds it: alike on every device, or with the encoder of another run."""
    import torch

    from rlab.nn.encoders import make_encoder
    from rlab.nn.encoders.modifiers import split_name
    from rlab.seeding import derive
    from rlab.tasks.recipes import LSUV
    from rlab.tasks.transfer import freeze, start_from

    settings = experiment.model
    if LSUV in split_name(settings.encoder)[1]:
        raise RlabError(f"encoder '{settings.encoder}' starts by looking at whole images, which this recipe does not "
                        f"show it; nearest: {split_name(settings.encoder)[0]}")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "network"))
        encoder = make_encoder(settings.encoder, shape)
        model = make(settings, encoder)
    if context.start is not None:
        start_from([model.encoder], context.start)
    if settings.freeze:
        freeze([model.encoder])
    return model


def _optimiser(experiment: Any, model: Any) -> Any:
    from rlab.nn.optim import make_optimiser
    from rlab.tasks.recipes import fused, parameter_groups

    fit = experiment.fit
    groups = parameter_groups(model, experiment.model, fit)
    return make_optimiser(fit.optimiser, groups, lr=fit.learning_rate, **fused(fit.optimiser))


def _common(experiment: Any, context: Any, device: Any) -> dict[str, Any]:
    from rlab.nn.precision import use_bf16
    from rlab.seeding import derive

    return {
        "bf16": use_bf16(experiment.fit.precision, device, True),
        "max_grad_norm": experiment.fit.max_grad_norm,
        "seed": derive(experiment.run.seed, "batches"),
        "device": context.device,
    }


def warm_start(experiment: Any) -> tuple[Any, Any]:
    """Take the encoder of another run, if one is named, and note a user's files."""
    from rlab.tasks.transfer import warm_start_encoder

    return warm_start_encoder("model", note_files(experiment))


def _register(name: str, summary: str, kind: type[DetectExperiment], build: Callable[[Any, Any], Any]) -> None:
    RECIPES.register(name)(
        Recipe(
            summary,
            partial(default_detect, kind),
            build,
            subject=("data",),
            unit="examples",
            budget="fit.epochs",
            describe=describe_data,
            family="detection and segmentation",
            takes=("instances", "segmentation") if name in ("fcn", "unet") else ("detection",),
            memory_hint="take a smaller --batch-size, --shape or encoder",
            warm_start=warm_start,
        )
    )


for _name, _summary, _kind, _build in (
    ("rcnn", "R-CNN: a CNN for each region that selective search finds (Girshick et al. 2014)", RcnnExperiment,
     partial(build_detect, make_rcnn)),
    ("fast-rcnn", "Fast R-CNN: such regions pooled from shared maps (Girshick 2015)", RegionsExperiment,
     partial(build_detect, make_fast)),
    ("faster-rcnn", "Faster R-CNN: regions that a network proposes on shared maps (Ren et al. 2015)",
     RegionsExperiment, partial(build_detect, make_faster)),
    ("ssd", "SSD: boxes and classes from maps of several sizes in one pass (Liu et al. 2016)", SsdExperiment,
     partial(build_detect, make_ssd)),
    ("fcn", "fully convolutional network: a class for every pixel (Long et al. 2015)", FcnExperiment,
     partial(build_segment, False)),
    ("unet", "U-Net: a class for every pixel, with skip connections (Ronneberger et al. 2015)", UNetExperiment,
     partial(build_segment, True)),
):  # fmt: skip
    _register(_name, _summary, _kind, _build)
