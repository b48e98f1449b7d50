"""Boxes: overlap, offsets, matching, suppression and anchors, by numbers computed by hand and by plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlab.nn.detection.anchors import grid_anchors, shapes_of
from rlab.nn.detection.boxes import area, clip, decode, encode, giou, iou, match
from rlab.nn.detection.nms import nms
from rlab.nn.detection.select import Telling, hard_negatives, sample, tell


def some_boxes(n: int, seed: int = 0, side: float = 100) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * side
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * side / 2 + 1], 1)


@pytest.mark.parametrize(
    ("a", "b", "overlap", "general"),
    [
        ([0, 0, 10, 10], [1, 1, 11, 11], 81 / 119, 81 / 119 - 2 / 121),  # .6807, not the .7042 of boxes with + 1
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0, 1.0),
        ([0, 0, 1, 1], [3, 0, 4, 1], 0.0, -0.5),
        ([5, 5, 5, 9], [0, 0, 10, 10], 0.0, 0.0),  # no area
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0, 0.0),
    ],
)
def test_overlap_of_two_boxes(a: list[float], b: list[float], overlap: float, general: float) -> None:
    first, second = torch.tensor([a]).float(), torch.tensor([b]).float()
    assert iou(first, second).item() == pytest.approx(overlap, abs=1e-6)
    assert giou(first, second).item() == pytest.approx(general, abs=1e-6)


def test_decode_is_the_inverse_of_encode() -> None:
    boxes, anchors = some_boxes(50), some_boxes(50, 1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-4)
    assert encode(anchors, anchors).abs().max() < 1e-4
    assert encode(torch.tensor([[0.0, 0, 20, 10]]), torch.tensor([[0.0, 0, 10, 10]]))[0, 0] == pytest.approx(5)
    assert torch.isfinite(decode(torch.full((1, 4), 1e4), anchors[:1])).all()
    assert clip(torch.tensor([-5.0, 3, 70, 90]), (50, 60)).tolist() == [0, 3, 60, 50]


def test_every_true_box_keeps_an_anchor() -> None:
    # both boxes overlap anchor 0 best; a later box must not take it from the one that overlaps it more
    overlap = torch.tensor([[[0.9, 0.6], [0.2, 0.3], [0.0, 0.1], [0.0, 0.0]]])
    assert match(overlap, torch.tensor([[True, True]]), 0.5, 0.5).tolist() == [[0, 1, -1, -1]]
    assert match(overlap, torch.tensor([[True, False]]), 0.5, 0.5).tolist() == [[0, -1, -1, -1]]
    assert match(overlap, torch.tensor([[False, False]]), 0.5, 0.5).tolist() == [[-1] * 4]
    between = torch.tensor([[[0.9], [0.4], [0.1]]])
    assert match(between, torch.tensor([[True]]), 0.3, 0.7).tolist() == [[0, -2, -1]]
    crowd = iou(some_boxes(30, side=20), some_boxes(12, 1, side=20))[None]
    assert set(match(crowd, torch.ones(1, 12, dtype=torch.bool), 0.5, 0.5)[0].tolist()) >= set(range(12))
    # pair by pair, the best first, of equal ones the first anchor's: few values make many equal ones
    level = (crowd[0] * 3).ceil()
    pairs = sorted((-level[a, b].item(), a, b) for a in range(30) for b in range(12))
    own = dict[int, int]()
    for _, a, b in pairs:
        if a not in own and b not in own.values():
            own[a] = b
    assert match(level[None], torch.ones(1, 12, dtype=torch.bool), 9.0, 9.0)[0].tolist() == [
        own.get(a, -1) for a in range(30)
    ]


def test_hard_negatives_are_three_for_each_positive() -> None:
    matched = torch.full((3, 20), -1)
    matched[0, 4], matched[0, 7], matched[1, :19] = 0, 1, 0
    matched[0, 5] = -2
    losses = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) + (matched >= 0) * 100
    chosen = hard_negatives(losses, matched, 3)
    assert chosen.sum(1).tolist() == [6, 1, 3]  # one is all that is left; without objects as for one
    assert not chosen[matched != -1].any()
    assert losses[0][chosen[0]].min() > losses[0][(matched[0] == -1) & ~chosen[0]].max()
    drawn = sample(matched, 8, 0.25)
    assert (drawn & (matched >= 0)).sum(1).tolist() == [2, 2, 0]
    assert drawn.sum(1).tolist() == [8, 3, 8]
    assert not drawn[matched == -2].any()


def suppressed_one_by_one(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor) -> list[int]:
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = [k for k in kept if classes[k] == classes[i]]
        if not rivals or iou(boxes[i, None], boxes[rivals]).max() <= threshold:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.8])
def test_suppression_is_that_of_a_loop(threshold: float) -> None:
    for seed in range(4):
        boxes, generator = some_boxes(80, seed, 60), torch.Generator().manual_seed(seed)
        scores, classes = torch.rand(80, generator=generator), torch.randint(3, (80,), generator=generator)
        expected = suppressed_one_by_one(boxes, scores, threshold, classes)
        assert nms(boxes, scores, threshold, classes).tolist() == expected
    assert nms(boxes[:0], scores[:0], threshold).tolist() == []


def test_suppression_in_half_precision_and_by_class() -> None:
    far = torch.tensor([[3400, 3400, 3500, 3500], [3402, 3402, 3502, 3502]]).half()
    scores = torch.tensor([0.9, 0.8]).half()
    assert nms(far, scores, 0.5, torch.tensor([18, 18])).tolist() == [0]  # by offsets of 18 x 3,502: inf
    assert nms(far[:1].repeat(2, 1), scores, 0.5, torch.tensor([0, 1])).tolist() == [0, 1]


def test_boxes_that_are_told() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [-5, 40, 3, 80], [20, 20, 20.5, 40]])
    probabilities = torch.tensor([[0.9, 0.3], [0.8, 0.0], [0.0, 0.6], [0.99, 0.0]])
    found = tell(boxes, probabilities, (50, 50), Telling(0.1, 0.5, 10))
    assert found.classes.tolist() == [0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found.boxes[1].tolist() == [0, 40, 3, 50]
    assert len(tell(boxes, probabilities, (50, 50), Telling(0.1, 0.5, 1)).boxes) == 1
    own = boxes[:, None].repeat(1, 2, 1) + torch.tensor([0.0, 20])[None, :, None]
    assert tell(own, probabilities, (50, 50), Telling(0.1, 0.5, 10)).boxes[1].tolist() == [20, 20, 30, 30]


def test_anchors_stand_in_the_middle_of_cells() -> None:
    anchors = grid_anchors((2, 3), (20, 60), shapes_of([8.0], [1.0, 4.0]))
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [6, 1, 14, 9]
    assert anchors[1].tolist() == [8, -3, 12, 13]  # four times as high as wide, of the same area
    assert anchors[2].tolist() == [26, 1, 34, 9]
    assert anchors[6].tolist() == [6, 11, 14, 19]
    assert area(anchors).tolist() == [64] * 12
