"""Images with boxes: annotations in VOC's XML and COCO's JSON, a user's own folders of them, and published sets."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple
from xml.parsers import expat

import numpy as np

from rlab.data.media import open_mask, open_picture, pixels_of
from rlab.data.outlines import mask_of
from rlab.data.own import OWN, PICTURES, OwnFiles, OwnSettings, Reading, listed, named, some, text_of
from rlab.data.readers import Read, members
from rlab.errors import RlabError, printable, shortened
from rlab.machine import available_memory, gigabytes

LARGEST_XML = 4_000_000
"""Bytes of an XML file at the most."""

DEEPEST, MOST_ELEMENTS = 16, 100_000
"""Of an XML file: elements inside each other, and in all."""

MOST_BOXES = 1_000
"""Of an image."""


class Box(NamedTuple):
    """One object as a file has it: its class, (left, top, right, bottom) in pixels of the picture, and its outline as
    COCO has it, with the words that name it in messages."""

    name: str
    edges: tuple[float, float, float, float]
    outline: Any = None
    called: str = ""


@dataclass(frozen=True)
class Annotated:
    """One picture with its objects: the picture's path, the file in which its objects stand, the objects, how many were
    left out as they count for nothing (crowds), and (width, height) of the picture, if that file has them."""

    picture: Path
    source: Path
    boxes: list[Box]
    crowds: int = 0
    size: tuple[float, float] | None = None


@dataclass(frozen=True)
class AnnotatedImages:
    """Images with boxes as arrays, as a reader returns them.

    Attributes:
        x: uint8[N, C, H, W].
        boxes: of each image float32[K, 4], edges in pixels of x.
        labels: of each image int64[K].
        classes: their names.
        test: items of the published test split int64[n]; None if there is none.
        masks: int16[N, H, W], 1 + the number of the object that a pixel belongs to, 0 for none; None: there are none.
        strata: groups int64[N] that every split has its share of.
        notes: what a user should know, a sentence each.
    """

    x: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    classes: tuple[str, ...]
    test: np.ndarray | None = None
    masks: np.ndarray | None = None
    strata: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class VocDocument(NamedTuple):
    """What VOC's XML tells: the picture's file name, or "", its objects, and its (width, height), if they are there."""

    picture: str
    boxes: list[Box]
    size: tuple[float, float] | None


def parse_voc(data: bytes, name: str) -> VocDocument:
    """Read VOC's XML. Numbers are edges, as annotation tools write them.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        RlabError: it is no such file, has a DOCTYPE or entities, or is larger or deeper than any annotation.
    """
    root = _xml(data, name)
    boxes = []
    for found in root.all("object"):
        box = found.one("bndbox")
        kind = found.text("name")
        if box is None or not kind:
            raise RlabError(f"{name} has an object without a name or a bndbox")
        values = [box.text(part) for part in ("xmin", "ymin", "xmax", "ymax")]
        edges = [_number(value) for value in values]
        if None in edges:
            shown = [_cut(value) for value in values]
            raise RlabError(f"{name}: the box of '{_cut(kind)}' has edges {shown}; they must be numbers")
        boxes.append(Box(kind, tuple(edges)))  # type: ignore[arg-type]
    if root.tag != "annotation":
        raise RlabError(f"{name} is no annotation of VOC: its outermost element is '{_cut(root.tag)}'")
    size = root.one("size")
    return VocDocument(
        root.text("filename"), boxes, None if size is None else _size(size.text("width"), size.text("height"))
    )


def _size(width: Any, height: Any) -> tuple[float, float] | None:
    """A picture's size; None where a tool did not know it and wrote nothing, 0 or what is no number."""
    sides = _number(width) or 0.0, _number(height) or 0.0
    return sides if min(sides) > 0 else None


