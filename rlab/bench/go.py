"""Random games of Go: our engine beside OpenSpiel's, one thread each, in turn.

Both draw every move from all legal ones, the pass among them, until two passes in a row or two moves for every point of
the board. OpenSpiel is asked through Python, as its users ask it: its legal moves as a list, and one of them is played.
It knows simple ko; ours has positional superko, and so have the masks of EnvPool.

How fast an engine is depends on how much one call from Python does. `granularity` measures all of it: one board and a
call a step, batches, and whole games in one call.
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
GRANULARITY = (1, 16, 256, 4_096)
"""The same, of `granularity`."""
PLAYOUTS = 200
"""Of one move of a search with random rollouts."""


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
    speeds = _time(ways, seconds, rounds, progress)
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


def granularity(size: int, seconds: float, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Time random games by how much one call from Python does, one thread each, in turn, in seconds of processor time,
    which other work on the machine takes away from nobody.

    Args:
        size: of the board.
        seconds: of one measurement.
        rounds: measurements of each; medians count.
        progress: told what is being measured.

    Returns:
        JSON: ``rows``, each with ``engine``, ``call`` (what one call does), ``boards``, ``unit``, ``median``, and
        ``speeds``, every measurement; ``one_board_ratio``, ours over OpenSpiel's with one board and one call a step,
        and ``rollout_ratio`` of the searches with random rollouts (None where it is not installed); and the machine.
    """
    from rlab.run.provenance import git_state, processor, versions

    setting = Setting(size, cap=2 * size * size)
    step, games, search = "a step", "whole games", f"a move of {PLAYOUTS} random rollouts"
    ways: dict[tuple[str, str, int, str], Callable[[], int]] = {("rlab", step, 1, "moves"): _single(setting)}
    for number in GRANULARITY[1:]:
        ways["rlab", step, number, "moves"] = _steps(number, setting)
    ways["rlab, all legal moves found", games, GAMES, "moves"] = _kernel(setting, full=True)
    ways["rlab, one legal move drawn", games, GAMES, "moves"] = _kernel(setting, full=False)
    ways["rlab", search, 1, "rollouts"] = _rollouts(setting)
    if importlib.util.find_spec("pyspiel") is not None:
        ways["OpenSpiel", step, 1, "moves"] = _openspiel(size)
        ways["OpenSpiel", search, 1, "rollouts"] = _openspiel_rollouts(size)
    if importlib.util.find_spec("envpool") is not None and size in (9, 13, 19):
        for number in GRANULARITY:
            ways["EnvPool, with observations", step, number, "moves"] = _envpool(size, number)
    labels = {way: f"{way[0]}: {way[1]}, boards {way[2]}" for way in ways}
    runs = {labels[way]: run for way, run in ways.items()}
    speeds = _time(runs, seconds, rounds, progress, time.process_time)
    rows: list[dict[str, Any]] = [
        {"engine": engine, "call": call, "boards": boards, "unit": f"{unit}/s",
         "median": statistics.median(speeds[labels[engine, call, boards, unit]]),
         "speeds": speeds[labels[engine, call, boards, unit]]}
        for engine, call, boards, unit in ways
    ]  # fmt: skip
    median = {(row["engine"], row["call"], row["boards"]): row["median"] for row in rows}

    def ratio(call: str) -> float | None:
        theirs = median.get(("OpenSpiel", call, 1))
        return median["rlab", call, 1] / theirs if theirs else None

    return {
        "size": size,
        "rows": rows,
        "one_board_ratio": ratio(step),
        "rollout_ratio": ratio(search),
        "seconds": seconds,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "versions": versions(), "git": git_state()},
    }


def _time(
    ways: dict[str, Callable[[], int]],
    seconds: float,
    rounds: int,
    progress: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """What each way does in a second of a clock, in every round."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        run()  # numba compiles, or reads what it has compiled
    for k in range(rounds):
        for way, run in ways.items():
            progress(f"{way}, {k + 1} of {rounds}")
            done, started = 0, clock()
            while clock() - started < seconds:
                done += run()
            speeds[way].append(done / (clock() - started))
    return speeds


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


def _single(setting: Setting) -> Callable[[], int]:
    """A game on one board: a call finds what is legal after a move, and one of that is drawn, as for OpenSpiel."""
    boards, chance = Boards(1, setting, threads=1), random.Random(0)

    def game() -> int:
        boards.clear()
        legal, moves = boards.step(-1), 0
        while len(legal):
            legal = boards.step(legal[chance.randrange(len(legal))])
            moves += 1
        return moves

    return game


def _rollouts(setting: Setting) -> Callable[[], int]:
    """A move of flat Monte-Carlo from the empty board; its games avoid own eyes, and so end earlier."""
    from rlab.agents.go.rollouts import Rollouts

    boards, player = Boards(1, setting, threads=1), Rollouts(PLAYOUTS)

    def move() -> int:
        player.choose(boards, np.zeros(1, np.int64), np.ones(1, np.uint64))
        return PLAYOUTS

    return move


def _openspiel_rollouts(size: int) -> Callable[[], int]:
    """A move of OpenSpiel's tree search in C++ from the empty board, one random rollout a simulation."""
    import pyspiel

    game = pyspiel.load_game("go", {"board_size": size, "komi": 7.0, "max_game_length": 2 * size * size})
    evaluator = pyspiel.RandomRolloutEvaluator(1, 0)
    bot = pyspiel.MCTSBot(game, evaluator, 2.0, PLAYOUTS, 1_000, False, 0, False)

    def move() -> int:
        bot.step(game.new_initial_state())
        return PLAYOUTS

    return move


def _envpool(size: int, number: int) -> Callable[[], int]:
    """EnvPool's Go by Chinese rules on one thread: its masks, and a draw from them by numpy."""
    import envpool

    envs = envpool.make(f"ChineseGo{size}x{size}-v1", env_type="gymnasium", num_envs=number, num_threads=1)
    chance = np.random.default_rng(0)
    masks = [envs.reset()[1]["legal_action_mask"]]

    def step() -> int:
        weights = chance.random(masks[0].shape, np.float32)
        *_, info = envs.step(np.where(masks[0], weights, -1.0).argmax(1).astype(np.int32))
        masks[0] = info["legal_action_mask"]
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
