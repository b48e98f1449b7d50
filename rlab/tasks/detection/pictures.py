"""Pictures of detections: curves of precision over recall, images with hits and misses, and boxes on any picture."""

from __future__ import annotations

from collections.abc import Sequence
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
"""Images of a gallery, from the one with the most mistakes to that with the fewest."""

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
    """Draw images with their hits, false boxes and missed objects, from the most mistakes to the fewest."""
    names = [shortened(name, 12) for name in classes]
    parts = []
    for one, box, label in zip(found, boxes, labels, strict=True):
        sure = Detections(*(part[one.scores >= SURE] for part in one))
        true, kind = box[label >= 0], label[label >= 0]
        taken = hits_of(sure, true, kind)
        missed = ~torch.isin(torch.arange(len(true)), taken)
        parts.append((sure, taken >= 0, true[missed], kind[missed]))
    mistakes = torch.tensor([int((~hits).sum()) + len(missed) for _, hits, missed, _ in parts])
    order = mistakes.argsort(descending=True, stable=True)
    some = order[torch.linspace(0, len(order) - 1, min(SHOWN, len(order))).long()].tolist()
    columns = 4 if len(some) > 2 else max(len(some), 1)
    rows = -(-len(some) // columns)
    height, width = images.shape[2:]

    def draw(figure: Any) -> None:
        axes = figure.subplots(rows, columns, squeeze=False)
        for place in axes.flat:
            place.axis("off")
        for place, i in zip(axes.flat, some, strict=False):
            sure, hits, missed, kinds = parts[i]
            place.imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
            for box, kind, score, hit in zip(*map(Tensor.tolist, sure), hits.tolist(), strict=True):
                _rectangle(place, box, COLOURS["hit" if hit else "false"], f"{names[kind]} {score:.2f}")
            for box, kind in zip(missed.tolist(), kinds.tolist(), strict=True):
                _rectangle(place, box, COLOURS["missed"], names[kind], dashed=True)
            place.set_title(f"{int(hits.sum())} hits, {int((~hits).sum())} false, {len(missed)} missed", fontsize=7)
        figure.suptitle("green: hits; red: false; dashed: missed (probability of at least .5, IoU .5)", fontsize=8)

    return png(draw, (2.3 * columns, 2.5 * rows * height / width + 0.4))


def _rectangle(axes: Any, box: Sequence[float], colour: str, text: str, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    style = "--" if dashed else "-"
    # half a pixel: matplotlib puts the middle of the first pixel at 0
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, lw=1.1, ec=colour, ls=style)
    )
    axes.text(left, top - 1, text, fontsize=5, color=colour)
