"""Tokenizers: text again after ids, unknown pieces, vocabularies of the training text alone, a run's state as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from rlab.data.text.settings import KINDS, TextSettings
from rlab.data.text.tokens import BOS, EOS, PAD, UNK, learn_tokenizer, source_ids, target_ids, tokenizer_from
from rlab.errors import RlabError

TRAINING = ["the cat sat on the mat", "吾輩は猫である 猫は猫である", "the cat sat on the mat\nand the dog"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizer_keeps_its_promises(kind: str) -> None:
    made = learn_tokenizer(kind, TRAINING)
    again = tokenizer_from(json.loads(json.dumps(made.state())))
    for text in ("the cat\nsat", "", "\n", "猫 である", "the \0 zebra\ud800 Ωμέγα", "a" * 2_500, "the mat " * 400):
        ids = made.encode(text)
        assert again.encode(text) == made.encode_array(text).tolist() == ids, text
        assert len(made.pieces(text)) == len(ids)
        assert all(UNK <= n < len(made) and n not in (BOS, EOS) for n in ids)
        assert "\n" not in text or made.decode(ids).count("\n") == text.count("\n")
    known = "猫は猫である" if kind == "japanese" else "the cat sat\non the mat"
    assert made.decode([BOS, *made.encode(known), EOS, PAD]) == known
    assert UNK in made.encode("Ω")
    assert "<unk>" in made.decode(made.encode("the Ω"))
    assert (source_ids(made, ""), target_ids(made, "")) == ([EOS], [BOS, EOS])
    with pytest.raises(RlabError, match=f"no token {len(made)}; ids are 0 to {len(made) - 1}"):
        made.decode([len(made)])
    with pytest.raises(RlabError, match=r"empty|no text"):
        learn_tokenizer(kind, ["", " " if kind != "characters" else ""])


def test_characters_by_hand() -> None:
    made = learn_tokenizer("characters", ["ba", "b\n猫"])
    assert made.state() == {"kind": "characters", "pieces": ["\n", "a", "b", "猫"]}
    assert made.encode("ab猫c\U0010ffff") == [5, 6, 7, UNK, UNK]
    assert len(learn_tokenizer("characters", ["aaaabbbccd"], vocabulary=2)) == 6


def test_words_seen_once_are_unknown() -> None:
    made = learn_tokenizer("words", ["b a b", "c a <unk> <unk>"])
    assert made.state()["pieces"] == ["a", "b"]  # the most frequent first, of equal ones by name
    assert made.encode("a c <unk> b") == [4, UNK, UNK, 5]
    assert learn_tokenizer("words", ["all once"]).encode("once") != [UNK]  # else nothing would be known
    assert learn_tokenizer("words", ["a b b c c c"], vocabulary=1).state()["pieces"] == ["c"]


def test_sentencepiece_has_no_more_pieces_than_asked() -> None:
    assert len(learn_tokenizer("sentencepiece", TRAINING, vocabulary=40)) == 44
    assert len(learn_tokenizer("sentencepiece", ["ab"])) < 20
    with pytest.raises(RlabError, match="cannot learn 8 pieces: it needs a larger vocabulary"):
        learn_tokenizer("sentencepiece", TRAINING, vocabulary=8)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "of kind None; valid: "),
        ({"kind": "word"}, "nearest: words"),
        ({"kind": "words", "pieces": ["a", 1]}, "no list of pieces"),
        ({"kind": "words", "pieces": ["a", "a"]}, "'a' twice"),
        ({"kind": "sentencepiece"}, "no model in base64"),
        ({"kind": "sentencepiece", "model": "!"}, "no model in base64"),
        ({"kind": "sentencepiece", "model": "AAAA"}, "no model of sentencepiece"),
    ],
)
def test_damaged_state_is_refused(state: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        tokenizer_from(state)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fugashi", None)
    with pytest.raises(RlabError, match=r"pip install 'rlab-rl\[japanese\]'"):
        learn_tokenizer("japanese", TRAINING)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tokens": "word"}, "no tokens 'word'; nearest: words"),
        ({"target_tokens": "letters"}, "no tokens 'letters'"),
        ({"vocabulary": 3}, "the vocabulary is 3; it must be at least 8"),
        ({"window": 0}, "window is 0"),
        ({"longest": 0}, "longest is 0"),
    ],
)
def test_settings_out_of_range(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RlabError, match=said):
        TextSettings(**given)
