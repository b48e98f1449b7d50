"""``rlab data``, from outside."""

from __future__ import annotations

import hashlib
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rlab.data.catalog import DATASETS, DataSource, File
from rlab.data.readers import Arrays
from tests.data.conftest import Server, folders, server

__all__ = ["folders", "server"]

BODY = b"some data"


@pytest.fixture(autouse=True)
def _here(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy(server: Server, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    server.files["/a.bin"] = BODY
    file = File("a.bin", len(BODY), hashlib.sha256(BODY).hexdigest(), f"{server.address}/a.bin")
    source = DataSource("text", "for tests", "none", "http://toy.example", None, (file,))
    monkeypatch.setitem(DATASETS._entries, "toy", source)
    return folders[1] / "toy" / "a.bin"


def test_list_names_all_sets_and_where_they_are(rlab, rlab_json, toy: Path) -> None:
    rows = {row["name"]: row for row in rlab_json("data", "list")["sets"]}
    assert sorted(rows) == sorted(DATASETS)
    assert rows["iris"]["from"] == "embedded"
    assert rows["toy"]["from"] == "download"
    assert rows["fsdd"]["from"] == "by hand"
    assert rows["mnist"]["loadable"]
    assert not rows["go9x9"]["loadable"]
    assert rlab("data").out == rlab("data", "list").out
    for name in DATASETS:
        assert f"\n{name} " in rlab("data", "list").out


def test_get_and_verify(rlab, rlab_json, toy: Path) -> None:
    assert rlab_json("data", "verify") == {"files": []}
    missing = rlab("data", "verify", "toy")
    assert missing.status == 1
    assert "missing" in missing.out
    assert rlab_json("data", "get", "toy", "iris")["files"] == [
        {"set": "toy", "file": str(toy), "downloaded": True},
        {"set": "iris", "file": None, "downloaded": False},
    ]
    assert rlab_json("data", "get", "toy")["files"][0]["downloaded"] is False
    assert rlab_json("data", "verify")["files"] == [
        {"set": "toy", "file": "a.bin", "state": "good", "path": str(toy)},
    ]
    assert {row["name"]: row["from"] for row in rlab_json("data", "list")["sets"]}["toy"] == "cache"


def test_get_replaces_a_damaged_file_of_the_cache_and_verify_does_not(rlab, toy: Path) -> None:
    rlab("data", "get", "toy")
    toy.write_bytes(b"damaged")
    said = rlab("data", "verify")
    assert said.status == 1
    assert "  damaged: SHA-256 of " in said.out
    assert hashlib.sha256(b"damaged").hexdigest()[:12] in said.out
    assert toy.read_bytes() == b"damaged"
    said = rlab("data", "get", "toy")
    assert said.status == 0
    assert "is damaged" in said.err
    assert toy.read_bytes() == BODY


def test_a_damaged_file_stands_where_the_net_has_no_better_one(rlab, toy: Path, server: Server) -> None:
    rlab("data", "get", "toy")
    toy.write_bytes(b"damaged")
    server.files.clear()
    said = rlab("data", "get", "toy")
    assert said.status == 1
    assert "404" in said.err
    assert [p.name for p in toy.parent.iterdir()] == ["a.bin"]
    assert toy.read_bytes() == b"damaged"


def test_a_damaged_file_of_a_mirror_is_never_written_over(rlab, toy: Path, folders) -> None:
    path = folders[0] / "toy" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    said = rlab("data", "get", "toy")
    assert said.status == 1
    assert f"{path} is damaged" in said.err
    assert path.read_bytes() == b"damaged"
    assert not toy.exists()


def test_a_misspelt_set_stops_before_anything_is_downloaded(rlab, toy: Path) -> None:
    said = rlab("data", "get", "toy", "irsi")
    assert (said.status, said.err) == (1, "rlab: unknown data set 'irsi'; nearest: iris\n")
    assert not toy.exists()
    assert "name data sets to get" in rlab("data", "get").err


def test_show_draws_and_counts(rlab, rlab_json, tmp_path: Path) -> None:
    said = rlab("data", "show", "digits", "--augment", "flip,rotate:30", "--out", "some.png")
    assert said.status == 0, said.err
    assert "each 1x8x8 float32" in said.out
    assert "wrote   some.png" in said.out
    augmented = (tmp_path / "some.png").read_bytes()
    assert augmented.startswith(b"\x89PNG")
    facts = rlab_json("data", "show", "digits")
    assert facts["picture"] == "digits.png"
    assert (tmp_path / "digits.png").read_bytes() != augmented
    assert facts["splits"] == {"train": 1258, "validation": 269, "test": 270}
    assert sum(facts["counts"]["test"]) == 270
    assert (facts["min"], facts["max"]) == (0, 1)
    assert 0.2 < facts["mean"] < 0.4


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_show_draws_tables(rlab, tmp_path: Path, name: str) -> None:
    assert rlab("data", "show", name).status == 0
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("series", (30, 5, 2)),
        ("segmentation", (30, 3, 8, 8)),
        ("images", (30, 2, 8, 8)),
        ("images", (30, 16, 8, 8)),
    ],
)
def test_show_draws_every_kind(rlab, tmp_path: Path, monkeypatch, kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(shape, np.float32)
    y = rng.integers(0, 2, (30, 8, 8) if kind == "segmentation" else 30)
    lengths = np.full(30, 4) if kind == "series" else None
    source = DataSource(kind, "s", "l", "http://x", lambda read: Arrays(x, y, ("no", "yes"), None, lengths))
    monkeypatch.setitem(DATASETS._entries, "mine", source)
    words = ["--augment", "rotate"] if kind == "segmentation" else []
    said = rlab("data", "show", "mine", *words)
    assert said.status == 0, said.err
    assert (tmp_path / "mine.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digist"], "unknown data set 'digist'; nearest: digits"),
        (["bccd"], "has no direct download: put bccd.tar into"),
        (
            ["tinyshakespeare", "--augment", "flip"],
            "augmentation changes images, and 'tinyshakespeare' is",
        ),
        (["digits", "--augment", "flup"], "unknown augmentation 'flup'; nearest: flip"),
        (["digits", "--augment", "crop:9"], "pixels is 9 pixels, but the images are 8x8"),
        (["iris", "--augment", "flip"], "augmentation changes images, and 'iris' is of kind table"),
        (["digits", "--out", "x.jpg"], "--out is 'x.jpg'; it must end in .png"),
        (["digits", "--out", "absent/x.png"], "there is no folder 'absent'"),
        (["digits", "--out", "~no-such-user/x.png"], "there is no folder '~no-such-user'"),
        (["digits", "--count", "0"], "--count is 0; it must be at least 1"),
        (["digits", "--count", "41"], "--count is 41; it must be at most 40"),
        (["fsdd"], "has no direct download: put fsdd.tar.xz into"),
    ],
)
def test_what_cannot_be_shown(rlab, tmp_path: Path, words: list[str], said: str) -> None:
    done = rlab("data", "show", *words)
    assert done.status == 1
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_augmentations_are_listed(rlab, rlab_json) -> None:
    rows = {row["name"]: row for row in rlab_json("data", "augmentations")["augmentations"]}
    assert len(rows) == 14
    assert rows["elastic"]["default"] == "elastic:34:4:bilinear"
    assert "crop:4" in rlab("data", "augmentations").out


