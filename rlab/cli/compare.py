"""``rlab compare RUN... | SWEEP``: curves, IQM, probability of improvement and profiles, with intervals over seeds."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlab.cli.common import JsonFlag, TrustFlag, parse, results
from rlab.cli.flags import Arg
from rlab.run.formatting import number, printable


@dataclass(frozen=True)
class Flags:
    """Compare finished runs over their seeds; writes comparison.png, comparison.html and comparison.json."""

    runs: Annotated[tuple[str, ...], Arg("RUN|SWEEP ...", positional=True)]
    """Runs and sweeps, by name or path; a sweep stands for all its runs."""
    out: Annotated[Path | None, Arg("FOLDER")] = None
    """Where to write; by default the sweep's folder, or a new one among the runs."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "compare", argv, ask=False)
    with results(flags.json) as put:
        from rlab.compare.comparison import compare_runs
        from rlab.compare.page import write_comparison

        result = compare_runs(flags.runs)
        files = write_comparison(result, flags.out or _place(flags.runs))
        if not flags.json:
            _print(result)
        put(
            "\n".join(f"wrote   {path}" for path in files.values()),
            result | {"files": {kind: str(path) for kind, path in files.items()}},
        )
        return 0


def _place(names: Sequence[str]) -> Path:
    """Of one sweep its own folder, else a new one among the runs."""
    from rlab.compare.sweep import all_sweeps, find_sweep
    from rlab.errors import RlabError
    from rlab.run.folder import runs_dir

    if len(names) == 1 and (names[0] in all_sweeps() or Path(names[0]).is_dir()):
        try:
            return find_sweep(names[0]).path
        except RlabError:
            pass  # a run's own folder
    return runs_dir() / f"comparison-{time.strftime('%Y%m%d-%H%M%S')}"


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 160  # nothing is cut off in a file
    for environment in result["environments"]:
        console.print(_table(environment["env"], f"{environment['steps']:,} steps, raw score", environment["agents"]))
    overall = result["aggregate"]
    if overall is not None and len(overall["environments"]) > 1:
        title = f"over {len(overall['environments'])} environments"
        console.print(_table(title, overall["scale"].split(" (")[0], overall["agents"]))
        print()
        print(f"scale   {overall['scale']}")
    for name, sentences in (
        ("shows", result["verdicts"]),
        ("note", result["warnings"]),
        ("left", [f"{entry['run']}: {entry['reason']}" for entry in result["left_out"]]),
    ):
        for n, sentence in enumerate(sentences):
            print(f"{'' if n else name:<8}{printable(sentence)}")


def _table(title: str, scale: str, rows: Sequence[dict[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    print(f"\n{printable(title)} ({scale})")
    table = Table(box=None, pad_edge=False, header_style="bold")
    raw = "seeds" in rows[0]
    for name in ("agent", "runs", "IQM", "95 % interval", *(("mean", "seeds") if raw else ())):
        table.add_column(name, justify="left" if name in ("agent", "seeds") else "right", overflow="fold")
    for row in rows:
        interval = "not enough seeds" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        cells = [row["agent"], str(row["runs"]), number(row["iqm"]), interval]
        cells += [number(row["mean"]), ", ".join(map(str, row["seeds"]))] if raw else []
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table
