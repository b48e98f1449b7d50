"""How near samples are to data: Fréchet and kernel distance, precision and recall of features, modes of a mixture.

Features of MNIST and Fashion-MNIST are those of a LeNet-5 that the lab has trained on them and brings; of other images
those of random convolutions that are the same for everybody; of tables the standardised columns. So distances here
compare the lab's models with each other; published ones, which are on Inception's features, are other numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rlab.data.datasets import TensorDataset
from rlab.data.synthetic import MIXTURES
from rlab.errors import NonFinite, RlabError
from rlab.nn.encoders import make_encoder
from rlab.nn.layers import drawing_from
from rlab.run.contract import Stop
from rlab.tasks.task import Metric, until

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "features"
"""``SET.safetensors``: the encoder of ``rlab train lenet --data SET --augment shift:1 --epochs 8 --validation 0``, with
99.25 % of MNIST's and 89.51 % of Fashion-MNIST's test images right; `rlab.bench.generative.write_features` wrote it."""

LARGEST = 10_000
"""Examples of a split that samples are compared with."""

CHUNK = 500
"""Examples that features are computed of together."""

REPLICATES = 20
"""Resamples of the samples, for the interval of their distance."""

COVERED = 0.1
"""A mode is covered if at least this part of its fair share of the samples lies within `NEAR` deviations of it."""

NEAR = 3.0

FID = Metric("FID", higher_is_better=False, of_examples=False)
MODES = Metric("modes covered", of_examples=False)

Moments = tuple[Tensor, Tensor]
"""Mean float64[D] and covariance float64[D, D]."""


def moments(features: Tensor) -> Moments:
    """Compute mean and covariance of features[n, D], a row an example, in float64.

    Raises:
        RlabError: fewer than two examples.
        NonFinite: a feature is NaN or infinite.
    """
    if len(features) < 2:
        raise RlabError(f"a Fréchet distance is of at least 2 examples on either side, not {len(features)}")
    x = features.double()
    if not torch.isfinite(x).all():
        raise NonFinite("feature of an example", float(x[~torch.isfinite(x)][0]), "an evaluation")
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def frechet(one: Moments, other: Moments) -> float:
    """Compute |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, eq. 6), the FID on given features.

    The trace of that root is the sum of the singular values of C1^(1/2) C2^(1/2), which are real and at least 0, with
    fewer examples than features, too.
    """
    (mean1, cov1), (mean2, cov2) = one, other
    cross = torch.linalg.svdvals(_root(cov1) @ _root(cov2)).sum()
    return max(0.0, float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a covariance, of which rounding may have made eigenvalues negative."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_interval(fake: Tensor, real: Moments, seed: int = 0) -> tuple[float, float, float]:
    """Compute (distance, low, high) of features[n, D]: 95 %, by the deviation over resamples of the n.

    A distance of few samples is too large, that of resamples more so; hence their deviation, not their percentiles.
    """
    value = frechet(moments(fake), real)
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(len(fake), (len(fake),), generator=generator) for _ in range(REPLICATES)]
    half = 1.96 * float(torch.tensor([frechet(moments(fake[rows]), real) for rows in drawn]).std())
    return value, max(0.0, value - half), value + half


def kernel_distance(
    x: Tensor, y: Tensor, subsets: int = 20, size: int = 1_000, seed: int = 0
) -> tuple[float, float, float]:
    """Compute (KID, low, high) of features x[n, D] and y[m, D] in float64 (Binkowski et al. 2018, section 4).

    The unbiased squared MMD with the kernel (x y / D + 1)^3, the mean over subsets of both, with the 95 % interval of
    that mean; without a bias in the number of examples it may be below 0.

    Raises:
        RlabError: fewer than two examples.
    """
    n = min(size, len(x), len(y))
    if n < 2:
        raise RlabError(f"a kernel distance is of at least 2 examples on either side, not {n}")
    generator, values = torch.Generator().manual_seed(seed), []
    for _ in range(subsets):
        a = x[torch.randperm(len(x), generator=generator)[:n]].double()
        b = y[torch.randperm(len(y), generator=generator)[:n]].double()
        aa, bb, ab = ((p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        within = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / (n * (n - 1))
        values.append(float(within - 2 * ab.mean()))
    mean = math.fsum(values) / subsets
    half = 1.96 * float(torch.tensor(values).std()) / math.sqrt(subsets)
    return mean, mean - half, mean + half


def precision_recall(fake: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Compute the share of the samples that lie among the data, and of the data among the samples.

    To lie among points[n, D] is to be no further from one of them than its k-th nearest neighbour is (Kynkäänniemi et
    al. 2019, eq. 2 and 3).
    """

    def within(points: Tensor, others: Tensor) -> float:
        k = min(neighbours, len(points) - 1)
        radius = torch.cat([torch.cdist(part, points).kthvalue(k + 1, dim=1).values for part in points.split(CHUNK)])
        inside = [(torch.cdist(part, points) <= radius).any(1) for part in others.split(CHUNK)]
        return float(torch.cat(inside).double().mean())

    fake, real = fake.double(), real.double()
    return within(real, fake), within(fake, real)


