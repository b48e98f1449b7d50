"""What ``rlab sample RUN`` does with a run that makes images: a grid as PNG, and a way between images as GIF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlab.cli.common import output_file
from rlab.errors import RlabError
from rlab.run.contract import Interpolates, Samples, SamplesOfClasses, ability
from rlab.run.files import replace_durably

if TYPE_CHECKING:
    from rlab.api import Player, Predictor

MOST = 10_000
"""Images of a grid."""

PIXELS = 100_000_000
"""Of a picture; programs take larger ones for attacks."""

ROWS, STEPS = 16, 24
"""Ways that an animation shows at the same time, and pictures of each."""


def main_images(
    loaded: Predictor | Player,
    n: int,
    seed: int,
    out: Path | None,
    interpolate: Path | None,
    put: Callable[[str, Any], None],
    label: str | None = None,
) -> None:
    """Write a grid of n new images, and an animation that goes from some images to others.

    Args:
        loaded: what was learned.
        n: images of the grid.
        seed: of the draws; the same seed makes the same files.
        out: the PNG; None: ``pictures/samples.png`` in the run's folder, unless only an animation is wanted.
        interpolate: the GIF; None: no animation.
        put: prints the result, given text and JSON.
        label: the class of all; None: of a run with --conditional all in turn.

    Raises:
        RlabError: the run makes no images, or none of this class, or a file cannot be written.
    """
    from rlab.api import write_pictures
    from rlab.tasks.generative.pictures import columns_of, gif, grid

    if not 1 <= n <= MOST:
        raise RlabError(f"-n is {n}; a grid has 1 to {MOST:,} images")
    out = out and output_file("--out", out, ".png")
    interpolate = interpolate and output_file("--interpolate", interpolate, ".gif")
    of: dict[str, Any] = {} if label is None else {"label": label}
    classes = ability(loaded.learner, SamplesOfClasses)
    if of and classes is None:
        raise RlabError(f"--label is {label}, and run '{loaded.folder.name}' makes nothing of a class; nearest: "
                        "without --label")  # fmt: skip
    columns = columns_of(classes.turns) if classes is not None and not of else 0
    written = []
    if out is not None or interpolate is None:
        shape = loaded.ability(Samples).sample(1, seed, **of).shape[1:]
        _check_images(shape, loaded.folder.name, f"rlab.load('{loaded.folder.name}').sample(n)")
        if n > (most := max(1, PIXELS // (shape[1] * shape[2]))):
            raise RlabError(f"-n is {n}, of {shape[1]}x{shape[2]} pixels each, which is more than a picture of "
                            f"{PIXELS:,} pixels holds; nearest: {most}")  # fmt: skip
        images = loaded.ability(Samples).sample(n, seed, **of)
        png = grid(images, columns)
        written.append(write_pictures(loaded.folder, {"samples": png})["samples"] if out is None else _write(out, png))
    if interpolate is not None:
        frames = loaded.ability(Interpolates).interpolate(ROWS, STEPS, seed, **of)
        _check_images(frames.shape[2:], loaded.folder.name, f"rlab watch {loaded.folder.name}")
        written.append(_write(interpolate, gif(frames.swapaxes(0, 1))))
    lines = "\n".join(f"wrote   {path}" for path in written)
    put(lines, {"run": loaded.folder.name, "seed": seed, "files": [str(path) for path in written]})


def _check_images(shape: tuple[int, ...], run: str, near: str) -> None:
    if len(shape) != 3:
        raise RlabError(f"run '{run}' makes items of shape {list(shape)}, which are no images for a grid; "
                        f"nearest: {near}")  # fmt: skip


def _write(path: Path, data: bytes) -> Path:
    replace_durably(path, data)
    return path
