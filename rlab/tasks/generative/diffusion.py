"""Flow matching and diffusion: a network learns the way from noise to data, and samples go it in a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import TensorDataset
from rlab.nn.ema import EMA
from rlab.nn.graph import Graph
from rlab.tasks.generative.samples import Draws, Sampler, Scaling
from rlab.tasks.task import Losses, SingleLossTask

Network = Callable[[Tensor, Tensor], Tensor]
"""(x[B, *shape], times[B] in 0..1) -> [B, *shape]."""

Draw = Callable[[Tensor], Tensor]
"""x[B, *shape] -> as many new normal numbers."""


class Process(Protocol):
    """What is done to data in training, and undone in sampling.

    Attributes:
        learned: what the network says, in words.
    """

    learned: str

    def noised(self, x: Tensor, noise: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix data and noise [B, *shape] by draws[B] in 0..1: (mixture, times in 0..1, what the network is to say)."""

    def sample(self, network: Network, noise: Tensor, draw: Draw) -> Tensor:
        """Make data of noise [B, *shape]."""


class Flow:
    """Flow matching on straight lines (Lipman et al. 2023; Liu et al. 2023): x_t = (1 - t) noise + t data.

    The network learns the velocity, data - noise; a sample follows it from t = 0 to 1.

    Args:
        steps: evaluations of the network.
        heun: steps by the mean of the velocities at both ends, two evaluations each; else Euler's.
    """

    learned = "the velocity of x at a time from 0, noise, to 1, data scaled to -1..1"

    def __init__(self, steps: int, heun: bool = False):
        self.steps, self.heun = steps, heun

    def noised(self, x: Tensor, noise: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Process.noised`; times are the draws."""
        t = _as_column(draws, x)
        return (1 - t) * noise + t * x, draws, x - noise

    def sample(self, network: Network, noise: Tensor, draw: Draw) -> Tensor:
        """Integrate the velocity over time; draws nothing."""
        x, count = noise, self.steps // 2 if self.heun else self.steps
        for number in range(count):
            t = torch.full((len(x),), number / count, device=x.device)
            velocity = network(x, t)
            if self.heun:
                ahead = network(x + velocity / count, t + 1 / count)
                velocity = (velocity + ahead) / 2
            x = x + velocity / count
        return x


class Diffusion:
    """Denoising diffusion (Ho et al. 2020) with the cosine schedule (Nichol & Dhariwal 2021, eq. 17).

    x_t = sqrt(a_t) data + sqrt(1 - a_t) noise, t = 0 to T - 1, with a_t the product of 1 - beta so far. The network
    learns v = sqrt(a_t) noise - sqrt(1 - a_t) data (Salimans & Ho 2022), of which data and noise both follow.

    Args:
        timesteps: T.
        steps: evaluations of the network for a sample, at times evenly spaced from T - 1 down to 0.
        random: noise is added at every step, as in DDPM; else none is (DDIM).
        bound: the largest size that data can have, 1 for images; 0: none.
    """

    learned = "v = sqrt(a) noise - sqrt(1 - a) data of x at a time from 0, data scaled to -1..1, to 1, noise"

    def __init__(self, timesteps: int, steps: int, random: bool = False, bound: float = 1.0):
        self.timesteps, self.steps, self.random, self.bound = timesteps, steps, random, bound
        self.kept = cosine_schedule(timesteps)
        """a_t, float64[T]."""

    @property
    def times(self) -> list[int]:
        """The timesteps of a sample, from T - 1 down to 0."""
        if self.steps == 1:
            return [self.timesteps - 1]
        return torch.linspace(self.timesteps - 1, 0, self.steps, dtype=torch.float64).round().long().tolist()

    def noised(self, x: Tensor, noise: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Process.noised`; the timestep is the draw times T, rounded down."""
        step = (draws * self.timesteps).long().clamp(max=self.timesteps - 1)
        kept = _as_column(self.kept.to(x.device)[step].float(), x)
        mixed = kept.sqrt() * x + (1 - kept).sqrt() * noise
        return mixed, self.time(step), kept.sqrt() * noise - (1 - kept).sqrt() * x

    def time(self, step: Tensor) -> Tensor:
        """The time in 0..1 that the network is told for a timestep."""
        return step.float() / max(1, self.timesteps - 1)

    def sample(self, network: Network, noise: Tensor, draw: Draw) -> Tensor:
        """Undo the noise step by step."""
        x, times = noise, self.times
        for step, following in zip(times, [*times[1:], -1], strict=True):
            kept = float(self.kept[step])
            left = float(self.kept[following]) if following >= 0 else 1.0
            v = network(x, self.time(torch.full((len(x),), step, device=x.device)))
            data = kept**0.5 * x - (1 - kept) ** 0.5 * v
            if self.bound:
                data = data.clamp(-self.bound, self.bound)
            said = (x - kept**0.5 * data) / (1 - kept) ** 0.5
            fresh = (1 - left) / (1 - kept) * (1 - kept / left) if self.random else 0.0
            x = left**0.5 * data + max(0.0, 1 - left - fresh) ** 0.5 * said
            if fresh:
                x = x + fresh**0.5 * draw(x)
        return x


def cosine_schedule(timesteps: int) -> Tensor:
    """Compute a_t, the share of the data's variance at t = 0 to T - 1: float64[T], falling, above 0 and below 1.

    a_t = f(t + 1) / f(0) with f(t) = cos^2((t / T + 0.008) / 1.008 pi / 2); no step takes more than 0.999 of it. With
    T = 1000 the first step adds a variance of 4.13e-5. It is not 0: at a = 1 there would be no noise to be found.
    """
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = ((t + 0.008) / 1.008 * torch.pi / 2).cos().square()
    return (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0)


def _as_column(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 1))


class Denoising(Sampler, SingleLossTask):
    """The `Task` of flow matching and of diffusion on images or rows of a table, with a moving average of the network.

    Args:
        dataset: what is imitated.
        network: (x, times, classes) -> [B, *shape].
        process: flow or diffusion.
        optimizer: over the network's parameters.
        batch_size: B.
        ema: rate of the moving average.
        ema_part: of the updates so far that it is over at the most.
        conditional: whether the network is given the class.
        guidance: see `DiffusionConfig`.
        dropped: share of the classes that are hidden in training.
        samples: that an evaluation draws.
        bf16: whether the network computes in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of the data.
        device: torch device.

    Raises:
        RlabError: the data set does not vary.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        network: nn.Module,
        process: Process,
        optimizer: Optimizer,
        *,
        batch_size: int,
        ema: float = 0.999,
        ema_part: float = 0.1,
        conditional: bool = False,
        guidance: float = 1.0,
        dropped: float = 0.1,
        samples: int = 500,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        scaling = Scaling(dataset)
        batches = Batches(dataset, batch_size, seed, device)
        SingleLossTask.__init__(
            self, EMA(network, ema, ema_part), batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm
        )
        self.dataset, self.process = dataset, process
        self.guidance, self.dropped = guidance, dropped
        self.modules["scaling"] = scaling.to(self.device)
        self.start(conditional, samples)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of the noise that a sample is made of."""
        return self.dataset.shape

    def forward(self, batch: Batch) -> Any:
        """Compute (what the network says, what it is to say) of a batch with noise."""
        x = self.scaling(batch.x)
        mixed, times, target = self.process.noised(x, torch.randn_like(x), torch.rand(len(x), device=self.device))
        y = None
        if self.conditional:
            hidden = torch.rand(len(x), device=self.device) < self.dropped
            y = torch.where(hidden, self._nothing, batch.y)
        with self.autocast():
            said = self.model.student(mixed, times, y)
        return said.float(), target

    @property
    def _nothing(self) -> int:
        """The class that stands for none."""
        return len(self.dataset.classes or ())

    def loss(self, outputs: Any, batch: Batch) -> Losses:
        """Compute the mean squared error of what the network says."""
        epoch, number = batch.place
        self.history.done.fill_(epoch * len(self.data) + number + 1)
        return {"loss": F.mse_loss(*outputs)}

    def graph(self) -> Graph:
        """Return the moving average of the network, one step of a sample; see `rlab.run.contract.Exports`."""
        times = self.process.noised(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([0.2, 0.7]))[1]
        inputs = {"x": torch.randn(2, *self.code_shape), "time": times, **self.classes_in}
        return Graph(self.model.teacher, inputs, {"outputs": self.process.learned})

    def generate(self, codes: Tensor, classes: Tensor | None, draws: Draws) -> Tensor:
        """Make samples, by the moving average of the network."""

        def network(x: Tensor, times: Tensor) -> Tensor:
            with self.autocast():
                said: Tensor = self.model.teacher(x, times, classes).float()
                if classes is None or self.guidance == 1:
                    return said
                plain: Tensor = self.model.teacher(x, times, torch.full_like(classes, self._nothing)).float()
            return plain + self.guidance * (said - plain)

        return self.process.sample(network, codes, draws)
