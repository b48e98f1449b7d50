"""``rlab runs``: the runs; ``show RUN``: all about one; ``rm RUN``: remove some; ``pack RUN FOLDER``: a small copy;
``repair RUN``: put right what damage or a kill has left."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rlab.cli.common import JsonFlag, RunName, TrustFlag, confirmed, parse, reference, results, say, shown_by
from rlab.cli.flags import Arg
from rlab.errors import RlabError
from rlab.run.config import flat
from rlab.run.files import disk_error
from rlab.run.folder import Lock, RunFolder, all_runs, find_run, holder_of, runs_dir
from rlab.run.formatting import number, printable
from rlab.run.health import explained, warnings_in
from rlab.run.status import (
    State,
    best_evaluation,
    checkpoint_paths,
    last_row,
    newest_checkpoint,
    overview,
    past_selves,
    status_of,
    subject_of,
)


@dataclass(frozen=True)
class List:
    """List the runs and sweeps, oldest first; `rlab runs show RUN` tells everything about one, `rm` removes some."""

    words: Annotated[tuple[str, ...], Arg("[WORD ...]", positional=True)] = ()
    """Only runs that have all these words in their name, agent or what they learn from."""
    agent: str | None = None
    """Only runs of this agent or model."""
    env: str | None = None
    """Only runs on this environment or data set."""
    status: State | None = None
    """Only runs that stand so."""
    sort: Literal["time", "name", "score"] = "time"
    """In which order; by score the best one comes first."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Show:
    """Show everything about one run, with a digest of its learner's state. Changes nothing."""

    run: RunName
    """A run's name, a path, or `latest`."""
    toml: bool = False
    """Print its settings alone, as a file that `rlab train --config FILE` takes."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Rm:
    """Remove runs or sweeps with all that is in their folders, after a question."""

    runs: Annotated[tuple[str, ...], Arg("RUN ...", positional=True)]
    """Names of runs and sweeps under the runs folder, or `latest`."""
    yes: bool = False
    """Do not ask."""
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


@dataclass(frozen=True)
class Repair:
    """Put right what damage, an editor or a kill has left in a run's folder, from its newest whole checkpoint. Nothing
    is deleted: what is replaced lies in the folder `set-aside` of the run."""

    run: RunName
    """A run's name, a path, or `latest`."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "pack": lambda words: _pack(parse(Pack, "runs pack", words)),
        "repair": lambda words: _repair(parse(Repair, "runs repair", words)),
        "show": lambda words: _show(parse(Show, "runs show", words)),
        "rm": lambda words: _rm(parse(Rm, "runs rm", words)),
        "list": lambda words: _list(parse(List, "runs", words)),
    }
    return verbs[argv[0]](argv[1:]) if argv and argv[0] in verbs else verbs["list"](argv)


def _list(flags: List) -> int:
    with results(flags.json) as put:
        rows, bad = [], []
        for folder in all_runs():
            try:
                rows.append(overview(folder))
            except (RlabError, KeyError, TypeError) as e:
                bad.append({"name": folder.name, "error": str(e)})
        shown = [row for row in rows if _asked_for(row, flags)]
        if flags.sort != "time":
            shown.sort(key=lambda row: row["name"])
        if flags.sort == "score":
            shown.sort(key=lambda row: -math.inf if row["mean"] is None else row["mean"], reverse=True)
        picked = bool(flags.words or flags.agent or flags.env or flags.status)
        sweeps = [] if picked else _sweeps()
        lines = _table(shown) if shown else []
        lines += [f"sweep   {sweep['name']}: {sweep['text']}" for sweep in sweeps]
        if lines:
            lines += ["", f"next    rlab runs show {printable(shown[-1]['name']) if shown else 'latest'}"]
        elif rows:
            lines = [f"none of {len(rows)} runs is so; `rlab runs` lists them"]
        else:
            lines = [f"there is no run under {runs_dir()} yet; start one: rlab train dqn --env Breakout"]
        lines += [f"unreadable: {entry['name']} ({entry['error']})" for entry in bad]
        put("\n".join(lines), {"runs": shown, "sweeps": sweeps, "unreadable": bad})
        return 0


def _asked_for(row: dict[str, Any], flags: List) -> bool:
    text = f"{row['name']} {row['agent']} {row['env']}".lower()
    wanted = (("agent", flags.agent), ("env", flags.env), ("status", flags.status))
    return all(word.lower() in text for word in flags.words) and all(
        value is None or str(row[name]).lower() == value.lower() for name, value in wanted
    )


