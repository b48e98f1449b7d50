"""BLEU of a whole corpus by sacrebleu, with its signature and an interval over the sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlab.errors import RlabError

RESAMPLES = 1_000
"""Of the sentences, for the interval (Koehn 2004)."""


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "none") -> dict[str, Any]:
    """Compute the BLEU of a corpus (Papineni et al. 2002), as sacrebleu does (Post 2018).

    Args:
        hypotheses: one for each sentence.
        references: one for each sentence, in the same order.
        tokenize: how sacrebleu cuts both into words; "none" for text that is cut already.

    Returns:
        mean, low, high (0..100, the 95 % interval of a bootstrap over sentences), brevity_penalty and signature.

    Raises:
        RlabError: there are none, or not as many of one as of the other.
    """
    from sacrebleu import BLEU

    if not hypotheses or len(hypotheses) != len(references):
        raise RlabError(
            f"BLEU compares sentences with as many references, at least one; "
            f"these are {len(hypotheses):,} and {len(references):,}"
        )
    metric = BLEU(tokenize=tokenize, force=True)  # force: tokens that end in " ." are meant to
    score = metric.corpus_score(list(hypotheses), [list(references)])
    statistics = _statistics(metric, hypotheses, references)
    low, high = _interval(statistics)
    return {
        "mean": score.score,
        "low": min(low, score.score),
        "high": max(high, score.score),
        "brevity_penalty": score.bp,
        "signature": str(metric.get_signature()),
    }


def _statistics(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Of each sentence: right n-grams, n-grams, length and length of its reference; float[n, 10]."""
    logger = logging.getLogger("sacrebleu")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises about BLEU of single sentences, of which only the counts are taken
    try:
        parts = [metric.sentence_score(h, [r]) for h, r in zip(hypotheses, references, strict=True)]
    finally:
        logger.setLevel(level)
    return np.array([[*part.counts, *part.totals, part.sys_len, part.ref_len] for part in parts], np.float64)


def _interval(statistics: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the corpus' BLEU, its sentences being resampled."""
    n, generator = len(statistics), np.random.default_rng(0)
    drawn = np.stack([statistics[generator.integers(0, n, n)].sum(0) for _ in range(RESAMPLES)])
    right, grams, length, reference = drawn[:, :4], drawn[:, 4:8], drawn[:, 8], drawn[:, 9]
    # An order without a right n-gram counts half of what the one before it did, as sacrebleu smooths ("exp").
    halves = 0.5 ** np.cumsum((right == 0) & (grams > 0), 1)
    precision = np.where(right > 0, right, halves) / grams.clip(1)
    penalty = np.exp(np.minimum(0, 1 - reference / length.clip(1)))
    scores = 100 * penalty * np.exp(np.log(precision).mean(1)) * (grams > 0).all(1)
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
