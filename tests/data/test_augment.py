"""Augmentation: what each does is read back from ramps, constants and counts; what all promise is tested on all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from rlab.data.augment import AUGMENTATIONS, Change, augment, parse
from rlab.data.geometry import Geometry, Size, identity, maps_of, smooth
from rlab.errors import RlabError

GEOMETRIC = ("shift", "crop", "hflip", "vflip", "scale", "rotate", "shear", "elastic")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(b: int = 8, c: int = 1, h: int = 12, w: int = 12, seed: int = 1) -> Tensor:
    return torch.rand(b, c, h, w, generator=seeded(seed))


def ramps(b: int, side: int) -> Tensor:
    """[B, 3, side, side]: u and v in pixels from the centre, squeezed into 0..1, and 1 everywhere."""
    at = (torch.arange(side) - (side - 1) / 2) / (2 * side) + 0.5
    u, v = at.expand(side, side), at[:, None].expand(side, side)
    return torch.stack((u, v, torch.ones(side, side))).expand(b, -1, -1, -1).clone()


def read_maps(text: str, b: int = 32, side: int = 33, seed: int = 0) -> Tensor:
    """The maps [B, 2, 3] that an augmentation drew, by least squares from what became of ramps."""
    done = augment(ramps(b, side), text, seeded(seed)).images
    at = torch.arange(side) - (side - 1) / 2
    points = torch.stack((at.expand(side, side), at[:, None].expand(side, side), torch.ones(side, side)), -1)
    found = []
    for one in done:
        seen = one[2] > 0.9999
        target = (one[:2, seen].T - 0.5) * (2 * side)  # where each pixel came from
        found.append(torch.linalg.lstsq(points[seen].double(), target.double()).solution.T)
    return torch.stack(found)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    name = draw(st.sampled_from(list(AUGMENTATIONS)))
    values: list[float | str] = []
    for p in AUGMENTATIONS.get(name).parameters:
        if p.words:
            values.append(draw(st.sampled_from(p.words)))
        elif p.whole:
            values.append(float(draw(st.integers(int(p.low), 4))))
        else:
            values.append(draw(st.floats(p.low, min(p.high, 4.0 if p.pixels else 40.0))))
    return Change(name, tuple(values))


sizes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(4, 9), st.integers(4, 9))


@settings(deadline=None, max_examples=150)
@given(st.lists(changes(), min_size=1, max_size=4), sizes, st.integers(0, 100))
def test_all_keep_shape_range_and_what_they_were_given(todo: list[Change], size: tuple[int, ...], seed: int) -> None:
    x = images(*size, seed=seed)
    y = torch.arange(len(x)) % 3
    before = x.clone(), torch.get_rng_state()
    done = augment(x, tuple(todo), seeded(seed), targets=y, classes=3)
    assert done.images.shape == x.shape
    assert done.images.dtype == torch.float32
    assert torch.isfinite(done.images).all()
    assert done.images.min() >= 0
    assert done.images.max() <= 1
    assert torch.equal(x, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])  # the global generator is not theirs
    again = augment(x, tuple(todo), seeded(seed), targets=y, classes=3)
    assert torch.equal(again.images, done.images)
    assert torch.equal(again.targets, done.targets)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_no_strength_is_the_identity(name: str) -> None:
    x = images()
    assert torch.equal(augment(x, f"{name}:0", seeded()).images, x)


JUMPS = ("hflip", "vflip", "crop", "cutout", "erase", "mixup")
"""Their strength is a chance, a whole number, or the kind of dice; the others' is a size."""


@pytest.mark.parametrize("name", [n for n in AUGMENTATIONS if n not in JUMPS])
def test_little_strength_is_nearly_the_identity(name: str) -> None:
    x = ramps(8, 16)[:, :2].contiguous()
    done = augment(x, f"{name}:1e-5", seeded()).images
    assert not torch.equal(done, x)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # the outermost pixels fade into what is beyond
    assert (done - x)[inner].abs().max() < 1e-4


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_every_image_has_its_own_random_numbers(name: str) -> None:
    x = images(1, 1, 16, 16).expand(32, -1, -1, -1).clone()
    if name == "mixup":
        x = images(32, 1, 16, 16)
    done = augment(x, name, seeded()).images
    assert len({tuple(one.flatten().tolist()) for one in done}) > 1
    assert not torch.equal(augment(x, name, seeded(1)).images, done)


