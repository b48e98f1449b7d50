"""Images with boxes: what is read of VOC and COCO, what is refused, and how augmentation moves boxes and masks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rlab.data.annotations import CocoFolder, parse_voc
from rlab.data.augment import AUGMENTATIONS, GEOMETRY, augment
from rlab.data.batches import Batches
from rlab.data.catalog import DATASETS
from rlab.data.datasets import load
from rlab.data.own import OwnSettings, Reading
from rlab.data.picture import draw
from rlab.errors import RlabError, printable
from tests.tasks.test_trainer import of_recipe

BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def png(width: int = 40, height: int = 30) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)).save(out, "PNG")
    return out.getvalue()


def xml(*boxes: tuple[Any, ...]) -> str:
    return "<annotation>" + "".join(BOX.format(*box) for box in boxes) + "</annotation>"


def voc(folder: Path, documents: dict[str, str], test: str = "") -> str:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, text in documents.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        (folder / "JPEGImages" / f"{name}.png").write_bytes(png())
    if test:
        (folder / "ImageSets/Main/test.txt").write_text(test)
    return f"voc:{folder}"


MANY = {f"{n:02}": xml(("cat", 2, 3, 20, 25), ("dog", 0, 0, 10 + n, 10)) for n in range(20)}


def test_voc_folder_is_read(tmp_path: Path) -> None:
    name = voc(tmp_path, MANY | {"05": xml(("cat", 4, 4, 4, 9), ("dog", -3, 5, 60, 20)), "06": xml()}, "00\n07\n")
    data = load(name)
    assert (data.classes, data.shape, len(data)) == (("cat", "dog"), (1, 30, 40), 20)
    assert data.splits["test"].tolist() == [0, 7]
    assert data.boxes[3].tolist() == [[2, 3, 20, 25], [0, 0, 13, 10]]
    assert data.boxes[5, 0].tolist() == [0, 5, 40, 20]  # at the edge: clipped, not lost
    assert data.labels[5].tolist() == [1, -1]
    assert data.labels[6].tolist() == [-1, -1]
    assert data.notes == (f"{tmp_path}: 1 box without area left out", f"{tmp_path}: 1 box clipped to their pictures")
    small = load(name, own=OwnSettings(shape=(3, 15, 20)))
    assert small.boxes[3, 0].tolist() == [1, 1.5, 10, 12.5]
    files = DATASETS.get(name).own
    digest = files.digest(OwnSettings())
    load(name, own=OwnSettings(digest=digest))
    (tmp_path / "Annotations/00.xml").write_text(xml(("cat", 1, 1, 9, 9)))
    with pytest.raises(RlabError, match="have changed since the run began"):
        load(name, own=OwnSettings(digest=digest))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (xml(("cat", 50, 3, 60, 9)), r"04.xml: the box \(50, 3, 60, 9\) of 'cat' lies outside of .*04.png, .* 40x30"),
        (xml(("cat", 9, 3, 2, 9)), "04.xml: the box .* has its edges the wrong way round"),
        (xml(("cat", "x", 3, 2, 9)), "04.xml: the box of 'cat' has edges .*'x'.* must be numbers"),
        (xml(("cat", "nan", 3, 2, 9)), "must be numbers"),
        (xml(("", 1, 3, 2, 9)), "04.xml has an object without a name"),
        ("<annotation><object>", "04.xml is no whole XML"),
        ("", "04.xml is no whole XML"),
        ("<html></html>", "04.xml is no annotation of VOC: its outermost element is 'html'"),
        ("<a>" * 30, "inside each other"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "04.xml has a DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "/etc/hostname"><annotation/>', "04.xml has a DOCTYPE"),
        (
            "<annotation><size><width>30</width><height>40</height></size></annotation>",
            "04.xml says that .*04.png is 30x40 pixels, and it is 40x30",
        ),
        (xml(*[("cat", 1, 1, 9, 9)] * 1_001), "04.xml has 1,001 boxes"),
    ],
)
def test_malformed_voc_is_named(text: str, said: str, tmp_path: Path) -> None:
    name = voc(tmp_path, MANY | {"04": text})
    with pytest.raises(RlabError, match=said) as told:
        load(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>", "<width>?</width>"])
def test_size_that_a_tool_does_not_know_counts_for_nothing(size: str, tmp_path: Path) -> None:
    name = voc(tmp_path, MANY | {"04": f"<annotation><size>{size}</size></annotation>"})
    assert (load(name).labels[4] == -1).all()


@pytest.mark.parametrize(
    "box",
    [("cat", 4, 4, 4, 9), ("cat", 4, 9, 12, 9), ("cat", 4, 4, 4 + 1e-9, 9), ("cat", 40 - 1e-9, 4, 45, 9)],
)
def test_boxes_without_area_are_left_out(box: tuple[Any, ...], tmp_path: Path) -> None:
    """Also those that have none as 32-bit numbers, or once they are clipped."""
    data = load(voc(tmp_path, MANY | {"04": xml(box)}))
    assert data.notes == (f"{tmp_path}: 1 box without area left out",)
    assert (data.labels[4] == -1).all()


@pytest.mark.parametrize(
    "name",
    ["a cat", "\u732b", "\x9b31m", "\u202edog", "$x$", "c" * 500],
    ids=["space", "kanji", "C1", "bidi", "math", "long"],
)
def test_any_name_of_a_class_is_kept_printable(name: str, tmp_path: Path) -> None:
    data = load(voc(tmp_path, {number: xml((name, 1, 1, 9, 9)) for number in MANY}))
    assert data.classes == (printable(name),)
    assert draw(data, (), 3, 0).startswith(b"\x89PNG")


def test_entities_are_found_in_every_encoding() -> None:
    bomb = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "cc">]><annotation>&b;</annotation>'
    with pytest.raises(RlabError, match=r"x\.xml has a DOCTYPE"):
        parse_voc(bomb.encode("utf-16"), "x.xml")
    with pytest.raises(RlabError, match=r"x.xml has 5,000,000 bytes"):
        parse_voc(b" " * 5_000_000, "x.xml")


def test_other_voc_folders_are_refused(tmp_path: Path) -> None:
    name = voc(tmp_path / "a", {"00": xml()})
    with pytest.raises(RlabError, match="without a single box"):
        load(name)
    (tmp_path / "a/JPEGImages/00.png").write_bytes(png()[:100])
    with pytest.raises(RlabError, match=r"00\.png is damaged or cut off"):
        load(name)
    (tmp_path / "a/JPEGImages/00.png").unlink()
    with pytest.raises(RlabError, match=r"00.xml has no picture 00.jpg"):
        load(name)
    (tmp_path / "a/Annotations/00.xml").unlink()
    with pytest.raises(RlabError, match=r"holds no annotation \*.xml"):
        load(name)


def test_pictures_of_one_stem_are_told_apart(tmp_path: Path) -> None:
    name = voc(tmp_path, MANY)
    Image.new("L", (40, 30), 200).save(tmp_path / "JPEGImages/04.jpg", quality=100)
    with pytest.raises(RlabError, match=r"04.xml may be of 04.jpg, 04.png, as its <filename> names neither, in .*JPEG"):
        load(name)
    (tmp_path / "Annotations/04.xml").write_text(
        xml().replace("<annotation>", "<annotation><filename>04.jpg</filename>")
    )
    assert load(name).x[4].float().mean() == pytest.approx(200, abs=2)
    (tmp_path / "Annotations/zz.xml").write_text("<annotation><filename>C:\\\\x\\\\07.png</filename></annotation>")
    with pytest.raises(RlabError, match=r"07.png is annotated twice in "):
        load(name)


def test_pictures_without_an_annotation_are_told(tmp_path: Path) -> None:
    name = voc(tmp_path, MANY)
    (tmp_path / "JPEGImages/zz.png").write_bytes(png())
    (told,) = load(name).notes
    assert told.startswith(f"{tmp_path}: 1 picture without an annotation left out")


@pytest.mark.parametrize(("text", "said"), [
    ("04.png\n", "test.txt names none of the annotated pictures; .* such as 00"),
    ("\n", "test.txt names none of the annotated pictures"),
    ("\n".join(MANY), "the split 'train' .* is empty"),
])  # fmt: skip
def test_list_of_test_pictures_must_name_some(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RlabError, match=said):
        load(voc(tmp_path, MANY, text))


@pytest.mark.parametrize("shape", [(1, 0, 5), (3, 100_000, 100_000), (4_096, 4_096, 4_096)], ids=str)
@pytest.mark.parametrize("kind", ["voc", "images"])
def test_shapes_that_cannot_be_are_refused_at_once(kind: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    name = voc(tmp_path, MANY)
    if kind == "images":
        name = f"images:{tmp_path / 'own'}"
        for part in ("a", "b"):
            (tmp_path / "own" / part).mkdir(parents=True)
            (tmp_path / "own" / part / "0.png").write_bytes(png())
    with pytest.raises(RlabError, match=r"images cannot be of shape|too much for the free memory"):
        load(name, own=OwnSettings(shape=shape)).resized(shape)


def coco(folder: Path, change: dict[str, Any], outlines: tuple[Any, ...] = (), edges: Any = None) -> str:
    """A folder of 10 + 2 pictures with a box each, or with these outlines on the first of each split."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for n in range(12):
        (folder / f"images/{n}.png").write_bytes(png())
    for split, numbers in (("train", range(10)), ("test", range(10, 12))):
        document: dict[str, Any] = {
            "images": [{"id": 7 * n, "file_name": f"{n}.png"} for n in numbers],
            "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
            "annotations": [
                {"id": n, "image_id": 7 * n, "category_id": 9, "bbox": [1, 2.5, 10, 20], "iscrowd": int(n == 1)}
                for n in numbers
            ],
        }
        if outlines:
            document["annotations"] = [
                {
                    "id": 100 + n,
                    "image_id": 7 * numbers[0],
                    "category_id": 9 - 6 * n,
                    "segmentation": outline,
                    "bbox": box,
                }
                for n, (outline, box) in enumerate(
                    zip(outlines, edges or [[1, 1, 30, 25]] * len(outlines), strict=True)
                )
            ]
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(document | change))
    return f"coco:{folder}"


