"""Images with boxes: annotations in VOC's XML and COCO's JSON, a user's own folders of them, and published sets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from xml.parsers import expat

import numpy as np

from rlab.data.media import open_mask, open_picture
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
    """One picture with its objects: the picture's path, where its objects stand, the objects, and how many were left
    out as they count for nothing (crowds)."""

    picture: Path
    source: str
    boxes: list[Box]
    crowds: int = 0


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


def parse_voc(data: bytes, name: str) -> tuple[str, list[Box]]:
    """Read VOC's XML: (file name of the picture, or empty; objects). Numbers are edges, as annotation tools write them.

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
    return root.text("filename"), boxes


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


def parse_coco(data: bytes, name: str) -> tuple[dict[str, Any], list[str]]:
    """Read COCO's JSON: (file name of a picture -> `Annotated` but for the path; names of the classes).

    Raises:
        RlabError: it is no such file, or a part of it is missing or of another form.
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
    try:
        classes = {one["id"]: str(one["name"]) for one in sorted(document["categories"], key=lambda one: one["id"])}
        pictures = {one["id"]: str(one["file_name"]) for one in document["images"]}
    except (KeyError, TypeError) as e:
        raise RlabError(f"{name}: an image or category has no whole id and name ({_cut(str(e))})") from None
    found: dict[str, Any] = {picture: ([], 0) for picture in pictures.values()}
    for one in document["annotations"]:
        edges = one.get("bbox")
        values = [_number(value) for value in edges] if isinstance(edges, list) else []
        try:
            picture, kind = pictures[one["image_id"]], classes[one["category_id"]]
        except (KeyError, TypeError):
            raise RlabError(f"{name}: annotation {_cut(str(one.get('id')))} names no image or category that there "
                            "is") from None  # fmt: skip
        if len(values) != 4 or None in values:
            which = _cut(str(one.get("id")))
            raise RlabError(f"{name}: annotation {which} of {_cut(picture)} has no bbox of 4 numbers")
        boxes, crowds = found[picture]
        if one.get("iscrowd"):
            found[picture] = boxes, crowds + 1
            continue
        left, top, width, height = values
        right, bottom = left + width, top + height  # type: ignore[operator]
        called = f"{name}: annotation {_cut(str(one.get('id')))} of {_cut(picture)}"
        boxes.append(Box(kind, (left, top, right, bottom), one.get("segmentation"), called))  # type: ignore[arg-type]
    return found, list(classes.values())


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

    def add(self, picture: bytes, name: str, boxes: Iterable[Box], source: str, crowds: int = 0) -> None:
        """Add a picture; boxes are checked, clipped to it and moved with it.

        Raises:
            RlabError: the picture cannot be read, a box lies outside, or its edges are the wrong way round.
        """
        from PIL import Image

        image = open_picture(picture, name)
        given = image.size
        if self.shape is not None:
            channels, height, width = self.shape
            image = image.convert("L" if channels == 1 else "RGB")
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
        if self.x and pixels.shape[1:] != self.x[0].shape[1:]:
            sizes = [f"{part.shape[2]}x{part.shape[1]}" for part in (pixels, self.x[0])]
            raise RlabError(
                f"{name} is {sizes[0]} pixels, the pictures before it are {sizes[1]}; resize all with "
                f"--shape {len(pixels)}x{self.x[0].shape[1]}x{self.x[0].shape[2]} (channels x height x width)"
            )
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
            notes=tuple(f"{self.where}: {n:,} box{'es' if n > 1 else ''} {what}" for n, what in counts if n),
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
        gathering = Gathering(str(self.path), settings.shape, classes, settings.masks and self.outlines)
        for one in found:
            gathering.add(read(one.picture), str(one.picture), one.boxes, one.source, one.crowds)
            if len(gathering.x) == 1 and 3 * len(found) * gathering.x[0].nbytes > available_memory():
                raise RlabError(
                    f"the {len(found):,} pictures of {self.path} would take "
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
        folder = self.path / "JPEGImages" if (self.path / "JPEGImages").is_dir() else self.path
        pictures = {path.stem: path for path in listed(folder) if path.suffix.lower() in PICTURES}
        found = []
        for path in self.documents():
            told, boxes = parse_voc(read(path), str(path))
            picture = pictures.get(path.stem) or pictures.get(Path(told.replace("\\", "/")).stem)
            if picture is None:
                raise RlabError(f"{path} has no picture {path.stem}.jpg or .png in {folder}")
            found.append(Annotated(picture, str(path), boxes))
        return found, None

    def official(self, found: list[Annotated], read: Reading) -> np.ndarray | None:
        """See `AnnotatedFolder.official`."""
        for path in self.lists():
            return in_split(text_of(path, read(path)), [Path(one.source).stem for one in found])
        return None

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
        classes: list[str] = []
        for path in self.documents():
            pictures, more = parse_coco(read(path), str(path))
            classes += [name for name in more if name not in classes]
            for name, (boxes, crowds) in pictures.items():
                found.append(Annotated(self._picture(name, path), str(path), boxes, crowds))
        if twice := [one.picture for n, one in enumerate(found) if one.picture in {o.picture for o in found[:n]}][:1]:
            raise RlabError(f"{twice[0]} is annotated twice in {self.path}")
        return found, classes

    def _picture(self, name: str, document: Path) -> Path:
        relative = Path(name.replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise RlabError(f"{document} names the picture '{_cut(name)}', which lies outside of {self.path}")
        split = document.stem.rpartition("_")[2]
        folders = (document.parent, self.path, self.path / "images", self.path / split, self.path / "images" / split)
        for folder in folders:
            if (folder / relative).is_file():
                return folder / relative
        raise RlabError(f"{document} names the picture '{_cut(name)}', which is in none of "
                        f"{some(folder.name for folder in folders)}")  # fmt: skip

    def official(self, found: list[Annotated], read: Reading) -> np.ndarray | None:
        """See `AnnotatedFolder.official`."""
        for word in ("test", "val"):
            part = [
                any(word in name.lower() for name in Path(one.source).relative_to(self.path).parts) for one in found
            ]
            if any(part) and not all(part):
                return np.flatnonzero(part)
        return None


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
        _, boxes = parse_voc(parts[name], f"{archive}: {name}")
        gathering.add(parts[picture], f"{archive}: {picture}", boxes, f"{archive}: {name}")
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
