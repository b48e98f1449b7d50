"""What a study is, and how its numbers become a verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.registry import Registry
from rlab.stats import student

Numbers = Mapping[str, Any]
"""What one variant comes to with one seed: name -> a finite number, or nested lists of them (curves, to be drawn).

Names that begin with ``clock_`` are of measured times; they alone come out anew every time.
"""

Results = Mapping[str, Sequence[Numbers]]
"""Variant -> its numbers, seed by seed."""

Word = Literal["holds", "holds partly", "fails", "undecided"]

Budget = Literal["smoke", "small", "full"]
"""How much is spent: seconds, which decide nothing; what all studies together do in a quarter of an hour on two cores;
what it takes for an answer."""

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
        source: where it is made: the curriculum's items, the paper and its section.
        settings: a frozen dataclass whose defaults are the full budget; `rlab study run` has a flag for each field.
        smoke: fields that are changed so that everything is run through in seconds.
        variants: name -> what `measure` is given of it; JSON values.
        measure: (settings, variant's value, seed) -> numbers; the same for the same arguments.
        contrasts: the claim holds if all of them do, holds partly if some do and others fail, and fails if no more do.
            One that fails refutes its part of the claim.
        draw: draws the results into a figure (or a part of one); None: only the contrasts are drawn.
        animate: (settings, results) -> an animated GIF, for what only movement shows; written beside the figure.
        seeds: of the full budget.
        small: fields that are changed for the small budget.
        small_seeds: of the small budget; None: as many as of the full one.
        claim_ja: the claim in Japanese.
        correction: what the texts say wrongly or too simply, if the claim is not theirs as they make it.
        correction_ja: the same in Japanese.
    """

    claim: str
    source: str
    settings: Any
    smoke: Mapping[str, Any]
    variants: Mapping[str, Any]
    measure: Callable[[Any, Any, int], Numbers]
    contrasts: tuple[Contrast, ...]
    draw: Callable[[Any, Results], None] | None = None
    animate: Callable[[Any, Results], bytes] | None = None
    seeds: int = 10
    small: Mapping[str, Any] = field(default_factory=dict)
    small_seeds: int | None = None
    claim_ja: str = ""
    correction: str = ""
    correction_ja: str = ""

    @property
    def items(self) -> tuple[int, ...]:
        """Of the curriculum, as `source` names them: "items 034, 046-048; ..."."""
        named = re.match(r"items? ([\d, -]+);", self.source)
        numbers: list[int] = []
        for part in named[1].split(",") if named else []:
            first, _, last = part.strip().partition("-")
            numbers += range(int(first), int(last or first) + 1)
        return tuple(numbers)

    def budget(self, budget: Budget) -> tuple[Any, int]:
        """(settings, number of seeds) of a budget."""
        if budget == "smoke":
            return replace(self.settings, **self.smoke), SMOKE_SEEDS
        if budget == "small":
            return replace(self.settings, **self.small), self.small_seeds or self.seeds
        return self.settings, self.seeds


SMOKE_SEEDS = 2
"""Too few to decide anything."""

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
    verdict: Word = "undecided"
    if "fails" in words:
        verdict = "holds partly" if "holds" in words else "fails"
    elif words == {"holds"}:
        verdict = "holds"
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
    low, high = student(values, level)
    word: Word = "holds" if low > contrast.above else "fails" if high < contrast.above else "undecided"
    return Finding(contrast.says, contrast.above, values, mean, low, high, word)
