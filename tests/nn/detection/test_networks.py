"""Regions pooled as a plain loop does it, maps of every encoder, and detectors that learn from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlab.errors import RlabError
from rlab.nn.detection.pyramid import FeaturePyramid, SkipSegmenter, Stages
from rlab.nn.detection.rcnn import FasterRcnn, FastRcnn, Rcnn
from rlab.nn.detection.regions import levels_of, pyramid_align, roi_align, roi_pool
from rlab.nn.detection.select import Telling
from rlab.nn.detection.ssd import Ssd
from rlab.nn.encoders import make_encoder

SHAPE = (1, 48, 48)
BOXES = torch.tensor([[3.0, 5, 29, 17], [0, 0, 48, 40], [10.5, 20.25, 14, 39]])
OWNERS = torch.tensor([1, 0, 1])


def bilinear(channel: Tensor, x: float, y: float) -> float:
    height, width = channel.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)  # cell j has its value at j + 1/2
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    corners = channel[top : top + 2, left : left + 2]
    return float(
        (1 - b) * ((1 - a) * corners[0, 0] + a * corners[0, 1]) + b * ((1 - a) * corners[1, 0] + a * corners[1, 1])
    )


def test_regions_align_as_a_loop_does() -> None:
    maps, size = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)), 3
    aligned = roi_align(maps, BOXES, OWNERS, size, SHAPE[1:])
    for r, (box, owner) in enumerate(zip((BOXES / 4).tolist(), OWNERS.tolist(), strict=True)):
        for i in range(size):
            for j in range(size):
                points = [
                    (box[0] + (box[2] - box[0]) * (j + u) / size, box[1] + (box[3] - box[1]) * (i + v) / size)
                    for u in (0.25, 0.75)
                    for v in (0.25, 0.75)
                ]
                expected = sum(bilinear(maps[owner, 1], *point) for point in points) / 4
                assert aligned[r, 1, i, j].item() == pytest.approx(expected, abs=1e-5)


def test_regions_are_not_half_a_pixel_off() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    box = torch.tensor([[0.0, 0, 4, 4]])
    assert roi_align(ramp, box, torch.tensor([0]), 2, (8, 8))[0, 0, 0].tolist() == [0.5, 2.5]  # not 1, 3


def test_regions_pool_as_a_loop_does() -> None:
    maps, size = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)), 3
    pooled = roi_pool(maps, BOXES, OWNERS, size, SHAPE[1:])
    for r, (box, owner) in enumerate(zip((BOXES / 4).tolist(), OWNERS.tolist(), strict=True)):
        x0, y0, x1, y1 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
        for i in range(size):
            for j in range(size):
                rows = range(y0 + math.floor(i * (y1 - y0) / size), y0 + math.ceil((i + 1) * (y1 - y0) / size))
                columns = range(x0 + math.floor(j * (x1 - x0) / size), x0 + math.ceil((j + 1) * (x1 - x0) / size))
                assert pooled[r, 2, i, j] == max(maps[owner, 2, y, x] for y in rows for x in columns)


def test_large_regions_come_from_coarse_maps() -> None:
    boxes = torch.tensor([[0.0, 0, 24, 24], [0, 0, 47, 47]])
    assert levels_of(boxes, [4, 8], 6.0).tolist() == [0, 1]
    maps = [torch.full((1, 2, 12, 12), 1.0), torch.full((1, 2, 6, 6), 2.0)]
    pooled = pyramid_align(maps, boxes, torch.zeros(2, dtype=torch.long), 2, (48, 48))
    assert pooled[:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["resnet", "lenet5", "nature", "impala", "mobilenet-v2"])
def test_any_encoder_has_stages(name: str) -> None:
    encoder = make_encoder(name, SHAPE)
    stages = Stages(name, encoder, SHAPE, "detection")
    maps = stages(encoder.eval(), torch.rand(2, *SHAPE))
    assert [tuple(part.shape[1:]) for part in maps] == [tuple(level[1:]) for level in stages.levels]
    sizes = [level.height for level in stages.levels]
    assert sizes == sorted(set(sizes), reverse=True)
    pyramid = FeaturePyramid([level[1:] for level in stages.levels], (48, 48), 4, 3, 8, True)
    assert [tuple(part.shape[1:]) for part in pyramid(maps)] == [(8, *size) for size in pyramid.sizes]
    with pytest.raises(RlabError, match="encoder 'mlp' has no feature maps for detection"):
        Stages("mlp", make_encoder("mlp", SHAPE), SHAPE, "detection")


@pytest.mark.parametrize("top_down", [True, False])
def test_fine_maps_know_coarse_ones_from_the_top_down(top_down: bool) -> None:
    """By hand: weights of 1 on one channel, so that a level is what its stage is, and with it the enlarged next one."""
    pyramid = FeaturePyramid([(1, 4, 4), (1, 2, 2)], (16, 16), 4, 3, 1, top_down)
    for layer in pyramid.lateral:
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    pyramid.smooth = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    fine, coarse, extra = pyramid([torch.full((1, 1, 4, 4), 2.0), torch.arange(4.0).view(1, 1, 2, 2)])
    assert coarse.flatten().tolist() == [0, 1, 2, 3]
    assert fine[0, 0, 0].tolist() == ([2, 2, 3, 3] if top_down else [2] * 4)
    assert fine[0, 0, 3].tolist() == ([4, 4, 5, 5] if top_down else [2] * 4)
    assert extra.shape == (1, 1, 1, 1)


@pytest.mark.parametrize("width", [1, 3, 8, 64])
def test_levels_of_one_cell_take_one_image(width: int) -> None:
    """torch refuses a group of one number; of all others the norm is torch's."""
    pyramid = FeaturePyramid([(2, 4, 4)], (16, 16), 4, 9, width, True)
    assert pyramid.sizes == [(4, 4), (2, 2), (1, 1)]
    image = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    alone, both = pyramid([image]), pyramid([image.repeat(2, 1, 1, 1)])
    for one, two in zip(alone, both, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one[0], two[1])
    conv, norm, relu = pyramid.smooth[0]
    expected = relu(torch.nn.functional.group_norm(conv(pyramid.lateral[0](image)), norm.num_groups))
    torch.testing.assert_close(alone[0], expected)


