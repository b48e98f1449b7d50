"""``rlab runs``: the runs; ``rlab runs show RUN``: all about one; ``rlab runs pack RUN FOLDER``: a small copy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlab.cli.common import JsonFlag, RunName, TrustFlag, duration, parse, reference, results, shown_by
from rlab.cli.flags import Arg
from rlab.errors import RlabError
from rlab.run.folder import RunFolder, all_runs, find_run, runs_dir
from rlab.run.formatting import number
from rlab.run.health import explained, warnings_in
from rlab.run.status import checkpoint_paths, last_row, newest_checkpoint, overview, past_selves, status_of, subject_of


@dataclass(frozen=True)
class List:
    """List the runs, oldest first. `rlab runs show RUN` tells everything about one."""

    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Show:
    """Show everything about one run, with a digest of its learner's state. Changes nothing."""

    run: RunName
    """A run's name, a path, or `latest`."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Pack:
    """Write what playing needs of a run that learned Go as a small run of its own, with weights in half precision."""

    run: RunName
    """A run's name, a path, or `latest`."""
    folder: Annotated[str, Arg(positional=True)]
    """Where it is written; nothing may be there yet."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    if argv and argv[0] == "pack":
        return _pack(parse(Pack, "runs pack", argv[1:]))
    if argv and argv[0] == "show":
        return _show(parse(Show, "runs show", argv[1:]))
    return _list(parse(List, "runs", argv[1:] if argv and argv[0] == "list" else argv))


def _list(flags: List) -> int:
    with results(flags.json) as put:
        rows, bad = [], []
        for folder in all_runs():
            try:
                rows.append(overview(folder))
            except (RlabError, KeyError, TypeError) as e:
                bad.append({"name": folder.name, "error": str(e)})
        if flags.json:
            put("", {"runs": rows, "unreadable": bad})
            return 0
        if rows:
            _table(rows)
            put("\nnext    rlab runs show latest", None)
        else:
            put(f"there is no run under {runs_dir()} yet; start one: rlab train dqn --env Breakout", None)
        for entry in bad:
            put(f"unreadable: {entry['name']} ({entry['error']})", None)
        return 0


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "agent", "env", "steps", "mean", "status", "age"):
        table.add_column(name, justify="right" if name in ("steps", "mean", "age") else "left", no_wrap=True)
    for row in rows:
        steps = f"{row['step']:,}" + ("" if row["total"] is None else f" / {row['total']:,}")
        status = f"running ({row['pid']})" if row["pid"] is not None else row["status"]
        cells = (row["name"], row["agent"], row["env"] or "-", steps, number(row["mean"]), status)
        table.add_row(*map(_plain, cells), duration(row["age_seconds"]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file
    console.print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _show(flags: Show) -> int:
    with results(flags.json) as put:
        folder = find_run(flags.run)
        facts = _facts(folder)
        put(_text(folder, facts), facts)
        return 0


def _pack(flags: Pack) -> int:
    with results(flags.json) as put:
        from rlab.agents.go.packing import pack
        from rlab.recipes import load_recipes

        load_recipes()
        to = Path(flags.folder)
        size = pack(find_run(flags.run), to)
        put(f"wrote   {to} ({size / 1e6:.2f} MB)\nnext    rlab play {to}", {"path": str(to), "bytes": size})
        return 0


def _facts(folder: RunFolder) -> dict[str, Any]:
    from rlab.run.checkpoint import digest
    from rlab.run.lifecycle import read_newest
    from rlab.run.metrics import read_metrics

    document = folder.config()
    status = status_of(folder)
    saved = read_newest(folder)
    rows = list(read_metrics(folder.metrics))
    return {
        "name": folder.name,
        "path": str(folder.path),
        "recipe": document["recipe"],
        "subject": document["subject"],
        "unit": document["unit"],
        "created": document["created"],
        "config": document["config"],
        "environment": folder.environment() if (folder.path / "env.json").exists() else None,
        "status": status.state,
        "pid": status.pid,
        "step": status.done,
        "total": status.total,
        "evaluations": [row for row in rows if row["kind"] == "eval"],
        "warnings": warnings_in(rows),
        "last": last_row(folder.metrics, "train"),
        "checkpoints": [str(path) for path in checkpoint_paths(folder)],
        "past_selves": list(past_selves(folder)),
        "digest": None if saved is None else digest(saved.state),
        "size_bytes": sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file()),
    }


def _text(folder: RunFolder, facts: dict[str, Any]) -> str:
    newest = newest_checkpoint(folder)
    name = reference(folder)
    resume = [] if facts["status"] != "stopped" else [f"rlab resume {name}"]
    total, unit = "" if facts["total"] is None else f" of {facts['total']:,}", facts["unit"]
    lines = [
        ("run", facts["path"]),
        ("agent", f"{facts['recipe']} on {subject_of(facts) or '-'}"),
        ("started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["created"]))),
        ("status", f"{facts['status']}, {facts['step']:,}{total} {unit}"),
        ("saved", f"{newest[0]} ({newest[1]:,} {unit})" if newest else "no checkpoint yet"),
        ("keeps", f"{', '.join(map(str, facts['past_selves'])) or 'no'} {unit}"),
        ("digest", facts["digest"] or "-"),
        ("size", f"{facts['size_bytes'] / 1e6:,.1f} MB"),
    ]
    for row in facts["evaluations"][-5:]:
        interval = f"{number(row['low'])} to {number(row['high'])}"
        lines.append(("score", f"{number(row['mean'])} ({interval}) at {row['step']:,} {unit}"))
    for warning in facts["warnings"]:
        until = "" if warning["until"] is None else f" (until {warning['until']:,})"
        lines.append(("warning", f"{warning['rule']} at {warning['step']:,} {unit}{until}: {explained(warning)}"))
    for section, fields in facts["config"].items():
        lines.append((section, ", ".join(f"{k}={v}" for k, v in fields.items())))
    for following in [*resume, shown_by(folder), f"rlab report {name}"]:
        lines.append(("next", following))
    return "\n".join(f"{key:<8}{value}" for key, value in lines)
