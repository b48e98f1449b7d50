"""Train a generator against a discriminator: two players with an optimiser each, through the one trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches, DataModule
from rlab.data.datasets import TensorDataset
from rlab.nn.decoders.dcgan import Discriminator, Generator
from rlab.nn.ema import EMA
from rlab.nn.graph import Function, Graph
from rlab.tasks.generative.samples import Draws, Sampler, Scaling
from rlab.tasks.task import clip_gradients


def discriminator_loss(kind: str, real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute what the discriminator lowers, of its logits for data[B] and for samples[B].

    Args:
        kind: minimax and non-saturating: cross-entropy, -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, eq. 1).
            hinge: max(0, 1 - real) + max(0, 1 + fake). wgan-gp: fake - real (Arjovsky et al. 2017). relativistic:
            cross-entropy of real - fake, pair by pair (Jolicoeur-Martineau 2019, eq. 13).
        real, fake: logits.
        smoothing: the label of data is 1 minus this (one-sided smoothing, Salimans et al. 2016, section 3.4).
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "wgan-gp":
        return fake.mean() - real.mean()
    if kind == "relativistic":
        difference = real - fake
        return (F.softplus(-difference) + smoothing * difference).mean()
    return (F.softplus(-real) + smoothing * real).mean() + F.softplus(fake).mean()


def generator_loss(kind: str, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """Compute what the generator lowers, of the discriminator's logits for samples[B].

    Args:
        kind: minimax: log(1 - D(G(z))). non-saturating: -log D(G(z)). hinge and wgan-gp: -fake. relativistic:
            cross-entropy of fake - real, pair by pair.
        fake: logits.
        real: logits for data[B], which relativistic needs.
    """
    if kind == "relativistic":
        assert real is not None
        return F.softplus(real - fake).mean()
    if kind == "minimax":
        return -F.softplus(fake).mean()
    return F.softplus(-fake).mean() if kind == "non-saturating" else -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """Compute the mean of (|grad D(x)| - 1)^2 at x between data and samples (Gulrajani et al. 2017, algorithm 1).

    Args:
        critic: x[B, *shape] -> [B].
        real, fake: [B, *shape].
        alpha: share of the data in x, one for each pair, [B].
    """
    alpha = alpha.view(-1, *[1] * (real.dim() - 1))
    x = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
    return (gradient_norms(critic, x) - 1).square().mean()


def penalty_factor(first: float, last: float | None, share: float) -> float:
    """Return the penalty's factor: geometrically from `first` to `last`, as the learning rate's share falls to 0."""
    return first if last is None else first**share * last ** (1 - share)


def gradient_norms(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute the L2 norm of the critic's gradient at each x over all its numbers: x[B, *shape] -> [B]."""
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