@pytest.mark.parametrize("name", [n for n in AUGMENTATIONS if n != "mixup"])
def test_what_happens_to_an_image_does_not_depend_on_the_others(name: str) -> None:
    x = images(8, 2)
    others = images(8, 2, seed=2)
    others[3] = x[3]
    for seed in range(4):
        assert torch.equal(
            augment(x, f"{name}", seeded(seed)).images[3], augment(others, f"{name}", seeded(seed)).images[3]
        )


def test_flips_by_hand() -> None:
    """Item 108."""
    x = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).expand(2, 1, 2, 3).contiguous()
    assert torch.equal(augment(x, "flip:1", seeded()).images, x.flip(3))
    assert torch.equal(augment(x, "vflip:1", seeded()).images, x.flip(2))
    assert torch.equal(augment(x, "flip:1,flip:1", seeded()).images, x)
    assert torch.equal(augment(augment(x, "vflip:1", seeded()).images, "vflip:1", seeded()).images, x)


def test_half_of_the_images_are_flipped() -> None:
    x = images(1).expand(2000, -1, -1, -1).contiguous()
    flipped = (augment(x, "flip", seeded()).images == x.flip(3)).flatten(1).all(1)
    assert 900 < int(flipped.sum()) < 1100


def test_a_crop_is_one_of_the_places_in_the_padded_image() -> None:
    """Items 107, 112, 114: a crop of the size of the image, whole pixels up, down, left or right."""
    x = images(200, 2, 6, 5)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    done = augment(x, "crop:2", seeded()).images
    places = set()
    for n in range(len(x)):
        fits = [(i, j) for i in range(5) for j in range(5) if torch.equal(done[n], padded[n, :, i : i + 6, j : j + 5])]
        assert len(fits) == 1
        places |= set(fits)
    assert len(places) == 25


@pytest.mark.parametrize("text", ["shift:3", "rotate:30", "scale:0.5", "shear:20"])
def test_maps_are_what_their_names_say(text: str) -> None:
    """Items 107, 109-111: shift, zoom, turn, slant."""
    maps = read_maps(text)
    linear, offset = maps[:, :, :2], maps[:, :, 2]
    eye = torch.eye(2).double().expand_as(linear)
    near = {"rtol": 0, "atol": 2e-3}
    if text.startswith("shift"):
        torch.testing.assert_close(linear, eye, **near)
        assert 2.5 < offset.abs().max() <= 3.002
        assert offset.mean(0).abs().max() < 0.8
        return
    torch.testing.assert_close(offset, torch.zeros_like(offset), rtol=0, atol=0.02)
    if text.startswith("rotate"):
        torch.testing.assert_close(linear @ linear.mT, eye, **near)
        angles = torch.atan2(linear[:, 1, 0], linear[:, 0, 0]).rad2deg()
        assert 25 < angles.abs().max() <= 30.01
        assert angles.min() < 0 < angles.max()
    elif text.startswith("scale"):
        torch.testing.assert_close(linear, linear[:, :1, :1] * eye, **near)
        assert (linear[:, 0, 0].min(), linear[:, 0, 0].max()) == (
            pytest.approx(1 / 1.5, rel=0.08),
            pytest.approx(1.5, rel=0.08),
        )
    else:
        slant = linear.clone()
        slant[:, 0, 1] = 0
        torch.testing.assert_close(slant, eye, **near)
        degrees = linear[:, 0, 1].atan().rad2deg()
        assert 17 < degrees.abs().max() <= 20.01
        assert degrees.min() < 0 < degrees.max()


