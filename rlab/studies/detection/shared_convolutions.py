"""A CNN for each region against shared maps from which all are pooled: R-CNN and Fast R-CNN, few regions and many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.scenes import SMALL, SMOKE, TimedScenes, average_precision, draw_speed, log_seconds, trained
from rlab.studies.study import STUDIES, Contrast, Numbers, Study


@dataclass(frozen=True)
class Settings(TimedScenes):
    """The same regions for both, found by selective search beforehand and not timed."""

    few: int = 8
    """Regions of an image that are judged."""
    many: int = 64


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """AP at IoU .5 (0..1), and log10 of the seconds that the network takes for an image with its regions at hand."""
    recipe, regions = variant
    how = {"proposals": getattr(settings, regions), "score": settings.score}
    with trained(recipe, settings, seed, average_precision, **how) as (built, (ap,)):
        _, network = log_seconds(built, settings.images, settings.repeats)
    return {"ap": ap, "clock_network": network}


STUDIES.register("shared-convolutions")(
    Study(
        claim="Convolutions that all regions of an image share take less time than a CNN for each region, the more so "
        "the more regions there are, and find objects as well.",
        claim_ja="画像のすべての領域で畳み込みを共有すると、領域ごとに CNN を実行するより時間がかからず、"
        "領域が多いほど差は広がる。検出の精度は下がらない。",
        source="items 290, 291, 293; Girshick et al. 2014; Girshick 2015, section 4.4",
        settings=Settings(),
        smoke={**SMOKE, "few": 3, "many": 6, "images": 2, "repeats": 1},
        small={**SMALL, "many": 32, "images": 16, "repeats": 3},
        small_seeds=3,
        variants={
            "R-CNN, few regions": ["rcnn", "few"],
            "R-CNN, many": ["rcnn", "many"],
            "Fast R-CNN, few regions": ["fast-rcnn", "few"],
            "Fast R-CNN, many": ["fast-rcnn", "many"],
        },
        measure=measure,
        contrasts=(
            Contrast(
                "with many regions, shared maps are faster (log10)",
                {"R-CNN, many/clock_network": 1, "Fast R-CNN, many/clock_network": -1},
            ),
            Contrast(
                "more regions cost R-CNN more than Fast R-CNN (log10)",
                {
                    "R-CNN, many/clock_network": 1,
                    "R-CNN, few regions/clock_network": -1,
                    "Fast R-CNN, many/clock_network": -1,
                    "Fast R-CNN, few regions/clock_network": 1,
                },
            ),
            Contrast(
                "with many regions, Fast R-CNN is less than 5 points below R-CNN (AP)",
                {"Fast R-CNN, many/ap": 1, "R-CNN, many/ap": -1},
                -0.05,
            ),
        ),
        draw=partial(draw_speed, "clock_network"),
        seeds=5,
    )
)
