"""Data sets of a user's own files: ``images:DIR``, pictures in one folder a class, ``csv:FILE``, a table,
``text:FILE``, running text, ``pairs:FILE``, sentences with their translations, and ``wav:DIR``, recordings."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlab.data.media import open_picture, pixels_of
from rlab.data.readers import Arrays
from rlab.data.sound import Recordings, read_mono
from rlab.data.text.corpora import Corpus, Pairs, Stream, pairs_of, unix_lines
from rlab.errors import RlabError, nearest, printable, shortened
from rlab.machine import available_memory, gigabytes

if TYPE_CHECKING:
    from rlab.data.annotations import AnnotatedImages

PICTURES = (".png", ".jpg", ".jpeg")
"""How names of pictures end."""

IGNORED = ("thumbs.db", "desktop.ini")
"""What file managers leave in folders, beside names that begin with a dot."""

FEW = 20
"""Different whole numbers of a target up to which they are classes; of three and more, with five rows on average."""

MOST_TEXTS = 50
"""Different texts of a column that become columns of 0 and 1."""

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""What stands for a missing number, in small letters; of texts only the empty one is missing."""

DELIMITERS = "\t;,|"


@dataclass(frozen=True)
class OwnSettings:
    """How a user's files are read.

    Attributes:
        target: the column of a table that is predicted.
        missing: "refuse" what is missing in a table, or take the "mean" of the column's training examples.
        shape: of pictures, channels, height and width, to which they are resized; None: all have one size.
        test_file: names the test examples, one a line: pictures by their path below the folder, rows of a table by
            their line in its file. Empty: they are drawn.
        digest: SHA-256 that the files must have together; empty: any.
        masks: read outlines of objects as instance masks, where files have such.
    """

    target: str = ""
    missing: str = "refuse"
    shape: tuple[int, int, int] | None = None
    test_file: str = ""
    digest: str = ""
    masks: bool = False


@dataclass(frozen=True)
class OwnFiles(ABC):
    """Where a user's files lie, and how they are read.

    Attributes:
        path: of the folder or the file, absolute.
    """

    path: Path
    kind: ClassVar[str]
    tokens: ClassVar[str] = ""
    """What text is usually cut into."""

    @property
    def name(self) -> str:
        """What the data set is called."""
        return self.path.name or "data"

    @abstractmethod
    def files(self) -> list[Path]:
        """All files, in the order in which they are read."""

    @abstractmethod
    def examples(self) -> int:
        """About how many examples there are to train on."""

    @abstractmethod
    def contents(self, settings: OwnSettings, read: Reading) -> Arrays | Corpus | Recordings | AnnotatedImages:
        """Read the files through `read`."""

    def load(self, settings: OwnSettings) -> Arrays | Corpus | Recordings | AnnotatedImages:
        """Read the files.

        Raises:
            RlabError: what is wrong with them, by file, line and column; or they have another digest.
        """
        read = Reading(self.path)
        found = self.contents(settings, read)
        if settings.digest and read.digest() != settings.digest:
            raise RlabError(
                f"the files of {self.path} have changed since the run began (SHA-256 {read.digest()[:12]}, then "
                f"{settings.digest[:12]}); put the old ones back, or start a new run"
            )
        return found

    def digest(self, settings: OwnSettings) -> str:
        """The SHA-256, in hex, of all that `load` reads."""
        read = Reading(self.path)
        for path in self.files():
            read(path)
        if settings.test_file:
            read(at(settings.test_file))
        return read.digest()


class Reading:
    """Reads files once each, and makes one digest of them.

    Args:
        root: a path below it counts without it, so that the digest stays when the folder moves.
    """

    def __init__(self, root: Path):
        self.root = root
        self._all = hashlib.sha256()

    def __call__(self, path: Path) -> bytes:
        """The content of a regular file, which a symbolic link may lead to.

        Raises:
            RlabError: it is none, unreadable, or does not fit into the memory.
        """
        try:
            about = path.stat()  # of a pipe or a device, reading might never end
            if not stat.S_ISREG(about.st_mode):
                raise RlabError(f"{path} is no regular file")
            most = available_memory() // 12  # a table's cells take about ten times their bytes
            if about.st_size > most:
                raise RlabError(f"{path} has {gigabytes(about.st_size)}, too much for the free memory")
            data = path.read_bytes()
        except OSError as e:
            raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
        name = os.fsencode(path.relative_to(self.root) if path.is_relative_to(self.root) else path.name)
        self._all.update(f"{len(name)} {len(data)} ".encode() + name + hashlib.sha256(data).digest())
        return data

    def digest(self) -> str:
        """The SHA-256, in hex, of what has been read, with its names."""
        return self._all.hexdigest()


