"""Pictures of what a model predicts: confusion matrix, misclassified examples, heat maps and masks, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rlab.data.picture import NAME, as_image, plain_text
from rlab.errors import shortened
from rlab.nn.models import Classifier

WRONG = 24
"""Misclassified examples that are shown: those of which the model was most sure."""

HEAT_MAPS = 8
"""Images whose heat map is shown."""


def class_activation(model: Classifier, x: Tensor, classes: Tensor) -> Tensor:
    """Compute where a classifier sees a class: x[B, C, H, W], classes int64[B] -> heat[B, H, W] in 0..1.

    Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2) on the encoder's last maps; where the head is one linear layer on
    their mean it is CAM (Zhou et al. 2016) with what speaks against the class left out.
    """
    kept: list[Tensor] = []
    original = model.encoder.feature_maps

    def remember(images: Tensor) -> Tensor:
        maps: Tensor = original(images)  # type: ignore[operator]
        maps.retain_grad()
        kept.append(maps)
        return maps

    model.encoder.feature_maps = remember  # type: ignore[assignment]
    try:
        with torch.enable_grad():
            chosen = model(x.requires_grad_()).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, kept[:1])
    finally:
        del model.encoder.feature_maps  # uncovers the method
    maps = kept[0].detach().float()
    heat = (gradient.float().mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


def confusion(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> bytes:
    """Draw how often each class (rows) was taken for each other one (columns), in percent of its examples."""
    k = len(classes)
    counts = torch.bincount(labels * k + logits.argmax(1), minlength=k * k).view(k, k).numpy()
    share = 100 * counts / counts.sum(1, keepdims=True).clip(1)
    names = [shortened(name, NAME) for name in classes]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=10)  # the square root lets rare mistakes be seen
        for i in range(k if k <= 20 else 0):
            for j in range(k):
                if counts[i, j]:
                    axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7,
                              color="white" if share[i, j] > 40 else "black")  # fmt: skip
        axes.set(xlabel="predicted", ylabel="true", xticks=range(k), yticks=range(k))
        axes.set_xticklabels(names, rotation=60, ha="right", fontsize=7)
        axes.set_yticklabels(names, fontsize=7)

    side = 3.2 + 0.25 * min(k, 20)
    return png(draw, (side, side))


def misclassified(images: Tensor, logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> bytes:
    """Draw the misclassified examples that the model was most sure of; titles have the predicted and the true class."""
    sure, predicted = logits.softmax(1).max(1)
    missed = (predicted != labels).nonzero()[:, 0]
    missed = missed[sure[missed].argsort(descending=True, stable=True)][:WRONG]
    names = [shortened(name, NAME) for name in classes]
    titles = [f"{names[predicted[i]]} ({100 * sure[i]:.0f} %)\n{names[labels[i]]}" for i in missed]
    return _grid(images[missed], titles, "predicted class (probability), above the true class")


def heat_maps(images: Tensor, heat: Tensor, logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> bytes:
    """Draw images, and below each its heat map for the predicted class."""
    predicted = logits.argmax(1)
    names = [shortened(name, NAME) for name in classes]
    titles = [names[p] + ("" if p == t else f"\n({names[t]})") for p, t in zip(predicted, labels, strict=True)]
    return _grid(images, titles, "predicted class, and where it is seen (Grad-CAM)", heat)


def masks(images: Tensor, predicted: Tensor, true: Tensor, classes: int) -> bytes:
    """Draw images, and below each its true and its predicted mask, from the best predicted image to the worst."""
    right = (predicted == true).float().mean((1, 2))
    order = right.argsort(descending=True)
    some = order[torch.linspace(0, len(order) - 1, min(HEAT_MAPS, len(order))).long()]

    def draw(figure: Any) -> None:
        axes = figure.subplots(3, len(some), squeeze=False)
        for row, name in zip(axes, ("image", "true", "predicted"), strict=True):
            row[0].set_ylabel(name, fontsize=8)
            for place in row:
                place.set(xticks=[], yticks=[])
        for column, i in zip(axes.T, some.tolist(), strict=True):
            column[0].imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
            column[0].set_title(f"{100 * right[i]:.1f} %", fontsize=7)
            for place, mask in ((column[1], true[i]), (column[2], predicted[i])):
                place.imshow(mask.numpy(), cmap="viridis", vmin=0, vmax=max(classes - 1, 1))
        figure.suptitle("share of the pixels that is right, from the best image to the worst", fontsize=9)

    return png(draw, (1.2 * len(some) + 0.4, 4.2))


def _grid(images: Tensor, titles: list[str], title: str, heat: Tensor | None = None, columns: int = 8) -> bytes:
    rows = max(1, -(-len(titles) // columns))

    def draw(figure: Any) -> None:
        figure.suptitle(title if titles else "nothing is misclassified", fontsize=9)
        axes = figure.subplots(rows * (1 if heat is None else 2), columns, squeeze=False)
        for place in axes.flat:
            place.axis("off")
        for i, text in enumerate(titles):
            row, column = divmod(i, columns)
            place = axes[row, column]
            place.imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
            place.set_title(text, fontsize=6)
            if heat is not None:
                below = axes[rows + row, column]
                below.imshow(as_image(images[i]), cmap="gray", vmin=0, vmax=1)
                below.imshow(heat[i].numpy(), cmap="jet", alpha=0.45, vmin=0, vmax=1)

    return png(draw, (columns * 1.1, 0.4 + 1.35 * rows * (1 if heat is None else 1.9)))


def one_of_each(labels: Tensor, classes: int) -> Tensor:
    """Find the first example of every class that has any: labels int64[n] -> places int64[k]."""
    return torch.cat([(labels == c).nonzero()[:1, 0] for c in range(classes)])


def png(draw: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    """Return what `draw(figure)` draws as a PNG; the size is in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    data = io.BytesIO()
    with plain_text():
        draw(figure)
        FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()


JAPANESE = (
    *("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic"),
    *("Yu Gothic", "Hiragino Sans", "MS Gothic"),
)
"""Fonts with Japanese letters, which matplotlib's own has not."""


def fonts() -> list[str]:
    """Fonts of words: matplotlib's, then those with Japanese letters, or where there is none, that of the extra."""
    from importlib.util import find_spec

    from matplotlib import font_manager, rcParams

    manager = font_manager.fontManager
    if not any(font.name in JAPANESE for font in manager.ttflist) and (extra := find_spec("matplotlib_fontja")):
        for folder in extra.submodule_search_locations or ():  # to import it would change all pictures
            for file in Path(folder).glob("fonts/*.ttf"):
                manager.addfont(file)
    known = {font.name for font in manager.ttflist}
    return [*rcParams["font.family"], *(name for name in JAPANESE if name in known)]