def test_a_quarter_turn_by_hand() -> None:
    x = images(1, 2, 5, 5)
    zero, one = torch.zeros(1), torch.ones(1)
    turn = Geometry(maps_of(zero, -one, one, zero, zero, zero), exact=False)  # what is seen at (1, 0) is from (0, 1)
    torch.testing.assert_close(turn.images(x), torch.rot90(x, 1, (2, 3)), rtol=0, atol=2e-6)
    mask = (x[:, 0] > 0.5).to(torch.uint8)
    assert torch.equal(turn.masks(mask), torch.rot90(mask, 1, (1, 2)))


def test_half_a_pixel_to_the_right_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0, 0.5, 0.25]]).expand(1, 1, 3, 4).contiguous()
    zero, one = torch.zeros(1), torch.ones(1)
    done = Geometry(maps_of(one, zero, zero, one, -0.5 * one, zero), exact=False).images(x)
    torch.testing.assert_close(done[0, 0, 1], torch.tensor([0.0, 0.5, 0.75, 0.375]))


@pytest.mark.parametrize(
    "text", ["crop:3,flip", "flip,vflip,crop:2", "rotate:20,shear:5", "scale:0.3,crop:3", "shift:1,scale:0.2,flip"]
)
def test_steps_together_are_the_steps_in_turn(text: str) -> None:
    """The interiors agree up to what one interpolation more blurs, and ramps do not blur.

    Zoom, then crop is item 115.
    """
    x = ramps(16, 33)
    generator = seeded(3)
    in_turn = x
    for part in text.split(","):
        in_turn = augment(in_turn, part, generator).images
    together = augment(x, text, seeded(3)).images
    seen = (in_turn[:, 2:] > 0.9999) & (together[:, 2:] > 0.9999)
    assert seen.float().mean() > 0.5
    assert ((in_turn - together).abs() * seen).max() < 2e-3


def test_order_matters() -> None:
    x = images(1, 1, 8, 8)
    zero, one = torch.zeros(1), torch.ones(1)
    right = maps_of(one, zero, zero, one, -one, zero)
    mirror = maps_of(-one, zero, zero, one, zero, zero)
    start = identity(Size(1, 8, 8), x.device)
    first_right = start.then(right, True).then(mirror, True).images(x)
    first_mirror = start.then(mirror, True).then(right, True).images(x)
    expected = torch.nn.functional.pad(x, (1, 0))[..., :8].flip(3)
    assert torch.equal(first_right, expected)
    assert not torch.equal(first_mirror, expected)


@pytest.mark.parametrize("text", [*GEOMETRIC, "rotate:20,elastic:80:4,flip", "elastic:34:4:bicubic,shear"])
def test_masks_follow_images(text: str) -> None:
    mask = torch.zeros(16, 32, 32, dtype=torch.uint8)
    mask[:, 8:20, 6:18] = 1
    x = mask[:, None].float()
    done = augment(x, text, seeded(5), masks=mask)
    assert done.masks is not None
    assert done.masks.dtype == torch.uint8
    assert not torch.equal(done.masks, mask)
    clear = (done.images[:, 0] < 0.01) | (done.images[:, 0] > 0.99)
    assert clear.float().mean() > 0.8
    assert torch.equal(done.masks[clear], done.images[:, 0][clear].round().to(torch.uint8))


@pytest.mark.parametrize("text", ["cutout", "erase:1", "contrast", "brightness", "noise"])
def test_pixels_leave_masks_alone(text: str) -> None:
    mask = (images()[:, 0] > 0.5).long()
    done = augment(images(), text, seeded(), masks=mask)
    assert torch.equal(done.masks, mask)  # type: ignore[arg-type]


