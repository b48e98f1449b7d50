"""BLEU of a corpus: worked values, its interval, and what it refuses."""

from __future__ import annotations

import pytest

from rlab.errors import RlabError
from rlab.tasks.sequence.bleu import bleu

SHORT = ["the cat sat on the mat", "a dog"]
LONG = ["the cat sat on the mat", "a dog barks very loudly at night"]


def test_bleu_of_worked_corpus() -> None:
    score = bleu(SHORT, LONG)
    assert round(score["mean"], 2) == 53.53  # every n-gram is right, exp(1 - 13 / 8) for brevity
    assert "tok:none" in score["signature"]
    assert score["low"] <= score["mean"] <= score["high"]


def test_references_are_one_for_each_sentence() -> None:
    assert bleu(LONG, LONG)["mean"] == pytest.approx(100)
    assert bleu(LONG, LONG[::-1])["mean"] < 5
    for hypotheses, references in ((SHORT, LONG[:1]), ([], [])):
        with pytest.raises(RlabError, match="as many references, at least one"):
            bleu(hypotheses, references)


def test_japanese_counts_by_given_words() -> None:
    hypothesis, reference = "私 は 猫 が 好き です 。", "私 は 犬 が 好き です 。"
    cut = bleu([hypothesis] * 3, [reference] * 3)["mean"]
    assert 40 < cut < 60
    whole = bleu([hypothesis.replace(" ", "")], [reference.replace(" ", "")])["mean"]
    assert whole == 0  # one word that is wrong: text must be cut before it is compared


def test_interval_narrows_with_sentences() -> None:
    few, many = (bleu((LONG[:1] + SHORT[1:]) * k, LONG * k) for k in (4, 100))
    assert few["high"] - few["low"] > 2 * (many["high"] - many["low"])
    assert many["low"] < many["mean"] < many["high"]