def test_coco_folder_is_read(tmp_path: Path) -> None:
    data = load(coco(tmp_path, {}))
    assert (data.classes, len(data)) == (("cat", "dog"), 12)
    assert data.boxes[0].tolist() == [[1, 2.5, 11, 22.5]]
    assert (data.labels[:, 0] == -1).sum() == 1  # a crowd counts for nothing
    assert data.notes == (f"{tmp_path}: 1 box of crowds left out",)
    names = sorted((tmp_path / "annotations").iterdir())  # the test file comes first
    assert names[0].name == "instances_test.json"
    assert data.splits["test"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": None}, "no annotation of COCO"),
        ({"annotations": [3]}, "no annotation of COCO"),
        ({"images": [{"id": 0}]}, "an image or category has no whole id and name"),
        ({"images": [{"id": 0, "file_name": "../x.png"}], "annotations": []}, r"'\.\./x.png', which lies outside"),
        ({"images": [{"id": 0, "file_name": "x.png"}], "annotations": []}, "'x.png', which is in none of"),
        ({"annotations": [{"image_id": 99, "category_id": 9, "bbox": [1, 1, 2, 2]}]}, "names no image or category"),
        (
            {"annotations": [{"image_id": 70, "category_id": 9, "bbox": [1, 1, True, 2]}]},
            "no bbox of 4 numbers",
        ),
        (
            {"images": [{"id": 70, "file_name": "10.png"}, {"id": 70, "file_name": "11.png"}]},
            "gives the id 70 to '10.png' and '11.png'; each image has its own",
        ),
        (
            {"images": [{"id": 1, "file_name": "10.png"}, {"id": 2, "file_name": "10.png"}], "annotations": []},
            "has two images of the file '10.png'",
        ),
        ({"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]}, "gives the id 9 to 'a' and 'b'"),
        ({"categories": [{"id": 9, "name": None}]}, r"no whole id and name \(category: id 9 and name None\)"),
        ({"categories": [{"id": 9, "name": " "}]}, "no whole id and name"),
        ({"categories": [{"id": True, "name": "a"}]}, "no whole id and name"),
        ({"categories": [{"id": [9], "name": "a"}]}, "no whole id and name"),
        ({"images": [{"id": 0, "file_name": "x" * 400}], "annotations": []}, "which is in none of"),
        ({"images": [{"id": 0, "file_name": "a\0b.png"}], "annotations": []}, r"'a\\x00b.png', which is in none of"),
        ({"images": [{"id": 0, "file_name": "."}], "annotations": []}, "which is in none of"),
        *(
            ({"annotations": [{"image_id": 70, "category_id": 9} | change]}, said)
            for change, said in (
                ({"bbox": [5, 5, -3, 3]}, "has a bbox -3 wide and 3 high; neither can be below 0"),
                ({"bbox": [float("nan"), 5, 3, 3]}, "no bbox of 4 numbers"),
                ({"bbox": [10**400, 5, 3, 3]}, "no bbox of 4 numbers"),
                ({"bbox": "5, 5, 3, 3"}, "no bbox of 4 numbers"),
                ({"bbox": [5, 5, 3, 3], "iscrowd": "0"}, "has iscrowd '0'; it must be 0 or 1"),
                ({"bbox": [5, 5, 3, 3], "image_id": [1]}, "names no image or category"),
            )
        ),
    ],
)
def test_malformed_coco_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(RlabError, match=said) as told:
        load(coco(tmp_path, change))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        (
            "images",
            {"width": 30, "height": 40},
            "instances_test.json says that .*10.png is 30x40 pixels, and it is 40x30",
        ),
        ("annotations", {"bbox": [500, 5, 3, 3]}, "instances_test.json: the box .* lies outside of .*10.png"),
    ],
)
def test_annotations_that_do_not_fit_their_picture(
    part: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    name, path = coco(tmp_path, {}), tmp_path / "annotations/instances_test.json"
    document = json.loads(path.read_text())
    document[part][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(RlabError, match=said):
        load(name)


@pytest.mark.parametrize("ids", [(0, 5), (-4, -9), ("a", 3)], ids=str)
def test_categories_have_any_ids(ids: tuple[Any, ...], tmp_path: Path) -> None:
    categories = [{"id": number, "name": f"name of {number}"} for number in ids]
    annotations = [{"image_id": 0, "category_id": number, "bbox": [1, 1, 9, 9]} for number in ids]
    name = coco(tmp_path, {"categories": categories, "annotations": []})
    path = tmp_path / "annotations/instances_train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": annotations}))
    data = load(name)
    item = int((data.labels >= 0).sum(1).argmax())
    assert [data.classes[kind] for kind in data.labels[item].tolist()] == [f"name of {number}" for number in ids]


