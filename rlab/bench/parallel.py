"""Data parallel training: examples a second of two processes of one thread each, beside one process of two threads.

What is timed are updates of `rlab train resnet20 --workers N` on pictures of 3x32x32, in float32, which compute much
and read little. The ways are measured in turn, each time in processes of their own. Run as a module with a JSON request
it makes one measurement.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rlab.bench.apart import measured_apart
from rlab.bench.speed import busy
from rlab.machine import cores
from rlab.stats import student

WAYS: dict[str, dict[str, int]] = {
    "two ranks of one thread": {"workers": 2, "threads": 1},
    "one rank of two threads": {"workers": 1, "threads": 2},
    "one rank of one thread": {"workers": 1, "threads": 1},
}
"""Name -> processes, and torch's threads of each. The first is held against the others."""

WARM_UP = 5
"""Updates that are not timed."""

BAR = 1.5
"""Two ranks of one thread over one rank of two threads."""

MODEL = "resnet20"
DATA: dict[str, Any] = {"data": "digits", "shape": "3x32x32", "validation": 0.0}
SETTINGS: dict[str, Any] = {"batch_size": 128, "precision": "fp32", "optimiser": "momentum", "learning_rate": 0.01}
ENDLESS = 10**5
"""Epochs, so that no budget ends a measurement."""

Progress = Callable[[str], None]


def measure(rounds: int, updates: int, beside: int, progress: Progress) -> dict[str, Any]:
    """Time all ways in turn.

    Args:
        rounds: how often each is measured; medians count.
        updates: timed ones of a measurement.
        beside: so many processes are busy at the same time.
        progress: told what is being measured.

    Returns:
        JSON: ``rows`` (``way``, ``examples_per_s``, the median of ``speeds``), ``ratios`` (``over``, the median
        ``ratio`` of the first way over another of the same round, ``low`` and ``high``, Student's 95 % interval of
        the mean of the ratios' logarithms, or None of one round), ``bar``, ``met``, and the ``load`` before each round.

    Raises:
        RlabError: a measurement failed.
    """
    from rlab.run.provenance import git_state, processor, versions

    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    loads = []
    for number in range(1, rounds + 1):
        loads.append(round(os.getloadavg()[0], 2))
        for way, how in WAYS.items():
            progress(f"{way}, round {number} of {rounds}" + (f", beside {beside} busy processes" if beside else ""))
            with busy(beside):
                speeds[way].append(measured_apart("rlab.bench.parallel", {"side": way, "updates": updates, **how}))
    first, *others = WAYS
    ratios = [_ratio(speeds[first], speeds[other]) | {"over": other} for other in others]
    return {
        "rows": [
            {"way": way, "examples_per_s": round(statistics.median(found), 1), "speeds": [round(s, 1) for s in found]}
            for way, found in speeds.items()
        ],
        "ratios": ratios,
        "bar": BAR,
        "met": ratios[0]["ratio"] >= BAR,
        "beside": beside,
        "model": MODEL,
        "settings": DATA | SETTINGS,
        "updates": updates,
        "rounds": rounds,
        "load": loads,
        "machine": {"processor": processor(), "cores": cores(), "versions": versions(), "git": git_state()},
    }


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    ends = student([math.log(ratio) for ratio in each]) if len(each) > 1 else ()
    low, high = (round(math.exp(end), 3) for end in ends) if ends else (None, None)
    return {
        "ratio": round(statistics.median(each), 3),
        "low": low,
        "high": high,
        "each": [round(ratio, 3) for ratio in each],
    }


def run(request: dict[str, Any]) -> float:
    """Examples a second of a run in a folder that is deleted afterwards, between `WARM_UP` updates and the last."""
    from rlab import train

    seen: list[tuple[float, int]] = []

    def look(now: Any, metrics: Any) -> bool:
        seen.append((time.perf_counter(), now.done))
        return len(seen) < WARM_UP + request["updates"]

    how = {"workers": request["workers"], "threads": request["threads"], "epochs": ENDLESS, "evaluate_steps": 0}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLAB_RUNS"] = folder
        train(MODEL, name="speed", on_step=look, **DATA, **SETTINGS, **how)
    (began, before), (ended, after) = seen[WARM_UP - 1], seen[-1]
    return (after - before) / (ended - began)


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
