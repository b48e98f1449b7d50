"""Random games of Go: our engine beside OpenSpiel's, one thread each, in turn.

Both draw every move from all legal ones, the pass among them, until two passes in a row or two moves for every point of
the board. OpenSpiel is asked through Python, as its users ask it: its legal moves as a list, and one of them is played.
It knows simple ko; ours has positional superko.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlab.envs.go import rules as go
from rlab.envs.go.boards import Boards, Setting

GAMES = 256
"""Of one call of a kernel."""
BOARDS = (1, 64, 1_024)
"""Boards of one Python call a step."""


def measure(size: int, seconds: float, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Time each way of playing, in turn.

    Args:
        size: of the board.
        seconds: of one measurement.
        rounds: measurements of each; medians count.
        progress: told what is being measured.

    Returns:
        JSON: moves a second of one thread, ``moves_per_s`` with all legal moves found before each, ``playouts_per_s``
        with one legal move drawn, ``threads_per_s`` the latter on all cores; ``steps`` with one Python call for a move
        on many boards; ``openspiel_moves_per_s``, ``ratio`` and ``playout_ratio`` (None where it is not installed);
        ``speeds``, every measurement; and the machine.
    """
    from rlab.machine import cores
    from rlab.run.provenance import git_state, processor, versions

    setting = Setting(size, cap=2 * size * size)
    ways: dict[str, Callable[[], int]] = {
        "moves": _kernel(setting, full=True),
        "playouts": _kernel(setting, full=False),
    }
    together = Boards(GAMES * cores(), setting, threads=cores())
    ways["threads"] = lambda: _again(together)
    for number in BOARDS:
        ways[f"steps {number}"] = _steps(number, setting)
    peer = importlib.util.find_spec("pyspiel") is not None
    if peer:
        ways["openspiel"] = _openspiel(size)
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways:
        ways[way]()  # numba compiles, or reads what it has compiled
    for k in range(rounds):
        for way, games in ways.items():
            progress(f"{way}, {k + 1} of {rounds}")
            done, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                done += games()
            speeds[way].append(done / (time.perf_counter() - started))
    together.close()
    rate = {way: statistics.median(measured) for way, measured in speeds.items()}
    theirs = rate.get("openspiel")
    return {
        "size": size,
        "moves_per_s": rate["moves"],
        "playouts_per_s": rate["playouts"],
        "threads_per_s": rate["threads"],
        "threads": cores(),
        "steps": [{"boards": number, "moves_per_s": rate[f"steps {number}"]} for number in BOARDS],
        "openspiel_moves_per_s": theirs,
        "ratio": rate["moves"] / theirs if theirs else None,
        "playout_ratio": rate["playouts"] / theirs if theirs else None,
        "speeds": speeds,
        "seconds": seconds,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "versions": versions(), "git": git_state()},
    }


def _kernel(setting: Setting, *, full: bool) -> Callable[[], int]:
    boards = Boards(GAMES, setting, threads=1)
    mask = np.empty((2, boards.rules.numbers.shape[1]), np.uint16)

    def games() -> int:
        boards.clear()
        if full:
            return int(go.random_rows(*boards.games, *boards.rules, mask, 0, GAMES))
        return boards.playout()

    return games


def _again(boards: Boards) -> int:
    boards.clear()
    return boards.playout()


def _steps(number: int, setting: Setting) -> Callable[[], int]:
    """A move on every board, its legal moves as masks, a draw from them by numpy: what an environment does."""
    boards = Boards(number, setting, threads=1)
    chance = np.random.default_rng(0)

    def step() -> int:
        masks = boards.legal()
        weights = chance.random(masks.shape, np.float32)
        boards.play(np.where(masks, weights, -1.0).argmax(1))
        over = np.flatnonzero(boards.over)
        if len(over):
            boards.clear(over)
        return number

    return step


def _openspiel(size: int) -> Callable[[], int]:
    import pyspiel

    game = pyspiel.load_game("go", {"board_size": size, "komi": 7.0, "max_game_length": 2 * size * size})
    chance = random.Random(0)

    def play() -> int:
        state, moves = game.new_initial_state(), 0
        while not state.is_terminal():
            legal = state.legal_actions()
            state.apply_action(legal[chance.randrange(len(legal))])
            moves += 1
        return moves

    return play
