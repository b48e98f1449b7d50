"""Average precision by each convention, against COCO's own evaluator, and instances."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

import numpy as np
import pytest
import torch

from rlab.data.datasets import load
from rlab.data.detection import DetectionDataset
from rlab.nn.detection.select import Detections
from rlab.tasks.detection.instances import (
    components,
    dice,
    instance_precision,
    instances_of,
    overlaps,
    semantic,
    touching,
    visible,
    watershed,
)
from rlab.tasks.detection.proposals import propose
from rlab.tasks.detection.scores import (
    average_precision,
    coco_documents,
    detection_metrics,
    hits_of,
)


@pytest.mark.parametrize(("points", "value"), [("all", 0.8333), ("101", 0.8350), ("11", 0.8485)])
def test_precision_by_each_convention(points: Literal["all", "101", "11"], value: float) -> None:
    scores, hits = np.array([0.7, 0.9, 0.8]), np.array([True, True, False])  # hit, miss, hit, of two boxes
    assert average_precision(scores, hits, 2, points) == pytest.approx(value, abs=5e-5)
    assert average_precision(scores[:0], hits[:0], 2, points) == 0
    assert np.isnan(average_precision(scores, hits, 0, points))


def test_a_true_box_is_hit_once() -> None:
    boxes, labels = torch.tensor([[0.0, 0, 10, 10], [8, 0, 18, 10]]), torch.tensor([0, 0])
    found = Detections(
        torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]]),
        torch.tensor([0, 0, 1]),
        torch.tensor([0.9, 0.8, 0.7]),
    )
    assert hits_of(found, boxes, labels).tolist() == [0, -1, -1]
    assert hits_of(found, boxes, labels, 0.15).tolist() == [0, 1, -1]


CLASSES = ("a", "b", "c")


def scenes(images: int, seed: int) -> tuple[list[Detections], torch.Tensor, torch.Tensor]:
    """True boxes, and detections near them, missing and false ones among them."""
    rng = np.random.default_rng(seed)
    boxes, labels = torch.zeros(images, 6, 4), torch.full((images, 6), -1)
    found = []
    for image in range(images):
        count = int(rng.integers(0, 7))
        corner, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(15, 40, (count, 2))
        boxes[image, :count] = torch.from_numpy(np.concatenate([corner, corner + sides], 1)).float()
        labels[image, :count] = torch.from_numpy(rng.integers(0, 3, count))
        near = boxes[image, :count] + torch.from_numpy(rng.normal(0, 2, (count, 4))).float()
        false = torch.from_numpy(np.concatenate([np.zeros((3, 2)), rng.uniform(5, 40, (3, 2))], 1)).float()
        kinds = torch.cat([labels[image, :count], torch.from_numpy(rng.integers(0, 3, 3))])
        scores = torch.from_numpy(rng.permutation(count + 3) / 20 + rng.random()).float() / 2
        order = scores.argsort(descending=True)
        found.append(Detections(torch.cat([near, false])[order], kinds[order], scores[order]))
    return found, boxes, labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_pycocotools(seed: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, boxes, labels = scenes(25, seed)
    score = detection_metrics(found, boxes, labels, CLASSES)
    document, told = coco_documents(found, boxes, labels, CLASSES)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        oracle = COCOeval(truth, truth.loadRes(told), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    assert score["mean"] == pytest.approx(100 * oracle.stats[1], abs=1e-6)
    assert score["ap"] == pytest.approx(100 * oracle.stats[0], abs=1e-6)
    assert np.mean(list(score["per_class"].values())) == pytest.approx(score["mean"], abs=1e-6)
    assert 0 <= score["low"] < score["mean"] < score["high"] <= 100
    assert "101 points" in score["measure"]


def test_scores_where_nothing_is_found() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    boxes, labels = torch.tensor([[[0.0, 0, 9, 9]]]), torch.tensor([[1]])
    score = detection_metrics([nothing], boxes, labels, CLASSES)
    assert (score["mean"], score["low"], score["high"], score["per_class"]) == (0, 0, 0, {"b": 0})
    score = detection_metrics([nothing], boxes, torch.tensor([[-1]]), CLASSES)
    assert (score["mean"], score["per_class"], score["boxes"]) == (0, {}, 0)


def test_iou_is_the_mean_over_classes_of_hits() -> None:
    boxes, labels = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]]), torch.tensor([[0, 0, 2]])
    told = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 6], [40, 0, 50, 8], [0, 0, 10, 10]])  # 1, .6; .8; another class
    found = Detections(told, torch.tensor([0, 0, 2, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6]))
    assert detection_metrics([found], boxes, labels, CLASSES)["iou"] == pytest.approx(80)


def circles(*middles: tuple[int, int], radius: int = 7) -> np.ndarray:
    rows, columns = np.indices((40, 60))
    return np.any([(rows - r) ** 2 + (columns - c) ** 2 <= radius**2 for r, c in middles], 0)


def test_watershed_splits_what_touches() -> None:
    touching = circles((20, 12), (20, 24), (20, 36))
    assert components(touching).max() == 1
    split = watershed(touching)
    assert split.max() == 3
    assert ((split > 0) == touching).all()
    assert len({int(split[20, c]) for c in (12, 24, 36)}) == 3
    markers = np.zeros_like(touching)
    markers[20, [12, 24, 36]] = True  # Booleans: taken as they are, all three would be one object
    assert np.unique(watershed(touching, markers)).tolist() == [0, 1, 2, 3]
    assert watershed(np.zeros((5, 5), bool)).max() == 0


def test_edges_split_what_no_shape_does() -> None:
    bar = np.zeros((12, 30), bool)
    bar[2:10, 2:28] = True
    halves = np.where(bar, 1 + (np.indices(bar.shape)[1] >= 12), 0)
    edges = touching(torch.from_numpy(halves)[None])[0].numpy()
    assert np.argwhere(edges).tolist() == [[row, column] for row in range(2, 10) for column in (11, 12)]
    found, without = watershed(bar, edges=edges), watershed(bar)
    assert instance_precision(overlaps(found, halves), 0.9) == 1
    assert instance_precision(overlaps(without, halves), 0.9) < 1
    assert ((found > 0) == bar).all()


def test_edges_are_moved_with_the_mask() -> None:
    data = load("digit-scenes").subsample(20, 0)
    assert isinstance(data, DetectionDataset)
    plain, marked = semantic(data).y, semantic(data, edges=True).y
    edges = marked > len(data.classes)
    assert edges.any()
    assert (marked - len(data.classes) * edges == plain).all()
    assert (edges == touching(data.masks)).all()


def test_instances_by_hand() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[circles((10, 10))], mask[circles((25, 40))], mask[0, 0] = 1, 2, 1
    numbers, classes = instances_of(mask, watershed)
    assert (numbers.max(), classes.tolist()) == (2, [0, 1])  # the single pixel is noise
    true = np.where(numbers == 2, 1, 0)
    assert overlaps(numbers, true).tolist() == [[0], [1]]
    for overlap, threshold, value in (([[1.0, 0], [0, 0.6]], 0.5, 1.0), ([[1.0, 0], [0, 0.6]], 0.7, 1 / 3),
                                      ([[0.9]] * 1 + [[0.0]], 0.5, 1 / 2)):  # fmt: skip
        assert instance_precision(np.array(overlap), threshold) == pytest.approx(value)
    assert instance_precision(np.zeros((0, 0)), 0.5) == 1
    assert instance_precision(np.zeros((0, 3)), 0.5) == instance_precision(np.zeros((3, 0)), 0.5) == 0


def test_instances_without_a_pixel_are_not_missed() -> None:
    """Of four true ones two have no pixel in the smaller image."""
    true = np.zeros((4, 6), np.int16)
    true[0, :2], true[2, 3:] = 2, 3
    seen, labels = visible(true, np.array([7, 8, 9, 6, -1]))
    assert labels.tolist() == [8, 9]
    np.testing.assert_array_equal(seen, np.where(true > 0, true - 1, 0))
    assert instance_precision(overlaps(seen, seen), 0.5) == 1
    none, kinds = visible(np.zeros_like(true), np.array([7, -1]))
    assert (none.max(), kinds.tolist()) == (0, [])
    assert overlaps(seen, none).shape == (2, 0)


def test_dice_of_two_empty_masks_is_one() -> None:
    empty, full = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    half = full.clone()
    half[:, :2] = False
    assert [dice(a, b).item() for a, b in ((empty, empty), (empty, full), (half, full))] == [1, 0, pytest.approx(2 / 3)]


@pytest.mark.parametrize("channels", [1, 3])
def test_proposals_cover_objects(channels: int) -> None:
    """Item 290: regions without learning, by segments that are merged."""
    image = np.full((channels, 40, 60), 0.1)
    image += np.random.default_rng(0).uniform(0, 0.05, image.shape)
    image[:, 5:20, 8:30], image[:, 22:38, 35:55] = 0.9, 0.6
    regions = propose(image, 30)
    assert 2 <= len(regions) <= 30
    assert len(np.unique(regions, axis=0)) == len(regions)
    for box in ([8, 5, 30, 20], [35, 22, 55, 38]):
        assert np.abs(regions - np.array(box)).max(1).min() <= 2
    assert len(propose(image, 3)) <= 3
    assert propose(np.zeros((channels, 12, 12)), 5).shape == (0, 4)
