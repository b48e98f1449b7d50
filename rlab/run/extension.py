"""Let a run go on to another budget than it was begun with, so that every later resume knows of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlab.errors import RlabError
from rlab.registry import Recipe
from rlab.run.config import from_plain, to_plain
from rlab.run.contract import Progress
from rlab.run.files import write_document
from rlab.run.folder import RunFolder
from rlab.run.loop import Notes

NOTE = "extended"
"""In config.json: the budgets that the run went on to, in order, each with the step at which it did."""


@dataclass(frozen=True)
class Extension:
    """A new budget for a run that was begun with another one.

    Attributes:
        name: of the budget: minutes, or the recipe's own (steps, epochs, ...).
        budget: of the whole run, what was done already included.
        schedules: "hold": schedules end where they did, and stay there; "stretch": they are fractions of the new one.
    """

    name: str
    budget: float
    schedules: Literal["hold", "stretch"] = "hold"

    def applied(self, folder: RunFolder, entry: Recipe[Any], config: Any, notes: Notes, done: int) -> Any:
        """The configuration with the new budget.

        Args:
            folder: the run's.
            entry: its recipe.
            config: its configuration so far.
            notes: what its newest checkpoint says.
            done: the progress of that.

        Raises:
            RlabError: the run counts something else, or more time has passed already.
        """
        run, own = config.run, entry.budget_name
        hold = self.schedules == "hold"
        if self.name not in (own, "minutes") or (self.name == "minutes" and not run.minutes):
            counts = f"goes by the clock; use --minutes or --{own}" if run.minutes else f"counts {own}; use --{own}"
            raise RlabError(f"--{self.name} says nothing to run '{folder.name}', which {counts}")
        if self.name == "minutes":
            if 60 * self.budget < notes.seconds:
                raise RlabError(
                    f"--minutes is {self.budget:g}, but {notes.seconds / 60:.1f} are over already; take more"
                )
            end = run.schedule_end or run.minutes
            return replace(config, run=replace(run, minutes=self.budget, schedule_end=end if hold else 0.0))
        end = run.schedule_end or entry.budget_of(config)
        if hold and run.minutes:
            if own != entry.unit:
                raise RlabError(
                    f"run '{folder.name}' went by the clock, so nothing says at how many {own} its schedules end; "
                    f"nearest: --{own} {self.budget:g} --schedules stretch, or --minutes"
                )
            spent = notes.readings[-1][1] / (60 * (run.schedule_end or run.minutes)) if notes.readings else 0.0
            end = round(done / min(1.0, spent)) if spent else end
        config = replace(config, run=replace(run, minutes=0.0, schedule_end=float(end) if hold else 0.0))
        return entry.with_budget(config, self.budget, exact=True)

    def check(self, config: Any, progress: Progress, done: int) -> None:
        """Refuse a budget that is spent already.

        Args:
            config: with the new budget.
            progress: of a learner that was built with it and has done nothing yet.
            done: the progress of the run.

        Raises:
            RlabError: more is done already than the new budget allows.
        """
        if progress.total < done and not config.run.minutes:
            raise RlabError(
                f"--{self.name} is {self.budget:,}, but {done:,} {progress.unit} are done already; it counts the whole "
                "run, so take more"
            )


def budget_in(entry: Recipe[Any], config: Any) -> dict[str, float]:
    """What of a configuration says how long a run is, by name."""
    run = config.run
    return {entry.budget_name: entry.budget_of(config), "minutes": run.minutes, "schedule_end": run.schedule_end}


def was_extended(entry: Recipe[Any], config: Any, saved: dict[str, Any] | None) -> bool:
    """Whether a run goes on to another budget than that of its checkpoint, whose configuration is `saved`."""
    return saved is not None and budget_in(entry, config) != budget_in(entry, from_plain(type(config), saved))


def note(folder: RunFolder, entry: Recipe[Any], before: Any, now: Any, progress: Progress, done: int) -> str:
    """Write a run's new budget into its config.json; return what it means, in a line.

    Args:
        folder: the run's.
        entry: its recipe.
        before: its configuration so far.
        now: with the new budget.
        progress: of a learner that was built with that and has done nothing yet.
        done: the progress of the run.
    """
    to, name, unit = budget_in(entry, now), entry.budget_name, progress.unit
    document = folder.config()
    total = None if now.run.minutes else progress.total
    entry_made = {"step": done, "time": time.time(), "from": budget_in(entry, before), "to": to, "total": total}
    document |= {"config": to_plain(now), NOTE: [*document.get(NOTE, []), entry_made]}
    write_document(folder.path / "config.json", document)
    length = f"{now.run.minutes:g} minutes" if now.run.minutes else f"{to[name]:,} {name}"
    end = to["schedule_end"]
    kind = "minutes" if now.run.minutes else name
    schedules = f"end at {end:,.10g} {kind} and stay there" if end else "are fractions of the new budget"
    return f"the run goes on from {done:,} {unit} to {length}; its schedules {schedules}"
