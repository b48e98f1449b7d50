"""A watershed against connected parts: on round cells that touch, and on digits, which are not round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlab.seeding import derive
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

if TYPE_CHECKING:
    from rlab.data.detection import DetectionDataset


@dataclass(frozen=True)
class Settings:
    """A U-Net that tells objects from background, without their classes; its masks are split in both ways."""

    images: int = 300
    """To learn from; a third as many are tested."""
    side: int = 64
    epochs: int = 20
    batch_size: int = 8
    width: int = 8
    """Channels of the U-Net's largest maps."""
    learning_rate: float = 2e-3


def cells(count: int, side: int, seed: int) -> DetectionDataset:
    """Draw images of 3 to 7 ellipses of one brightness on noise; each touches the one before it, or stands alone."""
    import numpy as np

    from rlab.data.annotations import AnnotatedImages, boxes_of
    from rlab.data.detection import from_annotated

    rng = np.random.default_rng(derive(seed, "cells"))
    rows, columns_ = np.mgrid[:side, :side]
    x, masks = [], []
    for _ in range(count + -(-count // 3)):
        best, mask = np.full((side, side), 1.0), np.zeros((side, side), np.int16)
        centre = rng.uniform(0.2 * side, 0.8 * side, 2)
        for number in range(1, int(rng.integers(4, 8))):
            radii = rng.uniform(0.08, 0.13, 2) * side
            # as far from the last one as both are wide, or anywhere
            away = rng.uniform(0.17, 0.22) * side
            angle = rng.uniform(0, 2 * np.pi)
            near = centre + away * np.array([np.sin(angle), np.cos(angle)])
            centre = near if rng.random() < 0.7 else rng.uniform(0.2 * side, 0.8 * side, 2)
            centre = centre.clip(0.15 * side, 0.85 * side)
            distance = ((rows - centre[0]) / radii[0]) ** 2 + ((columns_ - centre[1]) / radii[1]) ** 2
            mine = distance < best  # where two meet, a pixel is of the one in which it lies deeper
            best[mine], mask[mine] = distance[mine], number
        seen, sizes = np.unique(mask, return_counts=True)
        kept = [n for n, size in zip(seen.tolist(), sizes.tolist(), strict=True) if n and size >= 12]
        numbers = np.zeros(int(mask.max()) + 1, np.int16)
        numbers[kept] = np.arange(1, len(kept) + 1)
        masks.append(numbers[mask])
        image = np.where(masks[-1] > 0, 0.7, 0.2) + rng.normal(0, 0.12, (side, side))
        x.append((255 * image.clip(0, 1)).astype(np.uint8))
    boxes = [boxes_of(mask) for mask in masks]
    labels = [np.zeros(len(part), np.int64) for part in boxes]
    found = AnnotatedImages(
        np.stack(x)[:, None], boxes, labels, ("cell",), test=np.arange(count, len(x)), masks=np.stack(masks)
    )
    return from_annotated("cells", found, seed, 0.0)


def digits(count: int, side: int, seed: int) -> DetectionDataset:
    """Scenes of digits, which all are of one class, so that those which touch are one connected part."""
    from dataclasses import replace

    from rlab.data.datasets import load
    from rlab.data.detection import DetectionDataset

    data = load("digit-scenes", seed, 0.0)
    assert isinstance(data, DetectionDataset)
    data = data.subsample(min(count, len(data.items("train"))), seed).resized((1, side, side))
    return replace(data, labels=data.labels.clamp(max=0), classes=("digit",))


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """AP50 of instances (0..1) by a watershed and by connected parts, and Dice of the mask that both have."""
    from rlab.nn.detection.pyramid import SkipSegmenter
    from rlab.nn.encoders import make_encoder
    from rlab.nn.optim import make_optimiser
    from rlab.run.contract import Stop
    from rlab.studies.images import built
    from rlab.studies.rl import run
    from rlab.tasks.config import FitConfig
    from rlab.tasks.detection.instances import InstanceSegmentation
    from rlab.tasks.trainer import Trainer

    data = {"cells": cells, "digits": digits}[variant](settings.images, settings.side, seed)
    model = built(
        lambda: SkipSegmenter("resnet", make_encoder("resnet", data.shape), data.shape, 2, settings.width), seed
    )
    rate, size = settings.learning_rate, settings.batch_size
    optimiser = make_optimiser("adamw", model.parameters(), lr=rate)
    task = InstanceSegmentation(data, model, optimiser, batch_size=size, seed=derive(seed, "batches"))
    fit = FitConfig(epochs=settings.epochs, batch_size=size, learning_rate=rate, precision="fp32")
    trainer = Trainer(task, fit, seed, "cpu")
    run(trainer)
    score = trainer.evaluate_split("test", Stop())
    trainer.close()
    return {"watershed": score["mean"] / 100, "parts": score["components"] / 100, "dice": score["dice"] / 100}


def draw(figure: Any, results: Results) -> None:
    """AP50 in both ways on both kinds of objects."""
    for axes, name in zip(figure.subplots(1, len(results)), results, strict=True):
        seeds = {name: results[name]}
        ways = {"watershed": "watershed", "parts": "connected parts"}
        dots(axes, {label: columns(seeds, way)[name] for way, label in ways.items()}, f"AP50 of {name}")


STUDIES.register("watershed-split")(
    Study(
        claim="Where round objects touch, a watershed on the depth inside a mask counts them better than connected "
        "parts do; objects with arms, such as digits, are cut to pieces by it.",
        claim_ja="丸い物体が接しているとき、マスク内部の深さ（距離変換）に対する watershed は、"
        "連結成分より正しく物体を数える。数字のように枝のある物体は、細かく切り分けてしまう。",
        source="item 294; Vincent & Soille 1991; Caicedo et al. 2019",
        settings=Settings(),
        smoke={"images": 9, "side": 32, "epochs": 1, "width": 4},
        small={"images": 96, "epochs": 8},
        small_seeds=3,
        variants={"cells": "cells", "digits": "digits"},
        measure=measure,
        contrasts=(
            Contrast("cells: the watershed beats connected parts (AP50)", {"cells/watershed": 1, "cells/parts": -1}),
            Contrast("digits: connected parts beat the watershed (AP50)", {"digits/parts": 1, "digits/watershed": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
