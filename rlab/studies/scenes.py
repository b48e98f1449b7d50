"""Scenes of digits for studies: settings that many share, and detectors and segmenters trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.study import Results


@dataclass(frozen=True)
class Scenes:
    """As many passes over the same scenes for all variants."""

    data: str = "digit-scenes"
    encoder: str = "resnet"
    shape: str = "1x64x64"
    examples: int = 432
    epochs: int = 60
    batch_size: int = 8
    score: float = 0.05
    """Boxes of a lower probability are not told by detectors."""


@dataclass(frozen=True)
class TimedScenes(Scenes):
    """Detectors that are timed, too."""

    images: int = 32
    """That are timed, in processor time of one thread."""
    repeats: int = 5
    """Of each timing; the fastest counts."""


SMOKE = {"shape": "1x32x32", "examples": 8, "epochs": 1, "score": 0.5}

SMALL = {"shape": "1x48x48", "examples": 64, "epochs": 4}
"""For the small budget: too short for a detector to find much, long enough to be timed."""


def outputs(built: Any) -> Any:
    """What a Learner's task says of the test scenes; see its `outputs`."""
    import torch

    from rlab.run.contract import Stop

    built.task.modules.eval()
    with torch.no_grad():
        return built.task.outputs("test", Stop())


def average_precision(built: Any) -> float:
    """AP at IoU .5 of a detector on the test scenes, 0..1."""
    from rlab.tasks.detection.scores import detection_metrics

    found, boxes, labels = outputs(built)
    return float(detection_metrics(found, boxes, labels, built.task.classes)["mean"]) / 100


@contextmanager
def trained(
    recipe: str, settings: Scenes, seed: int, look: Callable[[Any], Any], points: int = 1, **changes: Any
) -> Iterator[tuple[Any, list[Any]]]:
    """Train a recipe; yields (the Learner, what `look` says of it after each of `points` equal parts).

    Args:
        recipe: as after `rlab train`.
        settings: which scenes, and for how long.
        seed: of everything random.
        look: called with the Learner; the last time at the end.
        points: how often.
        changes: settings by name, wherever they stand in the configuration.
    """
    from rlab.studies.rl import learner, run

    how = {name: getattr(settings, name) for name in ("encoder", "shape", "examples", "epochs", "batch_size")}
    with learner(recipe, settings.data, seed, **how, validation=0.0, **changes) as built:
        yield built, run(built, points, look)


def log_seconds(built: Any, images: int, repeats: int) -> tuple[float, float]:
    """log10 of the processor seconds that an image takes: all, and without regions from outside; the fastest of
    `repeats` timings. It trains on, so that scores come before."""
    from rlab.bench.detection import timed

    times = [timed(built, images) for _ in range(repeats)]
    whole, network = (min(one[what] for one in times) for what in ("all", "network"))
    return math.log10(max(whole, 1e-6)), math.log10(max(network, 1e-6))


def draw_speed(clock: str, figure: Any, results: Results) -> None:
    """Draw accuracy, and the time of an image: the number `clock`."""
    left, right = figure.subplots(1, 2)
    dots(left, columns(results, "ap"), "AP at IoU .5 (more is better)")
    dots(right, columns(results, clock), "log10 of seconds an image")
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=7, rotation=20)