class Pictures(OwnFiles):
    """PNG and JPEG pictures: one folder for each class, beside each other or in folders ``train`` and ``test``."""

    kind = "images"

    def _classes(self) -> dict[str, list[Path]]:
        """Class -> its folders, ascending.

        Raises:
            RlabError: there are not two of them, or other folders for splits than train and test.
        """
        folders = {part.name: part for part in listed(self.path) if part.is_dir()}
        roots = [self.path]
        if "train" in folders and any(part.is_dir() for part in listed(folders["train"])):
            if folders.keys() - {"train", "test"}:
                raise RlabError(
                    f"{self.path} has the folders {some(folders)}; of splits, only train and test can stand beside "
                    "each other (--validation draws from train)"
                )
            roots = list(folders.values())[::-1]
        found: dict[str, list[Path]] = {}
        for root in roots:
            for part in listed(root):
                if part.is_dir():
                    found.setdefault(part.name, []).append(part)
                elif part.suffix.lower() in PICTURES:
                    raise RlabError(f"{part} lies in no class's folder; move it into {root / 'CLASS'}")
        if len(found) < 2:
            raise RlabError(f"{self.path} holds {some(found) or 'no folder'}; it takes a folder for each class, "
                            "at least two")  # fmt: skip
        return dict(sorted(found.items()))

    def _pictures(self) -> Iterator[tuple[str, Path]]:
        """(class, picture), in a fixed order.

        Raises:
            RlabError: there is something else, or a class has none.
        """
        for name, folders in self._classes().items():
            empty = True
            for path in (path for folder in folders for path in listed(folder)):
                if path.suffix.lower() not in PICTURES or path.is_dir():
                    raise RlabError(f"{path} is no picture; a class's folder holds {', '.join(PICTURES)} alone")
                empty = False
                yield name, path
            if empty:
                raise RlabError(f"{folders[0]} holds no pictures; fill or remove it")

    def files(self) -> list[Path]:
        """All pictures."""
        return [path for _, path in self._pictures()]

    def examples(self) -> int:
        """About how many pictures there are to train on."""
        return int(0.7 * sum(1 for _ in self._pictures())) + 1

    def contents(self, settings: OwnSettings, read: Reading) -> Arrays:
        """Decode the pictures: one channel if all are grey, else three."""
        pictures = list(self._pictures())
        classes = tuple(dict.fromkeys(name for name, _ in pictures))
        x: list[np.ndarray] = []
        for _, path in pictures:
            image = open_picture(read(path), str(path))
            pixels = pixels_of(image, settings.shape, str(path), x[0] if x else None)
            if not x:
                self._refuse_too_many(len(pictures), pixels.nbytes)
            x.append(pixels)
        most = max(map(len, x))
        return Arrays(
            x=np.stack([np.broadcast_to(part, (most, *part.shape[1:])) for part in x]),
            y=np.array([classes.index(name) for name, _ in pictures], np.int64),
            classes=classes,
            test=self._test([path.relative_to(self.path).as_posix() for _, path in pictures], settings, read),
        )

    def _refuse_too_many(self, n: int, each: int) -> None:
        if 3 * n * each > available_memory():
            raise RlabError(
                f"the {n:,} pictures of {self.path} would take {gigabytes(n * each)}, too much for the free memory; "
                "make them smaller with --shape 3x64x64"
            )

    def _test(self, names: list[str], settings: OwnSettings, read: Reading) -> np.ndarray | None:
        if settings.test_file:
            return named(names, settings.test_file, read, str(self.path))
        beside = np.flatnonzero([name.startswith("test/") and name.count("/") == 2 for name in names])
        return beside if len(beside) else None


class Table(OwnFiles):
    """A table with one example a line: numbers, and texts that become columns of 0 and 1."""

    kind = "table"

    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def examples(self) -> int:
        """About how many rows there are to train on."""
        return int(0.7 * Reading(self.path)(self.path).count(b"\n")) + 1

    def columns(self) -> list[str]:
        """The names of all columns; their numbers, from 1, where the first line names none."""
        return _rows(self.path, Reading(self.path)).header

    def contents(self, settings: OwnSettings, read: Reading) -> Arrays:
        """Read the numbers."""
        rows = _rows(self.path, read)
        if settings.target not in rows.header:
            known = f"{self.path} has the columns {some(rows.header)}"
            if not settings.target:
                raise RlabError(f"--target names the column that is predicted; {known}")
            close = nearest(settings.target, rows.header)
            raise RlabError(f"there is no column '{settings.target}' for --target ({close}); {known}")
        x: list[np.ndarray] = []
        names: list[str] = []
        for number, name in enumerate(rows.header):
            if name != settings.target:
                values, made = rows.inputs(number, settings.missing)
                x.append(values)
                names += made
        y, classes = rows.target(rows.header.index(settings.target))
        test = None
        if settings.test_file:
            test = named([str(line) for line in rows.lines], settings.test_file, read, f"{self.path}, by its line")
        return Arrays(np.concatenate(x, 1), y, classes, test, columns=tuple(names), missing=settings.missing == "mean")


