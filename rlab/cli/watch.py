"""``rlab watch RUN``: play, show it where there is a display, and always write an mp4 and a GIF."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

import tyro

from rlab.cli.common import (
    DeviceName,
    JsonFlag,
    RunName,
    TrustFlag,
    parse,
    reference,
    refuse_below,
    results,
    say,
    shown_by,
    stopped_status,
    until_stopped,
)
from rlab.errors import RlabError
from rlab.run.contract import Draws, Stop, Stopped, ability
from rlab.run.folder import RunFolder, find_run
from rlab.run.formatting import number

ATARI_FPS = 15
"""A step is 4 of the game's 60 frames a second."""


@dataclass(frozen=True)
class Flags:
    """Play a run's policy as evaluations do; shows it where there is a display, writes an mp4 and a GIF."""

    run: RunName
    """A run's name, a path, or `latest`."""
    episodes: int = 1
    """Whole games to play."""
    seed: int = 0
    """Of environment and policy; the same seed gives the same game."""
    max_steps: int = 5_000
    """Stop after this many steps, whether the games are over or not."""
    values: bool = True
    """Show what the agent expects of each action beside the game, for agents that have such values."""
    window: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: where there is a display)")] = True
    """Show a window."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _watch(argv, stop))


def _watch(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "watch", argv)
    refuse_below(flags, episodes=1, seed=0, max_steps=1)
    from rlab.run.video import VideoFile, enlarged, has_display, open_window, whole_factor, with_values, write_gif

    # Environments draw with pygame as well, and its greeting would stand on stdout.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # SDL would complain on stderr
    with results(flags.json) as put:
        folder = find_run(flags.run)
        if "data" in folder.config()["subject"]:
            return _draw(folder, flags.device or "auto", stop, put)
        import numpy as np

        from rlab.api import Player, load, write_pictures
        from rlab.envs import make_vec

        with contextlib.ExitStack() as stack:
            player = stack.enter_context(cast(Player, load(folder, flags.device or "auto", flags.seed)))
            env = player.config.env
            draws = ability(player.learner, Draws)
            rules: dict[str, Any] = env.rules() if hasattr(env, "rules") else {}
            make = partial(make_vec, env.env, 1, flags.seed, **rules, training=False)
            try:
                envs: Any = make(render=True)
            except RlabError:
                if draws is None:
                    raise
                envs = make()  # it cannot be filmed; the picture is what there is to see
            stack.enter_context(contextlib.closing(envs))
            films = envs.render_mode is not None
            fps = ATARI_FPS if envs.protocol is not None else envs.metadata.get("render_fps") or 30
            stem = f"{player.step}-seed{flags.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
            path = folder.videos / f"{stem}.mp4"
            title = f"{folder.name} at {player.step:,} steps"
            window = open_window(title, fps, 1) if flags.window and films else None
            if window is not None:
                stack.callback(window.close)
            scores: list[float] = []
            running, steps = 0.0, 0
            span = (math.inf, -math.inf)  # of all values so far
            with VideoFile(path, fps) as video:
                obs, info = envs.reset(seed=flags.seed)
                first = np.ones(1, bool)
                while True:
                    frame = envs.frame() if films else None
                    action = player.act(obs, first, info.get("action_mask"))
                    if frame is not None:
                        frame = enlarged(frame, whole_factor(frame))
                        if flags.values and (q := player.action_values()) is not None:
                            span = min(span[0], float(q.min())), max(span[1], float(q.max()))
                            frame = with_values(frame, q[0], int(action[0]), span)
                        video.add(frame)
                        if window is not None:
                            window.show(frame)
                    obs, _, terminated, truncated, info = envs.step(action)
                    first = terminated | truncated
                    running += float(info["raw_reward"][0])
                    steps += 1
                    if first[0]:
                        scores.append(running)
                        running = 0.0
                    over = len(scores) >= flags.episodes or steps >= flags.max_steps
                    if over or stop.requested or (window is not None and window.closed):
                        break
            files = {"mp4": path} if films else {}
            if films and not stop.requested:
                files["gif"] = write_gif(path, path.with_suffix(".gif"))
            if draws is not None and not stop.requested:
                files |= write_pictures(folder, draws.draw(stop))
        shown = "" if window is not None or not flags.window else "; no display here, so no window"
        say(f"played {steps:,} steps of {env.env} with the policy of {player.step:,} steps{shown}")
        name = reference(folder)
        cut = len(scores) < flags.episodes
        unfinished = f"; game {len(scores) + 1} was cut off at {number(running)}" if cut else ""
        put(
            f"score   {', '.join(number(s) for s in scores) or '-'} ({len(scores)} whole games{unfinished})\n"
            + "".join(f"wrote   {file}\n" for file in files.values())
            + f"next    rlab report {name}",
            {
                "run": folder.name,
                "step": player.step,
                "scores": scores,
                "unfinished_score": running if cut else None,
                "steps": steps,
            }
            | {kind: str(files[kind]) if kind in files else None for kind in ("mp4", "gif")}
            | {"pictures": {name: str(file) for name, file in files.items() if name not in ("mp4", "gif")}},
        )
        return stopped_status(stop) if stop.requested else 0


def _draw(folder: RunFolder, device: str, stop: Stop, put: Callable[[str, Any], None]) -> int:
    """A model plays no games: draw what it does with the test examples."""
    from rlab.api import draw

    try:
        files = draw(folder, device, stop=stop)
    except Stopped:
        say("stopped; nothing was drawn")
        return stopped_status(stop)
    wrote = "".join(f"wrote   {file}\n" for file in files.values()) or "nothing to draw: there are no classes\n"
    following = [f"rlab report {reference(folder)}"]
    if not files and (how := shown_by(folder)) != f"rlab watch {reference(folder)}":
        following.insert(0, how)
    put(
        wrote + "next    " + "\n        ".join(following),
        {"run": folder.name, "pictures": {name: str(file) for name, file in files.items()}},
    )
    return 0
