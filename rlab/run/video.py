"""Film a policy at play: an mp4, a small GIF of its beginning, and a window where there is a display."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import imageio_ffmpeg
import numpy as np

from rlab.errors import RlabError
from rlab.run.files import disk_error

GIF_BYTES = 2_000_000
"""What a GIF should not exceed, so that a README can show it."""

GIF_TRIES = ((320, 15, 20), (240, 10, 20), (160, 8, 12))
"""(width in pixels, frames a second, seconds): the first that stays under `GIF_BYTES`, or else the last."""


class VideoFile:
    """An H.264 mp4 that frames are added to; use it as a context manager.

    It is written under another name and renamed when it is whole; without any frame nothing is left.

    Args:
        path: the file, ending in .mp4.
        fps: frames a second.
        scale: each pixel becomes a square of this side (nearest neighbour).
    """

    def __init__(self, path: Path, fps: float, scale: int = 1):
        self.path = path
        self.fps = fps
        self.scale = scale
        self.frames = 0
        self._part = path.with_name(f".part-{path.name}")
        self._writer: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append a picture, uint8[H, W, 3]; all must have the first one's size."""
        height, width = (n // 2 * 2 for n in (frame.shape[0] * self.scale, frame.shape[1] * self.scale))
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._part.unlink(missing_ok=True)
                self._writer = imageio_ffmpeg.write_frames(
                    str(self._part),
                    (width, height),
                    fps=self.fps,
                    codec="libx264",
                    pix_fmt_out="yuv420p",  # the one that every player and browser shows; wants even sizes
                    macro_block_size=1,
                    quality=None,
                    output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
                    ffmpeg_log_level="error",
                )
                self._writer.send(None)
            self._writer.send(np.ascontiguousarray(enlarged(frame, self.scale)[:height, :width]))
            self.frames += 1
        except OSError as e:
            raise disk_error(e, self.path.parent) from None

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()  # waits for ffmpeg
            if kind is None:
                os.replace(self._part, self.path)
        except OSError as e:
            raise disk_error(e, self.path.parent) from None
        finally:
            self._part.unlink(missing_ok=True)


def enlarged(frame: np.ndarray, scale: int) -> np.ndarray:
    """uint8[H, W, 3] -> uint8[scale*H, scale*W, 3], pixels as squares."""
    return frame if scale == 1 else frame.repeat(scale, axis=0).repeat(scale, axis=1)


LARGEST = (640, 800)
"""Height and width in pixels that small frames are enlarged to, at the most."""


def whole_factor(frame: np.ndarray) -> int:
    """The factor by which a frame [H, W, 3] is enlarged, so that pixels stay squares: 1 for large frames."""
    return max(1, min(most // size for most, size in zip(LARGEST, frame.shape, strict=False)))


def with_values(frame: np.ndarray, q: np.ndarray, chosen: int, span: tuple[float, float]) -> np.ndarray:
    """Put a bar for each action's value beside a frame.

    Args:
        frame: uint8[H, W, 3].
        q: the value of each action, [A].
        chosen: the action that is taken; its bar is marked.
        span: the values at the left and the right end of the bars.

    Returns:
        uint8[H, W + W', 3].
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = frame.shape[0], 200
    panel = Image.new("RGB", (width, height), (20, 23, 26))
    draw = ImageDraw.Draw(panel)
    line = max(8, min(26, height // (len(q) + 1)))
    font = ImageFont.load_default(size=max(8, min(14, line - 2)))
    left, right = 34, width - 62
    low, high = span
    draw.text((4, 0), "expected return of each action", fill=(120, 130, 140), font=ImageFont.load_default(size=12))
    for action, value in enumerate(q.tolist()):
        y, colour = (action + 1) * line, (245, 158, 11) if action == chosen else (120, 130, 140)
        end = left + (right - left) * min(1.0, max(0.0, (value - low) / max(high - low, 1e-9)))
        draw.text((4, y), str(action), fill=colour, font=font)
        draw.rectangle((left, y + 2, max(left + 1, end), y + line - 3), fill=colour)
        draw.text((right + 6, y), f"{value:.3g}", fill=colour, font=font)
    return np.concatenate([frame, np.asarray(panel)], axis=1)


def write_gif(video: Path, gif: Path) -> Path:
    """Turn the beginning of a video into a GIF of at most about 2 MB.

    Raises:
        RlabError: ffmpeg failed; the message is its last line.
    """
    part = gif.with_name(f".part-{gif.name}")
    part.unlink(missing_ok=True)
    for width, fps, seconds in GIF_TRIES:
        # One palette for the whole clip; no dithering, which flickers on flat colours and costs bytes.
        picture = (
            f"fps={fps},scale='min({width},iw)':-2:flags=area,split[a][b];"
            "[a]palettegen=max_colors=128[p];[b][p]paletteuse=dither=none"
        )
        _ffmpeg("-y", "-t", str(seconds), "-i", str(video), "-filter_complex", picture, "-loop", "0", str(part))
        if part.stat().st_size <= GIF_BYTES:
            break
    os.replace(part, gif)
    return gif


def _ffmpeg(*args: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", *args]
    # A session of its own: Ctrl-C in the terminal is for rlab, which lets ffmpeg finish.
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    if done.returncode != 0:
        raise RlabError(f"ffmpeg failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


class Window:
    """A window that shows frames at their speed.

    Attributes:
        closed: whether the user has closed it (or pressed Escape).
    """

    def __init__(self, pygame: Any, title: str, fps: float, scale: int):
        self._pygame = pygame
        self._title = title
        self._fps = fps
        self._scale = scale
        self._screen: Any = None
        self._clock = pygame.time.Clock()
        self.closed = False

    def show(self, frame: np.ndarray) -> None:
        """Show uint8[H, W, 3] and wait until the next one is due."""
        pygame = self._pygame
        picture = enlarged(frame, self._scale)
        size = (picture.shape[1], picture.shape[0])
        if self._screen is None:
            self._screen = pygame.display.set_mode(size)
            pygame.display.set_caption(self._title)
        self._screen.blit(pygame.image.frombuffer(picture.tobytes(), size, "RGB"), (0, 0))
        pygame.display.flip()
        for event in pygame.event.get():
            escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            self.closed = self.closed or event.type == pygame.QUIT or escape
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def has_display() -> bool:
    """Whether there is a display on which a window could open."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_window(title: str, fps: float, scale: int) -> Window | None:
    """A window, or None where there is no display or pygame cannot use it. Never fails."""
    if not has_display():
        return None
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame

        pygame.display.init()
        if pygame.display.get_driver() in ("dummy", "offscreen"):
            return None
    except (ImportError, RuntimeError):  # pygame.error is a RuntimeError
        return None
    return Window(pygame, title, fps, scale)
