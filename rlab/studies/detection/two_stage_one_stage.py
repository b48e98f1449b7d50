"""R-CNN, Fast R-CNN, Faster R-CNN and SSD on one encoder: how well and how fast they find digits in scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.scenes import SMALL, SMOKE, TimedScenes, average_precision, draw_speed, log_seconds, trained
from rlab.studies.study import STUDIES, Contrast, Numbers, Study


@dataclass(frozen=True)
class Settings(TimedScenes):
    """As many passes over the same scenes for all."""

    proposals: int = 64
    """Regions of an image that detectors in two stages judge."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """AP at IoU .5 (0..1), and log10 of the seconds that an image takes: all, and without regions from outside."""
    how: dict[str, Any] = {"score": settings.score} | ({} if variant == "ssd" else {"proposals": settings.proposals})
    with trained(variant, settings, seed, average_precision, **how) as (built, (ap,)):
        whole, network = log_seconds(built, settings.images, settings.repeats)
    return {"ap": ap, "clock_all": whole, "clock_network": network}


STUDIES.register("two-stage-one-stage")(
    Study(
        claim="Regions pooled from shared maps are faster than a CNN for each region, regions of the network's own "
        "faster than selective search, and one pass without regions faster and more accurate still.",
        claim_ja="共有した特徴マップから領域を切り出すほうが、領域ごとに CNN を実行するより速い。"
        "ネットワーク自身の領域提案は、Selective Search より速い。領域を使わない 1 段階の検出は、さらに速く、"
        "精度も高い。",
        source="items 290-293; Girshick 2015; Ren et al. 2015; Liu et al. 2016, section 3",
        settings=Settings(),
        smoke={**SMOKE, "proposals": 6, "images": 2, "repeats": 1},
        small={**SMALL, "images": 16, "repeats": 3},
        small_seeds=3,
        variants={"R-CNN": "rcnn", "Fast R-CNN": "fast-rcnn", "Faster R-CNN": "faster-rcnn", "SSD": "ssd"},
        measure=measure,
        contrasts=(
            Contrast(
                "the network of Fast R-CNN is faster than that of R-CNN (log10)",
                {"R-CNN/clock_network": 1, "Fast R-CNN/clock_network": -1},
            ),
            Contrast(
                "Faster R-CNN is faster than Fast R-CNN with selective search (log10)",
                {"Fast R-CNN/clock_all": 1, "Faster R-CNN/clock_all": -1},
            ),
            Contrast("SSD is faster than Faster R-CNN (log10)", {"Faster R-CNN/clock_all": 1, "SSD/clock_all": -1}),
            Contrast("SSD is more accurate than Faster R-CNN (AP)", {"SSD/ap": 1, "Faster R-CNN/ap": -1}),
        ),
        draw=partial(draw_speed, "clock_all"),
        seeds=5,
    )
)
