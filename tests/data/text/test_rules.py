"""Sets made by rule: each obeys its rule, which the tests compute in another way."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from rlab.data.readers import log_mel
from rlab.data.text import rules
from rlab.data.text.corpora import Steps
from rlab.data.text.tokens import learn_tokenizer


def test_dates_mean_the_same_day() -> None:
    pairs = rules.dates()
    assert len(pairs.sources) == len(set(pairs.targets)) == 2_000
    ways = {"%d %B %Y": 0, "%B %d, %Y": 0, "%d.%m.%Y": 0, "%m/%d/%Y": 0, "%Y年%m月%d日": 0, "%d %b %Y": 0}
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        day = datetime.date.fromisoformat(target)
        assert str(day.day) in source
        assert str(day.year) in source
        for way in ways:
            try:
                assert datetime.datetime.strptime(source, way).date() == day
            except ValueError:
                continue
            ways[way] += 1
    assert min(ways.values()) > 100


def test_pairs_by_rule_are_all_different() -> None:
    pairs = rules.rule_pairs()
    known = dict(zip(pairs.sources, pairs.targets, strict=True))
    assert len(known) == 2_000
    assert known["彼 は 家 で 本 を 読み ま せ ん 。"] == "he does not read a book at home ."
    assert known["時々 友達 は 花 を 買い ま す 。"] == "my friend buys flowers sometimes ."
    backwards = rules.reversal(n=100)
    assert all(source == target[::-1] for source, target in zip(backwards.sources, backwards.targets, strict=True))


def test_binary_addition_adds() -> None:
    steps = rules.binary_addition(bits=5, longer_bits=9, longer=20)
    weights = 1 << np.arange(9)
    numbers, sums = steps.x.astype(int).transpose(0, 2, 1) @ weights, (steps.y * steps.mask) @ weights
    assert (numbers.sum(1) == sums).all()
    assert len({tuple(pair) for pair in numbers[:256]}) == 256
    assert (steps.lengths[:256] == 5).all()
    assert steps.longer is not None
    assert (steps.lengths[steps.longer] == 9).all()


def said(steps: Steps, item: int) -> tuple[str, str]:
    """Inputs and labels of a sequence as letters; labels that are not scored are points."""
    length = int(steps.lengths[item])
    inputs = "".join(steps.inputs[n][0] for n in steps.x[item, :length].argmax(1))
    labels = zip(steps.y[item, :length], steps.mask[item, :length], strict=True)
    return inputs, "".join(steps.classes[label][0] if scored else "." for label, scored in labels)


@pytest.mark.parametrize(
    ("steps", "inputs", "labels"),
    [
        (rules.anbn(most=3, n=1, longest=4), "saaaabbbb", ".....bbbe"),
        (rules.anbncn(most=1, n=1, longest=2), "saabbcc", "...bcce"),
        (rules.copy(symbols=2, kinds=2, delay=3, longer_delay=3, n=0, longer=1), None, None),
    ],
)
def test_sequences_by_hand(steps: Steps, inputs: str | None, labels: str | None) -> None:
    got = said(steps, len(steps.x) - 1)
    if inputs is None:
        first = got[0][:2]
        inputs, labels = first + "bb" + "g" + "bb", "....." + first
    assert got == (inputs, labels)
    assert (steps.x.sum(2) == (np.arange(steps.x.shape[1]) < steps.lengths[:, None])).all()


def test_brackets_are_balanced() -> None:
    steps = rules.dyck1(n=50, longer=10)
    for item in range(60):
        depth = 0
        inputs, labels = said(steps, item)
        for symbol, label in zip(inputs, labels, strict=True):
            depth += 1 if symbol == "(" else -1
            assert depth >= 0
            assert label == ("o" if depth else "n")
        assert depth == 0
        assert (len(inputs) > 50) == (item >= 50)


def test_recalled_symbol_stands_first_alone() -> None:
    made = rules.delayed_recall(lag=5, n=200)
    assert made.x.shape == (200, 6, 4)
    assert (made.x[:, 0].argmax(1) == made.y).all()
    assert abs(np.corrcoef(made.x[:, 5].argmax(1), made.y)[0, 1]) < 0.2


@pytest.mark.parametrize("hertz", [250, 1_000, 3_000])
def test_log_mel_finds_a_tone(hertz: int) -> None:
    t = np.arange(4_000) / 8_000
    mel = log_mel(np.sin(2 * np.pi * hertz * t).astype(np.float32))
    assert mel.shape == (51, 40)
    assert (mel.min() >= -1, mel.max()) == (True, 0)
    centres = np.linspace(0, 2595 * np.log10(1 + 4_000 / 700), 42)[1:-1]
    expected = np.abs(centres - 2595 * np.log10(1 + hertz / 700)).argmin()
    assert abs(int(mel[25].argmax()) - expected) <= 1
    assert log_mel(np.zeros(5, np.float32)).shape == (1, 40)


def test_series_have_intervals_text_an_order() -> None:
    """Item 208: of a series the interval is fixed, 10 ms here; of text only the order counts."""
    tone = np.sin(np.arange(8_000, dtype=np.float32))
    assert len(log_mel(tone)) - len(log_mel(tone[:4_000])) == 50
    words = learn_tokenizer("words", ["to be or not"], vocabulary=8)
    ids = words.encode("to be or not")
    assert words.encode("  to\tbe      or not ") == ids
    assert words.encode("not or be to") == ids[::-1] != ids
