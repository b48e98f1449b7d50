"""Collect runs into a small committed result: ``python -m rlab.bench.reference OUT RUN [RUN ...]``.

Writes ``OUT/result.json`` (settings, provenance, curve and evaluation of every run) and ``OUT/curve.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rlab.run.files import read_json, to_json
from rlab.run.folder import RunFolder, find_run
from rlab.run.metrics import read_metrics

POINTS = 200
"""Points of a training curve that are kept."""

EVALUATED = ("step", "mean", "median", "low", "high", "episodes", "measure", "split", "examples", "validation")
"""What is kept of an evaluation."""


def collect(run: RunFolder) -> dict[str, Any]:
    """What a reader needs to judge and repeat a run: how it was made, its curve, its scores."""
    rows = list(read_metrics(run.metrics))
    trained = [r for r in rows if r["kind"] == "train"]
    metric = "loss" if "data" in run.config()["subject"] else "return_mean"
    curve = [[r["step"], round(r[metric], 3)] for r in trained if metric in r]
    seconds = sum(_seconds(row, before) for before, row in zip([None, *trained], trained, strict=False))
    evaluations = [{k: r[k] for k in EVALUATED if k in r} for r in rows if r["kind"] == "eval"]
    return {
        "run": run.name,
        **{k: v for k, v in run.config().items() if k in ("recipe", "config")},
        "sessions": run.environment()["sessions"],
        "last_row_at_step": rows[-1]["step"],
        "training_hours": round(seconds / 3600, 3),
        "curve": curve[:: max(1, len(curve) // POINTS)],
        "evaluations": evaluations,
        "final": read_json(run.evaluation) if run.evaluation.exists() else None,
    }


def _seconds(row: dict[str, Any], before: dict[str, Any] | None) -> float:
    """Wall time of training up to a row of the log; agents from outside do not tell its parts."""
    clock = row["clock"]
    if "learn" in clock:
        return float(sum(clock.get(part, 0.0) for part in ("act", "env", "data", "learn")))
    return float((row["step"] - (before["step"] if before else 0)) / clock["steps_per_s"])


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Training return (a line; of a model none) and evaluations with their intervals (points) over the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from rlab.envs import is_atari

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=110)
    games = "env" in results[0]["config"]
    for number, result in enumerate(results):
        name = f"{result['recipe']}, seed {result['config']['run']['seed']}"
        colour = f"C{number % 10}"
        if games:
            axes.plot(*zip(*result["curve"], strict=True), color=colour, label=f"{name}: training, mean of 100 games")
        points = result["evaluations"]
        means = [p["mean"] for p in points]
        spread = [[p["mean"] - p["low"] for p in points], [p["high"] - p["mean"] for p in points]]
        axes.errorbar(
            [p["step"] for p in points],
            means,
            spread,
            fmt="o",
            ms=4,
            capsize=3,
            color=colour,
            label=f"{name}: evaluation, 95 % interval over {'games' if games else 'examples'}",
        )
    if games:
        atari = all(is_atari(result["config"]["env"]["env"]) for result in results)
        axes.set_xlabel("environment steps (4 frames each)" if atari else "environment steps")
        axes.set_ylabel("raw score of a whole game")
    else:
        axes.set_xlabel("training examples")
        axes.set_ylabel(f"{results[0]['evaluations'][-1]['measure']} (validation; the last one test)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main(out: str, *runs: str) -> None:
    """Write result.json and curve.png of the named runs."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    results = [collect(find_run(r)) for r in runs]
    (folder / "result.json").write_bytes(to_json(results))
    draw(results, folder / "curve.png")
    print(f"wrote {folder / 'result.json'} and {folder / 'curve.png'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