MAPS: dict[str, Any] = {"stride": 4, "width": 16}
DETECTORS: dict[str, tuple[type, dict[str, Any]]] = {
    "ssd": (Ssd, MAPS | {"levels": 3}),
    "faster-rcnn": (FasterRcnn, MAPS | {"levels": 2, "regions": 16, "proposals": 12}),
    "fast-rcnn": (FastRcnn, MAPS | {"levels": 2, "regions": 16}),
    "rcnn": (Rcnn, {"regions": 16}),
}


@pytest.mark.parametrize("kind", DETECTORS)
def test_detectors_learn_and_take_images_without_objects(kind: str) -> None:
    make, settings = DETECTORS[kind]
    torch.manual_seed(0)
    encoder = make_encoder("resnet", (1, 32, 32) if kind == "rcnn" else SHAPE)
    model = make("resnet", encoder, SHAPE, 3, **settings)
    images = torch.rand(2, *SHAPE) * 0.2
    images[0, :, 8:24, 10:30] = 1.0
    boxes, labels = torch.zeros(2, 3, 4), torch.full((2, 3), -1)
    boxes[0, 1], labels[0, 1] = torch.tensor([10.0, 8, 30, 24]), 2
    proposals = torch.tensor([[[9.0, 9, 31, 24], [0, 0, 9, 9]], [[5, 5, 30, 30], [0, 0, 0, 0]]])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first: float | None = None
    for _ in range(25):
        optimizer.zero_grad()
        losses = model.losses(images, boxes, labels, proposals)
        losses["loss"].backward()
        optimizer.step()
        first = losses["loss"].item() if first is None else first
    assert losses["loss"] < 0.7 * first
    for none in (model.losses(images[1:], boxes[1:], labels[1:], proposals[1:]),
                 model.losses(images[1:], boxes[1:, :0], labels[1:, :0], proposals[1:])):  # fmt: skip
        assert all(torch.isfinite(value) for value in none.values())
        none["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    found = model.eval().detect(images, Telling(), proposals)
    assert len(found) == 2
    assert (found[0].scores.diff() <= 0).all()
    assert found[0].boxes.amin() >= 0
    assert found[0].boxes.amax() <= 48


@pytest.mark.parametrize("proposals", [0, 4])
@pytest.mark.parametrize("kind", DETECTORS)
def test_detectors_take_images_without_regions(kind: str, proposals: int) -> None:
    """A blank image has none that selective search finds: nothing is found by R-CNN then, and a loss stays finite."""
    make, settings = DETECTORS[kind]
    model = make("lenet5", make_encoder("lenet5", (1, 32, 32) if kind == "rcnn" else SHAPE), SHAPE, 3, **settings)
    images, none = torch.ones(2, *SHAPE), torch.zeros(2, proposals, 4)
    losses = model.losses(images, torch.zeros(2, 1, 4), torch.full((2, 1), -1), none)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    found = model.eval().detect(images, Telling(), none)
    assert len(found) == 2
    assert kind in ("ssd", "faster-rcnn") or not any(len(one.boxes) for one in found)


@pytest.mark.parametrize("skips", [True, False])
def test_skips_reach_the_pixels(skips: bool) -> None:
    model = SkipSegmenter("lenet5", make_encoder("lenet5", SHAPE), SHAPE, 2, 8, skips)
    images = torch.rand(1, *SHAPE)
    assert model(images).shape == (1, 2, 48, 48)
    with torch.no_grad():
        model.head.decoder.blocks[0][0].weight.zero_()  # what comes from the deepest maps is gone
        model.head.decoder.blocks[0][0].bias.zero_()
        changed = (model(images) - model(1 - images)).abs().max()
    assert (changed > 1e-4) == skips
