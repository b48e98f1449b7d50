"""Data sets of a user's own files: what is read, and what is refused in one sentence."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rlab.data.catalog import DATASETS
from rlab.data.datasets import load
from rlab.data.media import open_picture
from rlab.data.own import OwnSettings
from rlab.errors import RlabError

ROWS = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40)]


def table(folder: Path, text: str | bytes, **settings: Any) -> Any:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(f"csv:{path}", own=OwnSettings(**{"target": "y"} | settings))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_table_is_read_whatever_divides_it(tmp_path: Path, encoding: str, delimiter: str) -> None:
    text = "größe,x,y\r\n" + "\r\n".join(ROWS) + "\r\n\r\n"
    data = table(tmp_path, text.replace(",", delimiter).encode(encoding))
    assert (data.columns, data.classes, data.shape) == (("größe", "x"), ("a", "b"), (2,))
    assert data.x.tolist() == [[n, n % 7] for n in range(40)]
    assert data.y.tolist() == [n % 2 for n in range(40)]


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    data = table(tmp_path, "x;y\n" + "\n".join(f"{n},5;{n}e-1" for n in range(40)))
    assert data.classes is None
    assert data.x[:, 0].tolist() == [n + 0.5 for n in range(40)]
    torch.testing.assert_close(data.y, torch.arange(40) / 10)


def test_quoted_cells_may_hold_anything(tmp_path: Path) -> None:
    rows = "\n".join(f'"{n}","one, ""two""\nlines",{n % 2}' for n in range(20))
    data = table(tmp_path, f'x,"a,b",y\n{rows}')
    assert data.columns == ("x", 'a,b=one, "two"\\nlines')
    assert data.classes == ("0", "1")


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([n % 3 - 1 for n in range(30)], ("-1", "0", "1")),
        ([f"{n % 2}.0" for n in range(30)], ("0", "1")),
        ([n % 7 for n in range(30)], None),  # too few rows of each
        ([n % 2 + 0.5 for n in range(30)], None),
        (["yes" if n % 2 else "NA" for n in range(30)], ("NA", "yes")),  # beside texts no missing number
        (["\x1b[2J" if n % 2 else "x" * 300 for n in range(30)], ("\\x1b[2J", "x" * 300)),
    ],
)
def test_few_numbers_and_texts_are_classes(tmp_path: Path, y: list[Any], classes: tuple[str, ...] | None) -> None:
    assert table(tmp_path, "x,y\n" + "\n".join(f"{n},{v}" for n, v in enumerate(y))).classes == classes


def test_without_a_header_columns_have_numbers(tmp_path: Path) -> None:
    assert table(tmp_path, "\n".join(ROWS), target="3").columns == ("1", "2")
    assert table(tmp_path, ",1,a\n" + "\n".join(ROWS), target="3", missing="mean").columns == ("1", "2")


def test_missing_numbers_become_training_means(tmp_path: Path) -> None:
    holes = {3: "", 8: "NA", 11: "?"}
    data = table(tmp_path, "x,c,y\n" + "\n".join(f"{holes.get(n, n)},{'' if n == 5 else 'uvu'[n % 3]},{n % 2}"
                                                 for n in range(40)), missing="mean")  # fmt: skip
    train = [n for n in data.splits["train"].tolist() if n not in holes]
    assert data.x[list(holes), 0].tolist() == pytest.approx([np.mean(train)] * 3)
    texts = [n for n in data.splits["train"].tolist() if n != 5]
    assert data.columns == ("x", "c=u", "c=v")
    assert data.x[5, 1].item() == pytest.approx(np.mean([n % 3 != 1 for n in texts]))


def test_test_examples_are_named_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2\n5\n")
    data = table(tmp_path, "x,z,y\n" + "\n".join(ROWS), test_file=str(tmp_path / "test.txt"))
    assert data.splits["test"].tolist() == [0, 3]  # the header is line 1
    (tmp_path / "test.txt").write_text("2\n99\n")
    with pytest.raises(RlabError, match=r"test.txt, line 2: there is no example '99' in .*they are named as '2'"):
        table(tmp_path, "x,z,y\n" + "\n".join(ROWS), test_file=str(tmp_path / "test.txt"))


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("x,y\n1,2\n,3", {}, "line 3, column 'x': nothing is there .*--missing mean"),
        ("x,y\n1,2\n3,", {"missing": "mean"}, "line 3, column 'y': nothing is there, and it is what is predicted"),
        ("x,y\n,2\n,3", {"missing": "mean"}, "column 'x' is empty"),
        ("x,y\n1,2\n3", {}, "line 3: it has 1 cells, the first line 2"),
        ("y\n1\n2", {}, "has one column, 'y'"),
        ("x,y\n", {}, "no row below its header"),
        ("", {}, "is empty"),
        ("\n \r\n", {}, "is empty"),
        ("x,y\n1,2\n,\n", {}, "line 3, column 'x': nothing is there"),
        (b"x,y\n1,\xff\n", {}, "line 2: it is no text in UTF-8"),
        (b"x,y\n\0,1\n", {}, "zero bytes"),
        ('x,y\n"1,2\n', {}, "quotes"),
        ("x,y,x\n1,2,3", {}, "two columns named 'x'"),
        ("x,y\n1,2\n3,4", {"target": "z"}, "no column 'z' for --target .*has the columns x, y"),
        ("x,y\n1,2\n3,4", {"target": ""}, "--target names the column .*x, y"),
        ('x,y\n"1,5",2\n2,3', {}, "line 2, column 'x': '1,5' has a comma"),
        ("x,y\ninf,2\n2,3", {}, "line 2, column 'x': 'inf' is no number"),
        ("x,y\n1e99,2\n2,3", {}, "line 2, column 'x': '1e99' is no number of 32 bits"),
        ("x,y\n" + "\n".join(f"t{n},1" for n in range(60)), {}, "line 2, column 'x': 't0' is one of 60 different"),
        ("x,y\n1,a\n2,a", {}, "every row has 'a' in column 'y'"),
        ("x,y\n1,a\n2,b\n3,c", {}, "column 'y' has 3 different texts in 3 rows"),
        ("x,y\n" + "\n".join(ROWS).replace(",a", "").replace(",b", ""), {"digest": "0" * 64}, "have changed since"),
    ],
)
def test_table_that_cannot_be_learned(tmp_path: Path, text: str | bytes, settings: Any, said: str) -> None:
    with pytest.raises(RlabError, match=said) as error:
        table(tmp_path, text, **settings)
    assert "\n" not in str(error.value)
    assert "t.csv" in str(error.value) or "digest" in settings


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (("pipe.csv", "no regular file"), ("none.csv", "No such file"), (".", "no regular file")):
        with pytest.raises(RlabError, match=said):
            DATASETS.get(f"csv:{tmp_path / name}")


def picture(path: Path, size: tuple[int, int] = (6, 5), mode: str = "RGB", colour: Any = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for n in range(8):
        for m, kind in enumerate(("cat", "dog")):
            picture(tmp_path / "pets" / kind / f"{n}.{'png' if n else 'JPG'}", mode="L", colour=100 * m + n)
    return tmp_path / "pets"


def pictures(folder: Path, **settings: Any) -> Any:
    return load(f"images:{folder}", own=OwnSettings(**settings))


def test_folders_are_classes(pets: Path) -> None:
    (pets / ".hidden").write_text("")
    (pets / "cat" / "Thumbs.db").write_text("")
    (pets / "cat" / "9.png").symlink_to(pets / "cat" / "1.png")
    data = pictures(pets)
    assert (data.name, data.classes, data.shape) == ("pets", ("cat", "dog"), (1, 5, 6))
    assert data.x[:, 0, 0, 0].tolist() == [*range(8), 1, *range(100, 108)]
    assert data.y.tolist() == [0] * 9 + [1] * 8
    picture(pets / "dog" / "8.png")  # one in colour: all have three channels
    assert pictures(pets).shape == (3, 5, 6)


def test_folders_train_and_test_are_splits(pets: Path) -> None:
    for kind in ("cat", "dog"):
        (pets / "train").mkdir(exist_ok=True)
        (pets / kind).rename(pets / "train" / kind)
        picture(pets / "test" / kind / "0.png", mode="L", colour=250)
    data = pictures(pets)
    assert (data.x[data.splits["test"]] == 250).all()
    assert len(data.splits["test"]) == 2
    (pets / "val").mkdir()
    with pytest.raises(RlabError, match="folders test, train, val; of splits, only train and test"):
        pictures(pets)


def test_test_pictures_are_named_in_a_file(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("dog/3.png\n./cat/0.JPG\n")
    data = pictures(pets, test_file=str(tmp_path / "test.txt"))
    assert data.x[data.splits["test"], 0, 0, 0].tolist() == [0, 103]


def test_other_sizes_take_a_shape(pets: Path) -> None:
    odd = picture(pets / "dog" / "5.png", (9, 4), "L")
    with pytest.raises(RlabError, match=rf"{odd} is 9x4 pixels, .* are 6x5; resize all with --shape 1x5x6"):
        pictures(pets)
    assert pictures(pets, shape=(3, 7, 8)).shape == (3, 7, 8)


def broken(folder: Path, what: str) -> None:
    if what == "cut off":
        (folder / "cat" / "1.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:50])
    elif what == "no picture":
        (folder / "cat" / "1.png").write_text("hello")
    elif what == "another kind of file":
        (folder / "cat" / "notes.txt").write_text("hello")
    elif what == "a folder in a class":
        (folder / "cat" / "more").mkdir()
    elif what == "no class":
        picture(folder / "0.png")
    elif what == "an empty class":
        (folder / "cow").mkdir()
    elif what == "one class":
        (folder / "dog").rename(folder.parent / "dog")
    elif what == "huge":
        picture(folder / "cat" / "1.png", (20_000, 10_000), "1", 0)
    elif what == "a link to nothing":
        (folder / "cat" / "x.png").symlink_to(folder / "nothing.png")
    elif what == "a pipe":
        os.mkfifo(folder / "cat" / "x.png")
    else:
        raise AssertionError(what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("cut off", r"cat/1\.png is damaged or cut off"),
        ("no picture", r"cat/1\.png is no PNG or JPEG"),
        ("another kind of file", r"cat/notes\.txt is no picture"),
        ("a folder in a class", "cat/more is no picture"),
        ("no class", r"0\.png lies in no class's folder"),
        ("an empty class", "cow holds no pictures"),
        ("one class", "holds cat; it takes a folder for each class, at least two"),
        ("huge", r"cat/1\.png has 20,000 x 10,000 pixels|more pixels than"),
        ("a link to nothing", r"cat/x\.png cannot be read"),
        ("a pipe", r"cat/x\.png is no regular file"),
    ],
)
def test_folder_that_cannot_be_learned(pets: Path, what: str, said: str) -> None:
    broken(pets, what)
    with pytest.raises(RlabError, match=said):
        pictures(pets)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("L", 90, [90]),
        ("1", 1, [255]),
        ("I;16", 90 * 257, [90]),
        ("LA", (90, 255), [90]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 255), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 0), [255, 255, 255]),
        ("P", 1, [10, 20, 30]),
    ],
)
def test_pictures_of_every_mode(pets: Path, mode: str, colour: Any, seen: list[int]) -> None:
    image = Image.new(mode, (6, 5), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(pets / "cat" / "1.png")
    data = pictures(pets)
    assert data.x[1, :, 0, 0].tolist() == seen


@pytest.mark.parametrize(
    ("kind", "form"), [("L", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG")]
)
def test_a_photograph_stands_upright(kind: str, form: str) -> None:
    pixels = 8 * np.arange(30, dtype=np.uint8).reshape(6, 5)  # turned by the camera
    deep = kind == "I;16"
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if deep else Image.fromarray(pixels).convert(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, form, exif=exif, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    seen = np.asarray(open_picture(out.getvalue(), "x").convert("L")).astype(int)
    assert np.abs(seen[0] - [200, 160, 120, 80, 40, 0]).max() <= (8 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.filterwarnings("error")
def test_malformed_exif_data_tell_of_no_rotation(form: str) -> None:
    """Whatever byte of them is wrong: the pixels are whole, and nothing is printed."""
    image, exif, out = Image.new("L", (6, 5), 90), Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "maker", {0x9003: "2026"}
    image.save(out, form, exif=exif)
    whole = out.getvalue()
    start = whole.index(b"II*\0" if b"II*\0" in whole else b"MM\0*")
    for place in range(start, start + len(exif.tobytes()) - 6):
        for value in (0, 77, 255):
            data = bytearray(whole)
            data[place] = value
            if form == "PNG":
                at = whole.index(b"eXIf")
                length = int.from_bytes(whole[at - 4 : at], "big")
                data[at + 4 + length : at + 8 + length] = zlib.crc32(data[at : at + 4 + length]).to_bytes(4, "big")
            assert np.asarray(open_picture(bytes(data), "x")).ravel().tolist() == [90] * 30


def test_digest_is_of_names_and_contents(pets: Path, tmp_path: Path) -> None:
    def digest() -> str:
        files = DATASETS.get(f"images:{pets}").own
        assert files is not None
        return files.digest(OwnSettings())

    first = digest()
    assert len(pictures(pets, digest=first)) == 16
    (pets / "cat" / "1.png").rename(pets / "cat" / "10.png")
    renamed = digest()
    picture(pets / "cat" / "10.png", mode="L", colour=77)
    assert len({first, renamed, digest()}) == 3
    with pytest.raises(RlabError, match="have changed since the run began"):
        pictures(pets, digest=first)
