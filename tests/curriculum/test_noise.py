"""Augmentation and noise, items 106-128: definitions and formulas; what studies of theirs compute, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from rlab.data.augment import augment
from rlab.nn.layers import DropConnectLinear, GaussianNoise, drawing_from
from rlab.nn.losses import smooth_targets
from rlab.studies.noise.elastic_distortion import displacements
from rlab.studies.noise.invariances import changed
from rlab.studies.noise.label_smoothing_calibration import calibration


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_flips_mirror_and_both_together_turn() -> None:
    """Item 108: no turn of an L is its mirror image, which a text calls rotation; both flips are a half turn."""
    x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    mirrored = augment(x, "hflip:1", seeded()).images
    assert not any(torch.equal(mirrored, x.rot90(k, (2, 3))) for k in range(4))
    assert torch.equal(augment(x, "hflip:1,vflip:1", seeded()).images, x.rot90(2, (2, 3)))


@pytest.mark.parametrize("place", ["inputs", "hidden units", "weights", "weights, dropped", "targets"])
def test_noise_has_four_places(place: str) -> None:
    """Item 123: inputs, hidden units, weights, targets; none of it in evaluation, and none changes the mean."""
    linear = nn.Linear(4, 3)
    layer: nn.Module = {
        "inputs": nn.Sequential(GaussianNoise(0.5), linear),
        "hidden units": nn.Sequential(linear, nn.Dropout(0.5)),
        "weights": nn.Linear(4, 3),
        "weights, dropped": DropConnectLinear(4, 3, 0.5),
        "targets": linear,
    }[place]
    if place == "weights":
        parametrize.register_parametrization(layer, "weight", GaussianNoise(0.5))
    x, labels = torch.rand(1, 4), torch.tensor([2])
    still = layer.eval()(x).detach()
    assert torch.equal(layer(x), still)
    if place == "targets":
        noisy = smooth_targets(labels, 3, 0.3)
        drawn = torch.where(torch.rand(20_000, generator=seeded()) < 0.3, torch.randint(3, (20_000,)), labels)
        torch.testing.assert_close(drawn.bincount(minlength=3) / 20_000, noisy[0], rtol=0, atol=0.03)
        return
    with torch.no_grad(), drawing_from(seeded()):
        outputs = torch.cat([layer.train()(x) for _ in range(4_000)])
    assert outputs.std(0).min() > 0.01
    error = 4 * outputs.std(0) / math.sqrt(4_000)
    assert ((outputs.mean(0) - still[0]).abs() < error + 1e-6).all()


@pytest.mark.parametrize("over", ["all", "others"])
def test_the_gradient_of_smoothed_targets_is_their_distance(over: str) -> None:
    """Item 127: softmax less target, for 1 - e, e / (K - 1) and for 1 - e + e / K, e / K."""
    logits = torch.randn(5, 4, generator=seeded(), dtype=torch.float64, requires_grad=True)
    targets = smooth_targets(torch.tensor([0, 3, 1, 1, 2]), 4, 0.2, over, torch.float64)  # type: ignore[arg-type]
    assert targets[0].tolist() == pytest.approx([0.85, 0.05, 0.05, 0.05] if over == "all" else [0.8, *[0.2 / 3] * 3])
    cross_entropy(logits, targets, reduction="sum").backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - targets)


def test_smoothed_targets_ask_for_finite_logits_and_hard_ones_do_not() -> None:
    """Item 128: the loss is least where the right logit lies ln((1 - e) (K - 1) / e) above the others: ln 36 = 3.58."""
    labels = torch.tensor([1])

    def pull(gap: float, epsilon: float) -> float:
        logits = torch.tensor([[0.0, gap, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        cross_entropy(logits, smooth_targets(labels, 5, epsilon, "others", torch.float64)).backward()
        assert logits.grad is not None
        return float(logits.grad[0, 1])

    best = math.log(0.9 * 4 / 0.1)
    assert best == pytest.approx(3.5835, abs=1e-4)
    assert pull(best, 0.1) == pytest.approx(0, abs=1e-12)
    assert pull(best - 0.1, 0.1) < 0 < pull(best + 0.1, 0.1)
    assert [pull(gap, 0.0) < 0 for gap in (1, 10, 30)] == [True] * 3


def test_calibration_error_by_hand() -> None:
    """Item 128: of four answers three at 0.95, two of them right, and one right at 0.55: (0.85 + 0.45) / 4."""
    found = calibration(np.array([0.95, 0.95, 0.95, 0.55]), np.array([1.0, 1.0, 0.0, 1.0]))
    assert found == pytest.approx(100 * (abs(2 - 2.85) + 0.45) / 4)
    assert calibration(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0


@pytest.mark.parametrize("kind", ["smooth", "rough", "regions"])
def test_displacements_deviate_alike_and_only_smooth_ones_hold_neighbours_together(kind: str) -> None:
    """Item 118: alpha 34, sigma 4: 34 / sqrt 3 / (2 * 4 * sqrt pi) = 1.38 pixels, far from the border."""
    field = displacements(kind, (200, 28, 28), 34.0, 4.0, seeded())
    inner = field[:, :, 12:16, 12:16]
    assert field.shape == (2, 200, 28, 28)
    assert float(inner.std()) == pytest.approx(1.38, rel=0.1)
    step = (field[..., 1:] - field[..., :-1])[..., 8:-8].abs()
    jumps = float((step > 1.38).float().mean())
    assert jumps == 0 if kind == "smooth" else jumps > 0.02


def test_a_world_is_turned_made_smaller_or_dimmed() -> None:
    """Items 120-121: a bar of 8 pixels, upright; a quarter turn lays it down, half the size makes it 4 long."""
    x = torch.zeros(1, 1, 17, 17)
    x[0, 0, 4:13, 8] = 1

    def extent(image: Tensor) -> list[int]:
        rows, columns = (image[0, 0] > 0.4).nonzero().T
        return [int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1]

    assert extent(changed(x, "angle", 0.0)) == extent(x) == [9, 1]
    assert extent(changed(x, "angle", 90.0)) == [1, 9]
    assert extent(changed(x, "size", 0.5))[0] == 5
    assert torch.equal(changed(x, "light", 0.2), 0.2 * x)