class RandomConvolutions(nn.Module):
    """Two strided convolutions with random weights, the same for everybody: images[B, C, H, W] -> features[B, 64]."""

    def __init__(self, channels: int):
        super().__init__()
        with drawing_from(torch.Generator().manual_seed(0)):
            layers = [nn.Conv2d(channels, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 16, 3, 2, 1), nn.ReLU()]
            for layer in layers[::2]:
                nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, H, W] in 0..1 -> [B, 64]."""
        features: Tensor = self.layers(x)
        return features


def deviations(x: Tensor) -> Tensor:
    """Compute the deviation of each column of x[n, D], by which it is divided; of one that does not vary 1."""
    deviation = x.std(0)
    return torch.where((x == x[0]).all(0) | (deviation == 0), 1.0, deviation)


class Standardised(nn.Module):
    """The columns of a table with mean 0 and deviation 1 over its training examples; constant ones around 0."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.mean, self.deviation = x.mean(0), deviations(x)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, D] -> [B, D]."""
        return (x - self.mean.to(x.device)) / self.deviation.to(x.device)


def features_of(dataset: TensorDataset) -> tuple[str, nn.Module]:
    """Return (name, network) of the features in which a set's samples are compared: inputs as floats -> [B, D]."""
    path = ASSETS / f"{dataset.name}.safetensors"
    if dataset.kind != "images":
        return "columns", Standardised(dataset.inputs("train"))
    if dataset.shape == (1, 28, 28) and path.is_file():
        network = make_encoder("lenet5", dataset.shape)
        network.load_state_dict(load_file(path))
        return f"rlab's LeNet-5 on {dataset.name}", network.eval().requires_grad_(False)
    return "random convolutions", RandomConvolutions(dataset.shape[0]).eval().requires_grad_(False)


@dataclass
class _Real:
    features: Tensor
    moments: Moments


class Scorer:
    """Score samples of a data set: modes covered of a mixture of Gaussians, FID of all others.

    Args:
        dataset: images or a table.
        device: where features are computed.

    Attributes:
        primary: the metric that scores a run.
        features: the name of the features.
    """

    def __init__(self, dataset: TensorDataset, device: torch.device):
        self.dataset, self.device = dataset, device
        self.mixture = MIXTURES.get(dataset.name)
        self.primary = FID if self.mixture is None else MODES
        self.features, network = features_of(dataset)
        self._network = network.to(device)
        self._real: dict[str, _Real] = {}

    @torch.no_grad()
    def embed(self, x: Tensor, stop: Stop) -> Tensor:
        """Compute features float32[n, D], on the CPU, of x[n, *shape] as floats.

        Raises:
            Stopped: a stop was requested.
        """
        return torch.cat([self._network(part.to(self.device)).float().cpu() for part in until(stop, x.split(CHUNK))])

    def real(self, split: str, stop: Stop) -> _Real:
        """Compute features of at most `LARGEST` examples of a split, and their moments; once."""
        if split not in self._real:
            features = self.embed(self.examples(split, LARGEST), stop)
            self._real[split] = _Real(features, moments(features))
        return self._real[split]

    def examples(self, split: str, most: int) -> Tensor:
        """Return at most so many inputs of a split, evenly spaced, as floats."""
        items = self.dataset.items(split)
        chosen = items[torch.linspace(0, len(items) - 1, min(most, len(items))).long()].to(self.dataset.x.device)
        return self.dataset.collate(chosen)["x"].cpu()

    def score(self, samples: Tensor, split: str, stop: Stop) -> dict[str, Any]:
        """Score samples[n, *shape], as floats; "floor" is the FID of as many training examples.

        Raises:
            Stopped: a stop was requested.
        """
        if self.mixture is not None:
            return self._modes(samples.double(), split)
        real = self.real(split, stop)
        value, low, high = frechet_interval(self.embed(samples, stop), real.moments)
        more: dict[str, Any] = {"features": self.features}
        if split != "train":
            train = self.embed(self.examples("train", len(samples)), stop)
            more["floor"] = frechet(moments(train), real.moments)
        return FID.score(value, low, high, split=split, examples=len(samples), **more)

    def _modes(self, points: Tensor, split: str) -> dict[str, Any]:
        """Count the modes that samples cover; low and high are the fewest and the most in five parts of them."""
        assert self.mixture is not None
        centres = torch.from_numpy(self.mixture.centres)
        distance, nearest = torch.cdist(points, centres).min(1)
        near = distance <= NEAR * self.mixture.deviation

        def covered(part: Tensor) -> int:
            counts = torch.bincount(nearest[part][near[part]], minlength=len(centres))
            return int((counts >= max(1.0, COVERED * len(part) / len(centres))).sum())

        every = torch.arange(len(points))
        parts = [covered(part) for part in every.chunk(5)]
        share = 100 * float(near.double().mean())
        return MODES.score(
            covered(every), min(parts), max(parts), split=split, examples=len(points), of=len(centres),
            within_3_sigma=share,
        )  # fmt: skip