def _sweeps() -> list[dict[str, Any]]:
    """Each sweep with the states of its runs."""
    from rlab.compare.sweep import all_sweeps, find_sweep

    found: list[dict[str, Any]] = []
    for name in all_sweeps():
        try:
            sweep = find_sweep(name)
            states = [status_of(run).state if (run.path / "config.json").exists() else "waiting"
                      for run in (RunFolder(sweep.path / job.name) for job in sweep.jobs)]  # fmt: skip
        except (RlabError, KeyError, TypeError) as e:
            found.append({"name": name, "runs": None, "states": {}, "text": str(e)})
            continue
        counts = Counter(states)
        what = f"{', '.join(sweep.definition['agents'])} on {', '.join(sweep.definition['envs'])}"
        number_of = (
            f"{len(states)} runs, {', '.join(f'{n} {state}' for state, n in counts.items())}; " if states else ""
        )
        kind = "" if sweep.kind == "sweep" else "search of settings; "
        found.append({"name": name, "runs": len(states), "states": dict(counts), "text": f"{kind}{number_of}{what}"})
    return found


HEAD = ("run", "agent", "env", "steps", "score", "status", "age")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a table; in a terminal that is too narrow for it, agent and environment are told with the name."""
    cells = [
        [
            *map(printable, (row["name"], row["agent"], row["env"] or "-")),
            short(row["step"]) if row["step"] == row["total"] else f"{short(row['step'])} of {short(row['total'])}",
            number(row["mean"]),
            row["status"],
            _age(row["age_seconds"]),
        ]
        for row in rows
    ]
    head = list(HEAD)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000  # nothing is cut off in a file
    if _width([head, *cells]) > room:
        head = ["run", *head[3:]]
        cells = [[_label(*row[:3]), *row[3:]] for row in cells]
        most = max(12, room - (_width([head[1:], *(row[1:] for row in cells)]) + GAP))
        cells = [[row[0] if len(row[0]) <= most else f"{row[0][: most - 1]}…", *row[1:]] for row in cells]
    widths = [max(len(row[n]) for row in [head, *cells]) for n in range(len(head))]
    right = {"steps", "score", "age"}
    return [
        (" " * GAP)
        .join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        )
        .rstrip()
        for row in [head, *cells]
    ]


GAP = 2
"""Columns between two of a table."""


def _width(rows: list[list[str]]) -> int:
    return sum(max(len(row[n]) for row in rows) for n in range(len(rows[0]))) + GAP * (len(rows[0]) - 1)


def _label(name: str, agent: str, env: str) -> str:
    """A run's name, and what it does not say itself of agent and environment."""
    more = [word for word in (agent, env) if re.sub(r"[^\w.+-]+", "-", word) not in name]
    return f"{name} ({' on '.join(more)})" if more else name


def _age(seconds: float) -> str:
    for unit, letters in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {letters}"
    return f"{seconds:.0f} s"


def short(count: int | None) -> str:
    """A number of steps in four or five characters: 800, 12k, 1.5M."""
    if count is None:
        return "?"
    for unit, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def _show(flags: Show) -> int:
    with results(flags.json) as put:
        folder = find_run(flags.run)
        if flags.toml:
            document = folder.config()
            put(to_toml(document), {"recipe": document["recipe"], **document["config"]})
            return 0
        facts = _facts(folder)
        put(_text(folder, facts), facts)
        return 0


def to_toml(document: dict[str, Any]) -> str:
    """The settings of a config.json as TOML, a table for each part; what is None is left out."""
    lines = [f"# rlab train --config THIS_FILE; written from a run of {printable(document['recipe'])}"]
    lines.append(f"recipe = {json.dumps(document['recipe'])}")
    for part, settings in document["config"].items():
        lines += ["", f"[{part}]"]
        # JSON's numbers, texts, booleans and lists are TOML's; a control character is escaped in both alike.
        lines += [f"{name} = {json.dumps(value)}" for name, value in flat(settings).items() if value is not None]
    return "\n".join(lines)