def test_picture_in_two_places_is_refused(tmp_path: Path) -> None:
    """Of the same name in the folders of two splits each has its own; in two that one split may mean, neither."""
    name = coco(tmp_path, {})
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir()
        for n in range(12):
            Image.new("L", (40, 30), 200 if split == "test" else 0).save(tmp_path / f"images/{split}/{n}.png")
    with pytest.raises(RlabError, match=r"_test.json names the picture '10.png', which is in images, images/test of "):
        load(name)
    for n in range(12):
        (tmp_path / f"images/{n}.png").unlink()
    data = load(name)
    assert data.x.flatten(1).float().mean(1).tolist() == [200.0] * 2 + [0.0] * 10


@pytest.mark.parametrize(
    ("names", "test"),
    [(("latest_a", "contest_b"), ""), (("interval", "valid"), "valid"), (("a_test2017", "val"), "a_test2017")],
)
def test_only_whole_words_name_a_test_split(names: tuple[str, str], test: str, tmp_path: Path) -> None:
    coco(tmp_path, {})
    for old, new in zip(("train", "test"), names, strict=True):
        (tmp_path / f"annotations/instances_{old}.json").rename(tmp_path / f"annotations/{new}.json")
    folder, read = CocoFolder(tmp_path), Reading(tmp_path)
    found, _ = folder.annotated(read)
    places = folder.official(found, read)
    expected = [n for n, one in enumerate(found) if one.source.stem == test]
    assert (None if places is None else places.tolist()) == (expected or None)


