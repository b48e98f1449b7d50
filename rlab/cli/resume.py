"""``rlab resume RUN``: go on with a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

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
from rlab.cli.train import finish, follow, follows, halted
from rlab.errors import RlabError
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.folder import RunFolder, find_run
from rlab.run.health import Collapsed
from rlab.run.status import last_row, status_of, subject_of

if TYPE_CHECKING:
    from rlab.run.extension import Extension


@dataclass(frozen=True)
class Flags:
    """Go on with a run where its newest whole checkpoint stands, to the same bits as if never stopped.

    A new budget lets a run go on that is finished, or end elsewhere.
    """

    run: RunName
    """A run's name, a path, or `latest`."""
    steps: int | None = None
    """A new budget of the whole run, what is done included: environment steps."""
    epochs: int | None = None
    """The same of a model."""
    members: int | None = None
    """The same of trees."""
    minutes: float | None = None
    """The same of a run that goes by the clock."""
    schedules: Literal["hold", "stretch"] = "hold"
    """With a new budget, schedules (exploration, learning rates) end where they did and stay there, or are fractions of
    the new one."""
    device: DeviceName = None
    """Another device than the run was started on; not bit-exact then."""
    workers: int | None = None
    """Another number of processes that learn together than the run was started with; not bit-exact then."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def _budget(flags: Flags) -> Extension | None:
    """The new budget, if one is asked for.

    Raises:
        RlabError: there is more than one, none for --schedules, or it is not more than 0.
    """
    asked = {name: getattr(flags, name) for name in ("steps", "epochs", "members", "minutes")}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        raise RlabError(f"{' and '.join(f'--{name}' for name in given)} exclude each other: a run has one budget")
    if not given:
        if flags.schedules != "hold":
            raise RlabError(f"--schedules {flags.schedules} says what a new budget means; give one, as --steps N")
        return None
    ((name, value),) = given.items()
    if not 0 < value < 1e15:
        raise RlabError(f"--{name} is {value:g}; it must be more than 0")
    from rlab.run.extension import Extension

    return Extension(name, value, flags.schedules)


def _counted(folder: RunFolder) -> str:
    """What a run's budget counts: steps, epochs, ..."""
    from rlab.recipes import load_recipes

    return load_recipes().get(folder.config()["recipe"]).budget_name


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    if follows(argv):
        return follow()
    return until_stopped(lambda stop: _resume(argv, stop))


def _resume(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "resume", argv)
    if flags.workers is not None:
        refuse_below(flags, workers=1)
    with results(flags.json) as put:
        folder = find_run(flags.run)
        if folder.shipped:
            raise RlabError(
                f"'{folder.name}' comes with rlab and holds only what playing needs, so it cannot go on; "
                f"nearest: train one with the settings of `rlab runs show {folder.name}`"
            )
        name = reference(folder)
        status, unit = status_of(folder), folder.config()["unit"]
        budget = _budget(flags)
        if status.state == "finished" and budget is None:
            score, wrote = last_row(folder.metrics, "eval"), ""
            if not folder.evaluation.is_file():
                from rlab.run.lifecycle import complete

                complete(folder)
                wrote = f"wrote   {folder.evaluation}, which was missing\n"
            more = "--minutes M" if folder.config()["config"]["run"].get("minutes") else f"--{_counted(folder)} N"
            put(
                f"run '{folder.name}' is finished ({status.done:,} {unit}); nothing to do\n{wrote}"
                f"next    {shown_by(folder)}\n"
                f"        rlab resume {name} {more}   (to go on)\n"
                f"        rlab report {name}",
                {
                    "run": folder.name,
                    "path": str(folder.path),
                    "finished": True,
                    "step": status.done,
                    "score": score,
                    "seconds": 0.0,
                },
            )
            return 0
        try:
            if stop.requested:
                raise Stopped
            from rlab.recipes import load_recipes

            load_recipes()
            from rlab.parallel.data_parallel import leading, persistently
            from rlab.parallel.group import LostRank
            from rlab.run.lifecycle import resume_run
            from rlab.run.progress import LiveView

            if stop.requested:
                raise Stopped
            document = folder.config()
            with LiveView(f"{document['recipe']} on {subject_of(document) or folder.name}") as view:
                view.event(f"going on with {folder.path} at {status.done:,} {unit}")
                lead = partial(leading, flags.workers, stop=stop)
                go_on = partial(resume_run, folder, flags.device, stop, view, lead=lead)
                try:
                    outcome = go_on(budget)
                except LostRank as e:
                    outcome = persistently(e, go_on, view.event)
        except Stopped:
            say(f"stopped before the run went on; nothing was changed; go on with: rlab resume {name}")
            if flags.json:
                put(
                    "",
                    {
                        "run": folder.name,
                        "path": str(folder.path),
                        "finished": False,
                        "step": status.done,
                        "score": None,
                        "seconds": 0.0,
                    },
                )
            return stopped_status(stop)
        except (NonFinite, Collapsed) as e:
            raise halted(e, folder) from None
        return finish(folder, outcome, stop, put)
