"""``rlab report RUN``: write report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlab.cli.common import JsonFlag, RunName, TrustFlag, parse, results, say, shown_by
from rlab.run.folder import find_run
from rlab.run.status import newest_checkpoint
from rlab.trust import Untrusted


@dataclass(frozen=True)
class Flags:
    """Write a page with a run's curves, score, settings, provenance and video; it needs no other file."""

    run: RunName
    """A run's name, a path, or `latest`."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "report", argv, ask=False)
    with results(flags.json) as put:
        folder = find_run(flags.run)
        from rlab.recipes import defaults_of, is_drawn
        from rlab.run.report import write_report

        if is_drawn(folder.config()) and newest_checkpoint(folder) is not None:
            from rlab.api import draw

            try:
                draw(folder)
            except Untrusted as e:
                say(f"note    no new pictures: {e}")
        path = write_report(folder, defaults_of(folder.config()))
        put(
            f"wrote   {path}\nnext    open it in a browser\n        {shown_by(folder)}",
            {"run": folder.name, "report": str(path), "size_bytes": path.stat().st_size},
        )
        return 0
