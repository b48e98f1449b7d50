from __future__ import annotations

from pathlib import Path

import numpy as np

from rlab.run.video import Window, open_window


def test_a_window_shows_frames_and_notices_that_it_is_closed(runs: Path) -> None:
    import pygame

    pygame.display.init()
    window = Window(pygame, "test", 1000, 2)
    frame = np.zeros((10, 20, 3), np.uint8)
    frame[:, :10] = 255
    window.show(frame)
    screen = pygame.display.get_surface()
    assert screen.get_size() == (40, 20)
    assert screen.get_at((19, 19))[:3] == (255, 255, 255)
    assert screen.get_at((20, 0))[:3] == (0, 0, 0)
    assert not window.closed
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.show(frame)
    assert window.closed
    window.close()


def test_there_is_no_window_without_a_display(runs: Path, monkeypatch) -> None:
    assert open_window("test", 30, 1) is None
    monkeypatch.setenv("DISPLAY", ":99")  # nobody listens there
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    assert open_window("test", 30, 1) is None
