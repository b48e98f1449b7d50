"""Adadelta's promise to need no learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

SCALES = (0.01, 1.0, 100.0)


@dataclass(frozen=True)
class Settings:
    """A quadratic of 10 directions and a condition number of 10, in other units of its height and of its weights."""

    steps: int = 10_000
    """Updates; who has not reached a hundredth of the height by then counts as reaching it then."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Powers of 10 between most and fewest steps, by unit of the loss and epsilon; between weights' units 100 and 1."""
    start = np.random.default_rng(derive(seed, "start")).normal(size=10)
    name, options = variant["optimiser"], dict(variant["options"])
    steps = _steps(settings, name, start, [*SCALES, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, *SCALES], options)
    numbers = {"height": _spread(steps[:3]), "length": float(np.log10(steps[5] / steps[4]))}
    if name == "adadelta":
        few = [_steps(settings, name, start, [1.0], [1.0], {"eps": eps})[0] for eps in (1e-8, 1e-6, 1e-4)]
        numbers["eps"] = _spread(few)
    return {**numbers, "steps": steps}


def _spread(steps: list[int]) -> float:
    return float(np.log10(max(steps) / min(steps)))


def _steps(settings: Settings, name: str, start: Any, heights: Any, lengths: Any, options: Any) -> list[int]:
    """Updates to a hundredth of the first height, for each unit of height and of the weights."""
    import torch

    from rlab.studies.descent import spectrum, walk

    height, length = (torch.tensor(units).unsqueeze(1).double() for units in (heights, lengths))
    curvatures = torch.tensor(spectrum(10, 10))

    def quadratic(x: Any) -> Any:
        return ((x / length).square() * height * curvatures / 2).sum(-1)

    path = walk(quadratic, length.numpy() * start, name, settings.steps, **options)
    values = quadratic(torch.tensor(path)).nan_to_num(np.inf, np.inf).numpy()
    reached = values < values[0] / 100
    return np.where(reached.any(0), reached.argmax(0), settings.steps).tolist()


def draw(figure: Any, results: Results) -> None:
    """What other units do to the number of steps, by optimiser."""
    above, below = figure.subplots(2, 1)
    for axes, number, title in (
        (above, "height", "loss times 0.01, 1, 100: most by fewest steps"),
        (below, "length", "weights a hundred times as large: steps by steps"),
    ):
        dots(axes, columns(results, number), "powers of 10")
        axes.set_title(title, fontsize=9)


STUDIES.register("adadelta-without-rate")(
    Study(
        claim="Adadelta needs no learning rate in name only: its epsilon and the unit of the weights set its pace in "
        "the rate's place, though the unit of the loss does so less than for gradient descent.",
        claim_ja="AdaDelta に学習率が要らないのは、名目だけである。損失の単位には勾配降下法ほど左右されないが、"
        "学習率の代わりに、ε と重みの単位が学習の速さを決める。",
        source="item 076; Zeiler 2012",
        correction="Adadelta is said to need no learning rate. The first steps are as long as the root of its epsilon "
        "allows, so that this number, and the weights' unit with it, still decides how long learning takes.",
        correction_ja="AdaDelta は学習率が不要とされるが、最初のステップ幅は ε の平方根で決まる。したがって、"
        "ε と重みの単位が、学習にかかる時間を左右する。",
        settings=Settings(),
        smoke={"steps": 40},
        small={"steps": 2_000},
        small_seeds=4,
        variants={
            "sgd": {"optimiser": "sgd", "options": {"lr": 0.5}},
            "rmsprop": {"optimiser": "rmsprop", "options": {"lr": 0.03}},
            "adam": {"optimiser": "adam", "options": {"lr": 0.03}},
            "adadelta": {"optimiser": "adadelta", "options": {}},
        },
        measure=measure,
        contrasts=(
            Contrast("epsilon from 1e-8 to 1e-4: three times as many steps and more", {"adadelta/eps": 1}, 0.477),
            Contrast("weights a hundred times as large: twice as many and more", {"adadelta/length": 1}, 0.301),
            Contrast(
                "the loss in other units: less than for gradient descent", {"sgd/height": 1, "adadelta/height": -1}
            ),
            Contrast("but more than for Adam, whose epsilon is smaller", {"adadelta/height": 1, "adam/height": -1}),
        ),
        draw=draw,
    )
)
