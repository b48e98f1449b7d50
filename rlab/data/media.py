"""Pictures and sounds as other programs write them, decoded or refused by name."""

from __future__ import annotations

import io
import struct
import warnings
import wave
import zlib
from typing import Any

import numpy as np

from rlab.errors import RlabError

MOST_PIXELS = 100_000_000
"""Of a picture: what has more is refused before it is decoded."""


def open_picture(data: bytes, name: str) -> Any:
    """Decode a PNG or JPEG: a PIL image of mode "L" if it is grey, else "RGB", of 8 bits a channel.

    16 bits become 8, palettes their colours; what is transparent lies on white, and a camera's rotation is undone.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        RlabError: it is no whole picture of these formats, or a very large one.
    """
    from PIL import Image, ImageOps

    image = _decoded(data, name)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise RlabError(f"{name} has pixels of 32 bits; a picture has 8 or 16 bits a channel")
    image = ImageOps.exif_transpose(image)
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def open_mask(data: bytes, name: str) -> Any:
    """Decode a mask, whose pixels are numbers of classes or of instances: a PIL image of one channel.

    Raises:
        RlabError: it is no whole picture, or has several channels.
    """
    image = _decoded(data, name)
    if len(image.getbands()) != 1:
        raise RlabError(f"{name} is a mask of {len(image.getbands())} channels ({image.mode}); it must have one")
    return image


def _decoded(data: bytes, name: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is told below
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise RlabError(f"{name} has {width:,} x {height:,} pixels; at most {MOST_PIXELS:,} are read")
        image.load()
    except UnidentifiedImageError:
        raise RlabError(f"{name} is no PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise RlabError(f"{name} has more pixels than the {MOST_PIXELS:,} that are read") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as e:
        raise RlabError(f"{name} is damaged or cut off: it cannot be decoded ({e})") from None
    return image


def read_sound(data: bytes, name: str, samples: int) -> np.ndarray:
    """Decode the beginning of a WAV file of 8, 16, 24 or 32 bits: float32[T, channels] in -1..1, T at most `samples`.

    Raises:
        RlabError: it is another form of sound, empty or cut off.
    """
    try:
        with wave.open(io.BytesIO(data)) as sound:
            channels, width, expected = sound.getnchannels(), sound.getsampwidth(), min(sound.getnframes(), samples)
            raw = sound.readframes(expected)
    except (wave.Error, EOFError, RuntimeError, struct.error) as e:  # the third: a chunk of an impossible size
        raise RlabError(f"{name} is no WAV file of whole numbers ({e or 'it is cut off'})") from None
    if width not in (1, 2, 3, 4):
        raise RlabError(f"{name} has samples of {8 * width} bits; 8, 16, 24 and 32 are read")
    if expected == 0 or len(raw) != expected * width * channels:
        raise RlabError(f"{name} is empty or cut off: {len(raw):,} bytes of {expected * width * channels:,} are there")
    parts = np.frombuffer(raw, np.uint8).reshape(-1, width)
    if width == 1:  # alone has no sign
        values = (parts[:, 0].astype(np.float32) - 128) / np.float32(128)
    else:
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 4 - width :] = parts  # little-endian: into the upper bytes, so that the sign is right
        values = (whole.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return values.reshape(-1, channels)