class Gan(Sampler):
    """The `Task` of a generative adversarial network on images or rows of a table.

    Args:
        dataset: what is imitated.
        generator: codes[B, Z] (and classes) -> scaled data.
        discriminator: scaled data (and classes) -> logits[B].
        optimizers: makes an optimiser of "generator" and of "discriminator": (name, parameters) -> optimiser.
        batch_size: B.
        loss: see `discriminator_loss`.
        smoothing: of the discriminator's label for data.
        penalty: factor of the gradient penalty; see `GanConfig`.
        penalty_end: what that factor falls to with the learning rate; None: it stays.
        noise: deviation of the noise that both data and samples get before they are judged; falls with the square
            of the learning rate.
        discriminator_steps: updates of the discriminator for one of the generator.
        ema: rate of the generator's moving average.
        ema_part: of the updates so far that it is over at the most.
        conditional: whether both are given the class.
        samples: that an evaluation draws.
        bf16: whether both compute in bfloat16.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of the data.
        device: torch device.

    Raises:
        RlabError: the data set does not vary, or has no classes where they are wanted.
    """

    def __init__(
        self,
        dataset: TensorDataset,
        generator: Generator,
        discriminator: Discriminator,
        optimizers: Callable[[str, Any], Optimizer],
        *,
        batch_size: int,
        loss: str = "non-saturating",
        smoothing: float = 0.0,
        penalty: float = 0.0,
        penalty_end: float | None = None,
        noise: float = 0.0,
        discriminator_steps: int = 1,
        ema: float = 0.999,
        ema_part: float = 0.1,
        conditional: bool = False,
        samples: int = 2_000,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.dataset = dataset
        self.device = torch.device(device)
        self.data: DataModule = Batches(dataset, batch_size, seed, device)
        parts = {
            "generator": EMA(generator, ema, ema_part),
            "discriminator": discriminator,
            "scaling": Scaling(dataset),
        }
        self.modules = nn.ModuleDict(parts).to(self.device)
        self.loss, self.smoothing, self.penalty, self.noise = loss, smoothing, penalty, noise
        self.penalty_end = penalty_end
        self.discriminator_steps = discriminator_steps
        self.bf16, self.max_grad_norm = bf16, max_grad_norm
        self.start(conditional, samples)
        self.history.register_buffer("generator_loss", torch.zeros((), device=self.device))
        players = {"generator": self.generator, "discriminator": self.discriminator}
        self._optimizers = {name: optimizers(name, list(player.parameters())) for name, player in players.items()}

    @property
    def generator(self) -> Generator:
        """The generator that learns."""
        generator: Any = self.modules["generator"].student
        return generator

    @property
    def discriminator(self) -> Any:
        """The discriminator."""
        return self.modules["discriminator"]

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of a latent code."""
        return (self.generator.latent,)

    def optimizers(self) -> Mapping[str, Optimizer]:
        """Return those of the generator and of the discriminator."""
        return self._optimizers

    def update(self, batch: Batch, optimizers: Mapping[str, Optimizer]) -> Mapping[str, Tensor]:
        """Update the discriminator, and at every `discriminator_steps`-th batch the generator."""
        epoch, number = batch.place
        done = epoch * len(self.data) + number + 1
        turn = done % self.discriminator_steps == 0
        x, y = self.scaling(batch.x), batch.y if self.conditional else None
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        with self._autocast(), torch.set_grad_enabled(turn):
            fake = self.generator(torch.randn(len(batch), *self.code_shape, device=self.device), y).float()
        spread = [(rows.detach().var(0, correction=0).sum() + 1e-12).sqrt() for rows in (fake, x)]
        if self.noise:
            level = self.noise * _rate_share(optimizers["discriminator"]) ** 2
            x, fake = (rows + level * torch.randn_like(rows) for rows in (x, fake))
        metrics = self._update_discriminator(x, fake.detach(), y, optimizers["discriminator"])
        if turn:
            self._update_generator(fake, x, y, optimizers["generator"], metrics)
        self.history.done.fill_(done)
        last: Any = self.history.generator_loss
        return metrics | {"loss_generator": last.clone(), "sample_spread": spread[0] / spread[1]}

    def _update_discriminator(
        self, x: Tensor, fake: Tensor, y: Tensor | None, optimizer: Optimizer
    ) -> dict[str, Tensor]:
        penalty: Tensor | None
        if self.penalty and self.loss == "relativistic":
            real_says, fake_says, penalty = self._both_with_penalty(x, fake, y)
        else:
            with self._autocast():
                real_says, fake_says = self.discriminator(x, y), self.discriminator(fake, y)
            penalty = self._penalty(x, fake, y) if self.penalty else None
        loss = discriminator_loss(self.loss, real_says, fake_says, self.smoothing)
        metrics = {"loss_discriminator": loss.detach()}
        if self.loss == "wgan-gp":
            metrics["wasserstein"] = -loss.detach()
        elif self.loss == "relativistic":
            metrics["discriminator_accuracy"] = (real_says > fake_says).float().mean()
        else:
            right = ((real_says > 0).float().mean() + (fake_says <= 0).float().mean()) / 2
            metrics["discriminator_accuracy"] = right.detach()
        if penalty is not None:
            metrics["penalty"] = penalty.detach()
            loss = loss + penalty_factor(self.penalty, self.penalty_end, _rate_share(optimizer)) * penalty
        loss.backward()
        metrics["grad_norm"] = clip_gradients(self.discriminator, self.max_grad_norm).detach()
        optimizer.step()
        return metrics

    def _penalty(self, x: Tensor, fake: Tensor, y: Tensor | None) -> Tensor:
        """The gradient penalty, in float32: squares of gradients in bfloat16 are too coarse."""

        def critic(x: Tensor) -> Tensor:
            logits: Tensor = self.discriminator(x, y)
            return logits

        if self.loss == "wgan-gp":
            return gradient_penalty(critic, x, fake, torch.rand(len(x), device=self.device))
        return gradient_norms(critic, x.detach().requires_grad_()).square().mean() / 2

    def _both_with_penalty(self, x: Tensor, fake: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of data and of samples, and half their squared gradients (R1 and R2, Huang et al. 2024).

        One pass in float32 gives all three: with a pass of its own, the penalty would take half as long again.
        """
        both = torch.cat([x, fake]).detach().requires_grad_()
        logits = self.discriminator(both, None if y is None else torch.cat([y, y]))
        (gradient,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
        real_says, fake_says = logits.chunk(2)
        return real_says, fake_says, gradient.flatten(1).square().sum(1).mean()

    def _update_generator(
        self, fake: Tensor, x: Tensor, y: Tensor | None, optimizer: Optimizer, metrics: dict[str, Tensor]
    ) -> None:
        self.discriminator.requires_grad_(False)  # its gradients are not wanted here
        with self._autocast():
            real_says = self.discriminator(x, y) if self.loss == "relativistic" else None
            loss = generator_loss(self.loss, self.discriminator(fake, y), real_says)
        loss.backward()
        self.discriminator.requires_grad_(True)
        norm = clip_gradients(self.generator, self.max_grad_norm)
        metrics["grad_norm"] = torch.maximum(metrics["grad_norm"], norm.detach())
        optimizer.step()
        ema: Any = self.modules["generator"]
        ema.update()
        last: Any = self.history.generator_loss
        last.copy_(loss.detach())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def generate(self, codes: Tensor, classes: Tensor | None, draws: Draws) -> Tensor:
        """Make samples, by the moving average of the generator."""
        ema: Any = self.modules["generator"]
        with self._autocast():
            samples: Tensor = ema.teacher(codes, classes)
        return samples.float()

    def graph(self) -> Graph:
        """Return the moving average of the generator; see `rlab.run.contract.Exports`."""
        ema: Any = self.modules["generator"]
        parts = nn.ModuleDict({"generator": ema.teacher, "scaling": self.scaling})

        def call(parts: Any, codes: Tensor, *classes: Tensor) -> Tensor:
            samples: Tensor = parts["scaling"].unscale(parts["generator"](codes, *classes))
            return samples

        inputs = {"codes": torch.randn(2, *self.code_shape), **self.classes_in}
        return Graph(Function(parts, call), inputs, {"samples": "new items, of images in 0..1"})

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the data and of a batch's activations in both networks."""
        x = self.dataset.x
        return x.numel() * x.element_size() + 600 * 4 * batch_size * max(1, x[0].numel())


def _rate_share(optimizer: Optimizer) -> float:
    """The learning rate as a share of the one that its schedule began with."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / (float(group.get("initial_lr", group["lr"])) or 1.0)