def test_elastic_displaces_as_far_as_simard_says() -> None:
    """Item 118: uniform noise, smoothed, deviates by alpha / sqrt 3 times the root of the kernel's squares."""
    alpha, sigma, side = 34.0, 4.0, 49
    run = AUGMENTATIONS.get("elastic").run
    fields = run(Size(200, side, side), seeded(), alpha, sigma)
    assert fields.shape == (2, 200, side, side)
    middle = fields[..., side // 2, side // 2].flatten()
    kernel = 1 / (2 * sigma * math.sqrt(math.pi))  # of the squares, an axis; two axes multiply
    assert middle.std().item() == pytest.approx(alpha / math.sqrt(3) * kernel, rel=0.1)
    assert middle.mean().abs() < 0.3
    step = (fields[..., 1:] - fields[..., :-1])[..., 10:-10].std().item()
    assert step / middle.std().item() == pytest.approx(math.sqrt(2 * (1 - math.exp(-1 / (4 * sigma**2)))), rel=0.1)


@pytest.mark.parametrize(("shape", "sigma"), [((3, 9, 14), 1.0), ((2, 20, 11), 3.0)])
def test_smoothing_is_scipys(shape: tuple[int, int, int], sigma: float) -> None:
    n, width, height = shape
    fields = np.random.default_rng(0).normal(size=shape)
    found = smooth(torch.from_numpy(fields), sigma).numpy()
    expected = np.stack([gaussian_filter(f.T, sigma, mode="constant", truncate=8.0) for f in fields])
    assert found.shape == (n, height, width)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_bicubic_is_another_interpolation_and_keeps_edges_sharper() -> None:
    """Item 118."""
    x = torch.zeros(16, 1, 28, 28)
    x[:, :, 8:20, 8:20] = 1
    linear, cubic = (augment(x, f"elastic:34:4:{mode}", seeded()).images for mode in ("bilinear", "bicubic"))
    assert (linear - cubic).abs().max() > 0.05
    assert (linear - cubic).abs().mean() < 0.02
    grey = [((y > 0.1) & (y < 0.9)).float().mean() for y in (linear, cubic)]
    assert grey[1] < grey[0]


@pytest.mark.parametrize("side", [1, 3, 4])
def test_cutout_is_one_square_cut_off_at_the_border(side: int) -> None:
    """Items 112, 116."""
    x = torch.ones(400, 2, 7, 9)
    zeros = augment(x, f"cutout:{side}", seeded()).images == 0
    assert torch.equal(zeros[:, 0], zeros[:, 1])
    whole = 0
    for one in zeros[:, 0]:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert len(rows) >= 1
        assert int(one.sum()) == len(rows) * len(columns)
        assert rows[-1] - rows[0] + 1 == len(rows) <= side
        assert columns[-1] - columns[0] + 1 == len(columns) <= side
        whole += len(rows) == len(columns) == side
    assert whole > 100


def test_erasing_is_one_rectangle_of_noise() -> None:
    """Items 112, 117."""
    x = torch.full((400, 1, 20, 20), 0.5)
    changed = (augment(x, "erase:0.5:0.2", seeded()).images != x)[:, 0]
    touched = changed.flatten(1).any(1)
    assert 150 < int(touched.sum()) < 250
    for one in changed[touched]:
        rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
        assert int(one.sum()) == len(rows) * len(columns)
        assert 0.015 * 400 <= int(one.sum()) <= 0.2 * 400 + 20
        assert 0.2 < len(rows) / len(columns) < 5
    noise = augment(x, "erase:1:0.2", seeded()).images[changed[:, None]]
    assert noise.std() > 0.2


def test_contrast_and_brightness_by_hand() -> None:
    """Item 113."""
    x = images(64) * 0.2 + 0.4  # so that nothing is cut off at 0 or 1
    mean = x.mean((1, 2, 3), keepdim=True)
    factor = (augment(x, "contrast:0.5", seeded()).images - mean) / (x - mean)
    middle = factor.flatten(1).median(1).values
    usable = (x - mean).abs() > 0.02
    assert ((factor - middle.view(-1, 1, 1, 1)).abs() * usable).max() < 1e-3
    assert 0.5 <= middle.min() < 0.6
    assert 1.4 < middle.max() <= 1.5
    added = augment(x, "brightness:0.3", seeded()).images - x
    assert added.flatten(1).std(1).max() < 1e-6
    assert -0.3 <= added.min() < -0.25
    assert 0.25 < added.max() <= 0.3


def test_noise_has_its_deviation() -> None:
    x = torch.full((8, 3, 32, 32), 0.5)
    added = augment(x, "noise:0.05", seeded()).images - x
    assert added.std().item() == pytest.approx(0.05, rel=0.03)
    assert added.mean().abs() < 0.002


def test_mixup_mixes_targets_as_it_mixes_images() -> None:
    b = 200
    y = torch.arange(b)
    x = (y / b).view(-1, 1, 1, 1).expand(-1, 1, 3, 3).contiguous()
    done = augment(x, "mixup:1", seeded(), targets=y, classes=b)
    assert done.targets is not None
    assert done.targets.shape == (b, b)
    torch.testing.assert_close(done.targets.sum(1), torch.ones(b))
    torch.testing.assert_close(done.targets @ (y / b), done.images[:, 0, 1, 1], rtol=0, atol=1e-5)
    own = done.targets.diagonal()
    assert own.mean().item() == pytest.approx(0.5, abs=0.07)  # Beta(1, 1) is uniform
    assert own.std().item() == pytest.approx(math.sqrt(1 / 12), abs=0.04)
    numbers = augment(x, "mixup:1", seeded(), targets=y / b)
    torch.testing.assert_close(numbers.targets, done.images[:, 0, 1, 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(augment(x, "mixup:0", seeded(), targets=y, classes=b).targets, torch.eye(b))


def test_little_alpha_leaves_most_images_almost_alone() -> None:
    y = torch.arange(500)
    share = augment(torch.zeros(500, 1, 1, 1), "mixup:0.05", seeded(), targets=y, classes=500).targets.amax(1)  # type: ignore[union-attr]
    assert (share > 0.99).float().mean() > 0.7


def test_parse() -> None:
    assert parse("") == ()
    assert parse("flip, crop:4") == (Change("hflip", (0.5,)), Change("crop", (4.0,)))
    assert [str(c) for c in parse("elastic:20:3:bicubic,rotate")] == ["elastic:20:3:bicubic", "rotate:15"]
    assert parse(",".join(str(c) for c in parse("erase,flip,elastic"))) == parse("erase,flip,elastic")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flop", "unknown augmentation 'flop'; nearest: flip"),
        ("flip,,crop", "unknown augmentation ''"),
        ("crop:x", "'crop:x': pixels is 'x', which is no number"),
        ("crop:1.5", "must be a whole number"),
        ("crop:-1", "it must be at least 0"),
        ("rotate:200", "degrees is 200; it must be at least 0 and at most 180"),
        ("noise:nan", "sigma is nan; it must be at least 0 and at most 1"),
        ("shift:inf", "pixels is inf; it must be at least 0"),
        ("flip:0.5:1", "has 2 parameters; the most is hflip:CHANCE"),
        ("elastic:3:3:cubic", "interpolation is 'cubic'; nearest: bicubic"),
        ("elastic:3:0", "sigma is 0; it must be at least 0.1"),
    ],
)
def test_what_cannot_be_parsed(text: str, said: str) -> None:
    with pytest.raises(RlabError) as error:
        parse(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "text", "more", "said"),
    [
        (images(2, 1, 4, 9), "crop:5", {}, "pixels is 5 pixels, but the images are 4x9"),
        (images(2, 1, 4, 9), "cutout:5", {}, "side is 5 pixels, but the images are 4x9"),
        (images()[0], "flip", {}, "takes images float32[B, C, H, W], not torch.float32[1, 12, 12]"),
        ((images() * 255).byte(), "flip", {}, "not torch.uint8"),
        (images(2), "mixup", {"targets": torch.zeros(2).long()}, "how many classes"),
        (images(2), "mixup", {"masks": torch.zeros(2, 12, 12).long()}, "masks of classes cannot be mixed"),
        (images(2), "flip", {"masks": torch.zeros(2, 12, 11).long()}, "masks must be whole numbers [2, 12, 12]"),
        (images(2), "flip", {"masks": torch.zeros(2, 12, 12)}, "masks must be whole numbers"),
    ],
)
def test_what_cannot_be_augmented(x: Tensor, text: str, more: dict[str, Tensor], said: str) -> None:
    with pytest.raises(RlabError) as error:
        augment(x, text, seeded(), **more)  # type: ignore[arg-type]
    assert said in str(error.value)
