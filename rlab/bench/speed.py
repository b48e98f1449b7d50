"""Training speed against stable-baselines3, on real Breakout, in turn, each measurement in a process of its own.

Both train the Nature network. Two rows: the peer's DQN at its own settings (one environment behind its own wrappers,
batch 32 every 4 steps), and, for an agent with replay, the peer given that agent's number of environments and batch
size; ours replays as many samples per step as theirs (8). An agent without replay has the first row only. What is
timed is training proper: after the first updates, without evaluations and checkpoints, a whole number of updates. Run
as a module with a JSON request it makes one measurement.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlab.compare.processes import python_command
from rlab.errors import RlabError

GAME = "Breakout"
MEMORY = 20_000
"""Replay capacity of both; speed does not depend on it, memory does."""
WARM_UP = 0.25
"""Part of the steps that is not timed."""


def measure(agent: str, rounds: int, steps: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Time an agent of the lab and stable-baselines3's DQN in turn.

    Args:
        agent: a recipe of the lab, such as "dqn".
        rounds: how often each pair is measured; medians are reported.
        steps: environment steps of one measurement.
        progress: told what is being measured.

    Returns:
        JSON: ``rows`` (one for each setting of the peer), and the first row's ``agent``, ``peer``,
        ``ours_steps_per_s``, ``peer_steps_per_s`` and ``ratio`` on top, with machine, versions and commit.

    Raises:
        RlabError: the peer's Atari wrappers are not installed, or a measurement failed.
    """
    from rlab.registry import RECIPES
    from rlab.run.lifecycle import resolve_device
    from rlab.run.provenance import git_state, processor, versions

    try:
        import cv2  # noqa: F401 - stable-baselines3's Atari wrappers need it
    except ImportError:
        raise RlabError("stable-baselines3's Atari wrappers need OpenCV: pip install 'rlab-rl[bench]'") from None
    config = RECIPES.get(agent).default(GAME).agent
    device = resolve_device("auto")
    settings = [("stable-baselines3 at its own settings", 1, 32, 4)]
    if replays(config):
        ours_given = config.num_envs, config.batch_size, config.train_every
        settings.append(("stable-baselines3 with our environments and batch", *ours_given))
    rows = []
    for name, num_envs, batch, train_every in settings:
        pairs = []
        for number in range(1, rounds + 1):
            progress(f"{name}: round {number} of {rounds}")
            peer = _one("peer", agent, num_envs, batch, train_every, steps, device)
            ours = _one("ours", agent, 0, 0, 0, steps, device)
            pairs.append((ours, peer))
        rows.append(
            {
                "name": name,
                "agent": agent,
                "peer": "stable-baselines3",
                "num_envs": {"ours": config.num_envs, "peer": num_envs},
                "batch_size": {"ours": config.batch_size, "peer": batch},
                "samples_per_step": {
                    "ours": config.batch_size / config.train_every if replays(config) else config.epochs,
                    "peer": batch / train_every,
                },
                "ours_steps_per_s": round(statistics.median(o for o, _ in pairs), 1),
                "peer_steps_per_s": round(statistics.median(p for _, p in pairs), 1),
                "ratio": round(statistics.median(o / p for o, p in pairs), 2),
                "ratios": [round(o / p, 2) for o, p in pairs],
            }
        )
    first = {k: rows[0][k] for k in ("agent", "peer", "ours_steps_per_s", "peer_steps_per_s", "ratio")}
    where = {"processor": processor(), "device": device, "versions": versions(), "git": git_state()}
    return first | {"rows": rows, "env": GAME, "steps": steps, "rounds": rounds, "machine": where}


def _one(side: str, agent: str, num_envs: int, batch: int, train_every: int, steps: int, device: str) -> float:
    request = json.dumps([side, agent, num_envs, batch, train_every, steps, device])
    done = subprocess.run([*python_command(), "-m", "rlab.bench.speed", request], capture_output=True, text=True)
    if done.returncode != 0:
        raise RlabError(f"the measurement of {side} failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def replays(config: Any) -> bool:
    """Whether an agent has a replay memory; else it learns from each rollout and forgets it."""
    return hasattr(config, "memory_size")


def time_ours(agent: str, steps: int, device: str) -> float:
    """Environment steps per second of a recipe on Breakout, with its own settings but for memory and warm-up."""
    from rlab.registry import RECIPES
    from rlab.run.journal import Journal
    from rlab.run.lifecycle import BuildContext, prepare_process

    prepare_process(0)
    recipe = RECIPES.get(agent)
    config = recipe.default(GAME)
    if replays(config.agent):
        quick = replace(config.agent, learning_starts=int(steps * WARM_UP / 2), memory_size=MEMORY)
        config, period = replace(config, agent=quick), config.agent.train_every
    else:
        period = config.agent.num_envs * config.agent.rollout
    timed = math.ceil(steps * (1 - WARM_UP) / period) * period
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        learner = recipe.build(config, BuildContext(device, journal))
        while learner.progress().done < max(steps * WARM_UP, 2 * period):
            learner.step()
        before, started = learner.progress().done, time.perf_counter()
        while learner.progress().done < before + timed:
            learner.step()
        rate = (learner.progress().done - before) / (time.perf_counter() - started)
        learner.close()
        journal.close()
    return rate


def time_peer(num_envs: int, batch: int, train_every: int, steps: int, device: str) -> float:
    """Environment steps per second of stable-baselines3's DQN behind its own Atari wrappers."""
    import ale_py
    import gymnasium
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    from rlab.run.lifecycle import prepare_process

    prepare_process(0)
    gymnasium.register_envs(ale_py)

    class Clock(BaseCallback):
        started = 0.0
        before = 0

        def _on_step(self) -> bool:
            if not self.started and self.num_timesteps >= steps * WARM_UP:
                self.started, self.before = time.perf_counter(), self.num_timesteps
            return True

    env = VecFrameStack(make_atari_env(f"{GAME}NoFrameskip-v4", n_envs=num_envs, seed=0), 4)
    model = DQN(
        "CnnPolicy",
        env,
        buffer_size=MEMORY // 2,
        learning_rate=1e-4,
        batch_size=batch,
        learning_starts=int(steps * WARM_UP / 2),
        target_update_interval=1_000,
        train_freq=max(1, train_every // num_envs),  # counted in steps of the whole vector
        gradient_steps=max(1, num_envs // train_every),
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        device=device,
    )
    clock = Clock()
    model.learn(steps, callback=clock)
    return (model.num_timesteps - clock.before) / (time.perf_counter() - clock.started)


if __name__ == "__main__":
    from rlab.recipes import load_recipes

    load_recipes()

    _side, _agent, _num_envs, _batch, _train_every, _steps, _device = json.loads(sys.argv[1])
    if _side == "ours":
        print(time_ours(_agent, _steps, _device))
    else:
        print(time_peer(_num_envs, _batch, _train_every, _steps, _device))
