"""Pictures of detections: curves of precision over recall, and the worst and the best images beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.data.picture import NAME, as_image
from rlab.errors import shortened
from rlab.nn.detection.select import Detections
from rlab.tasks.detection.scores import average_precision, hits_of, judged, precision_recall
from rlab.tasks.pictures import png

SHOWN = 12
"""Images of a gallery: one half with the most mistakes, one with the fewest."""

PAIRS = 3
"""Images in a row of a gallery, each twice: with what is true and with what was found."""

SURE = 0.5
"""Probability from which on a box is drawn in a gallery."""

COLOURS = {"hit": "#2ca02c", "false": "#d62728", "missed": "#ffb000"}

PALETTE = ("#4363d8", "#e6194b", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")
"""Colours of classes."""


def curves(found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: tuple[str, ...]) -> bytes:
    """Draw precision over recall of every class at IoU .5, with its average precision."""
    judgement = judged(found, boxes, labels, len(classes))
    positives = judgement.positives.sum(0)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, name in enumerate(classes[:20]):
            mine = judgement.classes == number
            if not positives[number]:
                continue
            scores, hits = judgement.scores[mine], judgement.hits[mine]
            recall, precision = precision_recall(scores, hits, int(positives[number]))
            value = 100 * average_precision(scores, hits, int(positives[number]))
            axes.step(
                np.concatenate([[0], recall, recall[-1:]]),
                np.concatenate([precision[:1], precision, [0] * len(recall[-1:])]),
                where="pre",
                label=f"{shortened(name, NAME)}: {value:.1f} % of {positives[number]:,}",
            )
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
        axes.legend(fontsize=7, loc="lower left", title="AP at IoU .5, of true boxes", title_fontsize=7)

    return png(draw, (4.6, 3.8))


def gallery(
    images: Tensor, found: Sequence[Detections], boxes: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> bytes:
    """Draw the images with the most and the fewest mistakes: true boxes on the left, what was found on the right."""
    names = [shortened(name, 12) for name in classes]
    parts, marks = [], []
    for one, box, label in zip(found, boxes, labels, strict=True):
        sure = Detections(*(part[one.scores >= SURE] for part in one))
        true, kind = box[label >= 0], label[label >= 0]
        taken = hits_of(sure, true, kind)
        there = torch.isin(torch.arange(len(true)), taken)
        parts.append((sure, taken >= 0, true, kind, there))
        marks.append((int((taken >= 0).sum()), int((taken < 0).sum()), int((~there).sum())))

    def draw(left: Any, right: Any, i: int) -> None:
        sure, hits, true, kinds, there = parts[i]
        for place in (left, right):
            place.imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
        for box, kind, hit in zip(true.tolist(), kinds.tolist(), there.tolist(), strict=True):
            _rectangle(left, box, COLOURS["hit" if hit else "missed"], names[kind], dashed=not hit)
        for box, kind, score, hit in zip(*map(Tensor.tolist, sure), hits.tolist(), strict=True):
            _rectangle(right, box, COLOURS["hit" if hit else "false"], f"{names[kind]} {score:.2f}")

    return _worst_and_best(images, marks, draw, "probability of at least .5, IoU .5")


def instances(images: Tensor, found: Sequence[np.ndarray], true: Sequence[np.ndarray], hits: Sequence[Any]) -> bytes:
    """Draw the images with the most and the fewest mistakes: true instances on the left, what was found on the right.

    Args:
        images: [N, C, H, W] in 0..1.
        found: numbers of predicted instances, int[H, W] of each image, 0 for the background.
        true: numbers of true ones.
        hits: of each image (numbers of the predicted, numbers of the true ones that are hits).
    """
    marks = []
    for mask, truth, (right, hit) in zip(found, true, hits, strict=True):
        marks.append(
            (len(right), len(np.unique(mask[mask > 0])) - len(right), len(np.unique(truth[truth > 0])) - len(hit))
        )

    def draw(left: Any, right: Any, i: int) -> None:
        for place, mask, hit, other in ((left, true[i], hits[i][1], "missed"), (right, found[i], hits[i][0], "false")):
            place.imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
            _fill(place, mask, np.isin(mask, hit), COLOURS["hit"])
            _fill(place, mask, ~np.isin(mask, hit) & (mask > 0), COLOURS[other])

    return _worst_and_best(images, marks, draw, "IoU .5")


def _worst_and_best(
    images: Tensor, marks: Sequence[tuple[int, int, int]], draw: Callable[[Any, Any, int], None], note: str
) -> bytes:
    """The gallery of images with so many (hits, false ones, missed ones); `draw` draws one into two places."""
    order = sorted(range(len(marks)), key=lambda i: (-marks[i][1] - marks[i][2], marks[i][0]))
    half = min(SHOWN // 2, -(-len(order) // 2))
    # the best ones are not those in which there is nothing to find: hits count as much as mistakes
    worst, best = order[:half], sorted(order[half:], key=lambda i: marks[i][1] + marks[i][2] - marks[i][0])[:half]
    rows = [part[n : n + PAIRS] for part in (worst, best) for n in range(0, len(part), PAIRS)]
    height, width = images.shape[2:]

    def whole(figure: Any) -> None:
        axes = figure.subplots(max(len(rows), 1), 2 * PAIRS, squeeze=False)
        for place in axes.flat:
            place.axis("off")
        for row, shown in zip(axes, rows, strict=False):
            for column, i in enumerate(shown):
                left, right = row[2 * column : 2 * column + 2]
                draw(left, right, i)
                left.set_title(f"{'worst' if i in worst else 'best'}: truth", fontsize=7)
                right.set_title("{} hits, {} false, {} missed".format(*marks[i]), fontsize=7)
        figure.suptitle(f"green: hits; red: false; orange: missed ({note})", fontsize=8)

    return png(whole, (1.9 * 2 * PAIRS, 2.1 * max(len(rows), 1) * height / width + 0.4))


def _fill(axes: Any, mask: np.ndarray, chosen: np.ndarray, colour: str) -> None:
    """Lay a colour over the chosen pixels of a mask of instances, and mark where each of them ends."""
    from matplotlib.colors import to_rgba
    from skimage.segmentation import find_boundaries

    layer = np.zeros((*mask.shape, 4))
    layer[chosen] = to_rgba(colour, 0.35)
    layer[chosen & find_boundaries(mask, mode="inner")] = to_rgba(colour)
    axes.imshow(layer)


def _rectangle(axes: Any, box: Sequence[float], colour: str, text: str, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    style = "--" if dashed else "-"
    # half a pixel: matplotlib puts the middle of the first pixel at 0
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, lw=1.1, ec=colour, ls=style)
    )
    axes.text(left, top - 1, text, fontsize=5, color=colour)
