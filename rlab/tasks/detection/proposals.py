"""Regions that may hold an object, found without learning: selective search (Uijlings et al. 2013), simplified."""

from __future__ import annotations

import numpy as np

SCALES = (30.0, 120.0)
"""Of the first segmentations (Felzenszwalb & Huttenlocher 2004): the larger, the larger are their segments."""

BINS = 8
"""Of a colour histogram, for each channel."""

SMALLEST = 4
"""Pixels that a region is wide and high at the least."""

LARGEST = 0.95
"""Share of the image's sides from which on a region is the whole image, and no proposal."""

MOST_SEGMENTS = 150
"""Of a first segmentation; what would have more is segmented more coarsely."""


def propose(image: np.ndarray, most: int) -> np.ndarray:
    """Propose regions of an image.

    It is segmented at two scales; of each, the two neighbours that are most alike in colour and fill their common box
    best, small ones first, become one region, and so on until there is one. Every region's box is proposed. Where
    there are more than `most`, they are taken evenly from small to large.

    Args:
        image: float[C, H, W] in 0..1.
        most: boxes at the most.

    Returns:
        float32[p, 4], all different.
    """
    found: dict[tuple[int, ...], None] = {}
    for scale in SCALES:
        found |= dict.fromkeys(_grouped(image, _segments(image, scale)))
    height, width = image.shape[1:]
    boxes = [
        box
        for box in found
        if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST
        and not (box[2] - box[0] >= LARGEST * width and box[3] - box[1] >= LARGEST * height)
    ]
    boxes.sort(key=lambda box: ((box[2] - box[0]) * (box[3] - box[1]), box))
    if len(boxes) > most:
        boxes = [boxes[n] for n in np.linspace(0, len(boxes) - 1, most).round().astype(int)]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _segments(image: np.ndarray, scale: float) -> np.ndarray:
    """The number of its segment at every pixel, int64[H, W], from 0 on without a gap."""
    from skimage.segmentation import felzenszwalb

    grey = len(image) == 1
    pixels = np.ascontiguousarray(image[0] if grey else image.transpose(1, 2, 0), np.float64)
    least = max(16, image[0].size // 500)
    while True:
        found = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=least, channel_axis=None if grey else -1)
        if found.max() < MOST_SEGMENTS:
            return np.asarray(found)
        least *= 2


def _grouped(image: np.ndarray, segments: np.ndarray) -> list[tuple[int, ...]]:
    """Boxes of all segments, and of what they are merged to, in that order."""
    count = int(segments.max()) + 1
    bins = np.minimum((image * BINS).astype(int), BINS - 1)
    counts = [np.bincount(segments.ravel() * BINS + part.ravel(), minlength=count * BINS) for part in bins]
    histogram = np.stack([part.reshape(count, BINS) for part in counts], 1).reshape(count, -1)
    sizes = np.bincount(segments.ravel(), minlength=count).astype(float)
    colours = [row / size for row, size in zip(histogram / len(image), sizes, strict=True)]
    size = list(sizes)
    rows, columns = np.indices(segments.shape)
    order = np.argsort(segments, axis=None, kind="stable")
    starts = np.searchsorted(segments.ravel()[order], np.arange(count))
    edges = [
        reduce.reduceat(at.ravel()[order], starts) for at in (columns, rows) for reduce in (np.minimum, np.maximum)
    ]
    boxes: list[tuple[int, ...]] = [(int(a), int(c), int(b) + 1, int(d) + 1) for a, b, c, d in zip(*edges, strict=True)]
    pairs = np.concatenate([np.stack([segments[:, :-1], segments[:, 1:]], -1).reshape(-1, 2),
                            np.stack([segments[:-1], segments[1:]], -1).reshape(-1, 2)])  # fmt: skip
    near = {n: set[int]() for n in range(count)}
    for a, b in np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0).tolist():
        near[a].add(b)
        near[b].add(a)

    def around(a: int, b: int) -> tuple[int, ...]:
        return (*map(min, boxes[a][:2], boxes[b][:2]), *map(max, boxes[a][2:], boxes[b][2:]))

    def alike(a: int, b: int) -> float:
        left, top, right, bottom = around(a, b)
        both = size[a] + size[b]
        fill = 1 - ((right - left) * (bottom - top) - both) / segments.size
        return float(np.minimum(colours[a], colours[b]).sum()) + 1 - both / segments.size + fill

    open_pairs = {(a, b): alike(a, b) for a, others in near.items() for b in others if a < b}
    while open_pairs:
        a, b = max(open_pairs, key=lambda pair: (open_pairs[pair], pair))
        new = len(boxes)
        boxes.append(around(a, b))
        size.append(size[a] + size[b])
        colours.append((size[a] * colours[a] + size[b] * colours[b]) / size[new])
        near[new] = (near.pop(a) | near.pop(b)) - {a, b}
        open_pairs = {pair: value for pair, value in open_pairs.items() if not {a, b} & set(pair)}
        for other in near[new]:
            near[other] = (near[other] - {a, b}) | {new}
            open_pairs[other, new] = alike(other, new)
    return boxes
