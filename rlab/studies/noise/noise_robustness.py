"""Noisy pixels at the test: how much they cost networks that were trained with more or less noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

GAUSSIAN = (0.0, 0.15, 0.3, 0.45, 0.6)
"""Deviations of the noise that is added to pixels of 0..1."""

SALT = (0.0, 0.1, 0.2, 0.3)
"""Shares of the pixels that become 0 or 1."""


@dataclass(frozen=True)
class Settings:
    """The same network, examples and updates; only the noise in training differs."""

    data: str = "mnist"
    train: int = 2_000
    test: int = 5_000
    hidden: int = 256
    steps: int = 3_000
    """Updates of 50 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Accuracy (%) by the noise at the test; `variant` is the deviation of the noise in training."""
    import torch
    from torch.optim import Adam

    from rlab.data.augment import augment
    from rlab.seeding import derive
    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    adam = Adam(model.parameters(), 2e-3)
    text = f"noise:{variant}"
    fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=50, seed=seed, augmented=text)
    dice = torch.Generator().manual_seed(derive(seed, "test"))

    def salted(share: float) -> torch.Tensor:
        """Images where each pixel is 0 or 1 with this chance."""
        chosen, white = (torch.rand(data.x_test.shape, generator=dice) for _ in range(2))
        return torch.where(chosen < share, (white < 0.5).float(), data.x_test)

    gaussian = [100 * accuracy(model, augment(data.x_test, f"noise:{s}", dice).images, data.y_test) for s in GAUSSIAN]
    salt = [100 * accuracy(model, salted(share), data.y_test) for share in SALT]
    return {"gaussian": gaussian, "salt": salt, "clean": gaussian[0], "noisy": gaussian[-1], "salted": salt[-1]}


def draw(figure: Any, results: Results) -> None:
    """Accuracy by either noise."""
    axes = figure.subplots(1, 2, sharey=True)
    for panel, kind, x, label in (
        (axes[0], "gaussian", GAUSSIAN, "deviation of Gaussian noise"),
        (axes[1], "salt", SALT, "part of pixels made black or white"),
    ):
        curves(panel, x, columns(results, kind), (label, "test accuracy (%)"))
    axes[1].get_legend().remove()


STUDIES.register("noise-robustness")(
    Study(
        claim="Noisy pixels cost a network trained on clean images dearly; noise in training gives most of that back, "
        "for another kind of noise too, and changes the accuracy on clean images little.",
        claim_ja="きれいな画像だけで学習したネットワークは、画素のノイズに弱い。学習時にノイズを加えると、"
        "別の種類のノイズに対しても精度の大半を取り戻し、きれいな画像に対する精度はあまり変わらない。",
        correction="The text says that noise in training raises accuracy: it does on noisy inputs; on clean ones the "
        "difference is small, and strong noise can cost.",
        correction_ja="教材は、学習時のノイズが精度を上げるとする。上がるのは、ノイズのある入力に対する精度である。"
        "きれいな入力では差が小さく、強いノイズは精度を下げることもある。",
        source="item 122; Sietsma & Dow 1991; Bishop 1995",
        settings=Settings(),
        smoke={"data": "digits", "train": 60, "hidden": 16, "steps": 20},
        small={"data": "digits", "train": 500, "hidden": 128, "steps": 400},
        small_seeds=6,
        variants={"no noise": 0.0, "0.15": 0.15, "0.3": 0.3, "0.6": 0.6},
        measure=measure,
        contrasts=(
            Contrast(
                "noise of 0.6 costs the clean-trained more than 20 points",
                {"no noise/clean": 1, "no noise/noisy": -1},
                20.0,
            ),
            Contrast("noise of 0.3 in training helps against it (points)", {"0.3/noisy": 1, "no noise/noisy": -1}),
            Contrast("and against black and white pixels (points)", {"0.3/salted": 1, "no noise/salted": -1}),
            Contrast("on clean images it costs less than 2 points", {"0.3/clean": 1, "no noise/clean": -1}, -2.0),
            Contrast(
                "it brings more on noisy images than on clean ones (points)",
                {"0.3/noisy": 1, "no noise/noisy": -1, "0.3/clean": -1, "no noise/clean": 1},
                2.0,
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
