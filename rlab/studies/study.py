"""What a study is, and how its numbers become a verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.registry import Registry
from rlab.stats import student, wilson

Numbers = Mapping[str, Any]
"""What one variant comes to with one seed: name -> a finite number, or nested lists of them (curves, to be drawn).

Names that begin with ``clock_`` are of measured times; they alone come out anew every time.
"""

Results = Mapping[str, Sequence[Numbers]]
"""Variant -> its numbers, seed by seed."""

Word = Literal["holds", "holds partly", "fails", "not seen at this size", "undecided"]
"""What is said of a contrast or a claim. "not seen at this size": a budget that is not the full one refutes nothing."""

Budget = Literal["smoke", "small", "full"]
"""How much is spent: seconds, which decide nothing; what all studies together do in a quarter of an hour on two cores;
what it takes for an answer."""

LEVEL = 0.95
"""Of the interval of each contrast. The intervals that refute are wider: they cover the true means of all contrasts
together with this probability (Bonferroni)."""

AGREE = 1e-9
"""Seeds agree if their values differ by less than this part of the largest."""

ENOUGH = 3
"""Seeds below which nothing is decided."""


@dataclass(frozen=True)
class Contrast:
    """A sum of weighted numbers that lies above a bound, in the mean over seeds, if the claim is true.

    Attributes:
        says: what it means that it does, in a few words.
        weights: "variant/number" -> weight. Numbers of one seed are combined, so what seeds share cancels out.
        above: the bound.
        exact: chance has no part in the value (a count of weights, an identity, a theorem): where all seeds agree,
            there is nothing to estimate, and the value itself is compared with the bound.
        trials: each number is a share of so many independent trials of a seed (games, starts, test examples), or of
            as many as the setting of this name says; the interval is then no narrower than theirs.
        span: what a trial can come to.
    """

    says: str
    weights: Mapping[str, float]
    above: float = 0.0
    exact: bool = False
    trials: int | str = 0
    span: tuple[float, float] = (0.0, 1.0)


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
            One that fails refutes its part of the claim, at the full budget; at a smaller one it was not seen.
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
        low, high: the interval of the mean; None if there is none: too few seeds, or seeds that agree.
        ceiling: the upper end of the wider interval that refutes; None with the others.
        verdict: "holds" if the interval lies above the bound, "fails" (or "not seen at this size") if the wider one
            lies below it.
    """

    says: str
    above: float
    values: list[float]
    mean: float
    low: float | None
    high: float | None
    ceiling: float | None
    verdict: Word


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim, contrast by contrast."""

    verdict: Word
    findings: list[Finding] = field(default_factory=list)


def judge(
    contrasts: Sequence[Contrast],
    results: Results,
    budget: Budget = "full",
    settings: Mapping[str, Any] | None = None,
) -> Verdict:
    """Decide from the numbers alone, by intervals over seeds.

    A claim holds if every contrast does: each at 95 %, without a correction for their number, since all of them must
    (an intersection-union test, Berger 1982). It is refuted if any contrast is: there the intervals are as wide as it
    takes to be right together (Bonferroni), and the budget is the full one.

    Intervals are Student's for the mean of the per-seed values (for few seeds a bootstrap is too narrow). Where a
    number is a share of trials, they are no narrower than that of all trials of all seeds (Wilson's of each number,
    combined as by Newcombe 1998). Seeds that agree have no interval: they decide if the contrast is exact, else not.

    Args:
        contrasts: one or more.
        results: as measured; all variants with the same seeds in the same order.
        budget: that they were measured at.
        settings: names of settings -> values, for contrasts whose `trials` is such a name.

    Raises:
        RlabError: a contrast names a variant, number or setting that there is not.
    """
    wider = 1 - (1 - LEVEL) / max(1, len(contrasts))
    findings = [_find(contrast, results, wider, budget, settings or {}) for contrast in contrasts]
    words = {finding.verdict for finding in findings}
    verdict: Word = "undecided"
    if "not seen at this size" in words:
        verdict = "not seen at this size"
    elif "fails" in words:
        verdict = "holds partly" if "holds" in words else "fails"
    elif words == {"holds"}:
        verdict = "holds"
    return Verdict(verdict, findings)


def _find(contrast: Contrast, results: Results, wider: float, budget: Budget, settings: Mapping[str, Any]) -> Finding:
    columns = []
    for key in contrast.weights:
        variant, _, name = key.partition("/")
        try:
            columns.append([float(numbers[name]) for numbers in results[variant]])
        except KeyError:
            raise RlabError(f"a contrast names '{key}', which was not measured") from None
    weights = list(contrast.weights.values())
    values = [math.fsum(w * x for w, x in zip(weights, seed, strict=True)) for seed in zip(*columns, strict=True)]
    mean = math.fsum(values) / len(values) if values else 0.0
    low = high = ceiling = least = most = None
    if len(values) >= ENOUGH:
        agree = max(values) - min(values) <= AGREE * max(map(abs, values))
        trials = _trials(contrast, settings)
        if trials or not agree:
            low, high = _interval(contrast, columns, values, trials, LEVEL)
            ceiling = _interval(contrast, columns, values, trials, wider)[1]
        least, most = (mean, mean) if agree and contrast.exact else (low, ceiling)
    word: Word = "undecided"
    if least is not None and least > contrast.above:
        word = "holds"
    elif most is not None and most < contrast.above:
        word = "fails" if budget == "full" else "not seen at this size"
    return Finding(contrast.says, contrast.above, values, mean, low, high, ceiling, word)


def _trials(contrast: Contrast, settings: Mapping[str, Any]) -> int:
    """Of a seed; 0: the numbers are no shares."""
    if isinstance(contrast.trials, int):
        return contrast.trials
    if contrast.trials not in settings:
        raise RlabError(f"a contrast counts its trials by the setting '{contrast.trials}', which there is not")
    return int(settings[contrast.trials])


def _interval(
    contrast: Contrast, columns: Sequence[Sequence[float]], values: Sequence[float], trials: int, level: float
) -> tuple[float, float]:
    """Student's interval, at least as wide as that of the trials of all seeds together."""
    from scipy.special import ndtri

    low, high = student(values, level)
    if not trials:
        return low, high
    z, (worst, best) = float(ndtri((1 + level) / 2)), contrast.span
    count, mean = trials * len(values), math.fsum(values) / len(values)
    below = above = 0.0
    for weight, column in zip(contrast.weights.values(), columns, strict=True):
        share = min(1.0, max(0.0, (math.fsum(column) / len(column) - worst) / (best - worst)))
        ends = [weight * (best - worst) * (end - share) for end in wilson(share * count, count, z)]
        below, above = below + min(ends) ** 2, above + max(ends) ** 2
    return min(low, mean - math.sqrt(below)), max(high, mean + math.sqrt(above))