class TextFile(OwnFiles):
    """A text in UTF-8, or in UTF-16 with a byte-order mark."""

    kind = "text"
    tokens = "characters"

    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def examples(self) -> int:
        """About how many windows of 256 bytes there are to train on."""
        return _bytes_of(self.path) // 316 + 1

    def contents(self, settings: OwnSettings, read: Reading) -> Stream:
        """Read the text.

        Raises:
            RlabError: it is empty, or no text.
        """
        text = text_of(self.path, read(self.path))
        if not text.strip():
            raise RlabError(f"{self.path} is empty; it takes text")
        return Stream(unix_lines(text))


class PairsFile(OwnFiles):
    """Sentences with their translations in UTF-8, one pair a line, divided by a tab."""

    kind = "pairs"
    tokens = "sentencepiece"

    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def examples(self) -> int:
        """About how many pairs there are to train on."""
        return int(0.7 * Reading(self.path)(self.path).count(b"\n")) + 1

    def contents(self, settings: OwnSettings, read: Reading) -> Pairs:
        """Read the pairs."""
        return pairs_of(text_of(self.path, read(self.path)), str(self.path))


class WaveFiles(OwnFiles):
    """WAV files: one folder for each class, or all in one folder, which is the only class then."""

    kind = "waves"

    def _sounds(self) -> list[tuple[str, Path]]:
        """(class, file), in a fixed order.

        Raises:
            RlabError: there is something else, or nothing.
        """
        there = listed(self.path)
        folders = {path.name: listed(path) for path in there if path.is_dir()}
        if folders and len(folders) < len(there):
            alone = next(path for path in there if not path.is_dir())
            raise RlabError(f"{alone} lies in no class's folder; move it into {self.path / 'CLASS'}")
        found = [(name, path) for name, paths in (folders or {self.name: there}).items() for path in paths]
        for _, path in found:
            if path.suffix.lower() != ".wav" or path.is_dir():
                raise RlabError(f"{path} is no WAV file; {path.parent} may hold nothing else")
        if empty := [name for name, paths in folders.items() if not paths]:
            raise RlabError(f"{self.path / empty[0]} holds no WAV files; fill or remove it")
        if not found:
            raise RlabError(f"{self.path} holds no WAV files")
        return found

    def files(self) -> list[Path]:
        """All WAV files."""
        return [path for _, path in self._sounds()]

    def examples(self) -> int:
        """About how many recordings there are to train on."""
        return int(0.7 * len(self._sounds())) + 1

    def contents(self, settings: OwnSettings, read: Reading) -> Recordings:
        """Decode the recordings, each mixed to one channel and resampled; nobody knows their speakers."""
        found = self._sounds()
        classes = tuple(dict.fromkeys(name for name, _ in found))
        return Recordings(
            [read_mono(read(path), str(path)) for _, path in found],
            np.array([classes.index(name) for name, _ in found]),
            classes,
            np.zeros(len(found), np.int64),
            ("unknown",),
        )


