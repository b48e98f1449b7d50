"""``rlab eval RUN``: score a run's newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlab.cli.common import (
    JsonFlag,
    RunName,
    parse,
    reference,
    refuse_below,
    results,
    say,
    stopped_status,
    until_stopped,
)
from rlab.run.folder import find_run
from rlab.run.learner import Stop, Stopped
from rlab.run.words import how_text, number, score_text


@dataclass(frozen=True)
class Flags:
    """Play whole games with raw scores and write evaluation.json; works while the run is being trained."""

    run: RunName
    """A run's name, a path, or `latest`."""
    episodes: int = 30
    """Whole games."""
    seed: int = 0
    """Of environments and policy; the same seed gives the same games."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _eval(argv, stop))


def _eval(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "eval", argv)
    refuse_below(flags, episodes=1, seed=0)
    with results(flags.json) as put:
        folder = find_run(flags.run)
        from rlab.api import evaluate

        try:
            score = evaluate(folder, flags.episodes, flags.seed, flags.device, stop=stop)
        except Stopped:
            say("stopped; nothing was written")
            return stopped_status(stop)
        name = reference(folder)
        if "measure" in score:
            put(
                f"score   {score_text(score)}\n"
                f"        after {score['step']:,} examples; see also loss, calibration_error, per_class with --json\n"
                f"wrote   {folder.evaluation}\n"
                f"next    rlab watch {name}\n"
                f"        rlab report {name}",
                {k: v for k, v in score.items() if k != "session"} | {"run": folder.name},
            )
            return 0
        human = number(score["human_normalised"])
        put(
            f"mean    {number(score['mean'])}\n"
            f"median  {number(score['median'])}\n"
            f"95%     {number(score['low'])} to {number(score['high'])} (of the mean)\n"
            + (f"human   {human} (0 is random play, 1 a human tester)\n" if human != "-" else "")
            + f"played  {score['episodes']} episodes after {score['step']:,} steps; {how_text(score)}\n"
            f"wrote   {folder.evaluation}\n"
            f"next    rlab watch {name}\n"
            f"        rlab report {name}",
            {k: v for k, v in score.items() if k != "session"} | {"run": folder.name},
        )
        return 0
