"""``rlab watch RUN``: play, show it where there is a display, and always write an mp4 and a GIF."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

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
from rlab.cli.flags import Arg
from rlab.run.contract import Stop, Stopped
from rlab.run.folder import RunFolder, run_at
from rlab.run.formatting import number


@dataclass(frozen=True)
class Flags:
    """Play a run's policy as evaluations do; shows it where there is a display, writes an mp4 and a GIF. Of a model,
    what it does with the test examples is drawn: of detectors and segmenters, the worst and the best pictures."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint by evaluation."""
    episodes: int = 1
    """Whole games to play."""
    seed: int = 0
    """Of environment and policy; the same seed gives the same game."""
    max_steps: int = 5_000
    """Stop after this many steps, whether the games are over or not."""
    values: bool = True
    """Show what the agent expects of each action beside the game, for agents that have such values."""
    window: Annotated[bool, Arg(default="(default: where there is a display)")] = True
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
    with results(flags.json) as put:
        folder, _ = run_at(flags.run)
        if "data" in folder.config()["subject"]:
            return _draw(folder, flags.device or "auto", stop, put)
        from rlab.api import Player, load
        from rlab.run.video import open_window

        with contextlib.closing(cast(Player, load(flags.run, flags.device or "auto", flags.seed))) as player:
            title = f"{folder.name} at {player.step:,} steps"
            done = player.film(
                flags.episodes,
                flags.seed,
                max_steps=flags.max_steps,
                values=flags.values,
                stop=stop,
                window=(lambda fps: open_window(title, fps, 1)) if flags.window else lambda fps: None,
            )
        env, scores, files, steps, running = player.config.env, done.scores, done.files, done.steps, done.running
        shown = "" if done.shown or not flags.window else "; no display here, so no window"
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
    wrote = "".join(f"wrote   {file}\n" for file in files.values())
    wrote = wrote or f"nothing to draw of run '{folder.name}': it makes no pictures of test examples\n"
    following = [f"rlab report {reference(folder)}"]
    if not files and (how := shown_by(folder)) != f"rlab watch {reference(folder)}":
        following.insert(0, how)
    put(
        wrote + "next    " + "\n        ".join(following),
        {"run": folder.name, "pictures": {name: str(file) for name, file in files.items()}},
    )
    return 0