class _Element:
    """An element of XML with its text and what is inside it."""

    def __init__(self, tag: str):
        self.tag, self.inside, self.letters = tag, list[_Element](), list[str]()

    def all(self, tag: str) -> list[_Element]:
        return [part for part in self.inside if part.tag == tag]

    def one(self, tag: str) -> _Element | None:
        return next(iter(self.all(tag)), None)

    def text(self, tag: str) -> str:
        found = self.one(tag)
        return "" if found is None else "".join(found.letters).strip()


def _xml(data: bytes, name: str) -> _Element:
    """The outermost element. Nothing outside the file is read, and no entity is expanded: a DOCTYPE is refused."""
    if len(data) > LARGEST_XML:
        raise RlabError(f"{name} has {len(data):,} bytes; an annotation has {LARGEST_XML:,} at the most")
    parser, path, count = expat.ParserCreate(), [_Element("")], 0

    def begin(tag: str, attributes: Any) -> None:
        nonlocal count
        count += 1
        if count > MOST_ELEMENTS or len(path) > DEEPEST:
            raise RlabError(f"{name} has more than {MOST_ELEMENTS:,} elements, or {DEEPEST} inside each other")
        path[-1].inside.append(_Element(tag))
        path.append(path[-1].inside[-1])

    def refuse(*declared: Any) -> None:
        raise RlabError(f"{name} has a DOCTYPE, which an annotation does not need; it is not read")

    parser.StartElementHandler, parser.EndElementHandler = begin, lambda tag: path.pop()
    parser.CharacterDataHandler = lambda text: path[-1].letters.append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as e:  # an unknown encoding is the second or third
        raise RlabError(f"{name} is no whole XML ({e})") from None
    return path[0].inside[0]


class CocoPicture(NamedTuple):
    """A picture of COCO's JSON: its file name, objects, how many crowds were left out, and its size, if it is there."""

    name: str
    boxes: list[Box]
    crowds: int
    size: tuple[float, float] | None


def parse_coco(data: bytes, name: str) -> tuple[list[CocoPicture], list[str]]:
    """Read COCO's JSON: (its pictures; names of the classes by their ids).

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        RlabError: it is no such file, or a part of it is missing, there twice, or of another form.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise RlabError(f"{name} is no whole JSON ({type(e).__name__}: {_cut(str(e))})") from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(part), list) and all(isinstance(one, dict) for one in document[part])
        for part in ("images", "annotations", "categories")
    ):
        raise RlabError(f"{name} is no annotation of COCO: it takes the lists images, annotations and categories")
    classes = _by_id(document["categories"], "category", "name", name)
    pictures = _by_id(document["images"], "image", "file_name", name)
    if len({one["file_name"] for one in pictures.values()}) < len(pictures):
        twice = _twice(one["file_name"] for one in pictures.values())
        raise RlabError(f"{name} has two images of the file '{_cut(twice)}'; each picture has one")
    boxes = {key: list[Box]() for key in pictures}
    crowds = dict.fromkeys(pictures, 0)
    for one in document["annotations"]:
        which = f"{name}: annotation {_cut(str(one.get('id')))}"
        try:
            key = one["image_id"]
            picture, kind = pictures[key]["file_name"], classes[one["category_id"]]["name"]
        except (KeyError, TypeError):
            raise RlabError(f"{which} names no image or category that there is") from None
        edges = one.get("bbox")
        values = [_number(value) for value in edges] if isinstance(edges, list) else []
        if len(values) != 4 or None in values:
            raise RlabError(f"{which} of {_cut(picture)} has no bbox of 4 numbers")
        crowd = one.get("iscrowd") or 0
        if crowd not in (0, 1):
            raise RlabError(f"{which} of {_cut(picture)} has iscrowd {_cut(repr(crowd))}; it must be 0 or 1")
        if crowd:
            crowds[key] += 1
            continue
        left, top, width, height = values
        if width < 0 or height < 0:  # type: ignore[operator]
            raise RlabError(f"{which} of {_cut(picture)} has a bbox {width:g} wide and {height:g} high; neither can be "
                            "below 0")  # fmt: skip
        right, bottom = left + width, top + height  # type: ignore[operator]
        called = f"{which} of {_cut(picture)}"
        boxes[key].append(Box(kind, (left, top, right, bottom), one.get("segmentation"), called))  # type: ignore[arg-type]
    found = [
        CocoPicture(one["file_name"], boxes[key], crowds[key], _size(one.get("width"), one.get("height")))
        for key, one in pictures.items()
    ]
    return found, [classes[key]["name"] for key in sorted(classes, key=lambda key: (isinstance(key, str), key))]


Id = int | str


def _by_id(entries: list[dict[str, Any]], what: str, text: str, name: str) -> dict[Id, dict[str, Any]]:
    """Entries of a list by their ids, in the list's order; `text` names what else each must have.

    Raises:
        RlabError: an id is no whole number and no text, or is there twice; or `text` is none.
    """
    found = dict[Id, dict[str, Any]]()
    for one in entries:
        key, word = one.get("id"), one.get(text)
        if not isinstance(key, Id) or isinstance(key, bool) or not isinstance(word, str) or not word.strip():
            given = _cut(f"id {key!r} and {text} {word!r}")
            raise RlabError(f"{name}: an image or category has no whole id and name ({what}: {given})")
        if key in found:
            both = " and ".join(f"'{_cut(str(part))}'" for part in (found[key][text], word))
            raise RlabError(f"{name} gives the id {_cut(str(key))} to {both}; each {what} has its own")
        found[key] = one
    return found


def _twice(values: Iterable[Any]) -> Any:
    """The first value that is there a second time; None if there is none."""
    seen = set[Any]()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _number(value: Any) -> float | None:
    """A finite number of a text or of JSON; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e9 else None


