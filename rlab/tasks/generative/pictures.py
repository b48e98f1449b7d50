"""Pictures of autoencoders and of generated images: grids, rows, filters, walks and maps of codes, as PNG and GIF."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlab.data.datasets import TensorDataset
from rlab.data.picture import NAME
from rlab.errors import shortened
from rlab.tasks.pictures import png

COLUMNS = 12
"""Examples that are shown side by side."""

MOST_COLUMNS = 10
"""Classes up to which each has a column of its own in a grid of samples."""

FILTERS = 64
"""Filters of the first layer that are shown, those of the largest weights."""

POINTS = 2_000
"""Codes that a map shows."""

SMALLEST, LARGEST = 256, 2_048
"""Pixels of the shorter side of a grid below which its images are enlarged, by whole factors, and of the longer side up
to which they are."""


def grid(images: np.ndarray, columns: int = 0, gap: int = 1) -> bytes:
    """Lay images[N, C, H, W] out in a grid, row by row, as PNG; bytes, or floats in 0..1 (others are cut off).

    Args:
        images: of one or three channels; of any other number the first one is shown.
        columns: of the grid; 0: about as many as rows.
        gap: pixels between images.
    """
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(sheet(images, columns, gap)).save(data, "PNG")
    return data.getvalue()


def columns_of(turns: int) -> int:
    """Columns of a grid of samples whose classes come in turn, so that a column is of one class; 0: any number."""
    return turns if 1 < turns <= MOST_COLUMNS else 0


def gif(frames: np.ndarray, columns: int = 0, seconds: float = 0.08) -> bytes:
    """Animate frames[T, N, C, H, W], each a grid of images, as a GIF that goes to the end and back for ever.

    Args:
        frames: bytes, or floats in 0..1.
        columns: of the grid; 0: about as many as rows.
        seconds: that each frame stays.
    """
    from PIL import Image

    laid = [Image.fromarray(sheet(images, columns, 1)) for images in frames]
    laid += laid[-2:0:-1]
    data = io.BytesIO()
    laid[0].save(data, "GIF", save_all=True, append_images=laid[1:], duration=round(1000 * seconds), loop=0)
    return data.getvalue()


def sheet(images: np.ndarray, columns: int = 0, gap: int = 1) -> np.ndarray:
    """Lay images out as `grid` does: uint8[H', W', 3]."""
    if images.dtype != np.uint8:
        images = (255 * np.nan_to_num(images).clip(0, 1)).round().astype(np.uint8)
    images = images if images.shape[1] == 3 else images[:, :1].repeat(3, 1)
    n, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n * height / width))
    columns = min(max(columns, 1), n)
    rows = -(-n // columns)
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 96, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        whole[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    factor = max(1, min(math.ceil(SMALLEST / min(whole.shape[:2])), LARGEST // max(whole.shape[:2])))
    return whole.repeat(factor, 0).repeat(factor, 1)


def rows(named: Mapping[str, Tensor], title: str) -> bytes:
    """Draw rows of images [N, C, H, W], each with its name beside it, as PNG."""
    count = min(COLUMNS, *(len(images) for images in named.values()))

    def draw(figure: Any) -> None:
        figure.suptitle(title, fontsize=9)
        for axes, (name, images) in zip(
            figure.subplots(len(named), 1, squeeze=False)[:, 0], named.items(), strict=True
        ):
            axes.imshow(sheet(images[:count].float().cpu().numpy(), count, 1))
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(name, fontsize=8)

    return png(draw, (0.7 * count + 1, 0.5 + 0.9 * len(named)))


def filters_of(model: nn.Module, shape: tuple[int, ...]) -> bytes | None:
    """Draw the weights of the first layer as images, each scaled by its own largest one; None if they are none."""
    encoder: Any = model.encoder
    layers = [*encoder.modules(), *getattr(model, "code", nn.Identity()).modules()]
    layer: Any = next((part for part in layers if isinstance(part, (nn.Linear, nn.Conv2d))), None)
    if layer is None:
        return None
    weights = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        if weights.shape[1] != math.prod(shape):
            return None
        weights = weights.view(-1, *shape)
    if min(weights.shape[2:]) < 3:
        return None
    size = weights.square().flatten(1).sum(1)
    chosen = weights[size.argsort(descending=True, stable=True)[:FILTERS], :3]
    largest = chosen.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return grid((0.5 + 0.5 * chosen / largest).numpy())


def code_map(codes: Tensor, dataset: TensorDataset, items: Tensor) -> bytes:
    """Draw codes[n, D] of items int64[n] in two dimensions, by class: as they are, or by their first two directions."""
    codes = codes[:POINTS]
    if codes.shape[1] > 2:
        centred = (codes - codes.mean(0)).double()
        place = (centred @ torch.linalg.svd(centred, full_matrices=False)[2][:2].T).numpy()
    else:
        place = codes.numpy()
    place = np.pad(place, ((0, 0), (0, 2 - place.shape[1])))  # a code of one number, or one example
    labels = dataset.y[items[: len(codes)]].cpu()
    named = dataset.classes is not None and labels.dim() == 1

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        palette = ("tab10" if len(labels.unique()) <= 10 else "tab20") if named else "viridis"
        colours = {"c": labels.numpy(), "cmap": palette} if labels.dim() == 1 else {}
        shown = axes.scatter(*place.T, s=4, **colours)
        if named and len(dataset.classes or ()) <= 20:
            handles, _ = shown.legend_elements(num=None)
            there = [shortened((dataset.classes or ())[int(i)], NAME) for i in labels.unique()]
            axes.legend(handles, there, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set(xticks=[], yticks=[])
        axes.set_title("codes of test examples" + (", two directions" if codes.shape[1] > 2 else ""), fontsize=9)

    return png(draw, (5, 4))
