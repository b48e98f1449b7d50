"""Every registered set says what it is; those whose files are here are what they say."""

from __future__ import annotations

import io
import re
import tarfile
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from rlab.data.catalog import DATASETS, folder_of
from rlab.data.datasets import load
from rlab.data.files import state
from rlab.data.readers import idx, nuclei, parse_idx, spoken_digits, ts_series
from rlab.errors import RlabError

EMBEDDED = {"digits": (1797, 10), "iris": (150, 3), "wine": (178, 3), "breast_cancer": (569, 2), "diabetes": (442, 0)}


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_set_is_described(name: str) -> None:
    source = DATASETS.get(name)
    assert source.summary
    assert source.licence
    assert source.source.startswith("http")
    assert len({f.name for f in source.files}) == len(source.files)
    for file in source.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 0
        assert file.address is None or file.address.endswith("/" + file.name)
    assert "/" not in folder_of(name)


@pytest.mark.parametrize(("name", "form"), EMBEDDED.items())
def test_embedded_sets_need_no_file(name: str, form: tuple[int, int], folders) -> None:
    data = load(name)
    assert DATASETS.get(name).embedded
    assert (len(data), len(data.classes or ())) == form
    sizes = {split: len(items) for split, items in data.splits.items()}
    assert sum(sizes.values()) == len(data)
    assert sizes["test"] == pytest.approx(0.15 * len(data), abs=0.6)
    assert sizes["validation"] == pytest.approx(0.15 * len(data), abs=0.6)


def test_digits_are_images_in_0_to_1(folders) -> None:
    data = load("digits")
    assert data.shape == (1, 8, 8)
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert data.x[0, 0, 0, 2] == 5 / 16  # scikit-learn's first digit begins 0, 0, 5, 13


def test_a_set_without_a_loader_says_so() -> None:
    with pytest.raises(RlabError, match=r"'go9x9' \(games\) can be listed, fetched and verified, but not loaded yet"):
        load("go9x9")


def test_idx_by_hand() -> None:
    data = bytes((0, 0, 8, 2)) + bytes((0, 0, 0, 2, 0, 0, 0, 3)) + bytes(range(6))
    assert parse_idx(data, 2, "it").tolist() == [[0, 1, 2], [3, 4, 5]]
    for wrong in (data[:-1], data[:6], b"", data.replace(b"\x08", b"\x0d", 1)):
        with pytest.raises(RlabError, match="it "):
            parse_idx(wrong, 2, "it")
    with pytest.raises(RlabError, match="no IDX file of bytes with 3 dimensions"):
        parse_idx(data, 3, "it")


def test_ts_by_hand() -> None:
    train = b"@x\n@data\n1,2,3:4,5,6:b\n7:8:a\n"
    arrays = ts_series({"train": train, "test": b"@data\n0,1:2,3:a\n"}.__getitem__, ("train", "test"))
    assert arrays.x.tolist() == [[[1, 4], [2, 5], [3, 6]], [[7, 8], [0, 0], [0, 0]], [[0, 2], [1, 3], [0, 0]]]
    assert arrays.y.tolist() == [1, 0, 0]
    assert arrays.classes == ("a", "b")
    assert arrays.test is not None
    assert arrays.test.tolist() == [2]
    assert arrays.lengths is not None
    assert arrays.lengths.tolist() == [3, 1, 2]
    for wrong, said in ((b"1,x:2,3:a", "series 1 is no table"), (b"1,2:3:a", "series 1 is no table")):
        with pytest.raises(RlabError, match=said):
            ts_series({"train": b"@data\n" + wrong, "test": train}.__getitem__, ("train", "test"))
    with pytest.raises(RlabError, match="differ in their number of channels"):
        ts_series({"train": train, "test": b"@data\n1,2:a\n"}.__getitem__, ("train", "test"))


