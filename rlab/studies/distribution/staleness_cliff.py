"""How stale gradients may be: nothing happens for long, and then everything diverges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """Gradient descent on a quadratic, each gradient of the parameters of some updates before."""

    inputs: int = 10
    """Parameters."""
    updates: int = 1_500
    """Of each run."""
    rates: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """Learning rates times the largest curvature, which is 1."""
    longest: int = 90
    """The largest delay that is tried."""


def cliff(rate: float) -> float:
    """The delay beyond which steps of `rate` times curvature diverge: rate = 2 sin(pi / (4 d + 2))."""
    return (math.pi / math.asin(rate / 2) - 2) / 4


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The largest delay that converges for each rate, beside theory's; or the loss over delays of one rate."""
    from rlab.parallel.parameter_server import simulate_delay

    rng = np.random.default_rng(derive(seed, "quadratic"))
    curvatures = np.append(rng.uniform(0.1, 1.0, settings.inputs - 1), 1.0)
    start = rng.normal(size=settings.inputs)

    def norms(rate: float, delay: int) -> list[float]:
        return simulate_delay(lambda p, worker, number: curvatures * p, start, rate, delay, settings.updates)

    if variant == "curve":
        half = [norms(0.05, d)[-1] / float(np.linalg.norm(start)) for d in range(0, min(40, settings.longest), 4)]
        return {"log_size": [float(np.log10(max(size, 1e-12))) for size in half]}
    largest, errors = [], []
    for rate in settings.rates:
        low, high = 0, settings.longest
        while high - low > 1:
            middle = (low + high) // 2
            sizes = norms(rate, middle)
            stable = len(sizes) == settings.updates and max(sizes[-200:]) < max(sizes[-400:-200] or [0.0])
            low, high = (middle, high) if stable else (low, middle)
        largest.append(float(low))
        errors.append(abs(low - cliff(rate)))
    power = float(np.polyfit(np.log(settings.rates), np.log(np.maximum(largest, 1)), 1)[0])
    return {
        "rates": list(settings.rates),
        "largest": largest,
        "theory": [cliff(rate) for rate in settings.rates],
        "off": max(errors),
        "power_off": abs(power + 1),
    }


def draw(figure: Any, results: Results) -> None:
    """The largest delay over the rate, and how far parameters are from the minimum."""
    left, right = figure.subplots(1, 2)
    lines = {"measured": column(results["cliff"], "largest"), "theory": column(results["cliff"], "theory")}
    curves(left, results["cliff"][0]["rates"], lines, ("rate x curvature", "largest stable delay"))
    left.set(xscale="log", yscale="log")
    sizes = column(results["curve"], "log_size")
    delays = [4 * number for number in range(len(sizes[0]))]
    curves(right, delays, {"rate 0.05": sizes}, ("delay in updates", "log10 of the distance left"))


STUDIES.register("staleness-cliff")(
    Study(
        claim="Stale gradients cost little up to a bound and diverge beyond it; the bound falls as one over the "
        "learning rate, so twice the staleness needs half the rate.",
        claim_ja="古い勾配（stale gradient）は、ある限界までは学習をほとんど損なわないが、限界を超えると発散を招く。"
        "限界は学習率に反比例するので、2 倍古い勾配には半分の学習率が必要になる。",
        source="item 281; Zinkevich, Langford & Smola 2009; Ho et al. 2013",
        settings=Settings(),
        smoke={"updates": 450, "rates": (0.1, 0.2), "longest": 20},
        small={"updates": 1_000, "rates": (0.05, 0.1, 0.2), "longest": 40},
        small_seeds=5,
        variants={"cliff": "cliff", "curve": "curve"},
        measure=measure,
        contrasts=(
            Contrast("the bound is within 2 updates of 2 sin(pi / (4 d + 2))", {"cliff/off": -1}, -2.0),
            Contrast("it falls as the rate to the power -1, within 0.2", {"cliff/power_off": -1}, -0.2),
        ),
        draw=draw,
        seeds=10,
    )
)
