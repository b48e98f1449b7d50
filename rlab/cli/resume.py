"""``rlab resume RUN``: go on with a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlab.cli.common import (
    DeviceName,
    JsonFlag,
    RunName,
    TrustFlag,
    parse,
    reference,
    results,
    say,
    shown_by,
    stopped_status,
    until_stopped,
)
from rlab.cli.train import finish, halted
from rlab.errors import RlabError
from rlab.run.contract import NonFinite, Stop, Stopped
from rlab.run.folder import find_run
from rlab.run.health import Collapsed
from rlab.run.status import last_row, status_of, subject_of


@dataclass(frozen=True)
class Flags:
    """Go on with a run where its newest whole checkpoint stands, to the same bits as if never stopped."""

    run: RunName
    """A run's name, a path, or `latest`."""
    device: DeviceName = None
    """Another device than the run was started on; not bit-exact then."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _resume(argv, stop))


def _resume(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "resume", argv)
    with results(flags.json) as put:
        folder = find_run(flags.run)
        if folder.shipped:
            raise RlabError(
                f"'{folder.name}' comes with rlab and holds only what playing needs, so it cannot go on; "
                f"nearest: train one with the settings of `rlab runs show {folder.name}`"
            )
        name = reference(folder)
        status, unit = status_of(folder), folder.config()["unit"]
        if status.state == "finished":
            score = last_row(folder.metrics, "eval")
            put(
                f"run '{folder.name}' is finished ({status.done:,} {unit}); nothing to do\n"
                f"next    {shown_by(folder)}\n"
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
            from rlab.run.lifecycle import resume_run
            from rlab.run.progress import LiveView

            if stop.requested:
                raise Stopped
            document = folder.config()
            with LiveView(f"{document['recipe']} on {subject_of(document) or folder.name}") as view:
                view.event(f"going on with {folder.path} at {status.done:,} {unit}")
                outcome = resume_run(folder, flags.device, stop, view)
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