class Gathering:
    """Gathers pictures with their boxes, resized to one shape, and counts what was left out.

    Args:
        where: the pictures' folder or archive, for messages.
        shape: [C, H, W] to which pictures and boxes are resized; None: all must have one size.
        classes: names in the order of their numbers; None: ascending, as they occur.
        outlines: make instance masks of the objects' outlines, and take the boxes around these.
    """

    def __init__(
        self,
        where: str,
        shape: tuple[int, int, int] | None,
        classes: Sequence[str] | None = None,
        outlines: bool = False,
    ):
        self.where, self.shape, self.classes = where, shape, classes
        self.masks: list[np.ndarray] | None = [] if outlines else None
        self.x: list[np.ndarray] = []
        self.boxes: list[list[Box]] = []
        self.names: list[str] = []
        self.flat, self.clipped, self.crowds, self.hidden = 0, 0, 0, 0
        self.notes = list[str]()

    def add(
        self,
        picture: bytes,
        name: str,
        boxes: Iterable[Box],
        source: str,
        crowds: int = 0,
        size: tuple[float, float] | None = None,
    ) -> None:
        """Add a picture; boxes are checked, clipped to it and moved with it.

        Args:
            picture: the file.
            name: of it, for messages.
            boxes: its objects.
            source: where they stand, for messages.
            crowds: objects that were left out.
            size: (width, height) that the picture has by its source; None: it does not say.

        Raises:
            RlabError: the picture cannot be read, or has another size; a box lies outside, or its edges are the wrong
                way round.
        """
        image = open_picture(picture, name)
        given = image.size
        if size not in (None, given):
            raise RlabError(f"{source} says that {name} is {size[0]:g}x{size[1]:g} pixels, and it is "
                            f"{given[0]}x{given[1]}; boxes would lie elsewhere")  # fmt: skip
        pixels = pixels_of(image, self.shape, name, self.x[0] if self.x else None)
        kept = [box for box in (self._checked(box, given, name, source) for box in boxes) if box is not None]
        if len(kept) > MOST_BOXES:
            raise RlabError(f"{source} has {len(kept):,} boxes in {name}; at most {MOST_BOXES:,} are read")
        across, down = pixels.shape[2] / given[0], pixels.shape[1] / given[1]
        scale = (across, down, across, down)
        scaled = [Box(b.name, tuple(e * s for e, s in zip(b.edges, scale, strict=True))) for b in kept]
        self.boxes.append(scaled if self.masks is None else self._outlined(kept, given, pixels.shape[1:]))
        self.x.append(pixels)
        self.names.append(name)
        self.crowds += crowds

    def _outlined(self, boxes: list[Box], given: tuple[int, int], size: tuple[int, ...]) -> list[Box]:
        """Add a mask [H, W] = `size` of a picture's objects; return the boxes around what is seen of them in it."""
        assert self.masks is not None
        numbers = np.zeros(given[::-1], np.int16)
        areas = [(right - left) * (bottom - top) for (left, top, right, bottom) in (box.edges for box in boxes)]
        for number in sorted(range(len(boxes)), key=lambda n: -areas[n]):  # small ones lie on large ones
            numbers[mask_of(boxes[number].outline, given[::-1], boxes[number].called)] = number + 1
        # of each smaller pixel the one in its middle: between two numbers there is no third object
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, given[::-1], strict=True)
        )
        numbers = numbers[rows][:, columns]
        seen = np.unique(numbers[numbers > 0])
        self.hidden += len(boxes) - len(seen)
        self.masks.append((np.searchsorted(seen, numbers, side="right") * (numbers > 0)).astype(np.int16))
        edges = boxes_of(self.masks[-1]).tolist()
        return [Box(boxes[n - 1].name, tuple(edge)) for n, edge in zip(seen.tolist(), edges, strict=True)]

    def _checked(self, box: Box, size: tuple[int, int], name: str, source: str) -> Box | None:
        left, top, right, bottom = box.edges
        width, height = size
        shown = ", ".join(f"{edge:g}" for edge in box.edges)
        if left > right or top > bottom:
            raise RlabError(f"{source}: the box ({shown}) of '{_cut(box.name)}' in {name} has its edges the wrong way "
                            "round; it takes left, top, right, bottom")  # fmt: skip
        if left == right or top == bottom:
            self.flat += 1
            return None
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            raise RlabError(f"{source}: the box ({shown}) of '{_cut(box.name)}' lies outside of {name}, which is "
                            f"{width}x{height} pixels")  # fmt: skip
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        edges = np.array(inside, np.float32)  # as they are kept: what is thinner than that has no area
        if not (edges[:2] < edges[2:]).all():
            self.flat += 1
            return None
        self.clipped += inside != (left, top, right, bottom)
        return box._replace(edges=inside)

    def done(self, test: np.ndarray | None) -> AnnotatedImages:
        """Make arrays of what was gathered.

        Raises:
            RlabError: there is no picture, or no box.
        """
        occur = {box.name for boxes in self.boxes for box in boxes}
        if not occur:
            raise RlabError(f"{self.where} has {len(self.x):,} annotated pictures without a single box; there is "
                            "nothing to detect")  # fmt: skip
        classes = tuple(sorted(occur)) if self.classes is None else tuple(dict.fromkeys(self.classes))
        most = max(map(len, self.x))
        kinds = {name: number for number, name in enumerate(classes)}
        counts = ((self.flat, "without area left out"), (self.clipped, "clipped to their pictures"),
                  (self.crowds, "of crowds left out"), (self.hidden, "of which no pixel is seen left out"))  # fmt: skip
        return AnnotatedImages(
            x=np.stack([np.broadcast_to(part, (most, *part.shape[1:])) for part in self.x]),
            boxes=[np.array([box.edges for box in boxes], np.float32).reshape(-1, 4) for boxes in self.boxes],
            labels=[np.array([kinds[box.name] for box in boxes], np.int64) for boxes in self.boxes],
            classes=tuple(map(printable, classes)),
            test=test,
            masks=None if self.masks is None else np.stack(self.masks),
            notes=(
                *self.notes,
                *(f"{self.where}: {n:,} box{'es' if n > 1 else ''} {what}" for n, what in counts if n),
            ),
        )