def test_idx_of_other_counts_or_sizes_is_refused() -> None:
    def file(*shape: int) -> bytes:
        head = bytes((0, 0, 8, len(shape))) + np.array(shape, ">i4").tobytes()
        return head + bytes(int(np.prod(shape)))

    files = {"a": file(5, 2, 2), "b": file(5), "c": file(3, 2, 2), "d": file(4), "e": file(4, 2, 3)}
    for pair, said in ((("c", "d"), "c holds 3 images, but d 4 labels"), (("e", "d"), "a and e .* different sizes")):
        with pytest.raises(RlabError, match=said):
            idx(files.__getitem__, (("a", "b"), pair), ("0",))
    assert len(idx(files.__getitem__, (("a", "b"), ("a", "b")), ("0",)).y) == 10


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def recording(samples: bytes, channels: int, width: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(samples)
    return out.getvalue()


def spoken(data: bytes) -> list[float]:
    arrays = spoken_digits(lambda name: packed({"1_a_0.wav": data}), "x.tar", 4)
    assert arrays.lengths is not None
    return arrays.x[0, : int(arrays.lengths[0]), 0].tolist()


@pytest.mark.parametrize(
    ("samples", "channels", "width", "heard"),
    [
        (b"\x00\x80\xc0", 1, 1, [-1, 0, 0.5]),
        (b"\x00\x80\x00\x40", 1, 2, [-1, 0.5]),
        (b"\x00\x00\x80\x00\x00\x40", 1, 3, [-1, 0.5]),
        (b"\x00\x00\x00\x80\x00\x00\x00\x40", 1, 4, [-1, 0.5]),
        (b"\x00\x40\x00\x00\x00\x80\x00\xc0", 2, 2, [0.25, -0.75]),
        (b"\x80" * 9, 1, 1, [0] * 4),
    ],
)
def test_sounds_of_every_width(samples: bytes, channels: int, width: int, heard: list[float]) -> None:
    assert spoken(recording(samples, channels, width)) == heard


def test_other_sounds_are_refused() -> None:
    whole = recording(b"\x00\x40" * 4, 1, 2)
    floats = whole[:20] + b"\x03" + whole[21:]
    for data, said in ((whole[:-3], "cut off"), (whole[:30], "no WAV"), (b"RIFF", "no WAV"), (floats, "no WAV"),
                       (whole[:16] + b"\xff\xff\xff\x7f" + whole[20:], "no WAV"),
                       (recording(b"", 1, 2), "empty or cut off")):  # fmt: skip
        with pytest.raises(RlabError, match=rf"x\.tar: 1_a_0\.wav is .*{said}"):
            spoken(data)


def test_cells_are_of_every_mode_and_their_masks_fit() -> None:
    def png(image: Image.Image) -> bytes:
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    ramp = np.tile(np.arange(0, 240, 12, dtype=np.uint8), (20, 1))
    numbered = Image.fromarray((ramp > 100).astype(np.uint16) * 300)
    files = {"image/a.png": png(Image.fromarray(ramp.astype(np.uint16) * 257)), "label/a.png": png(numbered)}
    cells = nuclei(lambda name: packed(files), "x.tar", 20)
    assert (cells.x == ramp).all()
    assert (cells.y == (ramp > 100)).all()
    wrong = {
        "is a mask of 3 channels": {"label/a.png": png(Image.new("RGB", (20, 20)))},
        r"its mask label/a.png of \(9, 20\)": {"label/a.png": png(Image.new("L", (9, 20)))},
        "image/a.png is damaged or cut off": {"image/a.png": files["image/a.png"][:60]},
    }
    for said, file in wrong.items():
        with pytest.raises(RlabError, match=said):
            nuclei(lambda name, file=file: packed(files | file), "x.tar", 20)


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS.get(name).files])
def test_real_files_are_what_the_registry_says(name: str) -> None:
    for file in DATASETS.get(name).files:
        found, path = state(name, file)
        assert found == "good", (file.name, found)
        assert path is not None
        # Sets of packed files may be packed anew, which changes their size.
        assert file.packed or path.stat().st_size == file.size


@pytest.mark.data
@pytest.mark.parametrize(("name", "mean", "deviation"), [("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)])
def test_the_known_mean_and_deviation(name: str, mean: float, deviation: float) -> None:
    data = load(name)
    train = data.x[:60_000].float() / 255
    assert train.mean().item() == pytest.approx(mean, abs=5e-5)
    assert train.std().item() == pytest.approx(deviation, abs=5e-5)
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 54_000,
        "validation": 6_000,
        "test": 10_000,
    }
    assert torch.equal(data.splits["test"], torch.arange(60_000, 70_000))


@pytest.mark.data
def test_mnist_is_mnist() -> None:
    data = load("mnist")
    assert data.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.counts("test") == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.data
def test_next_moves_of_go() -> None:
    data = load("go_moves")
    assert data.shape == DATASETS.get("go_moves").shape == (16, 9, 9)
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 56_381,
        "validation": 6_264,
        "test": 6_996,
    }
    empty = data.x[0]  # a game's first position: no stone, and all points are points
    assert empty.flatten(1).amax(1).tolist() == [0, 0, 255] + [0] * 13
    first = data.x[:, :2].amax((1, 2, 3)) == 0
    assert first.sum() > 1_000
    assert (data.classes or ())[data.y[first].mode().values] == "E5"
    taken = data.x[:, :2].amax(1).flatten(1)  # no move is on a stone
    moves = data.y < 81
    assert not taken[moves].gather(1, data.y[moves, None]).any()


@pytest.mark.data
def test_series_and_nuclei() -> None:
    vowels = load("japanese_vowels")
    assert vowels.counts("test") == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert vowels.lengths is not None
    assert (vowels.lengths.min(), vowels.lengths.max()) == (7, 29)
    spoken = load("fsdd")
    assert spoken.counts("test") == [30] * 10
    assert len(spoken) == 3000
    cells = load("dsb2018")
    assert len(cells) == 538
    assert cells.shape == (3, 96, 96)
    share = np.mean(cells.y.numpy())
    assert 0.1 < share < 0.2
    # Nuclei differ from what surrounds them: by brightness in grey images.
    grey = (cells.x.amax(1) == cells.x.amin(1)).flatten(1).all(1)
    assert int(grey.sum()) == 431
    x, mask = cells.x[grey].float().mean(1), cells.y[grey].bool()
    assert x[mask].mean() > 2 * x[~mask].mean()
