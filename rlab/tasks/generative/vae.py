"""Train a variational autoencoder, or an importance-weighted one; score it by an estimate of its likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import IMAGES, TensorDataset
from rlab.errors import RlabError
from rlab.nn.autoencoders import VAE
from rlab.nn.graph import Function, Graph
from rlab.nn.variational import (
    bernoulli_log_likelihood,
    effective_sample_size,
    gaussian_kl,
    log_mean_exp,
    log_normal,
)
from rlab.run.contract import Stop, Stopped
from rlab.seeding import derive
from rlab.stats import bootstrap_mean
from rlab.tasks.generative import pictures
from rlab.tasks.generative.config import VAEConfig
from rlab.tasks.generative.samples import class_of
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

VALIDATION_SAMPLES = 16
"""Codes drawn for each example in validation, which has to be fast."""

DECODED = 16_384
"""Images that are decoded together, about, when likelihoods are estimated."""

ACTIVE = 0.01
"""Variance over examples of the mean of a number of the code above which it is in use (Burda et al. 2016, 5.2)."""

WALKED, STEPS = 8, 11
"""Numbers of the code along which the report walks, and pictures of each."""


class VariationalAutoencoding(SingleLossTask):
    """A distribution of images, learned through codes.

    Args:
        dataset: images and splits, with classes if the model is conditional.
        model: see `VAE`.
        optimizer: over its parameters.
        settings: of the objective and of the score.
        batch_size: B.
        bf16: whether the model computes in bfloat16 in training.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of batches, and of the codes by which likelihoods are estimated.
        device: torch device.

    Raises:
        RlabError: the data are no images, or a conditional model has no classes.
    """

    primary = Metric("negative log-likelihood", "nats", higher_is_better=False)

    def __init__(
        self,
        dataset: TensorDataset,
        model: VAE,
        optimizer: Optimizer,
        settings: VAEConfig,
        *,
        batch_size: int,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        check_images(dataset, settings.conditional)
        batches = Batches(dataset, batch_size, seed, device)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        self.model.to(memory_format=torch.channels_last)
        self.dataset, self.settings, self.seed = dataset, settings, seed

    def losses(self, batch: Batch) -> Losses:
        """Compute the negative bound in nats an example, with its parts: what a code costs, and what is lost.

        ``active_units`` is how many numbers of the code differ from example to example.
        """
        how, x, y = self.settings, self._pixels(batch.x), self._classes(batch.y)
        with self.autocast():
            mean, spread = self.model.encode(x, y)
        z = self._drawn(mean, spread, how.importance)
        with self.autocast():
            logits = self.model.decode(z, y)
        likelihood = bernoulli_log_likelihood(logits.float(), x)
        drawn_kl = log_normal(z, mean, spread) - log_normal(z)
        kl = gaussian_kl(mean, spread) if how.kl != "monte-carlo" else drawn_kl.mean(0)
        if how.importance == 1:
            loss = (self._beta(batch) * kl - likelihood[0]).mean()
        else:
            loss = -log_mean_exp(likelihood - drawn_kl).mean()
        varied = mean.detach().var(0, correction=0) > ACTIVE
        return {
            "loss": loss,
            "kl": kl.mean(),
            "reconstruction": -likelihood.mean(),
            "active_units": varied.sum().float(),
        }

    def _beta(self, batch: Batch) -> float:
        """The factor of the divergence, which may grow over the first epochs."""
        if not self.settings.warm_up:
            return self.settings.beta
        epoch, number = batch.place
        return self.settings.beta * min(1.0, (epoch + number / len(self.data)) / self.settings.warm_up)

    def _pixels(self, x: Tensor) -> Tensor:
        """Training images, black and white by new draws if the settings say so."""
        return torch.bernoulli(x) if self.settings.binarise else x

    def _classes(self, y: Tensor) -> Tensor | None:
        return y.to(self.device) if self.settings.conditional else None

    @staticmethod
    def _drawn(mean: Tensor, spread: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw k codes of each posterior: mean[B, D], logarithm of the variance [B, D] -> [k, B, D]."""
        noise = torch.randn(k, *mean.shape, generator=generator, device=mean.device)
        return mean + (0.5 * spread).exp() * noise

    def _fixed(self, split: str, limit: int = 0, chunk: int = 64) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Images of a split, at most `limit` from all over it, with their classes; black and white always alike."""
        items = self.dataset.items(split)
        if 0 < limit < len(items):
            items = items[torch.linspace(0, len(items) - 1, limit).long()]
        for some in items.split(chunk):
            found = self.dataset.collate(some)
            x = found["x"]
            if self.settings.binarise:
                x = (torch.stack([_threshold(int(item), self.dataset.shape) for item in some]).to(x.device) < x).float()
            yield x.to(self.device), self._classes(found["y"])

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Estimate -log p(x) of a split in nats by importance weights (Burda et al. 2016), with a bootstrap interval.

        Beside it: ``samples`` codes an example, ``effective_samples``, how many equal weights would say as much (mean,
        and ``effective_least``), ``bound``, the negative ELBO, and of it ``kl`` and ``reconstruction``;
        ``active_units`` numbers of the code in use. A likelihood from few effective samples is a bound, too.

        Raises:
            Stopped: a stop was requested.
        """
        how, test = self.settings, split == "test"
        k = how.nll_samples if test else VALIDATION_SAMPLES
        dice = torch.Generator(self.device).manual_seed(derive(self.seed, "likelihood", split))
        nats, sizes, bounds, costs, means = [], [], [], [], []
        chunk = min(512, max(1, DECODED // k))
        for x, y in until(stop, self._fixed(split, how.nll_examples if test else 0, chunk)):
            mean, spread = self.model.encode(x, y)
            weights = []
            for part in range(0, k, max(1, DECODED // len(x))):
                if stop.requested:
                    raise Stopped
                z = self._drawn(mean, spread, min(k - part, max(1, DECODED // len(x))), dice)
                likelihood = bernoulli_log_likelihood(self.model.decode(z, y).float(), x)
                weights.append(likelihood + log_normal(z) - log_normal(z, mean, spread))
            found = torch.cat(weights).double()
            nats.append(-log_mean_exp(found))
            sizes.append(effective_sample_size(found))
            bounds.append(-found.mean(0))
            costs.append(gaussian_kl(mean, spread))
            means.append(mean)
        each, size, kl = torch.cat(nats).cpu().numpy(), torch.cat(sizes), float(torch.cat(costs).mean())
        low, high = bootstrap_mean(each)
        bound = float(torch.cat(bounds).mean())
        return self.primary.score(
            float(each.mean()),
            low,
            high,
            split=split,
            examples=len(each),
            samples=k,
            effective_samples=float(size.mean()),
            effective_least=float(size.min()),
            bound=bound,
            kl=kl,
            reconstruction=bound - kl,
            active_units=int((torch.cat(means).var(0, correction=0) > ACTIVE).sum()),
        )

    def graph(self) -> Graph:
        """Return the decoder; see `rlab.run.contract.Exports`."""
        classes = {"classes": torch.arange(2) % self.model.classes} if self.model.classes else {}
        return Graph(
            Function(self.model, lambda model, *inputs: model.decode(*inputs).float().sigmoid()),
            {"codes": torch.randn(2, self.model.code_dim), **classes},
            {"samples": "the probabilities of an image's pixels"},
        )

    @torch.no_grad()
    def sample(self, n: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Sample n images as the data set has them, by the seed alone: the probabilities of their pixels.

        Args:
            n: how many.
            seed: of the codes.
            label: the class of all, its name or number; None: of a conditional run the classes in turn.

        Raises:
            RlabError: n or seed is out of range, the run is not conditional, or there is no such class.
        """
        if n < 1 or seed < 0:
            raise RlabError(f"{n} samples with seed {seed} cannot be drawn; it takes at least 1, and a seed from 0 on")
        # numpy's normal numbers, unlike torch's, do not depend on how many follow.
        drawn = np.random.default_rng(derive(seed, "samples")).standard_normal((n, self.model.code_dim), np.float32)
        z = torch.from_numpy(drawn).to(self.device)
        chosen = class_of(label, self.dataset, self.settings.conditional)
        turns = torch.arange(n) % max(self.turns, 1)
        return self._as_data(self._decoded(z, turns if chosen is None else torch.full((n,), chosen)))

    @property
    def turns(self) -> int:
        """See `rlab.run.contract.SamplesOfClasses`."""
        return int(self.model.classes)

    def _decoded(self, z: Tensor, classes: Tensor) -> Tensor:
        """Probabilities of pixels, codes[n, D] and classes int64[n] -> [n, C, H, W]."""
        parts = zip(z.split(DECODED), classes.split(DECODED), strict=True)
        return torch.cat([self.model.decode(part, self._classes(y)).float().sigmoid() for part, y in parts])

    def _as_data(self, images: Tensor) -> np.ndarray:
        made = images.cpu()
        bytes_ = self.dataset.x.dtype == torch.uint8
        return ((255 * made).round().to(torch.uint8) if bytes_ else made).numpy()

    @torch.no_grad()
    def interpolate(self, rows: int, steps: int, seed: int, label: int | str | None = None) -> np.ndarray:
        """Decode codes on the way between pairs of random ones: [rows, steps, C, H, W] in 0..1; of one class a row, or
        all of the class `label`.

        Raises:
            RlabError: see `sample`.
        """
        chosen = class_of(label, self.dataset, self.settings.conditional)
        dice = torch.Generator().manual_seed(derive(seed, "interpolation"))
        first, last = torch.randn(2, rows, 1, self.model.code_dim, generator=dice).to(self.device)
        angle = torch.linspace(0, torch.pi / 2, steps, device=self.device)[None, :, None]
        way = first * angle.cos() + last * angle.sin()  # all of them as likely as the ends
        turns = torch.arange(rows).repeat_interleave(steps) % max(self.turns, 1)
        images = self._decoded(way.flatten(0, 1), turns if chosen is None else torch.full_like(turns, chosen))
        return images.view(rows, steps, *self.dataset.shape).cpu().numpy()

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw samples, reconstructions, a walk along the code, and a map of codes of test examples, as PNG by name.

        Raises:
            Stopped: a stop was requested.
        """
        x, y = next(self._fixed("test", pictures.COLUMNS))
        again = self.model.decode(self.model.encode(x, y)[0], y).sigmoid()
        found = [self.model.encode(x, y) for x, y in until(stop, self._fixed("test", pictures.POINTS, 512))]
        means = torch.cat([mean for mean, _ in found])
        cost = torch.cat([0.5 * (m.square() + s.exp() - 1 - s) for m, s in found]).mean(0)
        chosen = cost.argsort(descending=True, stable=True)[:WALKED]
        walk = torch.zeros(len(chosen), STEPS, self.model.code_dim, device=self.device)
        for row, number in zip(walk, chosen, strict=True):
            row[:, number] = torch.linspace(-3, 3, STEPS, device=self.device)
        zeros = torch.zeros(len(chosen) * STEPS, dtype=torch.int64)
        drawn = {
            "samples": pictures.grid(self.sample(80 if self.turns else 64, 0), pictures.columns_of(self.turns)),
            "reconstructions": pictures.rows(
                {"input": x, "reconstruction": again}, "test examples and what comes back"
            ),
            "walk": pictures.grid(self._decoded(walk.flatten(0, 1), zeros).cpu().numpy(), STEPS),
        }
        items = self.dataset.items("test")
        items = items[torch.linspace(0, len(items) - 1, len(means)).long()]
        drawn["codes"] = pictures.code_map(means.cpu(), self.dataset, items)
        return drawn


def _threshold(item: int, shape: tuple[int, ...]) -> Tensor:
    """What the pixels of an item are held against when they become black or white: the same in every run."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(derive(0, "binarised", item)))


def check_images(dataset: TensorDataset, conditional: bool) -> None:
    """Refuse what a distribution of pixels cannot be learned from.

    Raises:
        RlabError: these are no images, or have no classes that a conditional model could be told.
    """
    if dataset.kind not in IMAGES:
        raise RlabError(
            f"data set '{dataset.name}' is of kind {dataset.kind}; a VAE learns probabilities of pixels; nearest: the "
            "recipe autoencoder, or --data digits"
        )
    if conditional and (dataset.classes is None or dataset.y.dim() > 1):
        raise RlabError(f"data set '{dataset.name}' has no class for each image, which --conditional tells; nearest: "
                        "without --conditional")  # fmt: skip
