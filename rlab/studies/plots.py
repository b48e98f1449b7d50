"""Drawings that studies share: seeds as dots, curves with bands, contrasts with their intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlab.stats import student
from rlab.studies.study import ENOUGH, Results, Verdict

COLOURS = {"holds": "tab:green", "fails": "tab:red", "not seen at this size": "tab:orange", "undecided": "0.5"}


def draw_findings(figure: Any, verdict: Verdict) -> None:
    """One row a contrast: its bound, every seed, the interval of the mean, and thin, how far the wider one reaches."""
    rows = figure.subplots(len(verdict.findings), 1, squeeze=False)[:, 0]
    for axes, finding in zip(rows, verdict.findings, strict=True):
        colour = COLOURS[finding.verdict]
        axes.axvline(finding.above, color="black", lw=1, ls=":")
        axes.plot(finding.values, np.zeros(len(finding.values)), "|", ms=9, color="0.6")
        if finding.low is not None:
            axes.plot([finding.low, finding.high], [0, 0], lw=3, color=colour, solid_capstyle="butt", alpha=0.6)
            axes.plot([finding.high, finding.ceiling], [0, 0], lw=1, color=colour)
        axes.plot([finding.mean], [0], "o", ms=5, color=colour)
        axes.set(yticks=[], ylim=(-1, 1))
        axes.set_title(textwrap.fill(f"{finding.says}: {finding.verdict}", 56), fontsize=8)
        axes.tick_params(labelsize=7)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)


def dots(axes: Any, groups: Mapping[str, Sequence[float]], label: str) -> None:
    """Each group's seeds as dots, with mean and 95 % interval beside them."""
    for x, values in enumerate(groups.values()):
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else [0.0]
        axes.plot(x + np.asarray(spread), values, ".", color="0.6", ms=5)
        mean = float(np.mean(values))
        low, high = student(values) if len(values) >= ENOUGH else (mean, mean)
        arms = [[max(0.0, mean - low)], [max(0.0, high - mean)]]  # of equal values, rounding may put the mean outside
        axes.errorbar([x + 0.25], [mean], arms, fmt="o", ms=5, capsize=3, color=f"C{x % 10}")
    axes.set_xticks(range(len(groups)), list(groups), fontsize=8)
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.3)


def curves(axes: Any, x: Any, groups: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Each group's mean over seeds with its 95 % interval as a band.

    Args:
        axes: what is drawn into.
        x: [P].
        groups: name -> [seeds, P].
        labels: of the two axes.
    """
    for name, seeds in groups.items():
        values = np.asarray(seeds, float)
        (line,) = axes.plot(x, values.mean(axis=0), label=name)
        if len(values) >= ENOUGH:
            low, high = np.array([student(column) for column in values.T.tolist()]).T
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axes.set_xlabel(labels[0], fontsize=9)
    axes.set_ylabel(labels[1], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def column(numbers: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """One number of every seed."""
    return [seed[name] for seed in numbers]


def columns(results: Results, name: str, scale: float | None = None) -> dict[str, Any]:
    """One number of every seed, times `scale`: variant -> [seeds], or [seeds, P] of a curve."""
    values = {variant: column(numbers, name) for variant, numbers in results.items()}
    return values if scale is None else {variant: scale * np.array(seeds) for variant, seeds in values.items()}


def count_ticks(axes: Any, counts: Sequence[float]) -> None:
    """Make the x axis logarithmic, with a tick at each of these counts."""
    axes.set(xscale="log")
    axes.set_xticks(counts, [f"{count:,.0f}" for count in counts])
    axes.minorticks_off()