class AnnotatedFolder(OwnFiles):
    """A folder of pictures with boxes; a subclass says where their annotations stand, and whether with outlines."""

    kind = "detection"
    outlines: ClassVar[bool] = False

    def annotated(self, read: Reading) -> tuple[list[Annotated], list[str] | None]:
        """Read all annotations: pictures in a fixed order, and names of the classes, if the files have them."""
        raise NotImplementedError

    def documents(self) -> list[Path]:
        """The files with annotations, in a fixed order."""
        raise NotImplementedError

    def official(self, found: list[Annotated], read: Reading) -> np.ndarray | None:
        """The items of the test split that the folder has; None: there is none."""
        raise NotImplementedError

    def files(self) -> list[Path]:
        """All files with annotations, and all pictures that they name."""
        found, _ = self.annotated(Reading(self.path))
        return [*self.documents(), *(one.picture for one in found), *self.lists()]

    def lists(self) -> list[Path]:
        """The files that name the test split, beside the annotations."""
        return []

    def notes(self, found: list[Annotated]) -> list[str]:
        """What a user should know of pictures that are not read, a sentence each."""
        return []

    def examples(self) -> int:
        """About how many pictures there are to train on."""
        found, _ = self.annotated(Reading(self.path))
        return int(0.7 * len(found)) + 1

    def contents(self, settings: OwnSettings, read: Reading) -> AnnotatedImages:
        """Read annotations and pictures.

        Raises:
            RlabError: what is wrong with them, by file.
        """
        found, classes = self.annotated(read)
        where = printable(self.path)
        if twice := _twice(one.picture for one in found):
            raise RlabError(f"{printable(twice)} is annotated twice in {where}; each picture has one annotation")
        gathering = Gathering(where, settings.shape, classes, settings.masks and self.outlines)
        gathering.notes += self.notes(found)
        for one in found:
            name, source = printable(one.picture), printable(one.source)
            gathering.add(read(one.picture), name, one.boxes, source, one.crowds, one.size)
            if len(gathering.x) == 1 and 3 * len(found) * gathering.x[0].nbytes > available_memory():
                raise RlabError(
                    f"the {len(found):,} pictures of {where} would take "
                    f"{gigabytes(len(found) * gathering.x[0].nbytes)}, too much for the free memory; make them "
                    "smaller with --shape 3x240x320"
                )
        test = self.official(found, read)
        if settings.test_file:
            names = [one.picture.relative_to(self.path).as_posix() for one in found]
            test = named(names, settings.test_file, read, str(self.path))
        return gathering.done(test)


