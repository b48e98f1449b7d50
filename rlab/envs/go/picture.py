"""A board of Go as text and as a picture; a window for it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.envs.go.boards import LETTERS, Boards
from rlab.errors import RlabError

SIDE = 480
"""Pixels of a picture's side."""
FINE = 2
"""Drawn as many times as large, so that edges are smooth."""
WOOD, INK, STONES = (226, 182, 110), (60, 44, 24), ((18, 18, 20), (246, 246, 242))
MARK = (214, 60, 50)
NAMES = ("black", "white")


def last_move(boards: Boards, row: int) -> int:
    """The last point that was played in a game, or the pass; -1 before the first."""
    moves = boards.moves(row)
    return moves[-1] if moves else -1


def status(boards: Boards, row: int) -> str:
    """Who is to move, or who has won, in a line."""
    made, komi = int(boards.made[row]), f"komi {boards.setting.komi:g}"
    if not boards.over[row]:
        passed = ", after a pass" if last_move(boards, row) == boards.pass_ else ""
        return f"{NAMES[boards.turn[row] - 1]} to move{passed}; {made} moves, {komi}"
    score = float(boards.score()[row])
    return f"{f'{NAMES[score < 0]} wins by {abs(score):g}' if score else 'jigo'}; {made} moves, {komi}"


def text(boards: Boards, row: int = 0) -> str:
    """A game's board: X black, O white, + a star point, the last move in brackets; lines end without spaces."""
    size, stones, last = boards.size, boards.stones()[row], last_move(boards, row)
    letters = "    " + " ".join(LETTERS[:size])
    lines = [letters]
    for y in range(size):
        marks = ["+" if (y, x) in stars(size) and not stones[y, x] else ".XO"[stones[y, x]] for x in range(size)]
        line = f"{size - y:3d} " + " ".join(marks) + f" {size - y}"
        if last // size == y:
            x = 4 + 2 * (last % size)
            line = f"{line[: x - 1]}({line[x]}){line[x + 2 :]}"
        lines.append(line)
    return "\n".join([*lines, letters, status(boards, row)]) + "\n"


def stars(size: int) -> frozenset[tuple[int, int]]:
    """(row, column) of the points that boards have marked."""
    if size < 7:
        return frozenset({(size // 2, size // 2)} if size % 2 else ())
    off = 2 if size < 13 else 3
    lines = [off, size - 1 - off] + [size // 2] * (size % 2)
    corners = {(a, b) for a in lines for b in lines}
    if size < 15:  # the middle, and no sides
        corners -= {(a, b) for a, b in corners if (a == size // 2) != (b == size // 2)}
    return frozenset(corners)


def picture(boards: Boards, row: int = 0) -> NDArray[np.uint8]:
    """A game's board: uint8 [480, 480, 3], with coordinates and a mark on the last move."""
    from PIL import Image, ImageDraw, ImageFont

    size, stones, last = boards.size, boards.stones()[row], last_move(boards, row)
    side = SIDE * FINE
    cell = side / (size + 1.4)
    edge = (side - cell * (size - 1)) / 2
    image = Image.new("RGB", (side, side), WOOD)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(9 * FINE, round(cell * 0.34)))

    def at(y: float, x: float) -> tuple[float, float]:
        return edge + x * cell, edge + y * cell

    def disc(y: float, x: float, radius: float, **how: Any) -> None:
        px, py = at(y, x)
        draw.ellipse((px - radius, py - radius, px + radius, py + radius), **how)

    for k in range(size):
        draw.line((at(k, 0), at(k, size - 1)), INK, FINE)
        draw.line((at(0, k), at(size - 1, k)), INK, FINE)
        for y in (-0.82, size - 1 + 0.82):
            draw.text(at(y, k), LETTERS[k], INK, font, "mm")
            draw.text(at(k, y), str(size - k), INK, font, "mm")
    for y, x in stars(size):
        disc(y, x, max(2.0 * FINE, cell * 0.07), fill=INK)
    for y, x in np.argwhere(stones):
        disc(y, x, cell * 0.47, fill=STONES[stones[y, x] - 1], outline=INK, width=FINE)
    if 0 <= last < size * size and stones[divmod(last, size)]:
        disc(*divmod(last, size), cell * 0.17, fill=MARK)
    return np.asarray(image.reduce(FINE))


class BoardWindow:
    """A window that shows pictures of 480 x 480.

    Raises:
        RlabError: there is no display, or none was found by pygame.
    """

    def __init__(self, title: str, fps: float):
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # a greeting on stdout
        import pygame

        self._pygame: Any = pygame
        self.fps = fps
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode((SIDE, SIDE))
        except pygame.error as e:
            raise RlabError(f"there is no display for a window ({e}); nearest: render_mode rgb_array") from None
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()

    def show(self, image: NDArray[np.uint8]) -> None:
        """Put a picture there and wait for its time."""
        self._pygame.surfarray.blit_array(self._screen, image.transpose(1, 0, 2))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self.fps)

    def close(self) -> None:
        """Close it."""
        self._pygame.display.quit()
