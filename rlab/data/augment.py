"""Augmentation of whole batches of images on their device. Each image has random numbers of its own.

What happens to an image depends on the generator's state and on its place in the batch, never on the other images
(but for mixup, which is that). A strength of 0 leaves everything as it is. Steps of geometry that follow each other are
one interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlab.data.geometry import Geometry, Size, identity, maps_of, smooth
from rlab.errors import RlabError, nearest
from rlab.registry import Registry


@dataclass(frozen=True)
class Parameter:
    """One number (or word) of an augmentation.

    Attributes:
        name: of the parameter.
        default: what it is where it is not given.
        low: least value.
        high: greatest value.
        whole: a whole number.
        words: the valid words, if it is a word.
        pixels: at most the smaller side of the image.
    """

    name: str
    default: float | str
    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    words: tuple[str, ...] = ()
    pixels: bool = False


@dataclass(frozen=True)
class Augmentation:
    """A way to change images. The first parameter is the strength.

    Attributes:
        summary: what it does, with the parameters' units and the source.
        parameters: in the order in which ``name:1:2`` gives them.
        kind: what `run` is.
            "maps": (Size, generator, *parameters) -> float32[B, 3, 3], see `rlab.data.geometry`; "exact maps": the
            same, of flips and moves by whole pixels. "displacements": (Size, generator, *parameters but the last) ->
            float32[2, B, H, W]; the last is the interpolation. "pixels": (images, generator, *parameters) -> images.
            "shares": (Size, generator, *parameters) -> (share of each image [B], the image that it is mixed with [B]).
        run: the function.
    """

    summary: str
    parameters: tuple[Parameter, ...]
    kind: str
    run: Callable[..., Any]


@dataclass(frozen=True)
class Change:
    """One augmentation with its parameters, as `parse` reads them."""

    name: str
    values: tuple[float | str, ...]

    def __str__(self) -> str:
        return ":".join([self.name, *(v if isinstance(v, str) else f"{v:g}" for v in self.values)])


class Augmented(NamedTuple):
    """The result of an augmentation: images float[B, C, H, W]; targets [B] or [B, K], masks [B, H, W] and boxes
    [B, M, 4], if given."""

    images: Tensor
    targets: Tensor | None = None
    masks: Tensor | None = None
    boxes: Tensor | None = None


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")
"""name -> augmentation."""

ALIASES = {"flip": "hflip"}
"""Other names."""


def parse(text: str) -> tuple[Change, ...]:
    """Read ``"flip,crop:4,rotate:15"``: names, each with parameters after colons, in the order of application.

    Raises:
        RlabError: an unknown name (the nearest are given), or a parameter that cannot be.
    """
    return tuple(_parse_one(part.strip()) for part in text.split(",")) if text.strip() else ()


def _parse_one(text: str) -> Change:
    word, *given = text.split(":")
    name = ALIASES.get(word, word)
    if name not in AUGMENTATIONS:
        raise RlabError(f"unknown augmentation '{word}'; {nearest(word, [*AUGMENTATIONS, *ALIASES])}")
    parameters = AUGMENTATIONS.get(name).parameters
    if len(given) > len(parameters):
        form = ":".join([name, *(p.name.upper() for p in parameters)])
        raise RlabError(f"augmentation '{text}' has {len(given)} parameters; the most is {form}")
    values = [_value(text, p, g) for p, g in zip(parameters, given, strict=False)]
    return Change(name, (*values, *(p.default for p in parameters[len(given) :])))


def _value(text: str, parameter: Parameter, given: str) -> float | str:
    if parameter.words:
        if given not in parameter.words:
            valid = nearest(given, parameter.words)
            raise RlabError(f"augmentation '{text}': {parameter.name} is '{given}'; {valid}")
        return given
    try:
        value = float(given)
    except ValueError:
        raise RlabError(f"augmentation '{text}': {parameter.name} is '{given}', which is no number") from None
    bounds = f"at least {parameter.low:g}" + (f" and at most {parameter.high:g}" if parameter.high < math.inf else "")
    if not (parameter.low <= value <= parameter.high and math.isfinite(value)):
        raise RlabError(f"augmentation '{text}': {parameter.name} is {given}; it must be {bounds}")
    if parameter.whole and value != int(value):
        raise RlabError(f"augmentation '{text}': {parameter.name} is {given}; it must be a whole number")
    return value


def augment(
    images: Tensor,
    changes: tuple[Change, ...] | str,
    generator: torch.Generator,
    targets: Tensor | None = None,
    masks: Tensor | None = None,
    classes: int | None = None,
    boxes: Tensor | None = None,
) -> Augmented:
    """Change a batch of images.

    Args:
        images: float[B, C, H, W] in 0..1.
        changes: what to do, in this order.
        generator: of all random numbers, on the images' device.
        targets: whole numbers [B] or float [B, K]. Mixup makes float[B, `classes`] of whole numbers.
        masks: whole numbers [B, H, W]; geometry moves them as it moves the images, with 0 from outside.
        classes: how many there are, for mixup of whole numbers.
        boxes: float32[B, M, 4], left, top, right and bottom in pixels; geometry moves and clips them
            (`Geometry.boxes`).

    Returns:
        Images of the same shape and range, with targets, masks and boxes if they were given. The given tensors stay as
        they are.

    Raises:
        RlabError: no such images, or a parameter that does not fit their size. Pixels are not looked at: a
            `TensorDataset` was checked when it was made.
    """
    todo = parse(changes) if isinstance(changes, str) else changes
    size = _check(images, generator, masks, todo)
    if classes is not None and targets is not None and any(c.name == "mixup" for c in todo):
        targets = torch.nn.functional.one_hot(targets.long(), classes).float()
    now, pending = Augmented(images, targets, masks, boxes), None
    for change in todo:
        one = AUGMENTATIONS.get(change.name)
        if change.values[0] == 0:
            continue
        if pending is not None and (one.kind not in GEOMETRY or pending.displacement is not None):
            now, pending = _settled(now, pending, size), None
        if one.kind in GEOMETRY:
            pending = _then(pending or identity(size, images.device), one, change, size, generator)
        elif one.kind == "pixels":
            now = now._replace(images=one.run(now.images, generator, *change.values))
        else:
            now = _mixed(now, *one.run(size, generator, *change.values))
    return now if pending is None else _settled(now, pending, size)


GEOMETRY = ("maps", "exact maps", "displacements")
"""Kinds that move pixels, and masks with them."""


def _then(before: Geometry, one: Augmentation, change: Change, size: Size, generator: torch.Generator) -> Geometry:
    """What one more step of geometry makes of the steps before it, none of which is a displacement."""
    if one.kind == "displacements":
        *numbers, interpolation = change.values
        return before.displaced(one.run(size, generator, *numbers), interpolation == "bicubic")
    return before.then(one.run(size, generator, *change.values), one.kind == "exact maps")


def _settled(now: Augmented, geometry: Geometry, size: Size) -> Augmented:
    masks = None if now.masks is None else geometry.masks(now.masks)
    boxes = None if now.boxes is None else geometry.boxes(now.boxes, size)
    return now._replace(images=geometry.images(now.images), masks=masks, boxes=boxes)


def _mixed(now: Augmented, share: Tensor, other: Tensor) -> Augmented:
    """Each image, and its target, with another one of the batch."""
    for what, there in (("boxes", now.boxes), ("masks of classes", now.masks)):
        if there is not None:
            raise RlabError(f"mixup mixes targets, and {what} cannot be mixed; take it out")
    targets = now.targets
    if targets is not None:
        if not targets.is_floating_point():
            raise RlabError("mixup mixes targets, so it has to be told how many classes there are")
        of = share.view(-1, *[1] * (targets.dim() - 1))
        targets = of * targets + (1 - of) * targets[other]
    of = share.view(-1, 1, 1, 1)
    return now._replace(images=torch.lerp(now.images[other], now.images, of), targets=targets)


def _check(images: Tensor, generator: torch.Generator, masks: Tensor | None, todo: tuple[Change, ...]) -> Size:
    if images.dim() != 4 or images.dtype != torch.float32 or images.numel() == 0:
        raise RlabError(f"augmentation takes images float32[B, C, H, W], not {images.dtype}{list(images.shape)}")
    if generator.device.type != images.device.type:
        raise RlabError(f"the images are on {images.device}, but the random generator is on {generator.device}")
    size = Size(len(images), *images.shape[-2:])
    if masks is not None and (tuple(masks.shape) != tuple(size) or masks.is_floating_point()):
        raise RlabError(f"masks must be whole numbers {list(size)} for these images, not {list(masks.shape)}")
    for change in todo:
        for parameter, value in zip(AUGMENTATIONS.get(change.name).parameters, change.values, strict=True):
            if parameter.pixels and float(value) > min(size.height, size.width):
                raise RlabError(
                    f"augmentation '{change}': {parameter.name} is {value:g} pixels, but the images are "
                    f"{size.height}x{size.width}"
                )
    return size


def _uniform(size: Size, generator: torch.Generator, low: float, high: float) -> Tensor:
    """float32[B] in [low, high)."""
    return torch.rand(size.batch, generator=generator, device=generator.device) * (high - low) + low


def _maps(size: Size, generator: torch.Generator, **given: Tensor) -> Tensor:
    """Maps with the numbers that are given; the others are those of the identity."""
    zero = torch.zeros(size.batch, device=generator.device)
    numbers = {"a": zero + 1, "b": zero, "c": zero, "d": zero + 1, "u": zero, "v": zero, **given}
    return maps_of(**numbers)


def _shift(size: Size, generator: torch.Generator, pixels: float) -> Tensor:
    u, v = (_uniform(size, generator, -pixels, pixels) for _ in range(2))
    return _maps(size, generator, u=u, v=v)


def _crop(size: Size, generator: torch.Generator, pixels: float) -> Tensor:
    reach = int(pixels)
    by = torch.randint(-reach, reach + 1, (2, size.batch), generator=generator, device=generator.device).float()
    return _maps(size, generator, u=by[0], v=by[1])


def _flip(size: Size, generator: torch.Generator, chance: float, axis: str) -> Tensor:
    sign = torch.where(_uniform(size, generator, 0, 1) < chance, -1.0, 1.0)
    return _maps(size, generator, **{axis: sign})


def _scale(size: Size, generator: torch.Generator, most: float) -> Tensor:
    reach = math.log1p(most)
    smaller = torch.exp(_uniform(size, generator, -reach, reach))
    return _maps(size, generator, a=smaller, d=smaller)


def _rotate(size: Size, generator: torch.Generator, degrees: float) -> Tensor:
    angle = _uniform(size, generator, -math.radians(degrees), math.radians(degrees))
    return _maps(size, generator, a=angle.cos(), b=-angle.sin(), c=angle.sin(), d=angle.cos())


def _shear(size: Size, generator: torch.Generator, degrees: float) -> Tensor:
    angle = _uniform(size, generator, -math.radians(degrees), math.radians(degrees))
    return _maps(size, generator, b=angle.tan())


def _elastic(size: Size, generator: torch.Generator, alpha: float, sigma: float) -> Tensor:
    fields = torch.rand((2, size.batch, size.width, size.height), generator=generator, device=generator.device)
    return smooth(fields.sub_(0.5), sigma).mul_(2 * alpha)


def _rectangles(size: Size, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """bool[B, 1, H, W]: what lies in a rectangle, all given in whole pixels [B]."""
    rows, columns = (torch.arange(n, device=top.device) for n in (size.height, size.width))
    down = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (down[:, :, None] & across[:, None])[:, None]


def _cutout(images: Tensor, generator: torch.Generator, side: float) -> Tensor:
    size = Size(len(images), *images.shape[-2:])
    row, column = (_uniform(size, generator, 0, n).floor() for n in (size.height, size.width))
    half, whole = side // 2, torch.full_like(row, side)
    return images.masked_fill(_rectangles(size, row - half, column - half, whole, whole), 0.0)


def _erase(images: Tensor, generator: torch.Generator, chance: float, most: float) -> Tensor:
    size = Size(len(images), *images.shape[-2:])
    chosen = _uniform(size, generator, 0, 1) < chance
    area = _uniform(size, generator, min(0.02, most), most) * size.height * size.width
    aspect = torch.exp(_uniform(size, generator, math.log(0.3), math.log(1 / 0.3)))
    height = (area * aspect).sqrt().round().clamp(1, size.height)
    width = (area / aspect).sqrt().round().clamp(1, size.width)
    top = (_uniform(size, generator, 0, 1) * (size.height - height + 1)).floor()
    left = (_uniform(size, generator, 0, 1) * (size.width - width + 1)).floor()
    where = _rectangles(size, top, left, height, width) & chosen.view(-1, 1, 1, 1)
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    return torch.where(where, noise, images)


def _contrast(images: Tensor, generator: torch.Generator, most: float) -> Tensor:
    factor = _uniform(Size(len(images), 1, 1), generator, 1 - most, 1 + most).view(-1, 1, 1, 1)
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, factor).clamp_(0, 1)


def _brightness(images: Tensor, generator: torch.Generator, most: float) -> Tensor:
    return (images + _uniform(Size(len(images), 1, 1), generator, -most, most).view(-1, 1, 1, 1)).clamp_(0, 1)


def _noise(images: Tensor, generator: torch.Generator, sigma: float) -> Tensor:
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return noise.mul_(sigma).add_(images).clamp_(0, 1)


def _mixup(size: Size, generator: torch.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    # torch's own gamma samples cannot be had of a given generator by a public name.
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    numbers = np.random.default_rng(seed)
    share = torch.from_numpy(numbers.beta(alpha, alpha, size.batch).astype(np.float32))
    other = torch.from_numpy(numbers.permutation(size.batch))
    return share.to(generator.device), other.to(generator.device)


def _register(name: str, kind: str, run: Callable[..., Any], summary: str, *parameters: Parameter) -> None:
    AUGMENTATIONS.register(name)(Augmentation(summary, parameters, kind, run))


_side = partial(Parameter, high=math.inf, pixels=True)

_register("shift", "maps", _shift, "move by up to so many pixels each way, fractions too", _side("pixels", 2))
_register(
    "crop",
    "exact maps",
    _crop,
    "pad by so many pixels of 0 and crop at random (He 2016)",
    _side("pixels", 4, whole=True),
)
_register("hflip", "exact maps", partial(_flip, axis="a"), "left to right, with this chance", Parameter("chance", 0.5))
_register("vflip", "exact maps", partial(_flip, axis="d"), "upside down, with this chance", Parameter("chance", 0.5))
_register("scale", "maps", _scale, "zoom by up to the factor 1 + this, or its inverse", Parameter("most", 0.1, high=3))
_register("rotate", "maps", _rotate, "turn by up to so many degrees", Parameter("degrees", 15, high=180))
_register("shear", "maps", _shear, "slant rows by up to so many degrees", Parameter("degrees", 10, high=60))
_register(
    "elastic",
    "displacements",
    _elastic,
    "random displacements of -alpha..alpha pixels, smoothed by a Gaussian of sigma pixels (Simard 2003)",
    Parameter("alpha", 34, high=1e4),
    Parameter("sigma", 4, low=0.1, high=100),
    Parameter("interpolation", "bilinear", words=("bilinear", "bicubic")),
)
_register(
    "cutout", "pixels", _cutout, "a square of so many pixels becomes 0 (DeVries 2017)", _side("side", 8, whole=True)
)
_register(
    "erase",
    "pixels",
    _erase,
    "with this chance, a rectangle of up to this share of the area becomes noise (Zhong 2017)",
    Parameter("chance", 0.5),
    Parameter("most", 0.33, low=0.0),
)
_register("contrast", "pixels", _contrast, "distances from the mean times 1 - this to 1 + this", Parameter("most", 0.3))
_register("brightness", "pixels", _brightness, "add -this to this", Parameter("most", 0.2))
_register("noise", "pixels", _noise, "add Gaussian noise of this standard deviation", Parameter("sigma", 0.1))
_register(
    "mixup",
    "shares",
    _mixup,
    "mix with another image by Beta(alpha, alpha) (Zhang 2018)",
    Parameter("alpha", 0.2, high=1e3),
)
