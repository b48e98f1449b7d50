"""A generative adversarial network of points on a ring (Goodfellow et al. 2014): two optimisers, `Samples`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from rlab import tasks
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import bootstrap_mean

NOISE = 4


def ring(read: Any) -> tasks.Arrays:
    """Points at distance 1 from the origin, within 0.05."""
    angle, r = np.random.default_rng(0).random((2, 600))
    x = (1 + 0.1 * (r - 0.5)) * np.stack([np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)])
    return tasks.Arrays(x.T.astype(np.float32), np.zeros(600, np.float32), None)


@dataclass(frozen=True)
class GanExperiment:
    """Settings of the run."""

    run: RunConfig = field(default_factory=lambda: RunConfig(threads=1, log_steps=2_000, evaluate_steps=9_000))
    data: tasks.ExamplesConfig = field(default_factory=lambda: tasks.ExamplesConfig("ring", validation=0))
    fit: tasks.FitConfig = field(
        default_factory=lambda: tasks.FitConfig(epochs=60, batch_size=50, schedule="constant", learning_rate=2e-3)
    )


def network(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, n_out))


class Gan:
    """The task: a generator and a discriminator, each with an optimiser of its own."""

    primary = tasks.Metric("distance from the ring", higher_is_better=False)

    def __init__(self, experiment: GanExperiment, device: str):
        dataset = tasks.load(experiment.data.data, 0, 0.0)
        self.device = torch.device(device)
        self.data = tasks.Batches(dataset, experiment.fit.batch_size, derive(experiment.run.seed, "batches"), device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(experiment.run.seed, "network"))
            self.modules = nn.ModuleDict({"generator": network(NOISE, 2), "discriminator": network(2, 1)}).to(device)
        rate = experiment.fit.learning_rate
        self._optimizers = {n: torch.optim.Adam(m.parameters(), rate, (0.5, 0.9)) for n, m in self.modules.items()}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return self._optimizers

    def update(self, batch: tasks.Batch, optimizers: Mapping[str, torch.optim.Optimizer]) -> Mapping[str, Tensor]:
        generator, discriminator = self.modules["generator"], self.modules["discriminator"]
        fake = generator(torch.randn(len(batch), NOISE, device=self.device))
        real_says, fake_says = discriminator(batch.x), discriminator(fake.detach())
        loss = bce(real_says, torch.ones_like(real_says)) + bce(fake_says, torch.zeros_like(fake_says))
        optimizers["discriminator"].zero_grad()
        loss.backward()
        optimizers["discriminator"].step()
        fooled = bce(discriminator(fake), torch.ones_like(fake_says))
        optimizers["generator"].zero_grad()
        fooled.backward()
        optimizers["generator"].step()
        return {"loss_discriminator": loss.detach(), "loss_generator": fooled.detach()}

    def sample(self, n: int, seed: int) -> np.ndarray:
        noise = torch.randn(n, NOISE, generator=torch.Generator().manual_seed(seed)).to(self.device)
        with torch.no_grad():
            points: np.ndarray = self.modules["generator"](noise).cpu().numpy()
        return points

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        off = np.abs(np.linalg.norm(self.sample(500, 0), axis=1) - 1)
        return self.primary.score(float(off.mean()), *bootstrap_mean(off), split=split, examples=len(off))

    def draw(self, stop: Stop) -> dict[str, bytes]:
        return {"samples": tasks.png(lambda figure: figure.subplots().scatter(*self.sample(500, 0).T, s=2), (3, 3))}

    def memory(self, batch_size: int) -> int:
        return 0


def build(experiment: GanExperiment, context: Any) -> tasks.Trainer:
    return tasks.Trainer(Gan(experiment, context.device), experiment.fit, experiment.run.seed, context.device)


tasks.DATASETS.register("ring")(tasks.DataSource("table", "points on a ring", "ours", "", ring))
RECIPES.register("ring-gan")(
    Recipe("a GAN of points", lambda data: GanExperiment(), build, ("data",), "examples", "fit.epochs")
)
