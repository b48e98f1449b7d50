"""Training speed on real Breakout, in turn with a peer or beside busy processes; each measurement is a process.

* `measure`: ours and stable-baselines3's DQN, at its own settings (one environment behind its own wrappers, batch 32
  every 4 steps) and, for an agent with replay, given that agent's environments and batch size; ours replays as many
  samples per step as theirs (8). PQN is measured beside a plain PQN in torch with the same settings, too.
* `climb`: stable-baselines3's DQN with all that its user can add, one thing after the other.
* `crowded`: ours beside processes that are always busy, as a share of what is fair.
* `race`: minutes until the last 100 training games have a mean score.

What is timed is training proper: after the first updates, without evaluations and checkpoints, a whole number of
updates. Run as a module with a JSON request it makes one measurement.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlab.bench.apart import measured_apart
from rlab.errors import RlabError
from rlab.machine import cores
from rlab.stats import student

GAME = "Breakout"
MEMORY = 20_000
"""Replay capacity of both; speed does not depend on it, memory does."""
WARM_UP = 0.25
"""Part of the steps that is not timed."""

Progress = Callable[[str], None]


def measure(agent: str, rounds: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Time an agent of the lab and its peers in turn.

    Args:
        agent: a recipe of the lab, such as "dqn".
        rounds: how often each pair is measured; medians are reported.
        steps: environment steps of one measurement.
        progress: told what is being measured.

    Returns:
        JSON: ``rows`` (one for each setting of a peer), and the first row's ``agent``, ``peer``,
        ``ours_steps_per_s``, ``peer_steps_per_s`` and ``ratio`` on top, with machine, versions and commit.

    Raises:
        RlabError: the peer's Atari wrappers are not installed, or a measurement failed.
    """
    config = _config(agent)
    _need_opencv()
    peers = [("stable-baselines3 at its own settings", _sb3())]
    if replays(config):
        peers.append(("stable-baselines3 with our environments and batch", _sb3(config)))
    elif agent == "pqn":
        peers.append((f"a plain PQN in torch on {games_of_peer()} with our settings", _plain(config)))
    rows = [_row(name, agent, peer, rounds, steps, progress) for name, peer in peers]
    first = {k: rows[0][k] for k in ("agent", "peer", "ours_steps_per_s", "peer_steps_per_s", "ratio")}
    return first | {"rows": rows, "env": GAME, "steps": steps, "rounds": rounds, "machine": _machine()}


