"""Each usual change of images by itself: what it does to a reader of few digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """The same network, examples and updates; only the change differs. Lengths are given for images of 28 pixels."""

    data: str = "mnist"
    train: int = 300
    test: int = 5_000
    hidden: int = 256
    steps: int = 2_000
    """Updates of 25 examples."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Test accuracy in percent."""
    from torch.optim import Adam

    from rlab.studies.supervised import accuracy, examples, fit, network

    data = examples(settings.data, seed, settings.train, settings.test)
    part = data.x.shape[-1] / 28
    model = network((data.x[0].numel(), settings.hidden, 10), seed=seed)
    text = variant.format(
        shift=2 * part, crop=max(1, round(2 * part)), side=round(8 * part), alpha=34 * part**2, sigma=4 * part
    )
    adam = Adam(model.parameters(), 3e-3)
    fit(model, data.x, data.y, adam, steps=settings.steps, batch_size=25, seed=seed, augmented=text)
    return {"accuracy": 100 * accuracy(model, data.x_test, data.y_test)}


def draw(figure: Any, results: Results) -> None:
    """What each change adds to the accuracy without any, seed by seed."""
    axes = figure.subplots()
    plain = np.array(column(results["none"], "accuracy"))
    gains = {name: np.array(column(seeds, "accuracy")) - plain for name, seeds in results.items() if name != "none"}
    ordered = dict(sorted(gains.items(), key=lambda item: -item[1].mean()))
    dots(axes, {name: list(values) for name, values in ordered.items()}, "accuracy less that without changes (points)")
    axes.axhline(0, color="black", lw=1, ls=":")
    axes.tick_params(axis="x", rotation=60)


def gains(name: str, sign: int = 1) -> dict[str, float]:
    """Weights of a change's gain, or loss."""
    return {f"{name}/accuracy": sign, "none/accuracy": -sign}


STUDIES.register("augmentations-one-by-one")(
    Study(
        claim="Only changes that digits undergo in writing help a reader of few digits: slight turns and elastic warps "
        "do, while mirrored copies lower accuracy.",
        claim_ja="少数の手書き数字の学習では、実際に書くときに起こる変形だけが役に立つ。"
        "わずかな回転と弾性変形は有効だが、左右反転は精度を下げる。",
        correction="The texts list flips, shifts, zooms, turns, warps, crops, masks and contrast side by side, one of "
        "them under the name of rotation for mirrors; which of them help depends on what varies in the data.",
        correction_ja="教材は、反転、移動、拡大縮小、回転、歪み、切り抜き、マスク、コントラスト変更を並べて挙げ、"
        "反転を「回転」と呼ぶものもある。どれが有効かは、データの中で何が変動するかによる。",
        source="items 107-117; Shorten & Khoshgoftaar 2019; DeVries & Taylor 2017; Zhong et al. 2017",
        settings=Settings(),
        smoke={"data": "digits", "train": 40, "hidden": 16, "steps": 8},
        small={"data": "digits", "train": 50, "hidden": 64, "steps": 300},
        small_seeds=5,
        variants={
            "none": "",
            "shift": "shift:{shift:.3g}",
            "mirror": "hflip",
            "upside down": "vflip",
            "zoom": "scale:0.15",
            "rotate": "rotate:15",
            "shear": "shear:15",
            "crop": "crop:{crop}",
            "zoom, crop": "scale:0.15,crop:{crop}",
            "elastic": "elastic:{alpha:.3g}:{sigma:.3g}",
            "cutout": "cutout:{side}",
            "erase": "erase:0.5:0.2",
            "contrast": "contrast:0.5",
            "brightness": "brightness:0.2",
            "noise": "noise:0.2",
            "mixup": "mixup:0.4",
        },
        measure=measure,
        contrasts=(
            Contrast("elastic warps help (points)", gains("elastic")),
            Contrast("turns of up to 15 degrees help (points)", gains("rotate")),
            Contrast("mirrored copies harm (points)", gains("mirror", -1)),
            Contrast("copies upside down harm (points)", gains("upside down", -1)),
        ),
        draw=draw,
        seeds=5,
    )
)
