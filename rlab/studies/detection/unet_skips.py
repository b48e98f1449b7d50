"""A U-Net with and without its skip connections, at the edges of objects and away from them."""

from __future__ import annotations

from typing import Any

from rlab.studies.plots import columns, dots
from rlab.studies.scenes import SMOKE, Scenes, outputs, trained
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


def measure(settings: Scenes, variant: Any, seed: int) -> Numbers:
    """Mean IoU (0..1), and the share of right pixels: next to a pixel of another class, and everywhere else."""
    from torch.nn.functional import max_pool2d

    from rlab.tasks.segmentation import iou_metrics

    with trained("unet", settings, seed, outputs, skips=variant) as (built, ((predicted, true),)):
        iou = iou_metrics(predicted, true, built.task.classes)["mean"] / 100
    classes = true.float()[:, None]
    edge = (max_pool2d(classes, 3, 1, 1) != -max_pool2d(-classes, 3, 1, 1))[:, 0]
    right = (predicted == true).double()
    return {
        "iou": iou,
        "edge": float(right[edge].mean()),
        "elsewhere": float(right[~edge].mean()),
    }


def draw(figure: Any, results: Results) -> None:
    """Overlap, and right pixels by where they are."""
    for axes, (name, label) in zip(
        figure.subplots(1, 3),
        {"iou": "mean IoU", "edge": "right pixels at edges", "elsewhere": "right pixels elsewhere"}.items(),
        strict=True,
    ):
        dots(axes, columns(results, name), label)


STUDIES.register("unet-skips")(
    Study(
        claim="Skip connections give a U-Net back what its encoder has lost by halving: with them, classes of pixels "
        "are told better, above all at the edges of objects.",
        claim_ja="スキップ接続は、エンコーダが縮小によって失った情報を U-Net に戻す。そのため、"
        "画素ごとのクラスをよりよく分類でき、物体の境界で特に効果が大きい。",
        source="item 294; Long et al. 2015, section 4.2; Ronneberger et al. 2015, section 2",
        settings=Scenes(epochs=30),
        smoke=SMOKE,
        small={"examples": 64, "epochs": 8},
        small_seeds=3,
        variants={"skips": True, "none": False},
        measure=measure,
        contrasts=(
            Contrast("mean IoU is higher with skips", {"skips/iou": 1, "none/iou": -1}),
            Contrast("more pixels at edges are right", {"skips/edge": 1, "none/edge": -1}),
            Contrast(
                "they help more at edges than elsewhere",
                {"skips/edge": 1, "none/edge": -1, "skips/elsewhere": -1, "none/elsewhere": 1},
            ),
        ),
        draw=draw,
        seeds=5,
    )
)
