"""Data sets of text: windows, pairs and labelled sentences; every batch is known by epoch and number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlab.data.batches import Batches
from rlab.data.catalog import DATASETS
from rlab.data.datasets import load
from rlab.data.text.corpora import Labelled, Pairs, Stream, aozora_text
from rlab.data.text.datasets import Ragged, joined, make, padded
from rlab.data.text.settings import TextSettings
from rlab.data.text.tokens import BOS, EOS, PAD
from rlab.errors import RlabError

OF_TEXT = [
    name
    for name in DATASETS
    if DATASETS.get(name).kind in ("text", "pairs", "labelled text", "labelled steps") and DATASETS.get(name).embedded
]


def stream(n: int = 1_000, window: int = 16, test: str | None = None, **more: Any) -> Any:
    """A text in which every character is at a place of its own, so that a token tells where it stood."""
    return make("it", Stream("".join(chr(0x4E00 + k) for k in range(n)), test), TextSettings(window=window), **more)


@pytest.mark.parametrize("name", OF_TEXT)
def test_batches_are_known_by_epoch_and_number(name: str) -> None:
    data = load(name)
    one, other = Batches(data, 32, seed=3), Batches(data, 32, seed=3)
    later = other.at(1, len(other) - 1)
    for place in ((1, len(one) - 1), (0, 0), (0, 1), (1, 0)):
        batch, again = one.at(*place), other.at(*place)
        assert torch.equal(batch.items, again.items)
        for key, tensor in batch.tensors.items():
            assert torch.equal(tensor, again[key])
    assert torch.equal(one.at(1, len(one) - 1).items, later.items)
    assert not torch.equal(one.at(0, 0).items, one.at(1, 0).items)
    assert not torch.equal(one.at(0, 0).items, Batches(data, 32, seed=4).at(0, 0).items)
    ranks = [one.at(0, 0, rank, 2).items for rank in (0, 1)]
    assert sorted(torch.cat(ranks).tolist()) == sorted(one.at(0, 0).items.tolist())
    if data.kind != "text":  # whose windows move
        items = torch.cat([batch.items for batch in one.epoch(0)])
        assert torch.equal(items.sort().values, data.splits["train"])


def test_windows_predict_every_token_once() -> None:
    data = stream(1_000, test="".join(chr(0x7000 + k) for k in range(100)))
    assert {split: len(data.part(split)) for split in data.ends} == {"train": 900, "validation": 100, "test": 100}
    for split in ("validation", "test"):
        predicted = []
        for batch in Batches(data, 4).ordered(split, 4):
            mask = batch.tensors.get("mask", torch.ones_like(batch["tokens"], dtype=torch.bool))
            assert (batch["tokens"][~mask] == PAD).all()
            predicted += batch["tokens"][:, 1:][mask[:, 1:]].tolist()
        assert predicted == data.part(split).tolist()
    first = data.collate(data.splits["validation"][:1])["tokens"]
    assert first[0, 0] == data.part("train")[-1]  # what the first token is predicted from
    assert data.unknown("train") == 0
    assert data.unknown("test") == 1  # the vocabulary is that of the training split alone


def test_training_windows_move_and_stay_inside() -> None:
    data = stream()
    batches = Batches(data, 7, seed=1)
    starts = set()
    for epoch in range(20):
        for batch in batches.epoch(epoch):
            assert batch["tokens"].shape[1] == 17
            assert batch.items.max() + 17 <= data.ends["train"]
            starts |= set(batch.items.tolist())
    assert len(starts) > 500
    held = torch.cat([batch.items for batch in Batches(data, 7, split="test").epoch(0)])
    assert held.min() >= data.ends["validation"] - 1  # nor does another split reach into training


def test_streams_go_on_where_their_window_ended() -> None:
    data = stream(1_000).in_streams(3)
    batches = Batches(data, 3, seed=1)
    rows = torch.cat([batch["tokens"][:, :-1] for batch in batches.epoch(0)], 1)
    assert len(rows) == 3
    assert rows.shape[1] == len(batches) * 16
    assert (rows.diff(dim=1) == 1).all()  # this text counts
    with pytest.raises(RlabError, match="has 3 streams; its batch size cannot be 4"):
        Batches(data, 4).at(0, 0)
    with pytest.raises(RlabError, match="too few for 100 streams"):
        stream().in_streams(100)


@pytest.mark.parametrize(("n", "shape"), [(4, 1), (20, 16)])
def test_short_texts_have_one_short_window(n: int, shape: int) -> None:
    data = stream(n)
    batch = Batches(data, 8).at(0, 0)
    assert batch["tokens"].shape == (1, len(data.part("train")))
    assert batch["tokens"].shape[1] >= 2 * (n > 3)
    assert shape >= batch["tokens"].shape[1] - 1


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_texts_too_short_are_refused(n: int) -> None:
    with pytest.raises(RlabError, match=r"it has .* character|it is too short"):
        stream(n)


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list("abcdefgh"), int(rng.integers(0, 30)))) for _ in range(n)]


def test_batches_hold_sentences_of_like_length() -> None:
    data = make("it", Pairs(sentences(2_000), sentences(2_000, 1)), TextSettings(), "words")
    batches = list(Batches(data, 20).epoch(0))
    padding = 1 - np.mean([batch["target_mask"].double().mean().item() for batch in batches])
    assert padding < 0.05
    assert [len(batch) for batch in batches[:-1]] == [20] * (len(batches) - 1)
    lengths = [batch["target"].shape[1] for batch in batches]
    assert lengths != sorted(lengths)  # short and long ones in any order
    batch = batches[0]
    assert (batch["target"][:, 0] == BOS).all()
    for side in ("source", "target"):
        last = batch[f"{side}_mask"].sum(1) - 1
        assert (batch[side].gather(1, last[:, None]) == EOS).all()
        assert (batch[side][~batch[f"{side}_mask"]] == PAD).all()


def test_unseen_targets_are_a_split_of_their_own() -> None:
    splits = {"train": np.arange(3), "validation": np.arange(3, 4), "test": np.arange(4, 6)}
    pairs = Pairs(list("uvwxyz"), ["a a", "b b", "a a", "c", "b b", "d"], splits)
    data = make("it", pairs, TextSettings(), "words")
    assert data.splits["test_unseen"].tolist() == [5]
    assert data.target_tokenizer.state()["pieces"] == ["a", "b"]  # c and d are not in the training split
    assert "validation" not in make("it", pairs, TextSettings(), "words", validation=0).splits
    made = make("it", pairs, TextSettings(target_tokens="characters"), "words")
    assert (made.source_tokenizer.name, made.target_tokenizer.name) == ("words", "characters")


@pytest.mark.parametrize("k", [1, 2, 4])
def test_joined_pairs_follow_each_other(k: int) -> None:
    data = load("rule-pairs")
    long = joined(data, "test", k)
    items = data.splits["test"].tolist()
    assert len(long) == 300 // k
    assert long.sources[1] == " ".join(data.sources[n] for n in items[k : 2 * k])
    assert long.target[1] == [BOS, *(n for item in items[k : 2 * k] for n in data.target[item][1:-1]), EOS]
    assert len(list(Batches(data, 8).ordered("test", 8))) == 38
    with pytest.raises(RlabError, match="301 pairs of 'test'"):
        joined(data, "test", 301)


def test_labelled_text_is_split_by_class() -> None:
    y = np.repeat([0, 1], [300, 100])
    data = make("it", Labelled(sentences(400), y, ("no", "yes")), TextSettings(), "words")
    for split, n in (("train", 280), ("validation", 60), ("test", 60)):
        assert len(data.splits[split]) == n
        assert data.y[data.splits[split]].double().mean() == 0.25
    batch = Batches(data, 16).at(0, 0)
    assert batch["tokens"].shape == batch["mask"].shape
    assert torch.equal(batch.y, data.y[batch.items])
    assert batch["mask"].any(1).all()  # an empty sentence has its end


def test_ragged_rows_by_hand() -> None:
    rows = Ragged.of([[5, 6], [], [7, 8, 9]])
    ids, mask = rows.gather(torch.tensor([2, 1, 0]))
    assert ids.tolist() == [[7, 8, 9], [0, 0, 0], [5, 6, 0]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, True, False]]
    assert padded([[1, 2], [3]])[0].tolist() == [[1, 2], [3, 0]]
    assert padded([[]])[1].shape == (1, 0)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("題\n" + "-" * 55 + "\n《》：ルビ\n" + "-" * 55 + "\n猫《ねこ》だ。\n底本：「本」\n入力：人\n", "猫だ。\n"),
        ("一番｜獰悪《どうあく》な［＃「な」に傍点］種族\r\n", "一番獰悪な種族\n"),
        ("※［＃「言＋墟」、第4水準］《うそ》と〔Quid〕", "〓とQuid\n"),
        ("本文だけ\n\n\n\n二つ", "本文だけ\n\n二つ\n"),
    ],
)
def test_aozora_notes_are_taken_out(text: str, left: str) -> None:
    assert aozora_text(text) == left


@pytest.mark.data
def test_published_sets_are_what_they_say() -> None:
    pairs = load("small_parallel_enja")
    sizes = {split: len(items) for split, items in pairs.splits.items()}
    assert sizes == {"train": 50_000, "validation": 500, "test": 500, "test_unseen": 440}
    play = load("tinyshakespeare", validation=0)
    assert (len(play.part("train")), len(play.part("test")), len(play.tokenizer)) == (1_003_854, 111_540, 69)
    novel = load("wagahai")
    text = novel.tokenizer.decode(novel.tokens.tolist())
    assert text.startswith("一\n\u3000吾輩は猫である。名前はまだ無い。\n")
    assert not set("《》［］｜※〔〕\r") & set(text)
    reviews = load("sentence_polarity")
    assert len(reviews) == 10_662
    assert reviews.y[reviews.splits["test"]].double().mean() == pytest.approx(0.5, abs=0.001)
    takes, speaker = load("fsdd_mel"), load("fsdd_mel_speaker")
    assert (takes.shape[1], len(takes.splits["test"]), len(speaker.splits["test"])) == (40, 300, 500)
    assert torch.equal(takes.x, speaker.x)