@dataclass(frozen=True)
class _Rows:
    """The cells of a table.

    Attributes:
        path: of the file.
        header: the names of the columns.
        cells: of the rows below, without spaces around them.
        lines: of the file, on which the rows end.
        delimiter: between cells.
    """

    path: Path
    header: list[str]
    cells: list[list[str]]
    lines: list[int]
    delimiter: str

    def _at(self, row: int, column: int) -> str:
        return f"{self.path}, line {self.lines[row]}, column '{self.header[column]}'"

    def numbers(self, column: int) -> np.ndarray | None:
        """The numbers of a column, float64[N], NaN where they are missing; None if there are texts.

        Raises:
            RlabError: one is not finite, or too large; or decimal commas between commas.
        """
        cells = [row[column] for row in self.cells]
        values = np.full(len(cells), np.nan)
        commas = False
        for row, cell in enumerate(cells):
            if cell.lower() in MISSING:
                continue
            if _DECIMAL_COMMA.fullmatch(cell):
                commas, cell = True, cell.replace(",", ".")
            elif not _NUMBER.fullmatch(cell):
                return None
            values[row] = float(cell)
            if not abs(values[row]) <= np.finfo(np.float32).max:
                raise RlabError(f"{self._at(row, column)}: '{cell}' is no number of 32 bits")
        if commas and self.delimiter == ",":
            row = next(row for row, cell in enumerate(cells) if _DECIMAL_COMMA.fullmatch(cell))
            raise RlabError(
                f"{self._at(row, column)}: '{cells[row]}' has a comma, which also divides the columns; write decimals "
                "with a point, or divide columns with semicolons"
            )
        if np.isnan(values).all():
            return None if any(cells) else values
        return values

    def inputs(self, column: int, missing: str) -> tuple[np.ndarray, list[str]]:
        """A column as inputs: float32[N, 1], or of K texts float32[N, K]; NaN where something is missing. And names.

        Raises:
            RlabError: something is missing and refused, nothing is there, or there are too many different texts.
        """
        name, numbers = self.header[column], self.numbers(column)
        if numbers is not None:
            values, names = numbers[:, None], [name]
        else:
            texts = [row[column] for row in self.cells]
            kinds = sorted(set(texts) - {""})
            if len(kinds) > MOST_TEXTS:
                row = next((n for n, text in enumerate(texts) if text and not _NUMBER.fullmatch(text)), 0)
                raise RlabError(
                    f"{self._at(row, column)}: '{_cut(texts[row])}' is one of {len(kinds):,} different texts; a text "
                    f"column may have {MOST_TEXTS}, so take it out of the file, or mend what should be numbers"
                )
            places = np.array([kinds.index(text) if text else -1 for text in texts])
            values = (places[:, None] == np.arange(len(kinds))).astype(np.float64)
            values[places < 0] = np.nan
            names = [f"{name}={kind}" for kind in kinds]
        absent = np.isnan(values).any(1)
        if absent.all():
            raise RlabError(f"{self.path}: column '{name}' is empty; take it out of the file")
        if absent.any() and missing != "mean":
            row = int(absent.argmax())
            raise RlabError(
                f"{self._at(row, column)}: nothing is there ('{self.cells[row][column]}'; {int(absent.sum()):,} such "
                f"rows); --missing mean takes the mean of the column"
            )
        return values.astype(np.float32), names

    def target(self, column: int) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """A column as what is predicted: classes int64[N] and their names, or numbers float32[N] and None.

        Raises:
            RlabError: something is missing, or all is the same, or almost every row has a class of its own.
        """
        numbers = self.numbers(column)
        texts = [row[column] for row in self.cells]
        absent = [not text for text in texts] if numbers is None else np.isnan(numbers).tolist()
        if True in absent:
            raise RlabError(
                f"{self._at(absent.index(True), column)}: nothing is there, and it is what is predicted; "
                f"take the row out of the file ({sum(absent):,} such rows)"
            )
        if numbers is not None:
            values = np.unique(numbers)
            few = (values == np.rint(values)).all() and len(values) <= min(FEW, max(2, len(numbers) / 5))
            if not few:
                return numbers.astype(np.float32), None
            names = tuple(f"{value:.0f}" for value in values)
            y = np.searchsorted(values, numbers)
        else:
            names = tuple(sorted(set(texts)))
            y = np.searchsorted(np.array(names, object), np.array(texts, object))
        if len(names) < 2:
            raise RlabError(f"{self.path}: every row has '{_cut(names[0])}' in column '{self.header[column]}', so "
                            "there is nothing to predict")  # fmt: skip
        if 2 * len(names) > len(texts):
            raise RlabError(
                f"{self.path}: column '{self.header[column]}' has {len(names):,} different texts in {len(texts):,} "
                f"rows, such as '{_cut(texts[0])}'; a class takes at least two rows on average"
            )
        return y.astype(np.int64), names


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)


