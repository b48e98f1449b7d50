"""Arrays against loops of the interpreter: how many times faster, whether by parallel work, and from what size on."""

from __future__ import annotations

import math
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.seeding import derive
from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

FEW = 4


@dataclass(frozen=True)
class Settings:
    """Scalar products and epochs of logistic regression, timed in processor seconds.

    Those of all threads are added up, so no number here is small because the work was shared.
    """

    longest: int = 1_000_000
    """Numbers in the longest vector."""
    examples: int = 2_000
    """Of the logistic regression, with 20 features."""
    repeats: int = 5
    """Of which the fastest counts."""


def by_index(x: Any, y: Any) -> float:
    """The loop of the text."""
    total = 0.0
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


def by_items(x: list[float], y: list[float]) -> float:
    """The quicker loop, over lists."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += a * b
    return total


def by_array(x: Any, y: Any) -> float:
    """Compiled and in vector instructions, but by one thread: einsum has no other."""
    return float(np.einsum("i,i->", x, y))


DOTS: dict[str, Callable[[Any, Any], float]] = {"index": by_index, "items": by_items, "array": by_array}


def epoch_by_loops(w: Any, x: Any, y: Any) -> Any:
    """The gradient of the mean cross-entropy, x[m, d] example by example and feature by feature."""
    m, d = x.shape
    slope = [0.0] * d
    for i in range(m):
        z = 0.0
        for k in range(d):
            z += w[k] * x[i, k]
        off = 1 / (1 + math.exp(-z)) - y[i]
        for k in range(d):
            slope[k] += off * x[i, k] / m
    return np.asarray(slope)


def epoch_by_arrays(w: Any, x: Any, y: Any) -> Any:
    """The same in one line."""
    return x.T @ (1 / (1 + np.exp(-(x @ w))) - y) / len(y)


def fastest(work: Callable[[], Any], times: int, repeats: int) -> float:
    """log10 of the processor seconds of all threads in a call, the fastest of `repeats` means over `times` calls."""
    return math.log10(min(timeit.repeat(work, timer=time.process_time, number=times, repeat=repeats)) / times)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of processor seconds, by the length of vectors and of an epoch; how far results are from the exact ones."""
    rng = np.random.default_rng(derive(seed, "vectors"))
    x, y = rng.random((2, settings.longest)).astype(variant["dtype"])
    dot, way = DOTS[variant["way"]], []
    sizes = np.geomspace(FEW, settings.longest, 6).astype(int)
    for n in sizes:
        a, b = (v[:n].tolist() if variant["way"] == "items" else v[:n] for v in (x, y))
        times = max(1, 2_000 // int(n))
        way.append(fastest(lambda a=a, b=b: dot(a, b), times, settings.repeats))  # type: ignore[misc]
    exact = math.fsum((x.astype(float) * y).tolist())
    numbers: dict[str, Any] = {
        "error": abs(dot(x, y) / exact - 1),
        "sizes": sizes,
        "clock_way": way,
        "clock_few": way[0],
        "clock_many": way[-1],
    }
    if variant["way"] != "items":
        inputs, w = rng.normal(size=(settings.examples, 20)), rng.normal(size=20)
        labels = (rng.random(settings.examples) < 0.5).astype(float)
        epoch = epoch_by_arrays if variant["way"] == "array" else epoch_by_loops
        numbers["clock_epoch"] = fastest(lambda: epoch(w, inputs, labels), 1, settings.repeats)
        numbers["off"] = float(abs(epoch(w, inputs, labels) - epoch_by_arrays(w, inputs, labels)).max())
    return numbers


def draw(figure: Any, results: Results) -> None:
    """Seconds by length, and how often longer than with arrays."""
    axes = figure.subplots()
    ways = {name: 10 ** np.array(column(seeds, "clock_way")) for name, seeds in results.items()}
    sizes = results["arrays"][0]["sizes"]
    curves(axes, sizes, ways, ("numbers in each vector", "processor seconds of a scalar product"))
    axes.set(xscale="log", yscale="log")


STUDIES.register("vectorised-loop")(
    Study(
        claim="Arrays do the work of a loop some hundred times faster on a single thread: what is saved is boxing and "
        "interpreting every number, no work is shared out; of a few numbers a plain loop is the faster.",
        claim_ja="配列演算は、1 スレッドでもループの数百倍速い。並列に処理するからではなく、"
        "数値を一つずつボックス化して解釈する手間が省けるからである。要素が数個なら、ループのほうが速い。",
        source="items 022-024; Harris et al. 2020 (NumPy)",
        settings=Settings(),
        smoke={"longest": 4_000, "examples": 40, "repeats": 2},
        small={"longest": 200_000, "examples": 500, "repeats": 5},
        small_seeds=4,
        variants={
            "loop by index": {"way": "index", "dtype": "float64"},
            "loop over lists": {"way": "items", "dtype": "float64"},
            "arrays": {"way": "array", "dtype": "float64"},
            "arrays of float32": {"way": "array", "dtype": "float32"},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "log10 of loop by index / array on one thread, of a long scalar product: more than 100 times",
                {"loop by index/clock_many": 1, "arrays/clock_many": -1},
                above=2.0,
            ),
            Contrast(
                "the same against a loop over lists: more than 10 times",
                {"loop over lists/clock_many": 1, "arrays/clock_many": -1},
                above=1.0,
            ),
            Contrast(
                "of an epoch of logistic regression: more than 100 times",
                {"loop by index/clock_epoch": 1, "arrays/clock_epoch": -1},
                above=2.0,
            ),
            Contrast(
                f"of {FEW} numbers the loop over lists is faster (log10 of seconds)",
                {"arrays/clock_few": 1, "loop over lists/clock_few": -1},
            ),
        ),
        draw=draw,
        seeds=5,
        correction="The text says that vectorised code is fast because it is parallel. Here one thread does it; what "
        "is saved is the interpreter's work on every number, and vector instructions read memory in order. Its two "
        "sums differ in the last digits because they add in another order.",
        correction_ja="教材は、ベクトル化したコードは並列処理だから速いとしている。"
        "ここでは 1 スレッドで実行している。省けるのは、数値ごとのインタプリタの処理である。また、"
        "SIMD 命令はメモリを順に読む。二つの和の末尾の桁が違うのは、加算の順序が違うからである。",
    )
)
