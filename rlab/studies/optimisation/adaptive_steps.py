"""Steps of a length for each coordinate: what they are worth where difficulty lies along coordinates, and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A valley of 20 directions, the flattest 1,000 times flatter than the steepest, along the axes or turned."""

    condition: float = 1_000.0
    """Largest by smallest curvature."""
    steps: int = 500
    """Updates; rates fall to 0 in a straight line."""
    starts: int = 4
    """Random points of the same run; the mean over them counts."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 1.9)
    """What every optimiser tries; the best counts."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Tenfold falls of the height, along the axes and in a valley that is turned at random."""
    import torch

    from rlab.studies.descent import spectrum, tuned, walk

    rng = np.random.default_rng(derive(seed, "valley"))
    starts = rng.normal(size=(settings.starts, 20))
    turn = torch.tensor(np.linalg.qr(rng.normal(size=(20, 20)))[0])
    curvatures = torch.tensor(spectrum(settings.condition, 20))[torch.tensor(rng.permutation(20))]

    def left(rate: float, turned: bool) -> float:
        def valley(x: torch.Tensor) -> torch.Tensor:
            return ((x @ turn if turned else x).square() * curvatures / 2).sum(1)

        path = walk(valley, starts, variant, settings.steps, schedule=lambda part: 1 - part, lr=rate)
        ends, begins = valley(torch.tensor(path[-1])), valley(torch.tensor(starts))
        return float((ends / begins).clamp(min=1e-20).log10().mean())

    return {
        "aligned": -tuned(settings.rates, lambda rate: left(rate, turned=False), 0.0)[0],
        "turned": -tuned(settings.rates, lambda rate: left(rate, turned=True), 0.0)[0],
    }


def draw(figure: Any, results: Results) -> None:
    """Both valleys, optimiser by optimiser."""
    axes = figure.subplots()
    for shift, (number, label) in enumerate((("aligned", "along the axes"), ("turned", "turned at random"))):
        for x, numbers in enumerate(results.values()):
            values = column(numbers, number)
            axes.bar([x + 0.4 * shift], [np.mean(values)], 0.36, color=f"C{shift}", label=label if x == 0 else None)
            axes.plot([x + 0.4 * shift] * len(values), values, ".", color="black", ms=4)
    axes.set_xticks(np.arange(len(results)) + 0.2, list(results), fontsize=8)
    axes.set_ylabel("tenfold falls of the height", fontsize=9)
    axes.legend(fontsize=8)


STUDIES.register("adaptive-steps")(
    Study(
        claim="A step length for each coordinate pays where steep and flat directions lie along the coordinates; in "
        "the same valley turned at random most of the gain of adaptive methods is lost.",
        claim_ja="座標ごとにステップ幅を変える手法が有効なのは、急な方向と緩やかな方向が座標軸に沿う場合である。"
        "同じ谷をランダムに回転させると、適応的な手法の利点の大半は失われる。",
        source="items 072, 075, 077, 078; Duchi et al. 2011; Tieleman & Hinton 2012; Kingma & Ba 2015",
        correction="The text says that one has to decide along which direction to lengthen or shorten the step. The "
        "methods that it goes on to describe decide it for each coordinate, not for each direction: what lies askew "
        "to the coordinates they cannot straighten.",
        correction_ja="教材は「どの方向のステップ幅を増減するかを決める必要がある」とする。しかし、"
        "続いて説明される手法が決めるのは、方向ごとではなく座標ごとのステップ幅である。"
        "座標軸に対して斜めの谷には対応できない。",
        settings=Settings(),
        smoke={"steps": 40, "rates": (0.1, 1.0)},
        small={"steps": 200},
        small_seeds=4,
        variants={name: name for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam")},
        measure=measure,
        contrasts=(
            Contrast(
                "along the axes Adagrad gains a tenfold fall on gradient descent",
                {"adagrad/aligned": 1, "sgd/aligned": -1},
                1.0,
            ),
            Contrast("so does RMSprop", {"rmsprop/aligned": 1, "sgd/aligned": -1}, 1.0),
            Contrast("so does Adam", {"adam/aligned": 1, "sgd/aligned": -1}, 1.0),
            Contrast(
                "turned, Adagrad keeps less than half of its gain",
                {"adagrad/aligned": 0.5, "sgd/aligned": -0.5, "adagrad/turned": -1, "sgd/turned": 1},
            ),
            Contrast(
                "turned, Adam keeps less than half of its gain",
                {"adam/aligned": 0.5, "sgd/aligned": -0.5, "adam/turned": -1, "sgd/turned": 1},
            ),
        ),
        draw=draw,
    )
)