class VocFolder(AnnotatedFolder):
    """VOC: ``Annotations/*.xml`` and ``JPEGImages/``, or both kinds of files beside each other; the test split is
    ``ImageSets/Main/test.txt``, if there is one."""

    def documents(self) -> list[Path]:
        """The XML files."""
        beside = self.path / "Annotations"
        found = [path for path in listed(beside if beside.is_dir() else self.path) if path.suffix.lower() == ".xml"]
        if not found:
            raise RlabError(f"{self.path} holds no annotation *.xml, neither there nor in {beside.name}")
        return found

    def annotated(self, read: Reading) -> tuple[list[Annotated], list[str] | None]:
        """See `AnnotatedFolder.annotated`."""
        pictures: dict[str, list[Path]] = {}
        for path in self._pictures():
            pictures.setdefault(path.stem, []).append(path)
        found = []
        for path in self.documents():
            told = parse_voc(read(path), printable(path))
            name = PurePosixPath(told.picture.replace("\\", "/"))
            there = pictures.get(path.stem) or pictures.get(name.stem) or []
            if len(there) > 1:
                there = [one for one in there if one.name == name.name] or there
            if len(there) != 1:
                what = f"has no picture {path.stem}.jpg or .png"
                if there:
                    what = f"may be of {some(one.name for one in there)}, as its <filename> names neither,"
                raise RlabError(f"{printable(path)} {what} in {printable(self._folder())}")
            found.append(Annotated(there[0], path, told.boxes, size=told.size))
        return found, None

    def _folder(self) -> Path:
        """Where the pictures lie."""
        return self.path / "JPEGImages" if (self.path / "JPEGImages").is_dir() else self.path

    def _pictures(self) -> list[Path]:
        return [path for path in listed(self._folder()) if path.suffix.lower() in PICTURES]

    def official(self, found: list[Annotated], read: Reading) -> np.ndarray | None:
        """See `AnnotatedFolder.official`."""
        for path in self.lists():
            items = in_split(text_of(path, read(path)), [one.source.stem for one in found])
            if items is None:
                raise RlabError(f"{printable(path)} names none of the annotated pictures; it takes names without an "
                                f"ending, one a line, such as {printable(found[0].source.stem)}")  # fmt: skip
            return items
        return None

    def notes(self, found: list[Annotated]) -> list[str]:
        """See `AnnotatedFolder.notes`."""
        without = len({*self._pictures()} - {one.picture for one in found})
        which = f"{without:,} picture{'s' if without > 1 else ''} without an annotation left out"
        return [f"{printable(self.path)}: {which}; one without an object in it is background"] if without else []

    def lists(self) -> list[Path]:
        """See `AnnotatedFolder.lists`."""
        path = self.path / "ImageSets" / "Main" / "test.txt"
        return [path] if path.is_file() else []


