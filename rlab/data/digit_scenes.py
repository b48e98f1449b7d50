"""Scenes composed of scikit-learn's handwritten digits, with boxes and instance masks; they need no file."""

from __future__ import annotations

import numpy as np

from rlab.data.annotations import AnnotatedImages, boxes_of
from rlab.data.readers import Read

SIDE = 64
"""Height and width of a scene."""

TRAIN, TEST = 480, 120
"""Scenes, made of different digits."""

HELD_OUT = 0.3
"""Share of the digits of which test scenes are made."""

MOST = 5
"""Digits of a scene, at the most; there may be none."""

INK = 0.35
"""How bright a pixel is, at the least, that belongs to a digit."""


def digit_scenes(read: Read) -> AnnotatedImages:
    """Compose the scenes: up to `MOST` digits of 12 to 28 pixels on noise, which may touch; `read` is not used."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures, classes = digits.images.astype(np.float32) / 16, digits.target
    rng = np.random.default_rng(0)
    order = rng.permutation(len(pictures))
    held = round(HELD_OUT * len(order))
    parts = (order[held:],) * TRAIN + (order[:held],) * TEST
    x, masks, labels = [], [], []
    for part in parts:
        image, mask, kinds = _scene(pictures, part, rng)
        x.append(image)
        masks.append(mask)
        labels.append(classes[kinds].astype(np.int64))
    return AnnotatedImages(
        np.stack(x)[:, None],
        [boxes_of(mask) for mask in masks],
        labels,
        tuple("0123456789"),
        test=np.arange(TRAIN, TRAIN + TEST),
        masks=np.stack(masks),
    )


def _scene(
    pictures: np.ndarray, part: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image uint8[S, S], mask int16[S, S], which digits stand in it)."""
    image = rng.uniform(0, 0.25, (SIDE, SIDE)).astype(np.float32)
    mask, kinds = np.zeros((SIDE, SIDE), np.int16), list[int]()
    for digit in rng.choice(part, rng.integers(0, MOST + 1)):
        side = int(rng.integers(12, 29))
        # each pixel of the result takes the bilinear value at its place in the 8x8 digit
        at = np.clip((np.arange(side) + 0.5) * 8 / side - 0.5, 0, 7)
        low, share = np.minimum(at.astype(int), 6), at - np.minimum(at.astype(int), 6)
        rows = pictures[digit][low] * (1 - share)[:, None] + pictures[digit][low + 1] * share[:, None]
        large = rows[:, low] * (1 - share) + rows[:, low + 1] * share
        ink = large > INK
        for _ in range(20):  # a place where it covers nothing of another one; it may touch
            top, left = rng.integers(0, SIDE - side + 1, 2)
            place = slice(top, top + side), slice(left, left + side)
            if not (mask[place][ink] > 0).any():
                image[place] = np.maximum(image[place], np.where(ink, large, 0))
                mask[place][ink] = len(kinds) + 1
                kinds.append(digit)
                break
    return np.rint(image * 255).astype(np.uint8), mask, np.array(kinds, np.int64)
