"""Train an autoencoder: plain, stacked, tied, sparse, denoising, convolutional or with a codebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.data.batches import Batch, Batches
from rlab.data.datasets import IMAGES, TensorDataset, model_inputs
from rlab.data.preprocess import fit
from rlab.errors import RlabError
from rlab.nn.autoencoders import Autoencoder, Pair
from rlab.nn.graph import Function, Graph
from rlab.nn.penalties import activation_kl, activation_l1
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import bootstrap_mean
from rlab.tasks.generative import pictures
from rlab.tasks.generative.config import AutoencoderConfig, Noise
from rlab.tasks.task import Losses, Metric, SingleLossTask, until

CHUNK = 512
"""Examples of an evaluation that are looked at together."""

ALIVE = 0.1
"""Size from which on a number of a code counts as active."""


def corrupt(x: Tensor, kind: Noise, level: float, generator: torch.Generator | None = None) -> Tensor:
    """Add noise to x[B, *] as Vincent et al. 2010, section 4.1, have it.

    Args:
        x: inputs.
        kind: gaussian adds numbers of standard deviation `level`. masking sets a share `level` of the numbers to 0.
            salt-and-pepper sets it to the smallest or the largest number of the batch, by a fair coin.
        level: see there.
        generator: of the draws; None: torch's own.
    """
    if kind == "none":
        return x
    if kind == "gaussian":
        return x + level * torch.randn(x.shape, generator=generator, device=x.device)
    u = torch.rand(x.shape, generator=generator, device=x.device)
    if kind == "masking":
        return x * (u >= level)
    low, high = x.amin(), x.amax()
    return torch.where(u < level / 2, low, torch.where(u < level, high, x))


class Autoencoding(SingleLossTask):
    """Reconstruction of a data set's inputs through a code.

    Args:
        dataset: inputs and splits; its labels colour a picture and are not learned from. Tables are standardised.
        model: see `Autoencoder`.
        optimizer: over its parameters.
        settings: of noise, penalties and greedy training.
        batch_size: B.
        bf16: whether the model computes in bfloat16 in training.
        max_grad_norm: gradients with a larger norm are scaled down to it; 0: never.
        seed: of the order of batches, and of the noise that reconstructions are scored under.
        device: torch device.

    Raises:
        RlabError: series, or cross-entropy of what are no pixels.
    """

    primary = Metric("reconstruction error", higher_is_better=False)

    def __init__(
        self,
        dataset: TensorDataset,
        model: Autoencoder,
        optimizer: Optimizer,
        settings: AutoencoderConfig,
        *,
        batch_size: int,
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        check_kind(dataset)
        images = dataset.kind in IMAGES
        if settings.loss == "cross-entropy" and not images:
            raise RlabError(f"cross-entropy is of pixels in 0..1, and '{dataset.name}' is a table; nearest: "
                            "--loss squared")  # fmt: skip
        self.transform = None if images else fit("standard", dataset.inputs("train"))
        batches = Batches(dataset, batch_size, seed, device, transform=self.transform)
        super().__init__(model, batches, optimizer, device=device, bf16=bf16, max_grad_norm=max_grad_norm)
        if len(dataset.shape) == 3:
            self.model.to(memory_format=torch.channels_last)
        self.dataset, self.settings, self.seed = dataset, settings, seed
        self.stages: Sequence[Pair] = model.pairs() if settings.greedy else ()

    def stage(self, batch: Batch) -> int | None:
        """The layer, from 0, that greedy training is at when a batch is learned from; None: all are trained."""
        stage = batch.place[0] // self.settings.greedy_epochs
        return stage if stage < len(self.stages) else None

    def losses(self, batch: Batch) -> Losses:
        """Compute the loss of a batch: of the whole model, or of the layer that greedy training is at."""
        stage = self.stage(batch)
        names = ("loss", "loss_reconstruction", *(("loss_penalty",) if self._penalised else ()))
        losses = self._whole(batch.x) if stage is None else self._layer(batch.x, stage)
        greedy = {"layer_last": torch.tensor(float(len(self.stages) if stage is None else stage))}
        return {name: losses[name] for name in names} | (greedy if self.stages else {})

    @property
    def _penalised(self) -> bool:
        return self.settings.sparse in ("l1", "kl") or bool(self.settings.codebook)

    def _whole(self, x: Tensor) -> Losses:
        with self.autocast():
            code = self.model.encode(self._corrupted(x))
            penalty = self._penalty(code)
            if self.model.quantiser is not None:
                code, _, penalty = self.model.quantiser(code)
            outputs = self.model.decode(code)
        lost = self._distance(outputs.float(), x)
        return {"loss": lost + penalty, "loss_reconstruction": lost, "loss_penalty": penalty}

    def _layer(self, x: Tensor, stage: int) -> Losses:
        """The loss of one layer and its way back, on what the layers below it, which stay, make of the inputs."""
        with self.autocast():
            with torch.no_grad():
                for below in self.stages[:stage]:
                    x = below.encode(x)
            pair = self.stages[stage]
            code = pair.encode(self._corrupted(x))
            outputs = pair.decode(code)
            penalty = self._penalty(code) if stage == len(self.stages) - 1 else code.new_zeros(())
        first = stage == 0
        lost = self._distance(outputs.float(), x.float()) if first else _squared(outputs.float(), x.float())
        return {"loss": lost + penalty, "loss_reconstruction": lost, "loss_penalty": penalty}

    def _corrupted(self, x: Tensor) -> Tensor:
        return corrupt(x, self.settings.noise, self.settings.noise_level)

    def _penalty(self, code: Tensor) -> Tensor:
        how = self.settings
        if how.sparse == "l1":
            return how.sparse_weight * activation_l1(code.float())
        if how.sparse == "kl":
            return how.sparse_weight * activation_kl(code.float(), how.mean_activation)
        return code.new_zeros((), dtype=torch.float32)

    def _distance(self, outputs: Tensor, x: Tensor) -> Tensor:
        if self.settings.loss == "squared":
            return _squared(outputs, x)
        return F.binary_cross_entropy_with_logits(outputs, x, reduction="sum") / len(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstruct x[B, *shape] as batches have it: float32[B, *shape]; pixels of a cross-entropy in 0..1."""
        outputs: Tensor = self.model(x).float()
        return outputs if self.settings.loss == "squared" else outputs.sigmoid()

    def graph(self) -> Graph:
        """Return the way to the code and back; see `rlab.run.contract.Exports`.

        Raises:
            RlabError: there is a codebook.
        """
        if self.model.quantiser is not None:
            raise RlabError(
                "an autoencoder with a codebook cannot be exported, for torch finds the nearest entry in another way "
                "where there are many inputs; nearest: a run without --codebook"
            )
        transform = self.transform

        def call(model: Autoencoder, x: Tensor) -> Tensor:
            if transform is None:
                return self.reconstruct(x)
            return transform.inverse(self.reconstruct(transform(x)))

        x = torch.rand(2, *self.dataset.shape)
        return Graph(Function(self.model, call), {"x": x}, {"reconstruction": "the inputs as they come back"})

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split by the squared error of a number of a reconstruction, mean over an example's numbers.

        With noise "noisy" is the error of reconstructions of corrupted inputs, and "noise" that of these inputs
        themselves. "explained" is the share of the variance. Of sparse codes "active" is how many numbers of a code are
        larger than 0.1, of a codebook "codes_used" how many entries were chosen, and "perplexity" how many they are by
        their entropy.

        Raises:
            Stopped: a stop was requested.
        """
        how, dice = self.settings, torch.Generator(self.device).manual_seed(derive(self.seed, "noise"))
        errors, noisy, noise, active, entries = [], [], [], [], []
        total, squares = torch.zeros(2, *self.dataset.shape, dtype=torch.float64, device=self.device)
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            x = batch.x
            errors.append(_each(self.reconstruct(x), x))
            total += x.double().sum(0)
            squares += x.double().square().sum(0)
            if how.noise != "none":
                changed = corrupt(x, how.noise, how.noise_level, dice)
                noisy.append(_each(self.reconstruct(changed), x))
                noise.append(_each(changed, x))
            code = self.model.encode(x)
            active.append((code.abs() > ALIVE).sum(1))
            if self.model.quantiser is not None:
                entries.append(self.model.quantiser(code).entries)
        each = torch.cat(errors).double().cpu().numpy()
        variance = float((squares / len(each) - (total / len(each)).square()).mean())
        more: dict[str, Any] = {"explained": 1 - float(each.mean()) / variance} if variance > 1e-12 else {}
        if noisy:
            more |= {"noisy": float(torch.cat(noisy).mean()), "noise": float(torch.cat(noise).mean())}
        if how.sparse != "none":
            more["active"] = float(torch.cat(active).float().mean())
        if entries:
            share = torch.bincount(torch.cat(entries).flatten(), minlength=how.codebook).double() / len(each)
            share = share / share.sum()
            more |= {
                "codes_used": int((share > 0).sum()),
                "perplexity": float((-share * share.clamp(min=1e-30).log()).sum().exp()),
            }
        low, high = bootstrap_mean(each)
        return self.primary.score(float(each.mean()), low, high, split=split, examples=len(each), **more)

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Reconstruct x[B, *shape] as in the data set: float32[B, *shape], of bytes in 0..1.

        Raises:
            RlabError: inputs of another shape, type or range.
        """
        outputs = self.reconstruct(self._inputs(x))
        return (outputs if self.transform is None else self.transform.inverse(outputs)).cpu().numpy()

    @torch.no_grad()
    def encode(self, x: np.ndarray) -> np.ndarray:
        """Compute the codes float32[B, D] of x[B, *shape] as in the data set.

        Raises:
            RlabError: inputs of another shape, type or range.
        """
        codes: np.ndarray = self.model.encode(self._inputs(x)).float().cpu().numpy()
        return codes

    def _inputs(self, x: np.ndarray) -> Tensor:
        inputs = model_inputs(x, self.dataset).to(self.device)
        return inputs if self.transform is None else self.transform(inputs)

    @torch.no_grad()
    def interpolate(self, rows: int, steps: int, seed: int) -> np.ndarray:
        """Decode codes on the way between pairs of test examples: [rows, steps, *shape], of images in 0..1."""
        items = self.dataset.items("test")
        dice = torch.Generator().manual_seed(derive(seed, "interpolation"))
        drawn = items[torch.randint(len(items), (2 * rows,), generator=dice)]
        x = self.dataset.collate(drawn)["x"].to(self.device)
        ends = self.model.encode(x if self.transform is None else self.transform(x))
        way = torch.linspace(0, 1, steps, device=self.device)[None, :, None]
        between = (ends[:rows, None] * (1 - way) + ends[rows:, None] * way).flatten(0, 1)
        if self.model.quantiser is not None:
            between = self.model.quantiser(between).codes
        made = self.model.decode(between).float()
        made = made.sigmoid() if self.settings.loss == "cross-entropy" else made
        made = self.transform.inverse(made) if self.transform is not None else made.clamp(0, 1)
        return made.view(rows, steps, *self.dataset.shape).cpu().numpy()

    @torch.no_grad()
    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw reconstructions of test examples, the first layer's filters and a map of the codes, as PNG by name.

        Raises:
            Stopped: a stop was requested.
        """
        drawn: dict[str, bytes] = {}
        if self.dataset.kind in IMAGES:
            batch = next(iter(self.data.ordered("test", pictures.COLUMNS)))
            rows = {"input": batch.x}
            if self.settings.noise != "none":
                dice = torch.Generator(self.device).manual_seed(derive(self.seed, "noise"))
                rows["with noise"] = corrupt(batch.x, self.settings.noise, self.settings.noise_level, dice)
            rows["reconstruction"] = self.reconstruct(list(rows.values())[-1])
            drawn["reconstructions"] = pictures.rows(rows, "test examples and what comes back")
            filters = pictures.filters_of(self.model, self.dataset.shape)
            if filters is not None:
                drawn["filters"] = filters
        codes = [self.model.encode(batch.x) for batch in until(stop, self.data.ordered("test", CHUNK))]
        drawn["codes"] = pictures.code_map(torch.cat(codes).float().cpu(), self.dataset, self.dataset.items("test"))
        return drawn


def _each(outputs: Tensor, x: Tensor) -> Tensor:
    """Squared error of each example, mean over its numbers: [B]."""
    return (outputs - x).square().flatten(1).mean(1)


def _squared(outputs: Tensor, x: Tensor) -> Tensor:
    """Squared error, summed over an example's numbers, mean over the batch."""
    return (outputs - x).square().sum() / len(x)


def check_kind(dataset: TensorDataset) -> None:
    """Refuse series, whose items have different lengths.

    Raises:
        RlabError: these are such.
    """
    if dataset.kind == "series":
        raise RlabError(
            f"data set '{dataset.name}' is of kind series, whose items differ in length; an autoencoder takes images "
            "and tables; nearest: --data digits"
        )
