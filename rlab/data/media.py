"""Pictures, videos and sounds as other programs write them, decoded or refused by name."""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
import subprocess
import tempfile
import warnings
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlab.errors import RlabError
from rlab.machine import available_memory, gigabytes

MOST_PIXELS = 100_000_000
"""Of a picture: what has more is refused before it is decoded."""

LARGEST_SIDE = 4_096
"""Of images that are resized."""

VIDEOS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")
"""How names of videos end."""

CONTAINERS = ((4, b"ftyp", "mov"), (0, b"GIF8", "gif"), (0, b"\x1aE\xdf\xa3", "matroska"))
"""(where, what stands there, ffmpeg's name of it) of the videos that are read; a playlist could name other files."""


def open_picture(data: bytes, name: str) -> Any:
    """Decode a PNG or JPEG: a PIL image of mode "L" if it is grey, else "RGB", of 8 bits a channel.

    16 bits become 8, palettes their colours; what is transparent lies on white, and a camera's rotation is undone.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        RlabError: it is no whole picture of these formats, or a very large one.
    """
    from PIL import Image

    image = _upright(_decoded(data, name))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise RlabError(f"{name} has pixels of 32 bits; a picture has 8 or 16 bits a channel")
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _upright(image: Any) -> Any:
    """Undo a camera's rotation. Malformed EXIF data tell of none, as viewers take them; the pixels are whole."""
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else is malformed in them
        try:
            return ImageOps.exif_transpose(image)
        except Exception:  # what Pillow raises of such data is not declared: SyntaxError, struct.error and others
            return image


def open_mask(data: bytes, name: str) -> Any:
    """Decode a mask, whose pixels are numbers of classes or of instances: a PIL image of one channel.

    Raises:
        RlabError: it is no whole picture, or has several channels.
    """
    image = _decoded(data, name)
    if len(image.getbands()) != 1:
        raise RlabError(f"{name} is a mask of {len(image.getbands())} channels ({image.mode}); it must have one")
    return image


def refuse_shape(shape: tuple[int, ...], images: int = 1) -> None:
    """Refuse a shape [C, H, W] that so many images cannot be resized to.

    Raises:
        RlabError: a side is none, or very large, or the memory does not hold them.
    """
    if min(shape) < 1 or max(shape) > LARGEST_SIDE:
        raise RlabError(f"images cannot be of shape {list(shape)}; every side must be 1 to {LARGEST_SIDE:,}")
    if 3 * images * math.prod(shape) > available_memory():
        raise RlabError(f"{images:,} images of shape {list(shape)} would take {gigabytes(images * math.prod(shape))}, "
                        "too much for the free memory; nearest: a smaller --shape")  # fmt: skip


def pixels_of(image: Any, shape: tuple[int, int, int] | None, name: str, before: np.ndarray | None) -> np.ndarray:
    """Make an array of a picture.

    Args:
        image: as `open_picture` returns it.
        shape: [C, H, W] to which it is resized; None: as it is.
        name: of the picture, for messages.
        before: pixels of another picture of the set, whose size it must have; None: it is the first one.

    Returns:
        uint8[C, H, W], where C is 1 or 3.

    Raises:
        RlabError: it has another size, or the shape cannot be.
    """
    from PIL import Image

    if shape is not None:
        refuse_shape(shape)
        channels, height, width = shape
        image = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    if before is not None and pixels.shape[1:] != before.shape[1:]:
        sizes = [f"{part.shape[2]}x{part.shape[1]}" for part in (pixels, before)]
        raise RlabError(
            f"{name} is {sizes[0]} pixels, the pictures before it are {sizes[1]}; resize all with "
            f"--shape {len(pixels)}x{before.shape[1]}x{before.shape[2]} (channels x height x width)"
        )
    return pixels


def _decoded(data: bytes, name: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is too large is told below; malformed EXIF data matter to nobody
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


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[float, Iterator[Any]]]:
    """Open a video; yields (pictures a second, its pictures one after the other, as PIL images of mode "RGB").

    Sound is left out, and a camera's rotation undone. Damage shows when the pictures before it have been read.

    Raises:
        RlabError: it is no video of these formats, empty, damaged, cut off, or of very large or small pictures.
    """
    import imageio_ffmpeg

    damaged = f"{path} is damaged or cut off: it cannot be decoded"
    if not path.is_file():  # of a pipe or a device, reading might never end
        raise RlabError(f"{path} is no regular file")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as e:
        raise RlabError(f"{path} cannot be read ({e.strerror or e})") from None
    if not start:
        raise RlabError(f"{path} is empty")
    container = next((name for at, what, name in CONTAINERS if start[at:].startswith(what)), None)
    if container is None:
        raise RlabError(f"{path} is no video (MP4, MOV, WebM, Matroska) and no GIF")
    where, how = f"file:{path.absolute()}", ["-nostdin", "-protocol_whitelist", "file,pipe", "-f", container]
    program = imageio_ffmpeg.get_ffmpeg_exe()
    about = subprocess.run([program, "-hide_banner", *how, "-i", where], capture_output=True)
    rate = re.search(rb"Video: .* ([\d.]+) fps", about.stderr)
    # -xerror, one thread: ffmpeg would pass over damage in silence
    command = [program, "-v", "error", "-xerror", "-threads", "1", *how, "-i", where]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-c:v", "ppm", "-f", "image2pipe", "-"]
    # A session of its own: Ctrl-C in the terminal is for rlab, which ends ffmpeg.
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True) as process,
    ):

        def pictures() -> Iterator[Any]:
            empty = True
            for image in _portable_pixmaps(process.stdout, path):
                empty = False
                yield image
            status = process.wait()
            log.seek(0)
            if said := log.read(2_000).decode(errors="replace").strip().splitlines():
                raise RlabError(f"{damaged} ({said[0].rpartition('] ')[2]})")  # without [codec @ address]
            if status or empty:
                raise RlabError(damaged if status else f"{path} holds no pictures")

        try:
            yield float(rate[1]) if rate else FRAMES_PER_S, pictures()
        finally:
            process.kill()


FRAMES_PER_S = 10.0
"""Of a video that does not say."""


def _portable_pixmaps(stream: Any, path: Path) -> Iterator[Any]:
    """Images of a stream of PPM files as ffmpeg writes them: three lines, and the pixels."""
    from PIL import Image

    while stream.readline():
        width, height = map(int, stream.readline().split())
        if width * height > MOST_PIXELS or min(width, height) < 2:
            raise RlabError(f"{path} has pictures of {width:,} x {height:,} pixels; 2 x 2 to {MOST_PIXELS:,} pixels "
                            "are read")  # fmt: skip
        stream.readline()
        pixels = stream.read(3 * width * height)
        if len(pixels) < 3 * width * height:
            return
        yield Image.frombytes("RGB", (width, height), pixels)


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
        raise RlabError(f"{name} is no WAV file of whole numbers ({str(e) or 'it is cut off'})") from None
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
