"""``rlab eval RUN``: score a run's newest checkpoint; ``rlab eval RUN RUN ...``: models as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from rlab.cli.common import (
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
from rlab.run.folder import run_at
from rlab.run.formatting import how_text, number, score_text


@dataclass(frozen=True)
class Flags:
    """Play whole games with raw scores and write evaluation.json; works while the run is being trained. Of several runs
    of models: the score of the mean of what they say, written nowhere."""

    run: RunName
    """A run's name, a path, or `latest`; RUN:best is its best checkpoint; that score is written nowhere."""
    others: Annotated[tuple[str, ...], Arg("[RUN ...]", positional=True)] = ()
    """More runs of models on the same data."""
    episodes: int = 30
    """Whole games."""
    seed: int = 0
    """Of environments and policy; the same seed gives the same games."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


MORE = (
    "loss", "calibration_error", "per_class", "nats_per_character", "steps", "whole", "longer", "unseen",
    "reconstruction", "divergence", "distinct_1", "distinct_2",
)  # fmt: skip
"""What a score of a model may have beside its mean, as ``--json`` names it."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _eval(argv, stop))


def _eval(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "eval", argv)
    refuse_below(flags, episodes=1, seed=0)
    with results(flags.json) as put:
        if flags.others:
            return _together(flags, stop, put)
        folder, progress = run_at(flags.run)
        from rlab.api import evaluate

        try:
            score = evaluate(flags.run, flags.episodes, flags.seed, flags.device, stop=stop)
        except Stopped:
            say("stopped; nothing was written")
            return stopped_status(stop)
        name, unit = reference(folder), folder.config()["unit"]
        # evaluation.json is of the newest checkpoint.
        wrote = "" if "not_written" in score or progress is not None else f"wrote   {folder.evaluation}\n"
        if "measure" in score:
            also = ", ".join(name for name in MORE if name in score)
            more = f"; see also {also} with --json" if also else ""
            put(
                f"score   {score_text(score)}\n"
                f"        after {score['step']:,} {unit}{more}\n"
                f"{wrote}next    {shown_by(folder)}\n"
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
            + f"played  {score['episodes']} episodes after {score['step']:,} {unit}; {how_text(score)}\n"
            f"{wrote}next    {shown_by(folder)}\n"
            f"        rlab report {name}",
            {k: v for k, v in score.items() if k != "session"} | {"run": folder.name},
        )
        return 0


def _together(flags: Flags, stop: Stop, put: Callable[[str, Any], None]) -> int:
    """Several models as one."""
    from rlab.api import evaluate_together

    try:
        score = evaluate_together([flags.run, *flags.others], flags.device, stop=stop)
    except Stopped:
        say("stopped; nothing was measured")
        return stopped_status(stop)
    width = max(map(len, score["members"]))
    lines = [f"member  {name:<{width}}  {number(mean)}" for name, mean in score["members"].items()]
    lines.append(f"mean    {'of the members':<{width}}  {number(score['members_mean'])}")
    put("\n".join([*lines, f"as one  {score_text(score)}"]), score)
    return 0
