"""Film a policy at play as evaluations do: an mp4 and a GIF, and what was scored."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlab.agents.evaluation import HearsRewards, Policy
from rlab.envs import make_vec
from rlab.errors import RlabError
from rlab.run.contract import Stop
from rlab.run.video import VideoFile, Window, enlarged, has_display, whole_factor, with_values, write_gif

ATARI_FPS = 15
"""A step is 4 of the game's 60 frames a second."""


@dataclass
class Film:
    """What was played and written.

    Attributes:
        scores: returns of whole games.
        running: the return so far of a game that was cut off.
        steps: of all games.
        files: "mp4" and "gif" if the environment has pictures; what a learner draws beside comes from `rlab.api`.
        shown: whether there was a window.
    """

    scores: list[float] = field(default_factory=list)
    running: float = 0.0
    steps: int = 0
    files: dict[str, Path] = field(default_factory=dict)
    shown: bool = False


def film(
    env: Any,
    policy: Policy,
    path: Path,
    *,
    episodes: int,
    seed: int,
    max_steps: int,
    stop: Stop,
    needed: bool = True,
    values: Callable[[], np.ndarray | None] = lambda: None,
    window: Callable[[float], Window | None] = lambda fps: None,
) -> Film:
    """Play whole games and film them.

    Args:
        env: the `env` part of a run's configuration.
        policy: plays.
        path: the mp4; other files lie beside it.
        episodes: how many games.
        seed: of the environment.
        max_steps: stop after so many steps, whether the games are over or not.
        stop: polled at every step.
        needed: refuse an environment without pictures; else it is played without a film.
        values: what was expected of each action when the policy last acted, [1, A], to be shown beside; None: nothing.
        window: frames a second -> where to show it, or None.

    Raises:
        RlabError: there is no picture of the environment, though it is needed, or the disk refused.
    """
    # Environments draw with pygame as well, and its greeting would stand on stdout.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # SDL would complain on stderr
    rules: dict[str, Any] = env.rules() if hasattr(env, "rules") else {}
    make = partial(make_vec, env.env, 1, seed, **rules, training=False)
    try:
        envs: Any = make(render=True)
    except RlabError:
        if needed:
            raise
        envs = make()  # it cannot be filmed; what its agent draws is what there is to see
    done = Film()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(envs))
        films = envs.render_mode is not None
        fps = ATARI_FPS if envs.protocol is not None else envs.metadata.get("render_fps") or 30
        screen = window(fps) if films else None
        if screen is not None:
            stack.callback(screen.close)
            done.shown = True
        video = stack.enter_context(VideoFile(path, fps))
        obs, info = envs.reset(seed=seed)
        first = np.ones(1, bool)
        span = (math.inf, -math.inf)  # of all values so far
        while True:
            frame = envs.frame() if films else None
            action = policy.act(obs, first, info.get("action_mask"))
            if frame is not None:
                frame = enlarged(frame, whole_factor(frame))
                if (q := values()) is not None:
                    span = min(span[0], float(q.min())), max(span[1], float(q.max()))
                    frame = with_values(frame, q[0], int(action[0]), span)
                video.add(frame)
                if screen is not None:
                    screen.show(frame)
            obs, _, terminated, truncated, info = envs.step(action)
            first = terminated | truncated
            if isinstance(policy, HearsRewards):
                policy.hear(info["raw_reward"])
            done.running += float(info["raw_reward"][0])
            done.steps += 1
            if first[0]:
                done.scores.append(done.running)
                done.running = 0.0
            over = len(done.scores) >= episodes or done.steps >= max_steps
            if over or stop.requested or (screen is not None and screen.closed):
                break
    if films:
        done.files["mp4"] = path
        if not stop.requested:
            done.files["gif"] = write_gif(path, path.with_suffix(".gif"))
    return done