def climb(agent: str, rounds: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Time an agent with replay beside stable-baselines3's DQN as its user can make it faster, step by step.

    Returns:
        JSON as of `measure`; on top is the fair row: among those with our environments and batch size the one whose
        peer is the fastest.

    Raises:
        RlabError: an agent without replay, or a measurement failed.
    """
    config = _config(agent)
    _need_opencv()
    if not replays(config):
        raise RlabError(f"--ladder is of agents that replay, which '{agent}' does not; nearest: --agent dqn")
    rungs = [
        ("stable-baselines3 at its defaults", _sb3()),
        ("+ environments in C++, as many as ours, and our batch", _sb3(config, vector=True)),
        ("+ bf16 (autocast, channels last)", _sb3(config, vector=True, bf16=True)),
        ("+ torch.compile", _sb3(config, vector=True, bf16=True, compile=True)),
    ]
    rows = [_row(name, agent, peer, rounds, steps, progress) for name, peer in rungs]
    fair = max(rows[1:], key=lambda row: row["peer_steps_per_s"])
    names = ("name", "agent", "peer", "ours_steps_per_s", "peer_steps_per_s", "ratio", "low", "high")
    top = {name: fair[name] for name in names}
    return top | {"rows": rows, "env": GAME, "steps": steps, "rounds": rounds, "machine": _machine()}


def crowded(agent: str, others: int, rounds: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Time an agent alone and beside processes of normal priority that are always busy, in turn.

    The fair share of the quiet pace is that of one process among `others` + 1, or the cores that the others leave free
    where that is more.

    Returns:
        JSON: ``quiet_steps_per_s`` and ``beside_steps_per_s`` (medians), ``fair`` (part of the quiet pace), ``share``
        (of the fair pace that was had: 1 is all of it), each round's in ``shares``, and the ``load`` before each round.

    Raises:
        RlabError: a measurement failed.
    """
    _config(agent)
    fair = max(1 / (others + 1), (cores() - others) / cores())
    pairs, loads = [], []
    for number in range(1, rounds + 1):
        loads.append(round(os.getloadavg()[0], 2))
        progress(f"{agent}: round {number} of {rounds}, alone (load {loads[-1]})")
        quiet = _one({"side": "ours", "agent": agent, "steps": steps})
        progress(f"{agent}: round {number} of {rounds}, beside {others} busy processes")
        with busy(others):
            pairs.append((quiet, _one({"side": "ours", "agent": agent, "steps": steps})))
    shares = [beside / (quiet * fair) for quiet, beside in pairs]
    return {
        "agent": agent,
        "beside": others,
        "cores": cores(),
        "quiet_steps_per_s": round(statistics.median(quiet for quiet, _ in pairs), 1),
        "beside_steps_per_s": round(statistics.median(beside for _, beside in pairs), 1),
        "fair": round(fair, 4),
        "share": round(statistics.median(shares), 3),
        "shares": [round(share, 3) for share in shares],
        "load": loads,
        "env": GAME,
        "steps": steps,
        "rounds": rounds,
        "machine": _machine(),
    }


def race(agent: str, score: float, steps: int, progress: Progress) -> dict[str, Any]:
    """Train ours and the plain PQN until the last 100 training games have a mean score, or to the end of the budget.

    Returns:
        JSON: ``ours`` and ``peer``, each with ``minutes``, ``steps``, ``score`` and ``reached``.

    Raises:
        RlabError: another agent than pqn, or a measurement failed.
    """
    if agent != "pqn":
        raise RlabError(f"--to-score has a peer for pqn, not for '{agent}'; nearest: --agent pqn")
    found = {}
    for side, name in (("ours", agent), ("plain", f"a plain PQN in torch on {games_of_peer()}")):
        progress(f"{name}: to a score of {score:g} in at most {steps:,} steps")
        request = {"side": side, "agent": agent, "settings": _plain(_config(agent))["settings"], "to_score": score}
        found["ours" if side == "ours" else "peer"] = _one(request | {"steps": steps})
    return {
        "agent": agent,
        "peer": f"plain torch on {games_of_peer()}",
        "to_score": score,
        **found,
        "env": GAME,
        "steps": steps,
        "machine": _machine(),
    }


@contextmanager
def busy(number: int) -> Iterator[list[int]]:
    """So many processes of this one's priority that do nothing but work; killed at the end, and when this one dies."""
    loop = f"import os\nwhile os.getppid() == {os.getpid()}:\n    sum(range(100_000))"
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(number):
            processes.append(subprocess.Popen([sys.executable, "-S", "-c", loop]))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        yield [process.pid for process in processes]


def replays(config: Any) -> bool:
    """Whether an agent has a replay memory; else it learns from each rollout and forgets it."""
    return hasattr(config, "memory_size")


def games_of_peer() -> str:
    """Whose games the plain PQN plays: EnvPool's where it is installed."""
    return "EnvPool" if importlib.util.find_spec("envpool") else "ALE's vector environment"


def _config(agent: str) -> Any:
    from rlab.registry import RECIPES

    return RECIPES.get(agent).default(GAME).agent


def _sb3(config: Any = None, **more: bool) -> dict[str, Any]:
    ours = {"num_envs": 1, "batch_size": 32, "train_every": 4}
    if config is not None:
        ours = {name: getattr(config, name) for name in ours}
    return {"side": "sb3", "peer": "stable-baselines3", "settings": ours | more}


def _plain(config: Any) -> dict[str, Any]:
    from rlab.bench.peers.pqn import Args

    settings = {name: value for name, value in vars(config).items() if name in Args.__dataclass_fields__}
    return {"side": "plain", "peer": f"plain torch on {games_of_peer()}", "settings": settings}


def _row(name: str, agent: str, peer: dict[str, Any], rounds: int, steps: int, progress: Progress) -> dict[str, Any]:
    """Ours and a peer in turn."""
    pairs = []
    for number in range(1, rounds + 1):
        progress(f"{name}: round {number} of {rounds}")
        theirs = _one(peer | {"steps": steps})
        pairs.append((_one({"side": "ours", "agent": agent, "steps": steps}), theirs))
    config, settings = _config(agent), peer["settings"]
    ratios = [ours / theirs for ours, theirs in pairs]
    low, high = student([math.log(ratio) for ratio in ratios]) if rounds > 1 else (None, None)
    every = settings.get("train_every")
    return {
        "name": name,
        "agent": agent,
        "peer": peer["peer"],
        "num_envs": {"ours": config.num_envs, "peer": settings["num_envs"]},
        "batch_size": {"ours": config.batch_size, "peer": settings["batch_size"]},
        "samples_per_step": {
            "ours": config.batch_size / config.train_every if replays(config) else config.epochs,
            "peer": settings["batch_size"] / every if every else settings["epochs"],
        },
        "ours_steps_per_s": round(statistics.median(ours for ours, _ in pairs), 1),
        "peer_steps_per_s": round(statistics.median(theirs for _, theirs in pairs), 1),
        "ratio": round(statistics.median(ratios), 2),
        "low": None if low is None else round(math.exp(low), 2),
        "high": None if high is None else round(math.exp(high), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def _machine() -> dict[str, Any]:
    from rlab.run.lifecycle import resolve_device
    from rlab.run.provenance import git_state, processor, versions

    return {"processor": processor(), "device": resolve_device("auto"), "versions": versions(), "git": git_state()}


def _need_opencv() -> None:
    if importlib.util.find_spec("cv2") is None:
        raise RlabError("stable-baselines3's Atari wrappers need OpenCV: pip install 'rlab-rl[bench]'")


def _one(request: dict[str, Any]) -> Any:
    """Make one measurement in a process of its own."""
    return measured_apart("rlab.bench.speed", request)


def run_ours(request: dict[str, Any], device: str) -> Any:
    """Train a recipe by its own settings, with threads chosen as in a run: its pace, or how long it takes to a score.

    For the pace an agent that replays has less memory and learns sooner.
    """
    from rlab.registry import RECIPES
    from rlab.run.contract import Stop
    from rlab.run.journal import Journal
    from rlab.run.lifecycle import BuildContext, begin_process
    from rlab.run.threads import AutoThreads, measured

    steps, score = request["steps"], request.get("to_score")
    recipe = RECIPES.get(request["agent"])
    config = recipe.default(GAME)
    if score is not None:
        config, period = replace(config, env=replace(config.env, steps=steps)), 1
    elif replays(config.agent):
        quick = replace(config.agent, learning_starts=int(steps * WARM_UP / 2), memory_size=MEMORY)
        config, period = replace(config, agent=quick), config.agent.train_every
    else:
        period = config.agent.num_envs * config.agent.rollout
    started = time.perf_counter()
    begin_process(config.run.threads)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        journal = Journal(Path(folder))
        stack.callback(journal.close)
        learner = recipe.build(config, BuildContext(device, journal))
        stack.callback(learner.close)
        number = measured(learner, Stop())[0] if device == "cpu" else cores()
        threads = AutoThreads.begin(Path(folder) / "threads.json", number, several=device == "cpu")

        def step() -> float:
            threads.hold(learner.progress())
            return float(threads.step(learner).get("return_mean_last", -math.inf))

        if score is not None:
            mean = -math.inf
            while mean < score and not learner.progress().finished:
                mean = step()
            return _raced(started, learner.progress().done, mean, score)
        timed = math.ceil(steps * (1 - WARM_UP) / period) * period
        while learner.progress().done < max(steps * WARM_UP, 2 * period):
            step()
        before, started = learner.progress().done, time.perf_counter()
        while learner.progress().done < before + timed:
            step()
        return (learner.progress().done - before) / (time.perf_counter() - started)


def run_plain(request: dict[str, Any], device: str) -> Any:
    """Train the plain PQN: its pace, or how long it takes to a score."""
    from rlab.bench.peers.pqn import Args, train
    from rlab.run.lifecycle import prepare_process

    prepare_process(0)
    steps, score = request["steps"], request.get("to_score")
    args = Args(**request["settings"], device=device, total_steps=steps if score is not None else 10**7)
    period = args.num_envs * args.rollout
    first = max(2, math.ceil(steps * WARM_UP / period)) * period
    last = first + math.ceil(steps * (1 - WARM_UP) / period) * period
    times, reached = {0: time.perf_counter()}, -math.inf

    def stop(done: int, scores: Any) -> bool:
        nonlocal reached
        times[done] = time.perf_counter()
        if score is None:
            return done >= last
        reached = statistics.fmean(scores) if scores else -math.inf
        return reached >= score

    train(args, stop)
    if score is not None:
        return _raced(times[0], max(times), reached, score)
    return (last - first) / (times[last] - times[first])


def _raced(started: float, steps: int, mean: float, score: float) -> dict[str, Any]:
    minutes = (time.perf_counter() - started) / 60
    return {
        "minutes": round(minutes, 2),
        "steps": steps,
        "score": round(mean, 2) if math.isfinite(mean) else None,
        "reached": mean >= score,
    }


def run_sb3(request: dict[str, Any], device: str) -> float:
    """Train stable-baselines3's DQN: its pace."""
    from rlab.bench.peers.sb3_dqn import Setting, steps_per_second
    from rlab.run.lifecycle import prepare_process

    prepare_process(0)
    return steps_per_second(GAME, Setting(**request["settings"]), request["steps"], WARM_UP, MEMORY // 2, device)


if __name__ == "__main__":
    from rlab.recipes import load_recipes
    from rlab.run.lifecycle import resolve_device

    load_recipes()
    _request = json.loads(sys.argv[1])
    _run = {"ours": run_ours, "plain": run_plain, "sb3": run_sb3}[_request["side"]]
    print(json.dumps(_run(_request, resolve_device("auto"))))
