"""How fast environments step, with nobody learning: MinAtar's engine and the environment round it, Atari, and Go.

Actions are random and drawn beforehand. A step is one decision of the agent: on Atari 4 frames of the game, on Go
its move and that of a random opponent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from rlab.envs import make_vec
from rlab.envs.minatar import MinAtarEngine, find_game
from rlab.envs.minatar import names as minatar_names

ATARI = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
"""The games that MinAtar has, too."""
COPIES = {"minatar": 4_096, "atari": 32}
GO = [(f"Go{size}", copies) for size in (5, 9, 19) for copies in (1_024, 4_096) if size < 19 or copies == 1_024]
"""Boards, each with numbers of copies: of 19x19 the positions that were take 100 kB a game."""
WARM_UP = 1 / 3
"""Part of a measurement's time that passes before it, in which numba compiles and games come to differ."""


def measure(seconds: float, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Time every game of MinAtar, twice, five of Atari, and Go.

    Args:
        seconds: of one measurement.
        rounds: measurements of each.
        progress: told what is being measured.

    Returns:
        JSON: ``rows``, each with ``env``, ``through`` ("engine": into the caller's arrays; "make_vec": as agents see
        it), ``num_envs`` and steps per second as ``median``, ``best`` and ``rounds``; and the machine.
    """
    from rlab.run.provenance import git_state, processor, versions

    rows = []
    for env in minatar_names():
        game, _ = find_game(env)
        num_envs = COPIES["minatar"]
        engine = MinAtarEngine(game, num_envs)
        buffers = engine.buffers()
        engine.reset(np.arange(num_envs), buffers)
        progress(f"{env}, engine")
        speeds = _speeds(
            lambda a, engine=engine, buffers=buffers: engine.step(a, buffers),  # type: ignore[misc]
            len(engine.rules.actions),
            num_envs,
            seconds,
            rounds,
        )
        engine.close()
        rows.append(_row(env, "engine", num_envs, speeds))
    for env, num_envs in [(e, COPIES["minatar"]) for e in minatar_names()] + [(e, COPIES["atari"]) for e in ATARI]:
        progress(f"{env}, make_vec")
        with closing(make_vec(env, num_envs, 0)) as envs:
            envs.reset()
            speeds = _speeds(envs.step, envs.num_actions, num_envs, seconds, rounds)
        rows.append(_row(env, "make_vec", num_envs, speeds))
    for env, num_envs in GO:
        progress(f"{env}, make_vec, {num_envs} boards")
        with closing(make_vec(env, num_envs, 0)) as envs:
            rows.append(_row(env, "make_vec", num_envs, _speeds(legal_steps(envs), 1, num_envs, seconds, rounds)))
    where = {"processor": processor(), "versions": versions(), "git": git_state()}
    return {"rows": rows, "seconds": seconds, "machine": where}


def legal_steps(envs: Any) -> Callable[[Any], None]:
    """A step of environments with masks, as a function of actions that are not looked at: random legal ones instead.

    The draw costs a few hundredths of the step, which count as the step's.
    """
    rng = np.random.default_rng(0)
    mask = envs.reset()[1]["action_mask"]

    def step(_: Any) -> None:
        nonlocal mask
        nth = (rng.random(len(mask)) * mask.sum(1)).astype(np.int64)
        mask = envs.step((mask.cumsum(1) > nth[:, None]).argmax(1))[-1]["action_mask"]

    return step


def _speeds(step: Callable[[Any], Any], actions: int, n: int, seconds: float, rounds: int) -> list[float]:
    """Steps per second of all `n` copies together, measured `rounds` times."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(actions, size=(16, n))
    speeds = []
    for duration in (seconds * WARM_UP, *[seconds] * rounds):
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < duration:
            step(chosen[done % 16])
            done += 1
        speeds.append(done * n / (time.perf_counter() - started))
    return speeds[1:]


def _row(env: str, through: str, num_envs: int, speeds: list[float]) -> dict[str, Any]:
    return {
        "env": env,
        "through": through,
        "num_envs": num_envs,
        "median": round(statistics.median(speeds)),
        "best": round(max(speeds)),
        "rounds": [round(s) for s in speeds],
    }
