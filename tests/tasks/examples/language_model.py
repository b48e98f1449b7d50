"""A language model of lines of different length: padding with a mask, and perplexity, of which less is better."""

from __future__ import annotations

import math
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
from rlab.stats import bootstrap_mean

LETTERS = "\n abc"
"""The first one ends a line, and begins it."""


class Lines:
    """A data set of lines of text; a batch has ``tokens`` int64[B, T] and ``mask`` bool[B, T] of what is to be said."""

    name = "lines"

    def __init__(self, read: Any = None, seed: int = 0, validation: float | None = None):
        generator = np.random.default_rng(0)
        self.lines = ["abc " * generator.integers(1, 6) for _ in range(300)]
        splits = tasks.split_items(self.name, len(self.lines), None, None, seed, validation)
        self.splits: Mapping[str, Tensor] = {split: torch.from_numpy(items) for split, items in splits.items()}
        self.device = torch.device("cpu")

    def collate(self, items: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        lines = [torch.tensor([LETTERS.index(c) for c in f"\n{self.lines[i]}\n"]) for i in items.tolist()]
        tokens = nn.utils.rnn.pad_sequence(lines, batch_first=True)
        lengths = torch.tensor([len(line) for line in lines])
        mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        return {"tokens": tokens.to(self.device), "mask": mask.to(self.device)}

    def to(self, device: torch.device) -> Lines:
        self.device = device
        return self


class NextLetter(nn.Module):
    """tokens[B, T] -> logits[B, T, K] of what follows each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), 16)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, len(LETTERS))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.gru(self.embedding(tokens))[0])
        return logits


class LanguageModel(tasks.SingleLossTask):
    """The task: the mean over all letters, not over lines, of the surprise at the next one."""

    primary = tasks.Metric("perplexity", higher_is_better=False)

    def forward(self, batch: tasks.Batch) -> Tensor:
        logits: Tensor = self.model(batch["tokens"][:, :-1])
        return logits

    def surprise(self, logits: Tensor, batch: tasks.Batch) -> tuple[Tensor, Tensor]:
        mask = batch["mask"][:, 1:]
        return F.cross_entropy(logits.transpose(1, 2), batch["tokens"][:, 1:], reduction="none") * mask, mask

    def loss(self, outputs: Tensor, batch: tasks.Batch) -> tasks.Losses:
        nats, mask = self.surprise(outputs, batch)
        return {"loss": nats.sum() / mask.sum()}

    def denominator(self, batch: tasks.Batch) -> float:
        return float(batch["mask"][:, 1:].sum())

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        found = [self.surprise(self.forward(batch), batch) for batch in tasks.until(stop, self.data.ordered(split, 50))]
        nats = torch.cat([n.sum(1) for n, _ in found]).double().numpy()
        letters = torch.cat([m.sum(1) for _, m in found]).double().numpy()
        low, high = bootstrap_mean(nats)
        values = (math.exp(value / letters.mean()) for value in (nats.mean(), low, high))
        return self.primary.score(*values, split=split, examples=len(nats), letters=int(letters.sum()))

    def draw(self, stop: Stop) -> dict[str, bytes]:
        weights = self.model.embedding.weight.detach().cpu().numpy()
        return {"embedding": tasks.png(lambda figure: figure.subplots().imshow(weights), (4, 2))}


@dataclass(frozen=True)
class LanguageExperiment:
    """Settings of the run."""

    run: RunConfig = field(default_factory=lambda: RunConfig(threads=1, log_steps=200, evaluate_steps=400))
    data: tasks.ExamplesConfig = field(default_factory=lambda: tasks.ExamplesConfig("lines"))
    fit: tasks.FitConfig = field(default_factory=lambda: tasks.FitConfig(epochs=5, batch_size=20, schedule="constant"))


def build(experiment: LanguageExperiment, context: Any) -> tasks.Trainer:
    seed, fit = experiment.run.seed, experiment.fit
    lines = tasks.load(experiment.data.data, seed, experiment.data.validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        model = NextLetter()
    optimizer = torch.optim.Adam(model.parameters(), fit.learning_rate)
    data = tasks.Batches(lines, fit.batch_size, derive(seed, "batches"), context.device)
    return tasks.Trainer(LanguageModel(model, data, optimizer, device=context.device), fit, seed, context.device)


tasks.DATASETS.register("lines")(tasks.DataSource("text", "lines of abc", "ours", "", make=Lines))
RECIPES.register("lm")(
    Recipe("a language model", lambda data: LanguageExperiment(), build, ("data",), "examples", "fit.epochs")
)
