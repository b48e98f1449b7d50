"""What a model says of any picture: read as its data set has them, and told in the picture's own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlab.data.media import open_picture
from rlab.data.own import Reading
from rlab.errors import printable
from rlab.tasks.detection.pictures import PALETTE


@dataclass(frozen=True)
class Picture:
    """A picture as it is, and as a model takes it: ``x``, [1, C, H, W] of the data set's type."""

    image: Any
    x: np.ndarray


Told = tuple[dict[str, Any], tuple[str, Any] | None]
"""What is told of a picture, and (end of the name, PIL image) of a file that shows it."""


def read_picture(path: Path) -> Any:
    """Read a PNG or JPEG as `rlab.data.media.open_picture` does.

    Raises:
        RlabError: it is no whole picture, or a very large one; the message names the file.
    """
    return open_picture(Reading(path.parent)(path), printable(path))


def as_model_takes(image: Any, data: Any) -> Picture:
    """Resize a PIL image to the images of a data set."""
    from PIL import Image

    channels, height, width = data.shape
    small = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    x = np.array(small).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
    bytes_ = data.x.dtype == torch.uint8
    return Picture(image, np.ascontiguousarray(x) if bytes_ else np.ascontiguousarray(x, np.float32) / np.float32(255))


def tell_boxes(task: Any, picture: Picture, score: float) -> Told:
    """Find objects: ({"boxes": [class, probability, box in the picture's pixels]}, the picture with them)."""
    from PIL import ImageDraw, ImageFont

    (found,) = task.detect(picture.x)
    width, height = picture.image.size
    across, down = width / picture.x.shape[3], height / picture.x.shape[2]
    sure = found["scores"] >= score
    boxes = found["boxes"][sure] * np.array([across, down, across, down])
    drawn = picture.image.convert("RGB")
    pen, thick = ImageDraw.Draw(drawn), max(1, round(min(width, height) / 200))
    font = ImageFont.load_default(max(10, min(width, height) // 30))
    told = []
    for box, kind, probability in zip(boxes.tolist(), found["classes"][sure], found["scores"][sure], strict=True):
        name, colour = task.classes[kind], PALETTE[int(kind) % len(PALETTE)]
        told.append({"class": name, "probability": round(float(probability), 4), "box": [round(e, 2) for e in box]})
        pen.rectangle(box, outline=colour, width=thick)
        pen.text((box[0] + thick, box[1] + thick), f"{name} {probability:.2f}", fill=colour, font=font)
    return {"size": [width, height], "boxes": told}, ("boxes.png", drawn)


def tell_mask(task: Any, picture: Picture) -> Told:
    """Segment: ({"shares": class -> share of the pixels}, an image with a palette whose pixels are classes)."""
    from PIL import Image, ImageColor

    mask = task.predict(picture.x)[0].argmax(0).astype(np.uint8)
    image = Image.fromarray(mask).resize(picture.image.size, Image.Resampling.NEAREST)
    colours = [ImageColor.getrgb(colour)[:3] for colour in PALETTE]
    image = image.convert("P")
    # all 256: of a shorter palette Pillow writes pixels of fewer bits, which hold no larger classes
    image.putpalette([0, 0, 0, *(part for kind in range(255) for part in colours[kind % len(colours)])])
    shares = np.bincount(np.asarray(image).ravel(), minlength=len(task.classes)) / (image.width * image.height)
    told = {"size": list(picture.image.size), "shares": dict(zip(task.classes, shares.tolist(), strict=True))}
    return told, ("mask.png", image)


def tell_classes(task: Any, picture: Picture) -> Told:
    """Classify: {"classes": [class and probability, the most probable first]}, or {"numbers": ...} of numbers."""
    outputs = np.asarray(task.predict(picture.x))[0]
    if task.classes is None:
        return {"numbers": np.atleast_1d(outputs).tolist()}, None
    order = np.argsort(-outputs, kind="stable")
    return {
        "classes": [{"class": task.classes[k], "probability": round(float(outputs[k]), 6)} for k in order.tolist()]
    }, None


def as_frame(image: Any, drawn: Any) -> np.ndarray:
    """Make a frame of a film, uint8[H, W, 3], of a picture and of what shows a prediction: a mask of classes is laid
    over the picture, which shows through."""
    from PIL import Image

    if drawn.mode == "P":
        over = Image.blend(image, drawn.convert("RGB"), 0.5)
        drawn = Image.composite(over, image, Image.fromarray(np.where(np.asarray(drawn) > 0, 255, 0).astype(np.uint8)))
    return np.asarray(drawn)
