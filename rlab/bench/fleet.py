"""How much a fleet brings in, by its number of actors: steps or moves a second that the learner accepts, and bytes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlab.machine import cores
from rlab.run.contract import Stop, Stopped

MOST = 300.0
"""Seconds for which the first of what is played is waited for: processes start, and kernels are compiled."""

STARTS = 500
"""Steps or positions before the first update, so that the learner is at work."""

MEMORY = 20_000
"""Steps that a replay holds."""


def measure(
    agent: str,
    env: str,
    actors: Sequence[int],
    each: int,
    seconds: float,
    cluster: str,
    stop: Stop,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Let fleets of several sizes play for a learner, one after the other, and count what it accepts.

    Args:
        agent: alphazero, dqn or a variant of it.
        env: what is played.
        actors: how many, of each fleet.
        each: environments, or games, of an actor.
        seconds: for which is counted, from the first that comes in.
        cluster: see `rlab.parallel.fleet.Fleet`.
        stop: polled.
        say: told what is being measured.

    Returns:
        JSON: ``rows`` with ``actors``, ``per_s`` (steps or moves that were accepted), ``mb_per_s`` (bytes that came
        in, 10^6), ``updates_per_s``, ``lag`` (updates, on average) and ``lost``; ``load`` (of the machine before and
        after), ``cores`` and what was measured.

    Raises:
        RlabError: there is no such agent, or it does not learn from fleets.
        Stopped: a stop was requested.
    """
    load = os.getloadavg()[0]
    rows = [_one(agent, env, number, each, seconds, cluster, stop, say) for number in actors]
    what = {"agent": agent, "env": env, "each": each, "seconds": seconds, "cluster": cluster}
    return {**what, "cores": cores(), "load": [load, os.getloadavg()[0]], "rows": rows}


def _one(agent: str, env: str, number: int, each: int, seconds: float, cluster: str, stop: Stop,
         say: Callable[[str], None]) -> dict[str, Any]:  # fmt: skip
    from rlab.parallel.actors import played
    from rlab.recipes import load_recipes
    from rlab.run.config import changed
    from rlab.run.journal import Journal
    from rlab.run.lifecycle import BuildContext, begin_process

    recipe = load_recipes().get(agent)
    config = recipe.default(env)
    small = {"learning_starts": STARTS} | ({"memory_size": MEMORY} if hasattr(config.agent, "memory_size") else {})
    fleet_of = {"num_envs": number * each, "actors": number, "cluster": cluster}
    config = changed(config, {"env": env, **fleet_of, **small})
    say(f"{agent} on {env}: {number} actors")
    begin_process(1)
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        journal = Journal(Path(made))
        stack.callback(journal.close)
        learner = recipe.build(config, BuildContext("cpu", journal))
        stack.callback(learner.close)
        fleet = stack.enter_context(played(agent, learner, config, say, stop))

        def until(over: Callable[[], bool]) -> list[dict[str, float]]:
            came = []
            while not over():
                if stop.requested:
                    raise Stopped
                came.append(learner.step())
            return came

        waits = time.monotonic() + MOST
        until(lambda: learner.progress().done > 0 or time.monotonic() > waits)
        started, done, updates, heard = time.monotonic(), learner.progress().done, _updates(learner), fleet.bytes_in
        lags = [row["lag"] for row in until(lambda: time.monotonic() - started >= seconds) if "lag" in row]
        took = time.monotonic() - started
        return {
            "actors": number,
            "per_s": (learner.progress().done - done) / took,
            "mb_per_s": (fleet.bytes_in - heard) / took / 1e6,
            "updates_per_s": (_updates(learner) - updates) / took,
            "lag": sum(lags) / len(lags) if lags else None,
            "lost": fleet.lost,
        }


def _updates(learner: Any) -> int:
    """Of AlphaZero, or of an interaction's agent."""
    return int(learner.updates if hasattr(learner, "updates") else learner.agent.updates)
