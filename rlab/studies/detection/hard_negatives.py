"""Which background SSD learns from: what is told most wrongly, what chance draws, or all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlab.studies.plots import columns, curves, dots
from rlab.studies.scenes import SMALL, SMOKE, Scenes, average_precision, trained
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings(Scenes):
    """Three background anchors for each anchor with an object, or all; the loss is a mean over the latter."""

    points: int = 4
    """Times that it is scored on its way; the first one says how fast it learns."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """AP at IoU .5 (0..1): at the end, after the first part of the training, and as a curve."""
    how = {"mining": variant, "score": settings.score}
    with trained("ssd", settings, seed, average_precision, settings.points, **how) as (_, curve):
        pass
    return {"ap": curve[-1], "early": curve[0], "curve": curve}


def draw(figure: Any, results: Results) -> None:
    """AP on the way and at the end."""
    left, right = figure.subplots(1, 2)
    groups = columns(results, "curve")
    points = len(next(iter(groups.values()))[0])
    curves(left, [(n + 1) / points for n in range(points)], groups, ("share of the training", "AP at IoU .5"))
    dots(right, columns(results, "ap"), "AP at IoU .5 at the end")


STUDIES.register("hard-negatives")(
    Study(
        claim="SSD learns faster and better from the background that it takes for objects, three such boxes for each "
        "object, than from as many drawn at random or from all background.",
        claim_ja="SSD は、物体と間違えた背景のボックスだけを物体 1 個につき 3 個選んで学習する"
        "と（hard negative mining）、同じ数をランダムに選ぶ場合や、背景をすべて使う場合より、速くよく学習する。",
        source="item 292; Liu et al. 2016, section 2.2; Shrivastava et al. 2016",
        settings=Settings(),
        smoke={**SMOKE, "points": 2},
        small={**SMALL, "epochs": 8, "points": 2},
        small_seeds=3,
        variants={"hard": "hard", "random": "random", "all": "none"},
        measure=measure,
        contrasts=(
            Contrast("at the end better than with random background (AP)", {"hard/ap": 1, "random/ap": -1}),
            Contrast("at the end better than with all background (AP)", {"hard/ap": 1, "all/ap": -1}),
            Contrast("early on better than with random background (AP)", {"hard/early": 1, "random/early": -1}),
            Contrast("early on better than with all background (AP)", {"hard/early": 1, "all/early": -1}),
        ),
        draw=draw,
        seeds=5,
    )
)
