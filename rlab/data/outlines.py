"""Outlines of objects as COCO has them, polygons and run-length codes, made masks of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rlab.errors import RlabError


def mask_of(outline: Any, size: tuple[int, int], what: str) -> np.ndarray:
    """Make a mask of COCO's ``segmentation``: a pixel belongs to a polygon in which its middle lies.

    Args:
        outline: a list of polygons [x, y, x, y, ...] in pixels, or ``{"size": [height, width], "counts": ...}``, runs
            of pixels outside and inside in turn, column by column, as a list of numbers or as COCO's text of them.
        size: (height, width) of the picture.
        what: whose outline it is, for messages.

    Returns:
        bool[H, W].

    Raises:
        RlabError: it is neither, or not of this size.
    """
    if isinstance(outline, dict):
        return _runs(outline, size, what)
    if not isinstance(outline, list) or not outline:
        raise RlabError(f"{what} has no segmentation, which masks are made of; nearest: the recipe ssd, for boxes")
    from skimage.draw import polygon2mask

    mask = np.zeros(size, bool)
    for points in outline:
        if not isinstance(points, list) or len(points) < 6 or len(points) % 2 or not all(map(_coordinate, points)):
            raise RlabError(f"{what} has a polygon that is no list of x, y, x, y, ... of at least 3 points")
        corners = np.array(points, float).reshape(-1, 2)[:, ::-1]
        mask |= polygon2mask(size, corners - 0.5)  # whose pixels have their middles at whole numbers
    return mask


def _coordinate(value: Any) -> bool:
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    return whole and math.isfinite(value) and abs(value) < 1e6


def _runs(outline: dict[str, Any], size: tuple[int, int], what: str) -> np.ndarray:
    counts = outline.get("counts")
    if outline.get("size") != list(size):
        raise RlabError(f"{what} has a run-length code of size {str(outline.get('size'))[:40]}, and its picture has "
                        f"{list(size)} (height, width)")  # fmt: skip
    runs: Any = _decoded(counts) if isinstance(counts, str) else counts
    right = isinstance(runs, list) and all(isinstance(run, int) and not isinstance(run, bool) for run in runs)
    if not right or min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise RlabError(f"{what} has a run-length code whose counts are no runs of {size[0] * size[1]:,} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[::-1]).T


def _decoded(text: str) -> list[int] | None:
    """Runs of COCO's text: numbers of 5 bits a letter, the lowest first, from the fourth on less the last but one.

    None if it is no such text.
    """
    runs = list[int]()
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4)  # the highest bit is the sign
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return None if shift else runs
