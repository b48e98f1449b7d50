"""FID, KID, precision and recall by distributions whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlab.data.datasets import load
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.tasks.generative.scores import (
    ASSETS,
    Scorer,
    frechet,
    frechet_interval,
    kernel_distance,
    moments,
    precision_recall,
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distance_of_two_normals() -> None:
    """Between N(0, I) and N(1, 4 I) in 64 dimensions it is 64 + 64 (1 + 4 - 2 x 2) = 128."""
    eye, zero = torch.eye(64, dtype=torch.float64), torch.zeros(64, dtype=torch.float64)
    assert frechet((zero, eye), (zero + 1, 4 * eye)) == pytest.approx(128, abs=1e-9)
    value, low, high = frechet_interval(1 + 2 * normal(20_000, 64, 1), moments(normal(20_000, 64)))
    assert value == pytest.approx(128, rel=0.02)
    assert low < value < high


def test_covariance_is_of_columns() -> None:
    x = normal(500, 2) * torch.tensor([1.0, 3.0]) + torch.tensor([5.0, 0.0])
    mean, covariance = moments(x.float())
    assert np.allclose(mean, x.numpy().mean(0), atol=1e-5)
    assert np.allclose(covariance, np.cov(x.numpy(), rowvar=False), atol=1e-5)
    assert covariance.dtype == torch.float64


@pytest.mark.parametrize("n", [2, 10, 63])
def test_fewer_examples_than_features_stay_real(n: int) -> None:
    """Covariances without full rank: the distance is real, 0 to itself, and symmetric."""
    one, other = moments(normal(n, 64)), moments(normal(n, 64, 1))
    value = frechet(one, other)
    assert np.isfinite(value)
    assert value > 0
    assert frechet(one, one) == pytest.approx(0, abs=1e-5)
    assert value == pytest.approx(frechet(other, one), rel=1e-6)


def test_one_example_has_no_distance() -> None:
    with pytest.raises(RlabError, match="at least 2 examples on either side, not 1"):
        moments(normal(1, 3))
    with pytest.raises(RlabError, match="at least 2 examples on either side, not 1"):
        kernel_distance(normal(5, 3), normal(1, 3))


def test_kernel_distance_has_no_bias() -> None:
    """Of two samples of one distribution it is 0 within its error, however few; of x = 0 and y = 1 it is 1 + 8 - 2."""
    for n in (20, 200):
        values = [kernel_distance(normal(n, 8, 2 * s), normal(n, 8, 2 * s + 1), 2)[0] for s in range(30)]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30)
    value, low, high = kernel_distance(torch.zeros(9, 1), torch.ones(9, 1), subsets=3)
    assert (value, low, high) == pytest.approx((7, 7, 7))


def test_precision_and_recall_by_hand() -> None:
    real = normal(600, 2)
    assert precision_recall(real, real) == (1, 1)
    few = real[real[:, 0] > 0.5]
    precision, recall = precision_recall(few + 1e-3, real)
    assert precision > 0.95, "what is one part of the data is all right"
    assert recall < 0.5, "but not all of it"
    precision, recall = precision_recall(torch.cat([real, real + 100]), real)
    assert precision == pytest.approx(0.5, abs=0.01)
    assert recall > 0.95


def test_modes_are_counted_by_hand() -> None:
    data = load("gaussians-8", 0, 0.0)
    scorer = Scorer(data, torch.device("cpu"))
    test = scorer.examples("test", 1_000)
    score = scorer.score(test, "test", Stop())
    assert (score["mean"], score["of"]) == (8, 8)
    assert score["within_3_sigma"] == pytest.approx(100 * (1 - np.exp(-4.5)), abs=0.6)  # Rayleigh: 98.9 %
    right = test[test[:, 0] > 1e-1]  # 3 modes lie there
    assert scorer.score(right, "test", Stop())["mean"] == 3
    assert scorer.score(1.1 * test, "test", Stop())["within_3_sigma"] == 0


def test_features_that_come_with_the_lab() -> None:
    files = sorted(ASSETS.glob("*.safetensors"))
    assert [file.stem for file in files] == ["fashion_mnist", "mnist"]
    assert all(file.stat().st_size < 1_000_000 for file in files)


def test_shifted_images_are_further_away() -> None:
    data = load("digits", 0, 0.0)
    scorer = Scorer(data, torch.device("cpu"))
    train = scorer.examples("train", 200)
    near, far = (scorer.score(x, "test", Stop()) for x in (train, 1 - train))
    assert near["mean"] == pytest.approx(near["floor"])
    assert far["mean"] > 5 * near["mean"]
