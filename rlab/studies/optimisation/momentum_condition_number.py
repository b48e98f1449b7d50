"""What momentum saves where one direction is much flatter than another, and what it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Quadratics of 10 directions whose curvatures lie between 1/condition and 1, from random starts."""

    conditions: tuple[float, ...] = (10, 30, 100, 300, 1000, 3000)
    """Largest by smallest curvature."""
    to: float = 1e-4
    """What is left of the distance to the minimum when it counts as reached."""
    noisy_steps: int = 2_000
    """With noise on the gradients; the last half is looked at."""


def rates(method: str, condition: float) -> dict[str, Any]:
    """The best constants for such a quadratic (Polyak 1964; Nesterov 2004, constant scheme)."""
    root = np.sqrt(condition)
    if method == "momentum":
        return {"lr": 4 / (1 + 1 / root) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
    if method == "nesterov":
        return {"lr": 1.0, "momentum": (root - 1) / (root + 1)}
    return {"lr": 2 / (1 + 1 / condition)}


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Steps by condition number and the slope of their logarithms; or what the walks come to that look at swings."""
    if variant == "swings":
        return _swings(settings, seed)
    steps = [_steps(variant, condition, settings.to, seed) for condition in settings.conditions]
    slope = np.polyfit(np.log(settings.conditions), np.log(steps), 1)[0]
    return {"steps": steps, "power": slope, "off": abs(slope - (1 if variant == "sgd" else 0.5))}


def _steps(method: str, condition: float, to: float, seed: int) -> int:
    import torch

    from rlab.studies.descent import spectrum, walk

    curvatures = torch.tensor(spectrum(condition, 10))
    start = np.random.default_rng(derive(seed, "start")).normal(size=(1, 10))
    limit = int(8 * (condition if method == "sgd" else 3 * np.sqrt(condition)))
    path = walk(lambda x: (x.square() * curvatures / 2).sum(1), start, method, limit, **rates(method, condition))
    far = np.linalg.norm(path[:, 0], axis=1) > to * np.linalg.norm(start)
    return int(np.flatnonzero(far)[-1]) + 1


def _swings(settings: Settings, seed: int) -> Numbers:
    """How much a swing across a steep valley keeps a step, and the scatter that noisy gradients leave behind."""
    from rlab.studies.descent import walk

    rng = np.random.default_rng(derive(seed, "start"))
    start = rng.uniform(0.5, 1.5, (1, 1)) * rng.choice([-1, 1])
    keeps, scatter = {}, {}
    for name, momentum in (("plain", 0.0), ("inert", 0.5)):
        path = walk(lambda x: x.square().sum(1) / 2, start, "momentum", 60, lr=1.9, momentum=momentum)
        keeps[name] = (np.abs(path[-10:]).max() / np.abs(path[:10]).max()) ** (1 / 50)
    noisy = {"plain": (0.1, 0.0), "inert": (0.01, 0.9), "same-rate": (0.1, 0.9)}
    for name, (rate, momentum) in noisy.items():
        path = walk(
            lambda x: x.square().sum(1) / 2,
            np.zeros((1, 200)),
            "momentum",
            settings.noisy_steps,
            seed=seed,
            noise=1.0,
            lr=rate,
            momentum=momentum,
        )
        scatter[name] = float(path[settings.noisy_steps // 2 :].var())
    return {
        "plain_keeps": keeps["plain"],
        "inert_keeps": keeps["inert"],
        "scatter_off": abs(np.log(scatter["inert"] / scatter["plain"])),
        "same_rate": scatter["same-rate"] / scatter["plain"],
    }


def draw(figure: Any, results: Results) -> None:
    """Steps over condition numbers."""
    axes = figure.subplots()
    names = {"sgd": "gradient descent", "momentum": "heavy ball", "nesterov": "Nesterov"}
    ways = {label: column(results[name], "steps") for name, label in names.items()}
    conditions = (10, 30, 100, 300, 1000, 3000)[: len(next(iter(ways.values()))[0])]
    curves(axes, conditions, ways, ("condition number: largest by smallest curvature", "steps to 1/10,000 of the way"))
    axes.set(xscale="log", yscale="log")
    axes.set_title("best constants for each", fontsize=9)


STUDIES.register("momentum-condition-number")(
    Study(
        claim="With a condition number k gradient descent takes a number of steps in proportion to k and momentum to "
        "the root of k; momentum damps swings across a valley, but not the noise of mini-batches.",
        claim_ja="条件数が κ のとき、勾配降下法の反復回数は κ に比例し、"
        "モーメンタムの反復回数は κ の平方根に比例する。モーメンタムは、谷を横切る振動を抑えるが、"
        "ミニバッチのノイズは減らさない。",
        source="item 074; Polyak 1964; Nesterov 1983; Rumelhart, Hinton & Williams 1986",
        correction="The text dates momentum to the 1990s and says that it suppresses the swings of SGD. The heavy ball "
        "is Polyak's of 1964, in networks since Rumelhart et al. 1986; swings across a steep valley are damped, the "
        "scatter by noisy gradients is not: at the same effective rate it is the same.",
        correction_ja="教材は、モーメンタムを 1990 年代のものとし、SGD の振動を抑えるとする。実際には、"
        "1964 年の Polyak の heavy ball 法にさかのぼり、ニューラルネットワークでは 1986 年から使われてい"
        "る（Rumelhart ら）。抑えられるのは急な谷を横切る振動で、勾配のノイズによるばらつきは、"
        "実効学習率が同じなら変わらない。",
        settings=Settings(),
        smoke={"conditions": (10, 30), "noisy_steps": 100},
        small={"conditions": (10, 30, 100), "noisy_steps": 1_000},
        small_seeds=4,
        variants={"sgd": "sgd", "momentum": "momentum", "nesterov": "nesterov", "swings": "swings"},
        measure=measure,
        contrasts=(
            Contrast("gradient descent: steps grow as k to the power 1, within 0.1", {"sgd/off": -1}, -0.1),
            Contrast("the heavy ball: to the power 1/2, within 0.1", {"momentum/off": -1}, -0.1),
            Contrast("Nesterov's: to the power 1/2, within 0.1", {"nesterov/off": -1}, -0.1),
            Contrast(
                "a swing across the valley shrinks by a tenth more each step",
                {"swings/plain_keeps": 1, "swings/inert_keeps": -1},
                0.1,
                exact=True,
            ),
            Contrast("at the same effective rate noise scatters as far, within 10 %", {"swings/scatter_off": -1}, -0.1),
            Contrast("at the same rate its variance is more than 5 times as large", {"swings/same_rate": 1}, 5.0),
        ),
        draw=draw,
    )
)