def in_split(text: str, stems: Sequence[str]) -> np.ndarray | None:
    """The places of those names that a list has, one a line; None if it has none of them."""
    wanted = {line.split()[0] for line in text.splitlines() if line.strip()}
    places = np.flatnonzero([stem in wanted for stem in stems])
    return places if len(places) else None


class CocoFolder(AnnotatedFolder):
    """COCO: JSON files in the folder, in ``annotations/``, or beside the pictures of each split; pictures are looked
    for beside the JSON, in the folder, in ``images/``, and in a folder named as the split. What a file or folder named
    "test" has (or "val", where nothing is) is the test split."""

    outlines = True

    def documents(self) -> list[Path]:
        """The JSON files."""
        inside = [path for path in listed(self.path) if path.is_dir()]
        found = [path for folder in (self.path, *inside) for path in listed(folder) if path.suffix.lower() == ".json"]
        if not found:
            raise RlabError(f"{self.path} holds no annotation *.json, neither there nor one folder below")
        return found

    def annotated(self, read: Reading) -> tuple[list[Annotated], list[str] | None]:
        """See `AnnotatedFolder.annotated`."""
        found: list[Annotated] = []
        classes: dict[str, None] = {}
        for path in self.documents():
            pictures, names = parse_coco(read(path), printable(path))
            classes |= dict.fromkeys(names)
            for one in pictures:
                found.append(Annotated(self._picture(one.name, path), path, one.boxes, one.crowds, one.size))
        return found, list(classes)

    def _picture(self, name: str, document: Path) -> Path:
        relative, by = Path(name.replace("\\", "/")), f"{printable(document)} names the picture '{_cut(name)}', which"
        if relative.is_absolute() or ".." in relative.parts:
            raise RlabError(f"{by} lies outside of {printable(self.path)}")
        split = document.stem.rpartition("_")[2]
        folders = (document.parent, self.path, self.path / "images", self.path / split, self.path / "images" / split)
        # not Path.is_file, which fails of a name that is too long
        there = [folder for folder in dict.fromkeys(folders) if os.path.isfile(folder / relative)]
        if len(there) > 1:
            raise RlabError(
                f"{by} is in {some(part.relative_to(self.path).as_posix() for part in there)} of "
                f"{printable(self.path)}; each picture has one place"
            )
        if not there:
            raise RlabError(f"{by} is in none of {some(dict.fromkeys(folder.name for folder in folders))}")
        return there[0] / relative

    def official(self, found: list[Annotated], read: Reading) -> np.ndarray | None:
        """See `AnnotatedFolder.official`."""
        for words in TEST_WORDS:
            part = [not words.isdisjoint(_words(one.source.relative_to(self.path))) for one in found]
            if any(part) and not all(part):
                return np.flatnonzero(part)
        return None