def _rm(flags: Rm) -> int:
    with results(flags.json) as put:
        folders = {path: size_of(path) for path in map(_removable, dict.fromkeys(flags.runs))}
        listing = ", ".join(f"{path.name} ({size / 1e6:,.1f} MB)" for path, size in folders.items())
        if not flags.yes and not confirmed(f"remove {listing}? [y/N] "):
            say(f"nothing was removed; to remove {printable(listing)} without a question, add --yes")
            return 1
        for path in folders:
            lock = Lock(path / "lock")
            try:
                # Without this file it is no run any more, should the rest not go to its end.
                for name in ("config.json", "sweep.json"):
                    (path / name).unlink(missing_ok=True)
                shutil.rmtree(path)
            except OSError as e:
                raise disk_error(e, path) from None
            finally:
                lock.release()
        put(f"removed {listing}", {"removed": [path.name for path in folders]})
        return 0


def _removable(name: str) -> Path:
    """The folder of a run or a sweep that may be removed: one of its own under the runs folder.

    Raises:
        RlabError: there is none, it lies elsewhere, or a process works on it.
    """
    base = runs_dir()
    sweep = base / name
    path = sweep if name not in ("", ".", "..") and (sweep / "sweep.json").is_file() else find_run(name).path
    if (base / name).is_symlink() or path.resolve().parent != base.resolve():
        raise RlabError(f"'{name}' does not lie in {base} itself, and only what does is removed")
    busy = [run.name for run in [RunFolder(path), *map(RunFolder, path.glob("*/"))] if holder_of(run) is not None]
    if busy:
        raise RlabError(f"'{busy[0]}' is at work; stop it first, nothing was removed")
    return path


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _pack(flags: Pack) -> int:
    with results(flags.json) as put:
        from rlab.agents.go.packing import pack
        from rlab.recipes import load_recipes

        load_recipes()
        to = Path(flags.folder)
        size = pack(find_run(flags.run), to)
        put(f"wrote   {to} ({size / 1e6:.2f} MB)\nnext    rlab play {to}", {"path": str(to), "bytes": size})
        return 0


def _repair(flags: Repair) -> int:
    with results(flags.json) as put:
        from rlab.recipes import load_recipes
        from rlab.run.repair import repair

        load_recipes()
        folder = find_run(flags.run)
        if folder.shipped:
            raise RlabError(f"'{folder.name}' comes with rlab; install rlab again to put it right")
        done: list[str] = []
        count = repair(folder, done.append)
        done = done or ["nothing needed it"]
        put("\n".join(f"repair  {line}" for line in done), {"run": folder.name, "repaired": count, "done": done})
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
        "best": best_evaluation(folder),
        "digest": None if saved is None else digest(saved.state),
        "size_bytes": size_of(folder.path),
    }


def _text(folder: RunFolder, facts: dict[str, Any]) -> str:
    newest = newest_checkpoint(folder)
    name, best = reference(folder), facts["best"]
    resume = [] if facts["status"] != "stopped" else [f"rlab resume {name}"]
    total, unit = "" if facts["total"] is None else f" of {facts['total']:,}", facts["unit"]
    lines = [
        ("run", facts["path"]),
        ("agent", f"{facts['recipe']} on {subject_of(facts) or '-'}"),
        ("started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["created"]))),
        ("status", f"{facts['status']}, {facts['step']:,}{total} {unit}"),
        ("saved", f"{newest[0]} ({newest[1]:,} {unit})" if newest else "no checkpoint yet"),
        ("keeps", f"{', '.join(map(str, facts['past_selves'])) or 'no'} {unit}"),
        *([("best", f"{name}:best, {number(best['mean'])} at {best['step']:,} {unit}")] if best else []),
        ("digest", facts["digest"] or "-"),
        ("size", f"{facts['size_bytes'] / 1e6:,.1f} MB"),
    ]
    for row in facts["evaluations"][-5:]:
        interval = f"{number(row.get('low'))} to {number(row.get('high'))}"
        lines.append(("score", f"{number(row.get('mean'))} ({interval}) at {row['step']:,} {unit}"))
    for warning in facts["warnings"]:
        until = "" if warning["until"] is None else f" (until {warning['until']:,})"
        lines.append(("warning", f"{warning['rule']} at {warning['step']:,} {unit}{until}: {explained(warning)}"))
    for section, fields in facts["config"].items():
        lines.append((section, ", ".join(f"{k}={v}" for k, v in fields.items())))
    for following in [*resume, shown_by(folder), f"rlab report {name}"]:
        lines.append(("next", following))
    return "\n".join(f"{key:<8}{value}" for key, value in lines)
