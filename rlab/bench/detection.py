"""Detectors side by side on one encoder: how many images a second they see, and learn from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

MODELS = ("rcnn", "fast-rcnn", "faster-rcnn", "ssd")

FEW = 32
"""Training images that are loaded for a measurement."""


def measure(data: str, encoder: str, images: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Time each detector on one thread of the CPU, as it is before training.

    Args:
        data: a data set of images with boxes.
        encoder: of all.
        images: of one measurement.
        rounds: the median of so many counts, models in turn.
        say: told what is measured.

    Returns:
        JSON: ``rows`` with model, images_per_s (regions from outside included), network_images_per_s (without),
        training_images_per_s, parameters; and what was asked for.
    """
    import contextlib

    import torch

    from rlab.studies.rl import learner

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    took: dict[str, dict[str, list[float]]] = {}
    parameters = {}
    try:
        with contextlib.ExitStack() as stack:
            built = {}
            for model in MODELS:
                say(f"building {model}")
                more = {"encoder": encoder, "examples": FEW, "batch_size": 8}
                built[model] = stack.enter_context(learner(model, data, 0, **more))
                parameters[model] = sum(p.numel() for p in built[model].task.model.parameters())
                took[model] = {"all": [], "network": [], "training": []}
            for number in range(rounds + 1):  # the first one warms up
                for model, one in built.items():
                    say(f"round {number} of {rounds}: {model}")
                    for what, seconds in timed(one, images).items():
                        took[model][what] += [seconds] if number else []
    finally:
        torch.set_num_threads(threads)
    rows = [
        {
            "model": model,
            "images_per_s": 1 / statistics.median(took[model]["all"]),
            "network_images_per_s": 1 / statistics.median(took[model]["network"]),
            "training_images_per_s": 1 / statistics.median(took[model]["training"]),
            "parameters": parameters[model],
        }
        for model in MODELS
    ]
    return {"data": data, "encoder": encoder, "images": images, "rounds": rounds, "rows": rows}


def timed(learner: Any, images: int) -> dict[str, float]:
    """Seconds an image takes: ``all`` from the pixels on, ``network`` with regions at hand, ``training``."""
    import torch

    task = learner.task
    data = task.dataset
    items = data.items("train")[:images]
    pixels, batch = data.x[items].numpy(), data.collate(items)
    began = time.process_time()
    learner.step()
    training = (time.process_time() - began) / min(learner.config.batch_size, len(data.items("train")))
    task.modules.eval()
    began = time.process_time()
    task.detect(pixels)
    whole = (time.process_time() - began) / len(items)
    began = time.process_time()
    with torch.no_grad():
        task.find(batch["x"], batch.get("proposals"))
    return {"all": whole, "network": (time.process_time() - began) / len(items), "training": training}
