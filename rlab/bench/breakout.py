"""PQN on Breakout by the clock: one ordinary run on a GPU, its speed, and its score against time.

The bars: 20,000 environment steps a second, and a mean score of 400 over whole games within 10 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rlab.errors import RlabError

SPEED_BAR = 20_000
"""Environment steps per second."""
SCORE_BAR = 400.0
"""Mean score of whole games."""
MINUTES_BAR = 10.0
"""From the command to the last evaluation."""

SETTINGS: dict[str, Any] = {
    "num_envs": 256,
    "rollout": 32,
    "batch_size": 512,
    "learning_rate": 5e-4,
    "overlap": False,
    "reset_steps": 2_000_000,
    "evaluate_steps": 2_500_000,
    "checkpoint_steps": 2_500_000,
    "log_steps": 20_000,
}
"""What a GPU changes in `pqn`: more environments and larger batches, with as many learned samples a step. Untuned."""


def measure(steps: int, device: str, seed: int, name: str | None, progress: Callable[[str], None]) -> dict[str, Any]:
    """Train and evaluate once.

    Args:
        steps: environment steps of the run.
        device: torch device; "cuda" unless the command itself is tried out.
        seed: of the run.
        name: the run's name; None makes one.
        progress: told what happens.

    Returns:
        JSON: ``run``, ``steps_per_s`` (of training, without evaluations), ``minutes`` (everything), ``mean``, ``low``,
        ``high``, ``episodes`` of the final evaluation, and ``met``: which bars were.

    Raises:
        RlabError: there is no such device.
    """
    import torch

    import rlab
    from rlab.run.files import read_json
    from rlab.run.metrics import read_metrics
    from rlab.run.provenance import git_state, versions

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RlabError(
            "torch finds no GPU here; `rlab doctor` says why. To try the command itself: "
            "rlab bench breakout-gpu --device cpu --steps 20000"
        )
    progress(f"training pqn on Breakout for {steps:,} steps on {device}")
    started = time.perf_counter()
    settings = {k: min(v, max(steps, 1)) if k.endswith("_steps") else v for k, v in SETTINGS.items()}
    run = rlab.train("pqn", "Breakout", name, steps=steps, device=device, seed=seed, **settings)
    minutes = (time.perf_counter() - started) / 60
    clocks = [row["clock"] for row in read_metrics(run.metrics) if row["kind"] == "train"]
    seconds = sum(clock[part] for clock in clocks for part in ("act", "env", "learn"))
    score = read_json(run.evaluation)
    speed = steps / seconds
    return {
        "run": run.name,
        "steps": steps,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "seed": seed,
        "steps_per_s": round(speed, 1),
        "minutes": round(minutes, 2),
        **{k: score[k] for k in ("mean", "low", "high", "episodes")},
        "met": {
            "steps_per_s": speed >= SPEED_BAR,
            "score": score["mean"] >= SCORE_BAR and minutes <= MINUTES_BAR,
        },
        "versions": versions(),
        "git": git_state(),
    }
