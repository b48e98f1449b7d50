"""What a study is, and how its numbers become a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.registry import Registry

Numbers = Mapping[str, Any]
"""What one variant comes to with one seed: name -> a finite number, or nested lists of them (curves, to be drawn)."""

Results = Mapping[str, Sequence[Numbers]]
"""Variant -> its numbers, seed by seed."""

Word = Literal["holds", "fails", "undecided"]

LEVEL = 0.95
"""Probability with which all intervals of a study cover the true means together (Bonferroni)."""

ENOUGH = 3
"""Seeds below which nothing is decided."""


@dataclass(frozen=True)
class Contrast:
    """A sum of weighted numbers that lies above a bound, in the mean over seeds, if the claim is true.

    Attributes:
        says: what it means that it does, in a few words.
        weights: "variant/number" -> weight. Numbers of one seed are combined, so what seeds share cancels out.
        above: the bound.
    """

    says: str
    weights: Mapping[str, float]
    above: float = 0.0


@dataclass(frozen=True)
class Study:
    """A claim and the experiment that it is put to.

    Attributes:
        claim: one sentence.
        source: where it is made: the text's item, the paper and its section.
        settings: a frozen dataclass with defaults; `rlab study run` has a flag for each field.
        quick: fields that `--quick` changes, so that everything is run through in seconds.
        variants: name -> what `measure` is given of it; JSON values.
        measure: (settings, variant's value, seed) -> numbers; the same for the same arguments.
        contrasts: the claim holds if all of them do, and fails if one fails.
        draw: draws the results into a figure (or a part of one); None: only the contrasts are drawn.
        seeds: how many seeds are measured if nothing else is asked for.
    """

    claim: str
    source: str
    settings: Any
    quick: Mapping[str, Any]
    variants: Mapping[str, Any]
    measure: Callable[[Any, Any, int], Numbers]
    contrasts: tuple[Contrast, ...]
    draw: Callable[[Any, Results], None] | None = None
    seeds: int = 10


STUDIES: Registry[Study] = Registry("study")


@dataclass(frozen=True)
class Finding:
    """What the seeds say of one contrast.

    Attributes:
        says: of the contrast.
        above: its bound.
        values: of each seed.
        mean: of the values.
        low, high: the interval of the mean; None if there are too few seeds.
        verdict: "holds" if the interval lies above the bound, "fails" if below it.
    """

    says: str
    above: float
    values: list[float]
    mean: float
    low: float | None
    high: float | None
    verdict: Word


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim, contrast by contrast."""

    verdict: Word
    findings: list[Finding] = field(default_factory=list)


def judge(contrasts: Sequence[Contrast], results: Results) -> Verdict:
    """Decide from the numbers alone: intervals over seeds, each as wide as it takes to be right together.

    Intervals are Student's for the mean of the per-seed values (for few seeds a bootstrap is too narrow); where every
    seed gives the same, they have no width.

    Args:
        contrasts: one or more.
        results: as measured; all variants with the same seeds in the same order.

    Raises:
        RlabError: a contrast names a variant or number that was not measured.
    """
    level = 1 - (1 - LEVEL) / max(1, len(contrasts))
    findings = [_find(contrast, results, level) for contrast in contrasts]
    words = {finding.verdict for finding in findings}
    verdict: Word = "fails" if "fails" in words else "undecided" if "undecided" in words or not words else "holds"
    return Verdict(verdict, findings)


def _find(contrast: Contrast, results: Results, level: float) -> Finding:
    columns = []
    for key, weight in contrast.weights.items():
        variant, _, name = key.partition("/")
        try:
            columns.append([weight * float(numbers[name]) for numbers in results[variant]])
        except KeyError:
            raise RlabError(f"a contrast names '{key}', which was not measured") from None
    values = [math.fsum(seed) for seed in zip(*columns, strict=True)]
    mean = math.fsum(values) / len(values) if values else 0.0
    if len(values) < ENOUGH:
        return Finding(contrast.says, contrast.above, values, mean, None, None, "undecided")
    low, high = interval(values, level)
    word: Word = "holds" if low > contrast.above else "fails" if high < contrast.above else "undecided"
    return Finding(contrast.says, contrast.above, values, mean, low, high, word)


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean of two or more values."""
    from scipy.special import stdtrit

    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return mean - half, mean + half
