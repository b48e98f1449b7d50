"""Workers of which one is slow: updates that wait for all of them, and updates by whoever is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study


@dataclass(frozen=True)
class Settings:
    """A linear regression of noisy targets by mini-batches, on a simulated clock."""

    inputs: int = 20
    """Weights."""
    examples: int = 2_000
    """To learn from."""
    batch: int = 16
    """Of a worker's gradient."""
    workers: int = 8
    """Of which the last may be slow."""
    slower: float = 10.0
    """How many times longer the slow one takes."""
    seconds: float = 60.0
    """Of the simulated clock; a gradient takes about one."""
    rate: float = 0.02
    """The learning rate of a single gradient; of a mean of all workers it is as many times larger."""


def problem(settings: Settings, seed: int) -> tuple[Any, Any]:
    """(gradient of a worker's mini-batch, excess loss of parameters)."""
    rng = np.random.default_rng(derive(seed, "problem"))
    x = rng.normal(size=(settings.examples, settings.inputs))
    y = x @ rng.normal(size=settings.inputs) + 0.5 * rng.normal(size=settings.examples)
    best = np.linalg.lstsq(x, y, rcond=None)[0]

    def gradient(parameters: np.ndarray, worker: int, number: int) -> np.ndarray:
        draw = np.random.default_rng(derive(seed, "batch", worker, number))
        part = draw.integers(len(x), size=settings.batch)
        return x[part].T @ (x[part] @ parameters - y[part]) / settings.batch

    def excess(parameters: np.ndarray) -> float:
        return float(np.mean((x @ (parameters - best)) ** 2))

    return gradient, excess


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Updates, gradients that counted, and the excess loss after the same simulated time."""
    from rlab.parallel.parameter_server import simulate_asynchronous, simulate_synchronous

    gradient, excess = problem(settings, seed)
    slow = settings.slower if variant["straggler"] else 1.0
    jitter = np.random.default_rng(derive(seed, "clock")).uniform(0.9, 1.1, (settings.workers, 4_096))

    def seconds(worker: int, number: int) -> float:
        return float(jitter[worker, number % 4_096]) * (slow if worker == settings.workers - 1 else 1.0)

    start, n = np.zeros(settings.inputs), settings.workers
    if variant["mode"] == "synchronous":
        trace = simulate_synchronous(gradient, start, n * settings.rate, n, seconds, settings.seconds)
        used = n * len(trace.seconds)
    else:
        trace = simulate_asynchronous(gradient, start, settings.rate, n, seconds, settings.seconds)
        used = len(trace.seconds)
    loss = max(excess(trace.parameters), 1e-300)
    stale = max(trace.staleness, default=0)
    return {"gradients": float(used), "log_loss": float(np.log10(loss)), "staleness": float(stale)}


def draw(figure: Any, results: Results) -> None:
    """Gradients that counted, and the loss."""
    left, right = figure.subplots(1, 2)
    for axes, number, label in (
        (left, "gradients", "gradients that counted"),
        (right, "log_loss", "log10 of the loss"),
    ):
        groups = {name.replace(" ", "\n"): [n[number] for n in results[name]] for name in results}
        dots(axes, groups, label)


STUDIES.register("straggler-updates")(
    Study(
        claim="Synchronous updates wait for the slowest worker, so one that is ten times slower takes nine tenths of "
        "the speed; asynchronous ones lose only its share, at the price of stale gradients.",
        claim_ja="同期更新は、最も遅いワーカーを待つので、10 倍遅いワーカーが 1 台あると、速度の 10 分の 9 を失う。"
        "非同期更新が失うのは、その 1 台の分だけだが、勾配が古くなる。",
        source="items 280-281; Dean et al. 2012; Chen et al. 2016",
        settings=Settings(),
        smoke={"seconds": 12.0, "examples": 100},
        small={"seconds": 40.0, "examples": 1_000},
        small_seeds=5,
        variants={
            f"{mode}{' straggler' if slow else ''}": {"mode": mode, "straggler": slow}
            for mode in ("synchronous", "asynchronous")
            for slow in (False, True)
        },
        measure=measure,
        contrasts=(
            Contrast(
                "with the straggler synchronous updates use less than a fifth of the gradients",
                {"synchronous/gradients": 0.2, "synchronous straggler/gradients": -1},
            ),
            Contrast(
                "asynchronous ones use more than four fifths",
                {"asynchronous straggler/gradients": 1, "asynchronous/gradients": -0.8},
            ),
            Contrast(
                "with the straggler asynchronous updates have a tenth of the loss",
                {"synchronous straggler/log_loss": 1, "asynchronous straggler/log_loss": -1},
                1.0,
            ),
            Contrast(
                "without it they have no less than half of it",
                {"asynchronous/log_loss": 1, "synchronous/log_loss": -1},
                -0.3,
            ),
            Contrast("its gradients are stale by 40 updates", {"asynchronous straggler/staleness": 1}, 40),
        ),
        draw=draw,
        seeds=10,
    )
)