TEST_WORDS = ({"test", "testing"}, {"val", "valid", "validation"})
"""Words of a file or folder whose pictures are the test split: those of the second group where none has the first."""


def _words(path: Path) -> list[str]:
    """The words of a path in small letters: of ``annotations/val2017.json`` annotations, val and json."""
    return re.findall("[a-z]+", path.as_posix().lower())


OWN.update(voc=VocFolder, coco=CocoFolder)


def blood_cells(read: Read, archive: str, shape: tuple[int, int, int]) -> AnnotatedImages:
    """Read a .tar in VOC's layout, ``*/Annotations/ID.xml``, resized; the test split is its own.

    Args:
        read: reader of files.
        archive: the file that holds annotations and pictures.
        shape: [C, H, W].
    """
    parts = dict(members(read(archive), archive))
    gathering, stems = Gathering(archive, shape), []
    for name in sorted(n for n in parts if n.endswith(".xml")):
        picture = name.replace("/Annotations/", "/JPEGImages/").removesuffix(".xml") + ".jpg"
        if picture not in parts:
            raise RlabError(f"{archive} has {name} but not {picture}")
        told = parse_voc(parts[name], f"{archive}: {name}")
        gathering.add(parts[picture], f"{archive}: {picture}", told.boxes, f"{archive}: {name}", size=told.size)
        stems.append(Path(name).stem)
    tests = [data.decode() for name, data in parts.items() if name.endswith("ImageSets/Main/test.txt")]
    return gathering.done(in_split(tests[0], stems) if tests else None)


def nuclei_instances(read: Read, archive: str, side: int) -> AnnotatedImages:
    """Read images and instance masks as `rlab.data.readers.nuclei` does, each nucleus an object of its own.

    Nuclei that the smaller image has no pixel of are left out.
    """
    from PIL import Image

    parts = dict(members(read(archive), archive))
    x, masks, boxes, coloured = [], [], [], []
    for name in sorted(n for n in parts if n.startswith("image/")):
        label = name.replace("image/", "label/", 1)
        image = open_picture(parts[name], f"{archive}: {name}")
        mask = open_mask(parts[label], f"{archive}: {label}")
        coloured.append(image.mode != "L")
        x.append(np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1))
        found = np.asarray(mask.resize((side, side), Image.Resampling.NEAREST))
        numbers = np.unique(found)
        masks.append(np.searchsorted(numbers[numbers > 0], found, side="right").astype(np.int16) * (found > 0))
        boxes.append(boxes_of(masks[-1]))
    return AnnotatedImages(
        np.stack(x),
        boxes,
        [np.zeros(len(part), np.int64) for part in boxes],
        ("nucleus",),
        masks=np.stack(masks).astype(np.int16),
        strata=np.array(coloured, np.int64),
    )


def boxes_of(mask: np.ndarray) -> np.ndarray:
    """Find the boxes around objects 1 to K of an instance mask[H, W]: float32[K, 4]."""
    boxes = np.zeros((int(mask.max(initial=0)), 4), np.float32)
    for number in range(1, len(boxes) + 1):
        rows, columns = np.nonzero(mask == number)
        boxes[number - 1] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def _cut(text: str) -> str:
    return printable(shortened(text, 40))
