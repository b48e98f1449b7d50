"""A user's own text and pairs: taken, or refused in one sentence that names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlab.data.batches import Batches
from rlab.data.catalog import DATASETS
from rlab.data.datasets import load
from rlab.data.own import OwnSettings
from rlab.data.text.settings import KINDS, TextSettings
from rlab.errors import RlabError


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_mixed_scripts_is_taken(tmp_path: Path, kind: str, encoding: str) -> None:
    text = "To be, 又は not; Быть или не быть 🐈 \u0301e\r\nline two\rline three\n" * 20
    path = write(tmp_path / "mine.txt", text.encode(encoding))
    data = load(f"text:{path}", text=TextSettings(kind, window=8))
    assert (data.name, data.kind, data.tokenizer.name) == ("mine.txt", "text", kind)
    whole = data.tokenizer.decode(data.part("train").tolist())
    assert "\r" not in whole
    assert "\ufeff" not in whole
    assert whole.count("\n") >= 45
    assert Batches(data, 4).at(0, 0)["tokens"].shape == (4, 9)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "mine.txt is empty; it takes text$"),
        (b" \r\n\t\n", "mine.txt is empty"),
        (b"\xef\xbb\xbf", "mine.txt is empty"),
        (b"x", "mine.txt has 1 character, too few"),
        (b"ok\nfine\nthe cat \xff sat", "mine.txt, line 3: it is no text in UTF-8; save it as UTF-8$"),
        (b"ok\nzero \0 byte\n", "mine.txt, line 2: it is no text, for it holds zero bytes$"),
        ("日本".encode("utf-16-le"), "mine.txt, line 1: it is no text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path / "mine.txt", data)
    with pytest.raises(RlabError, match=said) as refusal:
        load(f"text:{path}")
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_pairs_are_taken(tmp_path: Path) -> None:
    rows = "".join(f"猫 {n} です\tit is cat {n}\r\n" for n in range(40))
    path = write(tmp_path / "mine.tsv", b"\xef\xbb\xbf" + f"{rows}\r\n\n".encode())
    data = load(f"pairs:{path}")
    assert (data.name, data.kind, len(data)) == ("mine.tsv", "pairs", 40)
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 28, "validation": 6, "test": 6}
    assert (data.sources[3], data.targets[3]) == ("猫 3 です", "it is cat 3")
    assert data.source_tokenizer.decode(data.source[3]) == "猫 3 です"
    assert data.target_tokenizer.name == "sentencepiece"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "mine.tsv is empty; it takes pairs"),
        ("\n\n", "mine.tsv is empty; it takes pairs"),
        ("a\tb\nsingle\n", "mine.tsv, line 2: it has one column; it takes two, divided by a tab$"),
        ("a\tb\n\nc\td\te\n", "mine.tsv, line 3: it has 3 columns; it takes two"),
        ("a\tb\r\n\tb\r\n", "mine.tsv, line 2: its first column is empty"),
        ("a\t \n", "mine.tsv, line 1: its second column is empty"),
        ("a\tb\n", "mine.tsv has 1 example, of which none is left"),
        ("a\tb\n" * 9 + "\nc\t" + "d " * 600 + "\n", r"mine.tsv, line 11: .* 6\d\d tokens of words; it may have 512"),
        ("a\tb\n" * 9 + "c\t" + "d" * 10_001 + "\n", "mine.tsv, line 10: .* 10,001 characters; it may have 10,000"),
        ("a\tb\nc\0\td\n", "mine.tsv, line 2: it is no text, for it holds zero bytes"),
    ],
)
def test_what_are_no_pairs_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    path = write(tmp_path / "mine.tsv", rows.encode())
    with pytest.raises(RlabError, match=said) as refusal:
        load(f"pairs:{path}", text=TextSettings("words"))
    assert str(path) in str(refusal.value)


def test_a_line_of_100_megabytes(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", b"a\tb\n" + b"c" * 100_000_000 + b"\td\n")
    with pytest.raises(RlabError, match=r"line 2: it has 100,000,002 characters; a sentence may have 10,000"):
        load(f"pairs:{path}")
    write(path, b"c" * 10_000_000)
    data = load(f"text:{path}")
    assert len(data) == 10_000_000
    assert Batches(data, 2).at(0, 0)["tokens"].shape == (2, 257)


@pytest.mark.parametrize("prefix", ["text", "pairs"])
def test_digest_holds_a_run_to_its_file(tmp_path: Path, prefix: str) -> None:
    path = write(tmp_path / "mine", b"a b\tc d\n" * 20)
    source = DATASETS.get(f"{prefix}:{path}")
    assert source.own is not None
    assert source.examples > 0
    settings = OwnSettings(digest=source.own.digest(OwnSettings()))
    load(f"{prefix}:{path}", own=settings)
    path.write_bytes(b"a b\tc e\n" * 20)
    with pytest.raises(RlabError, match="have changed since the run began"):
        load(f"{prefix}:{path}", own=settings)
    with pytest.raises(RlabError, match="absent cannot be read"):
        load(f"{prefix}:{tmp_path / 'absent'}")
    with pytest.raises(RlabError, match="is no regular file"):
        load(f"{prefix}:{tmp_path}")