def _rows(path: Path, read: Reading) -> _Rows:
    """Divide a file into cells.

    Raises:
        RlabError: it is no text, has one column, or a line has another number of cells than the first.
    """
    text = text_of(path, read(path))
    delimiter = _delimiter(path, text)
    cells, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():  # else a blank line
                cells.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as e:
        raise RlabError(f"{path}, line {reader.line_num}: the quotes or the length of a cell are wrong ({e})") from None
    if not cells:
        raise RlabError(f"{path} is empty")
    for row, line in zip(cells, lines, strict=True):
        if len(row) != len(cells[0]):
            raise RlabError(f"{path}, line {line}: it has {len(row)} cells, the first line {len(cells[0])}")
    if len(cells[0]) < 2:
        raise RlabError(
            f"{path} has one column, '{_cut(cells[0][0])}'; it takes a target and an input, divided by a comma, "
            "semicolon, tab or |"
        )
    if _has_header(cells):
        header = [name or f"column {n}" for n, name in enumerate(cells.pop(0), 1)]
        lines.pop(0)
    else:
        header = [str(n) for n in range(1, len(cells[0]) + 1)]
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise RlabError(f"{path} has two columns named '{_cut(twice[0])}'; each needs a name of its own")
    if not cells:
        raise RlabError(f"{path} has no row below its header")
    return _Rows(path, header, cells, lines, delimiter)


def text_of(path: Path, data: bytes) -> str:
    """UTF-8, with or without a byte-order mark, or UTF-16 with one."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise RlabError(
            f"{path}, line {line}: it is no text in {encoding[:6].strip('-').upper()}; save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise RlabError(f"{path}, line {line}: it is no text, for it holds zero bytes")
    return text


def _delimiter(path: Path, text: str) -> str:
    """What divides the first lines into equally many cells, at least two; else what divides the first line most."""
    first = {}
    for delimiter in DELIMITERS:
        try:
            rows = [
                row
                for row in islice(
                    csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), 50
                )
                if row
            ]
        except csv.Error:
            continue
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths != {1}:
            return delimiter
        first[delimiter] = len(rows[0]) if rows else 0
    return max(first, key=lambda delimiter: first[delimiter]) if first else ","


def _has_header(cells: list[list[str]]) -> bool:
    """Whether the first row names columns: unless in every column of numbers it has a number, too."""
    below = list(zip(*cells[1:1001], strict=True))
    numeric = [
        n for n, column in enumerate(below) if all(_is_number(cell) or cell.lower() in MISSING for cell in column)
    ]
    if not numeric:
        return not all(_is_number(cell) for cell in cells[0])
    return not all(_is_number(cells[0][n]) or cells[0][n].lower() in MISSING for n in numeric)


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _DECIMAL_COMMA.fullmatch(cell))


def _bytes_of(path: Path) -> int:
    """The size of a file.

    Raises:
        RlabError: it is not there.
    """
    try:
        return path.stat().st_size
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None


def named(names: list[str], file: str, read: Reading, where: str) -> np.ndarray:
    """The places of those names that a file has, one a line.

    Raises:
        RlabError: there is no such name, or none is in the file.
    """
    path = at(file)
    places = {name: n for n, name in enumerate(names)}
    wanted = [line.strip().removeprefix("./") for line in text_of(path, read(path)).splitlines() if line.strip()]
    for number, name in enumerate(wanted, 1):
        if name not in places:
            raise RlabError(f"{path}, line {number}: there is no example '{_cut(name)}' in {where}; they are named "
                            f"as '{names[0]}'")  # fmt: skip
    return np.unique([places[name] for name in wanted])


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name, without what file managers and programs hide there.

    Raises:
        RlabError: it is no folder, or cannot be read.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
    except OSError as e:
        raise RlabError(f"{folder} is no folder that can be read ({e.strerror or e})") from None
    return [path for path in found if not path.name.startswith(".") and path.name.lower() not in IGNORED]


def at(name: str) -> Path:
    """Where a user's file lies; ``~nobody`` stands for itself, so that it is the file that is said to be missing."""
    return Path(os.path.expanduser(name))  # Path's own fails of it


def some(names: Any) -> str:
    """A few names in a sentence."""
    given = [_cut(name) for name in names]
    return ", ".join(given[:12]) + (f", ... ({len(given):,} in all)" if len(given) > 12 else "")


def _cut(text: str, most: int = 40) -> str:
    return printable(shortened(text, most))


OWN: dict[str, type[OwnFiles]] = {
    "images": Pictures,
    "csv": Table,
    "text": TextFile,
    "pairs": PairsFile,
    "wav": WaveFiles,
}
"""What stands before the colon -> how the files behind it are read; `rlab.data.annotations` adds voc and coco."""


def files_of(name: str) -> OwnFiles | None:
    """A user's files by the name of a data set, such as ``csv:FILE``; None if it is of another kind.

    Raises:
        RlabError: nothing stands behind the colon.
    """
    prefix, colon, path = name.partition(":")
    if colon and not path and prefix in OWN:
        raise RlabError(f"'{name}' names no file; nearest: {name}PATH")
    return OWN[prefix](Path(os.path.abspath(at(path)))) if path and prefix in OWN else None
