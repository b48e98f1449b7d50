"""What studies of GANs share: how many modes samples come near, and how well a fresh network tells them from data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlab.data.synthetic import MIXTURES
from rlab.seeding import derive

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.25
"""Part of the distance between neighbouring modes within which a sample counts as theirs."""

PART = 0.1
"""Part of its fair share of the samples that a covered mode has at the least."""


def covered(points: np.ndarray, name: str) -> tuple[int, float]:
    """Count the modes of a mixture that samples [n, 2] come near: (covered modes, share of the samples near any)."""
    centres = MIXTURES[name].centres
    between = np.linalg.norm(centres[:, None] - centres, axis=2)
    spacing = between[between > 0].min()
    distance = np.linalg.norm(points[:, None] - centres, axis=2)
    near = distance.min(1) < NEAR * spacing
    counts = np.bincount(distance.argmin(1)[near], minlength=len(centres))
    return int((counts >= PART * len(points) / len(centres)).sum()), float(near.mean())


def told_apart(real: Tensor, fake: Tensor, seed: int, hidden: int = 128, steps: int = 400) -> float:
    """Train a fresh network to tell two samples of the same size apart; its accuracy on those it has not seen.

    A classifier's two-sample test (Lopez-Paz & Oquab 2017): one half of each is learned from, the other tested.
    """
    import torch

    from rlab.studies.supervised import accuracy, fit, network

    half = len(real) // 2
    x = torch.cat([real[:half], fake[:half]])
    y = torch.arange(2).repeat_interleave(half)
    model = network((x[0].numel(), hidden, hidden, 2), seed=derive(seed, "told apart"))
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    fit(model, x, y, adam, steps=steps, batch_size=min(64, len(x)), seed=seed)
    return accuracy(model, torch.cat([real[half:], fake[half:]]), torch.arange(2).repeat_interleave(len(real) - half))