SQUARE = [10.0, 4, 22, 4, 22, 16, 10, 16]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("scale", [1, 2])
def test_polygons_and_runs_become_masks(scale: int, tmp_path: Path) -> None:
    """A polygon of two parts and two run-length codes, as pycocotools reads them, the small ones on the large one."""
    from pycocotools import mask as oracle

    rng = np.random.default_rng(0)
    blob = np.zeros((30, 40), np.uint8, order="F")
    blob[12:28, 2:30], blob[20:24, 5:9] = 1, 0
    speck = np.asfortranarray((rng.random((30, 40)) < 0.2) & (np.arange(40) > 30)).astype(np.uint8)
    code = oracle.encode(blob)
    changes = np.flatnonzero(np.diff(np.r_[0, speck.T.ravel()].astype(int)))
    runs = np.diff([0, *changes, speck.size]).tolist()
    polygons = [SQUARE, [1.0, 1, 8, 1, 4, 8]]
    parts = (polygons, code | {"counts": code["counts"].decode()}, {"size": [30, 40], "counts": runs})
    categories = [{"id": 9, "name": "a"}, {"id": 3, "name": "b"}, {"id": -3, "name": "c"}]
    name = coco(tmp_path, {"categories": categories}, parts, [[1, 1, 38, 28], [2, 12, 28, 16], [31, 0, 9, 30]])
    assert load(name).masks is None, "a detector needs none"
    data = load(name, own=OwnSettings(masks=True, shape=(1, 30 // scale, 40 // scale)))
    assert (data.classes, data.masks.shape[1:]) == (("c", "b", "a"), (30 // scale, 40 // scale))
    mask = data.masks[int(data.masks.flatten(1).amax(1).argmax())].numpy()
    middle = slice(scale // 2, None, scale)
    found = [mask == number for number in (1, 2, 3)]
    assert (found[2] == (speck[middle, middle] > 0)).all()
    assert (found[1] == (blob[middle, middle] > 0)).all()
    polygon = oracle.decode(oracle.merge(oracle.frPyObjects(polygons, 30, 40)))
    polygon = ((polygon > 0) & (blob == 0))[middle, middle]
    assert (found[0] ^ polygon).sum() <= 0.1 * polygon.sum(), "they differ at most along the edge"
    if scale == 1:
        assert found[0][4:12, 10:22].all()
        assert found[0].sum() - 96 == pytest.approx(24.5, abs=4)  # the triangle
        assert data.boxes[data.masks.flatten(1).amax(1).argmax()][1].tolist() == [2, 12, 30, 28]


@pytest.mark.parametrize(
    ("outline", "said"),
    [
        (None, "no segmentation"),
        ([], "no segmentation"),
        ("mask.png", "no segmentation"),
        ([SQUARE[:4]], "a polygon that is no list"),
        ([SQUARE[:7]], "a polygon that is no list"),
        ([[*SQUARE, "x", 3]], "a polygon that is no list"),
        ([[*SQUARE, float("nan"), 3]], "a polygon that is no list"),
        ([3, 4, 5, 6, 7, 8], "a polygon that is no list"),
        ({"size": [40, 30], "counts": [1200]}, r"of size \[40, 30\], and its picture has \[30, 40\]"),
        ({"counts": [1200]}, "of size None"),
        ({"size": [30, 40], "counts": [1000, 201]}, "counts are no runs of 1,200 pixels"),
        ({"size": [30, 40], "counts": [1300, -100]}, "counts are no runs"),
        ({"size": [30, 40], "counts": [True, 1199]}, "counts are no runs"),
        ({"size": [30, 40], "counts": "oooooooooooooooooooooooooo"}, "counts are no runs"),
        ({"size": [30, 40], "counts": "~é"}, "counts are no runs"),
        ({"size": [30, 40]}, "counts are no runs"),
    ],
)
def test_malformed_outlines_are_named(outline: Any, said: str, tmp_path: Path) -> None:
    name = coco(tmp_path, {}, (outline,))
    with pytest.raises(RlabError, match=rf"instances_test.json: annotation 100 of .*\.png has .*{said}") as told:
        load(name, own=OwnSettings(masks=True))
    assert "\n" not in str(told.value)


def test_objects_without_a_pixel_are_left_out(tmp_path: Path) -> None:
    tiny = [2.2, 2.2, 2.4, 2.2, 2.4, 2.4]
    data = load(coco(tmp_path, {}, ([tiny], [SQUARE])), own=OwnSettings(masks=True))
    assert data.notes == (f"{tmp_path}: 2 boxes of which no pixel is seen left out",)
    assert data.masks.max() == 1
    assert data.labels[data.labels >= 0].tolist() == [0, 0]


def test_cut_off_json_is_named(tmp_path: Path) -> None:
    name = coco(tmp_path, {})
    for text in ('{"images": [', "[" * 100_000):
        (tmp_path / "annotations/instances_train.json").write_text(text)
        with pytest.raises(RlabError, match=r"instances_train.json is no whole JSON"):
            load(name)


def bright(boxes: torch.Tensor, side: int = 40) -> torch.Tensor:
    """An image with a bright rectangle for each box."""
    image = torch.zeros(1, 1, side, side)
    for left, top, right, bottom in boxes.int().tolist():
        image[..., top:bottom, left:right] = 1.0
    return image


MOVES = ["hflip:1", "vflip:1", "crop:12", "shift:9", "scale:0.5", "hflip:1,crop:9,scale:0.4", "rotate:20", "shear:20",
         "elastic:40:4", "scale:0.3,noise:0.01,shift:5", "rotate:90,elastic:30:5,hflip:1"]  # fmt: skip


def test_all_that_moves_pixels_is_tried_on_boxes() -> None:
    moves = {name for name in AUGMENTATIONS if AUGMENTATIONS.get(name).kind in GEOMETRY}
    assert moves <= {change.partition(":")[0] for change in MOVES}


@pytest.mark.parametrize("change", MOVES)
def test_boxes_move_as_pixels_do(change: str) -> None:
    box = torch.tensor([[[12.0, 8, 26, 22]]])
    for seed in range(4):
        done = augment(
            bright(box[0]), change, torch.Generator().manual_seed(seed), boxes=box, masks=bright(box[0])[:, 0].int()
        )
        assert done.boxes is not None
        seen = (done.images[0, 0] > 0.5).nonzero()
        top, left, bottom, right = *seen.amin(0).tolist(), *(seen.amax(0) + 1).tolist()
        around = torch.tensor([left, top, right, bottom]).float()
        assert (done.boxes[0, 0] - around).abs().max() <= 1.5
        assert done.masks is not None
        assert (done.masks[0] == (done.images[0, 0] > 0.5)).float().mean() > 0.96


def test_clipped_boxes_stay_and_vanished_go() -> None:
    data = load("digit-scenes")
    batches = Batches(data, 200, augment="shift:30,hflip")
    plain, moved = Batches(data, 200).at(0, 0), batches.at(0, 0)
    there, before = moved["labels"] >= 0, plain["labels"] >= 0
    assert 0 < (before & ~there).sum() < there.sum()
    assert (moved["boxes"][~there] == 0).all()
    kept = moved["boxes"][there]
    assert ((kept[:, 2:] - kept[:, :2]) >= 1).all()
    assert kept.amin() >= 0
    assert kept.amax() <= 64
    assert (moved["labels"][there] == plain["labels"][there]).all()
    narrower = (kept[:, 2] - kept[:, 0]) < (plain["boxes"][there][:, 2] - plain["boxes"][there][:, 0]) - 1
    assert narrower.any()
    for mask, labels in zip(moved["masks"], moved["labels"], strict=True):
        assert {int(n) for n in mask.unique()} <= {0, *(int(n) + 1 for n in (labels >= 0).nonzero())}
    assert torch.equal(batches.at(0, 0)["boxes"], moved["boxes"])
    with pytest.raises(RlabError, match="boxes cannot be mixed"):
        Batches(data, 4, augment="mixup").at(0, 0)


def test_scenes_of_digits_are_the_same_every_time() -> None:
    data, again = load("digit-scenes"), load("digit-scenes")
    assert torch.equal(data.x, again.x)
    assert (data.shape, len(data.splits["test"])) == ((1, 64, 64), 120)
    assert min(data.counts("train")) > 50
    assert (data.labels >= 0).sum(1).min() == 0
    item = int((data.labels >= 0).sum(1).argmax())
    for number, (left, top, right, bottom) in enumerate(data.boxes[item].int().tolist(), 1):
        rows, columns = (data.masks[item] == number).nonzero(as_tuple=True)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
    large = data.resized((3, 128, 96))
    assert (large.shape, large.masks.shape[1:]) == ((3, 128, 96), (128, 96))
    torch.testing.assert_close(large.boxes, data.boxes * torch.tensor([1.5, 2, 1.5, 2]))
    # a mask is resized by the nearest pixel: between two numbers there is no third object
    assert set(large.masks[item].unique().tolist()) <= set(data.masks[item].unique().tolist())
    few = data.subsample(30, 0)
    assert len(few.items("train")) == 30
    with pytest.raises(RlabError, match="has 432 train images"):
        data.subsample(1_000, 0)


@pytest.mark.data
def test_blood_cells_and_nuclei() -> None:
    cells = load("bccd")
    assert {split: len(items) for split, items in cells.splits.items()} == {"train": 263, "validation": 29, "test": 72}
    assert sum(sum(cells.counts(split)) for split in cells.splits) == 4_886
    assert cells.counts("test") == [69, 805, 71]
    assert cells.notes == ("bccd.tar: 2 boxes without area left out",)
    assert (cells.boxes[..., 2:] >= cells.boxes[..., :2]).all()
    with pytest.raises(RlabError, match="--edges are those between instances, and data set 'dsb2018' has"):
        of_recipe("unet", "dsb2018", edges=True)
    nuclei = load("dsb2018_instances")
    assert len(nuclei) == 538
    assert int(nuclei.masks.max()) == int((nuclei.labels >= 0).sum(1).max())
    # No picture is nearly another one, turned or mirrored: a split cannot have one on either side.
    grey = nuclei.resized((1, 32, 32)).x[:, 0].float()
    flat = grey.flatten(1) - grey.flatten(1).mean(1, keepdim=True)
    flat /= flat.norm(dim=1, keepdim=True)
    for turn in range(4):
        for turned in (grey.rot90(turn, (1, 2)), grey.rot90(turn, (1, 2)).flip(2)):
            other = turned.flatten(1) - turned.flatten(1).mean(1, keepdim=True)
            alike = flat @ (other / other.norm(dim=1, keepdim=True)).T
            assert alike.triu(1).max() < 0.8
