"""Elastic distortion: smoothed random displacements against rough ones, and two interpolations against the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

GRID = 4
"""Regions along a side."""


@dataclass(frozen=True)
class Settings:
    """All kinds move pixels equally far in the mean square. Lengths are given for images of 28 pixels."""

    data: str = "mnist"
    train: int = 1_000
    test: int = 5_000
    hidden: int = 256
    steps: int = 3_000
    """Updates of 50 examples."""
    alpha: float = 34.0
    """Simard's strength; the displacements deviate by 1.4 pixels."""
    sigma: float = 4.0
    """Pixels of the Gaussian that smooths them."""
    images: int = 100
    """Images that are known at every point, for the interpolations."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in percent; of the interpolations, their errors in percent of the images' deviation."""
    return interpolations(settings, seed) if variant == "truth" else {"accuracy": trained(settings, variant, seed)}


def displacements(kind: str, shape: Any, alpha: float, sigma: float, generator: Any) -> Any:
    """float32[2, B, H, W] in pixels: smooth, of each pixel by itself, or of each of 4 x 4 regions."""
    import torch

    from rlab.data.augment import AUGMENTATIONS
    from rlab.data.geometry import Size

    batch, height, width = shape
    if kind == "smooth":
        return AUGMENTATIONS.get("elastic").run(Size(*shape), generator, alpha, sigma)
    reach = alpha / (2 * sigma * math.sqrt(math.pi))  # of a uniform one that deviates as far
    if kind == "rough":
        return reach * (2 * torch.rand(2, batch, height, width, generator=generator) - 1)
    moves = reach * (2 * torch.rand(2, batch, GRID, GRID, generator=generator) - 1)
    return torch.nn.functional.interpolate(moves, (height, width))


def trained(settings: Settings, kind: str, seed: int) -> float:
    """Accuracy (%) after training on images displaced anew in every batch."""
    import torch
    from torch import Tensor
    from torch.optim import Adam

    from rlab.data.geometry import Size, identity
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    side, dice = data.x.shape[-1], torch.Generator().manual_seed(derive(seed, "displaced"))
    alpha, sigma = settings.alpha * (side / 28) ** 2, settings.sigma * side / 28

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not kind:
            return x, y
        field = displacements(kind, (len(x), side, side), alpha, sigma, dice)
        return identity(Size(len(x), side, side), x.device).displaced(field, bicubic=False).images(x), y

    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    adam = Adam(model.parameters(), 2e-3)
    fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=50, seed=seed, change=change)
    return 100 * accuracy(model, data.x_test, data.y_test)


def interpolations(settings: Settings, seed: int) -> Numbers:
    """Waves of 5 to 20 pixels, displaced: by each interpolation of their pixels, and computed where they come from."""
    import torch

    from rlab.data.geometry import Size, identity
    from rlab.seeding import derive

    dice, side = torch.Generator().manual_seed(derive(seed, "waves")), 28
    size = Size(settings.images, side, side)
    lengths, angles, phases = torch.rand(3, settings.images, 1, 1, generator=dice) * torch.tensor(
        [15.0, math.tau, math.tau]
    ).view(3, 1, 1, 1)
    at = torch.arange(side) - (side - 1) / 2

    def waves(u: Any, v: Any) -> Any:
        return 0.5 + 0.4 * torch.sin(math.tau / (5 + lengths) * (u * angles.cos() + v * angles.sin()) + phases)

    field = displacements("smooth", size, settings.alpha, settings.sigma, dice)
    truth = waves(at + field[0], at[:, None] + field[1])
    pixels = waves(at.expand(side, side), at[:, None])[:, None]
    inner = (slice(None), slice(6, -6), slice(6, -6))
    errors = {}
    for name, bicubic in (("bilinear", False), ("bicubic", True)):
        done = identity(size, pixels.device).displaced(field, bicubic).images(pixels)[:, 0]
        errors[name] = float(100 * (done - truth)[inner].square().mean().sqrt() / truth.std())
    return errors


def draw(figure: Any, results: Results) -> None:
    """Accuracies, and the interpolations' errors."""
    axes = figure.subplots(1, 2, width_ratios=(2, 1))
    accuracies = {name: column(seeds, "accuracy") for name, seeds in results.items() if name != "interpolation"}
    dots(axes[0], accuracies, "test accuracy (%)")
    errors = {name: column(results["interpolation"], name) for name in ("bilinear", "bicubic")}
    dots(axes[1], errors, "error (% of the image's deviation)")
    axes[1].set_ylim(bottom=0, top=1.2 * float(np.max(list(errors.values()))))


STUDIES.register("elastic-distortion")(
    Study(
        claim="Elastic distortion helps readers of handwriting because its displacements are smooth: as large ones of "
        "single pixels help less; and bicubic interpolation is nearer to the truth than bilinear.",
        claim_ja="弾性変形が手書き文字の認識に有効なのは、変位が滑らかだからである。"
        "同じ大きさの変位を画素ごとに独立に与えると、効果は小さい。補間は、"
        "双三次のほうが双一次より正しい画像に近い。",
        correction="The text's summary, regions that move at random, is a grid distortion: it tears strokes at the "
        "borders of regions. Simard's is a field of random displacements, smoothed by a Gaussian and scaled.",
        correction_ja="教材の要約「領域に分けてそれぞれランダムに動かす」は、グリッド歪みである。"
        "領域の境界で線が途切れる。Simard らの弾性変形は、ランダムな変位場をガウシアンフィルタで平滑化し、"
        "係数を掛けたものである。",
        source="items 111, 118; Simard et al. 2003, section 2",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 20, "images": 4},
        small={"data": "digits", "train": 100, "hidden": 128, "steps": 400},
        small_seeds=6,
        variants={"none": "", "smooth": "smooth", "regions": "regions", "rough": "rough", "interpolation": "truth"},
        measure=measure,
        contrasts=(
            Contrast("smooth displacements raise accuracy (points)", {"smooth/accuracy": 1, "none/accuracy": -1}),
            Contrast("more than those of single pixels (points)", {"smooth/accuracy": 1, "rough/accuracy": -1}),
            Contrast("more than those of regions (points)", {"smooth/accuracy": 1, "regions/accuracy": -1}),
            Contrast(
                "bicubic is nearer to the truth (% of the image's deviation)",
                {"interpolation/bilinear": 1, "interpolation/bicubic": -1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