def test_a_misspelt_subverb(rlab) -> None:
    said = rlab("data", "lits")
    assert (said.status, said.err) == (2, "rlab: `rlab data` cannot lits; nearest: list\n")
    assert rlab("data", "--help").out.split("\n\n")[0].count("rlab data") == 6


def test_show_tells_what_files_without_tensors_hold(rlab, rlab_json, tmp_path: Path, monkeypatch) -> None:
    (folder := tmp_path / "mirror" / "mine").mkdir(parents=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "x")
        archive.writestr("b.txt", "y")
    held = {
        "all.txt": b"first\x1b[2J line\n\nsecond\n",
        "more.txt.xz": lzma.compress(b"one\n"),
        "rest.zip": packed.getvalue(),
    }
    files = [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in held.items()]
    for name, data in held.items():
        (folder / name).write_bytes(data)
    monkeypatch.setenv("RLAB_DATA", str(folder.parent))
    monkeypatch.setitem(DATASETS._entries, "mine", DataSource("text", "s", "l", "http://x", None, tuple(files)))
    said = rlab("data", "show", "mine")
    assert said.status == 0, said.err
    assert "first\\x1b[2J line" in said.out
    found = rlab_json("data", "show", "mine")["files"]
    assert [(file["unit"], file["number"]) for file in found] == [("lines", 2), ("lines", 1), ("members", 2)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("shakespeare-small",),
            ("text, windows of 256 tokens", "characters, 65 ids", "test 0.00%", "1  text, 257 long"),
        ),
        (("dates", "--tokens", "words"), ("target as       words, 1,404 ids", "source, 1 long, 1 unknown\n   [")),
        (("rule-pairs", "--tokens", "japanese"), ("source as       japanese", "source length")),
        (("anbn",), ("labelled steps", "classes         a, b, end", "   start a")),
        (("text:mine.txt", "--vocabulary", "8"), ("text as         characters, 12 ids", "[<unk>]", "↵", "\\x1b")),
        (("pairs:mine.tsv",), ("train 28, validation 6, test 6", "source as       sentencepiece", "▁猫")),
    ],
)
def test_show_prints_tokens_of_text(
    rlab, rlab_json, tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    (tmp_path / "mine.txt").write_text("abc\x1b def é\n" * 50, "utf-8")
    (tmp_path / "mine.tsv").write_text("猫 です\tit is a cat\n" * 40, "utf-8")
    shown = rlab("data", "show", *words, "--count", "40")
    assert shown.status == 0, shown.err
    missing = [part for part in said if part not in shown.out]
    assert not missing, shown.out[:2000]
    facts = rlab_json("data", "show", *words, "--count", "3")
    assert len(facts["examples"]) == min(3, facts["splits"]["train"])
    for example in facts["examples"]:
        for side in example.values():
            assert isinstance(side, str) or len(side["pieces"]) == side["length"] > max(side["unknown"], default=-1)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--tokens", "words"), "--tokens and --vocabulary are for text, and 'digits' is of kind images"),
        (("anbn", "--vocabulary", "9"), "--tokens and --vocabulary are for text"),
        (("dates", "--out", "it.png"), "--out is for pictures, and 'dates' is of kind pairs"),
        (("text:absent.txt",), "absent.txt cannot be read"),
        (("pairs:one.tsv",), "one.tsv, line 1: it has one column"),
    ],
)
def test_show_refuses_what_text_has_not(rlab, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "one.tsv").write_text("alone\n")
    refused = rlab("data", "show", *words)
    assert refused.status == 1
    assert said in refused.err
    assert refused.err.count("\n") == 1
