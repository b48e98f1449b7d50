"""An autoencoder of CartPole's observations, whose encoder then goes under a DQN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rlab import tasks
from rlab.nn.encoders import make_encoder
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import bootstrap_mean


def observations(read: Any) -> tasks.Arrays:
    """What CartPole shows under random actions, 400 observations."""
    env, rng, seen = gym.make("CartPole-v1"), np.random.default_rng(0), []
    seen.append(env.reset(seed=0)[0])
    while len(seen) < 400:
        obs, _, ended, cut, _ = env.step(int(rng.integers(2)))
        seen.append(env.reset()[0] if ended or cut else obs)
    return tasks.Arrays(np.array(seen, np.float32), np.zeros(400, np.float32), None)


@dataclass(frozen=True)
class AutoencoderConfig:
    """What is trained."""

    encoder: str = "mlp"
    """A registered encoder; a linear layer makes inputs of its features again."""


@dataclass(frozen=True)
class AutoencoderExperiment:
    """Settings of the run."""

    run: RunConfig = field(default_factory=lambda: RunConfig(threads=1, log_steps=200, evaluate_steps=600))
    data: tasks.ExamplesConfig = field(default_factory=lambda: tasks.ExamplesConfig("cartpole"))
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    fit: tasks.FitConfig = field(default_factory=lambda: tasks.FitConfig(epochs=8, batch_size=20))


class Coder(nn.Module):
    """x[B, D] -> x again, through an encoder's features."""

    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        self.encoder, self.decoder = encoder, nn.Linear(int(encoder.out_dim), width)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        again: Tensor = self.decoder(self.encoder(x))
        return again


class Autoencoder(tasks.SingleLossTask):
    """The task: to give back what came in."""

    primary = tasks.Metric("squared error", higher_is_better=False)

    def loss(self, outputs: Tensor, batch: tasks.Batch) -> tasks.Losses:
        return {"loss": (outputs - batch.x).square().mean()}

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        again: np.ndarray = self.model(torch.from_numpy(x)).numpy()
        return again

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        errors = np.concatenate(
            [
                np.square(self.predict(batch.x.numpy()) - batch.x.numpy()).mean(1)
                for batch in tasks.until(stop, self.data.ordered(split, 100))
            ]
        )
        return self.primary.score(float(errors.mean()), *bootstrap_mean(errors), split=split, examples=len(errors))

    def draw(self, stop: Stop) -> dict[str, bytes]:
        x = next(iter(self.data.ordered("test", 50))).x.numpy()
        return {"again": tasks.png(lambda figure: figure.subplots().scatter(x, self.predict(x), s=2), (3, 3))}


def build(experiment: AutoencoderExperiment, context: Any) -> tasks.Trainer:
    seed, fit = experiment.run.seed, experiment.fit
    dataset = tasks.load(experiment.data.data, seed, experiment.data.validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        model = Coder(make_encoder(experiment.model.encoder, dataset.shape), dataset.shape[0])
    data = tasks.Batches(dataset, fit.batch_size, derive(seed, "batches"), context.device)
    optimizer = torch.optim.Adam(model.parameters(), fit.learning_rate)
    return tasks.Trainer(Autoencoder(model, data, optimizer, device=context.device), fit, seed, context.device)


tasks.DATASETS.register("cartpole")(tasks.DataSource("table", "CartPole's observations", "ours", "", observations))
RECIPES.register("coder")(
    Recipe("an autoencoder", lambda data: AutoencoderExperiment(), build, ("data",), "examples", "fit.epochs")
)
