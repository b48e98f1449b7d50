"""A finder of bright boxes in synthetic scenes: a list of boxes an image, `Detects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab import tasks
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import wilson

SIDE, CELLS = 24, 3  # pixels of a scene, and of its grid; a cell has one box or none


class Scenes:
    """Scenes with none to nine boxes; a batch has ``x`` float32[B, 1, S, S] and ``boxes``, a list of float32[K, 4]."""

    name = "scenes"

    def __init__(self, read: Any = None, seed: int = 0, validation: float | None = None):
        rng, size = np.random.default_rng(0), SIDE // CELLS
        self.images, self.boxes = torch.zeros(600, 1, SIDE, SIDE), []
        for image in self.images:
            boxes = []
            for row, column in np.argwhere(rng.random((CELLS, CELLS)) < 0.3):
                left, top = size * column + rng.integers(0, 3), size * row + rng.integers(0, 3)
                right, bottom = left + rng.integers(3, 6), top + rng.integers(3, 6)
                image[0, top:bottom, left:right] = 1.0
                boxes.append([left, top, right, bottom])
            self.boxes.append(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
        splits = tasks.split_items(self.name, len(self.images), None, None, seed, validation)
        self.splits: Mapping[str, Tensor] = {split: torch.from_numpy(items) for split, items in splits.items()}

    def collate(self, items: Tensor, generator: torch.Generator) -> dict[str, Any]:
        return {"x": self.images[items], "boxes": [self.boxes[i] for i in items.tolist()]}

    def to(self, device: torch.device) -> Scenes:
        return self


def grid_of(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """boxes[K, 4] -> whether each cell has one [C, C], and the box as shares of the scene [4, C, C]."""
    there, target = torch.zeros(CELLS, CELLS), torch.zeros(4, CELLS, CELLS)
    column, row = ((boxes[:, i] + boxes[:, i + 2]).div(2) * CELLS / SIDE for i in (0, 1))
    there[row.long(), column.long()] = 1.0
    target[:, row.long(), column.long()] = boxes.T / SIDE
    return there, target


class BoxFinder(tasks.SingleLossTask):
    primary = tasks.Metric("boxes found", "percent")

    def loss(self, outputs: Tensor, batch: tasks.Batch) -> tasks.Losses:
        there, target = (torch.stack(part) for part in zip(*map(grid_of, batch["boxes"]), strict=True))
        boxes = ((outputs[:, 1:] - target).abs().sum(1) * there).sum() / there.sum().clamp(min=1)
        return {"loss": F.binary_cross_entropy_with_logits(outputs[:, 0], there) + 5 * boxes, "loss_boxes": boxes}

    @torch.no_grad()
    def detect(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        outputs = self.model(torch.from_numpy(images).float())
        found = []
        for image in outputs:
            sure = image[0].sigmoid()
            boxes, scores = SIDE * image[1:, sure > 0.5].T.numpy(), sure[sure > 0.5].numpy()
            found.append({"boxes": boxes, "scores": scores, "classes": np.zeros(len(boxes), np.int64)})
        return found

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        hits = boxes = images = 0
        for batch in tasks.until(stop, self.data.ordered(split, 50)):
            for found, true in zip(self.detect(batch.x.numpy()), batch["boxes"], strict=True):
                near = (torch.from_numpy(found["boxes"])[:, None] - true[None]).abs().amax(2) < 2
                hits, boxes, images = hits + int(near.any(0).sum()), boxes + len(true), images + 1
        low, high = wilson(hits, boxes)
        return self.primary.score(100 * hits / boxes, 100 * low, 100 * high, split=split, examples=images)

    def draw(self, stop: Stop) -> dict[str, bytes]:
        batch = next(iter(self.data.ordered("test", 1)))
        found = self.detect(batch.x.numpy())[0]["boxes"]

        def show(figure: Any) -> None:
            figure.subplots().imshow(batch.x[0, 0].numpy(), cmap="gray")
            for left, top, right, bottom in found:
                figure.axes[0].plot([left, right, right, left, left], [top, top, bottom, bottom, top], "r")

        return {"boxes": tasks.png(show, (3, 3))}


@dataclass(frozen=True)
class BoxExperiment:
    run: RunConfig = field(default_factory=lambda: RunConfig(threads=1, log_steps=1_000, evaluate_steps=4_000))
    data: tasks.ExamplesConfig = field(default_factory=lambda: tasks.ExamplesConfig("scenes"))
    fit: tasks.FitConfig = field(default_factory=lambda: tasks.FitConfig(epochs=30, batch_size=16, learning_rate=2e-3))


def build(experiment: BoxExperiment, context: Any) -> tasks.Trainer:
    seed, fit = experiment.run.seed, experiment.fit
    scenes = tasks.load(experiment.data.data, seed, experiment.data.validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        layers = nn.Flatten(), nn.Linear(SIDE * SIDE, 256), nn.ReLU(), nn.Linear(256, 5 * CELLS * CELLS)
        model = nn.Sequential(*layers, nn.Unflatten(1, (5, CELLS, CELLS)))
    data = tasks.Batches(scenes, fit.batch_size, derive(seed, "batches"), context.device)
    optimizer = torch.optim.Adam(model.parameters(), fit.learning_rate)
    return tasks.Trainer(BoxFinder(model, data, optimizer, device=context.device), fit, seed, context.device)


tasks.DATASETS.register("scenes")(tasks.DataSource("detection", "bright boxes", "ours", "", make=Scenes))
RECIPES.register("boxes")(
    Recipe("a finder of boxes", lambda data: BoxExperiment(), build, ("data",), "examples", "fit.epochs")
)
