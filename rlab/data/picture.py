"""Pictures of data sets: images beside what augmentation makes of them, tables and series as plots."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlab.data.augment import Change, augment
from rlab.data.datasets import TensorDataset, as_float
from rlab.data.preprocess import fit
from rlab.errors import RlabError, shortened
from rlab.seeding import derive


def draw(data: TensorDataset, changes: tuple[Change, ...], count: int, seed: int) -> bytes:
    """Draw some training items.

    Args:
        data: the set.
        changes: for images: what is done to them in the lower rows.
        count: how many images, or series.
        seed: of the choice and of the augmentation.

    Returns:
        A PNG.

    Raises:
        RlabError: augmentation of what is no image.
    """
    from matplotlib.figure import Figure

    generator = torch.Generator().manual_seed(derive(seed, "picture"))
    items = data.items("train")
    chosen = items[torch.randperm(len(items), generator=generator)[:count]]
    buffer = io.BytesIO()
    with plain_text():
        if data.kind in ("images", "segmentation"):
            figure = _images(Figure, data, chosen, changes, generator)
        elif changes:
            raise RlabError(f"augmentation changes images, and '{data.name}' is of kind {data.kind}")
        else:
            figure = (_series if data.kind == "series" else _table)(Figure, data, chosen)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


NAME = 20
"""Characters of a class's name that a picture has room for."""


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """While it lasts, matplotlib draws text as it stands: $5 is no formula, and a letter that it lacks no warning."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def as_image(image: Tensor) -> np.ndarray:
    """image[C, H, W] in 0..1 -> what matplotlib draws: of three and more channels the first three as colours, else
    the mean of all as grey."""
    return image[:3].permute(1, 2, 0).numpy() if len(image) >= 3 else image.mean(0).numpy()


def _images(
    make: Any, data: TensorDataset, chosen: Tensor, changes: tuple[Change, ...], generator: torch.Generator
) -> Any:
    """Rows: the images, what became of them, and again; outlines are those of masks."""
    images, y = as_float(data.x[chosen]), data.y[chosen]
    masks = y if data.kind == "segmentation" else None
    rows = [("original", images, masks)]
    for number in range(1, 3 if changes else 1):
        done = augment(images, changes, generator, masks=masks)
        rows.append((f"augmented {number}", done.images, done.masks))
    figure = make(figsize=(1.1 * len(chosen) + 0.4, 1.25 * len(rows) + 0.5), dpi=110, facecolor="white")
    grid = figure.subplots(len(rows), len(chosen), squeeze=False)
    for line, (title, pictures, outlines) in zip(grid, rows, strict=True):
        line[0].set_ylabel(title, fontsize=8)
        for n, axes in enumerate(line):
            axes.imshow(as_image(pictures[n]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if outlines is not None and outlines[n].any() and not outlines[n].all():
                axes.contour(outlines[n].numpy(), levels=[0.5], colors="red", linewidths=0.5)
            axes.set(xticks=[], yticks=[])
    if masks is None and data.classes is not None:
        for axes, label in zip(grid[0], y.tolist(), strict=True):
            axes.set_title(shortened(data.classes[label], NAME), fontsize=7)
    figure.suptitle(" ".join([data.name, *(str(change) for change in changes)]), fontsize=9)
    return figure


def draw_sounds(sounds: Sequence[tuple[str, np.ndarray]], rate: int, title: str) -> bytes:
    """Draw sounds below each other as a PNG, each with its waveform and its spectrogram.

    Args:
        sounds: name and samples float[T] in -1..1 of each.
        rate: samples a second.
        title: above them.
    """
    from matplotlib.figure import Figure

    width = 256 if rate >= 8_000 else 64
    figure = Figure(figsize=(7.5, 0.8 * len(sounds) + 0.7), dpi=110, facecolor="white", layout="constrained")
    buffer = io.BytesIO()
    with plain_text():
        for (left, right), (name, sound) in zip(figure.subplots(len(sounds), 2, squeeze=False), sounds, strict=True):
            seconds = len(sound) / rate
            left.plot(np.arange(len(sound)) / rate, sound, lw=0.4)
            left.set(xlim=(0, seconds), ylim=(-1, 1), yticks=[])
            left.set_ylabel(shortened(name, NAME), fontsize=8)
            frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, width // 2), width)[:: width // 4]
            power = np.abs(np.fft.rfft(frames * np.hanning(width), axis=1)) ** 2
            loud = 10 * np.log10(np.maximum(power / max(float(power.max()), 1e-12), 1e-8))
            right.imshow(loud.T, origin="lower", aspect="auto", vmin=-70, vmax=0, extent=(0, seconds, 0, rate / 2_000))
            right.set_ylabel("kHz", fontsize=6)
            for axes in (left, right):
                axes.tick_params(labelsize=6)
        figure.suptitle(f"{title}, by seconds", fontsize=9)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _series(make: Any, data: TensorDataset, chosen: Tensor) -> Any:
    figure = make(figsize=(7, 0.9 * len(chosen) + 0.6), dpi=110, facecolor="white", layout="constrained")
    for axes, item in zip(figure.subplots(len(chosen), 1, squeeze=False)[:, 0], chosen.tolist(), strict=True):
        axes.plot(data.x[item, : None if data.lengths is None else int(data.lengths[item])].numpy(), lw=0.7)
        label = data.y[item].tolist() if data.classes is None else shortened(data.classes[int(data.y[item])], NAME)
        axes.set_ylabel(label, fontsize=8)
        axes.tick_params(labelsize=6)
    figure.suptitle(data.name, fontsize=9)
    return figure


def _table(make: Any, data: TensorDataset, chosen: Tensor) -> Any:
    """The training split in the plane of its two principal components; of several numbers the first is the colour."""
    x = data.inputs("train")
    plane = fit("pca", fit("standard", x)(x), eps=1e-6, components=min(2, x.shape[1]))(fit("standard", x)(x))
    figure = make(figsize=(5, 4.2), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots()
    colours = data.targets("train").reshape(len(x), -1)[:, 0]
    second = plane[:, 1] if plane.shape[1] > 1 else torch.zeros(len(plane))
    points = axes.scatter(plane[:, 0], second, c=colours, s=10, cmap="viridis" if data.classes is None else "tab10")
    if data.classes is None:
        figure.colorbar(points)
    else:
        shown = data.targets("train").unique()  # a class may have no training example
        handles, _ = points.legend_elements(num=None)
        if len(shown) <= 20:
            axes.legend(handles, [shortened(data.classes[label], NAME) for label in shown.tolist()], fontsize=8)
    axes.set(xlabel="first principal component", ylabel="second")
    axes.set_title(data.name, fontsize=9)
    return figure
