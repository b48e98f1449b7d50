"""``rlab sweep``: agents x environments x seeds in parallel processes; ``--tune`` searches hyperparameters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any

from rlab.cli.common import JsonFlag, TrustFlag, duration, parse, results, say, stopped_status, until_stopped
from rlab.cli.flags import Arg
from rlab.errors import RlabError
from rlab.run.contract import Stop, Stopped
from rlab.run.formatting import number, printable, printable_lines

TRIALS = 20
"""Of a search, if nothing is said."""

SEEDS = "0-4"
"""Of a sweep, if nothing is said."""


@dataclass(frozen=True)
class Flags:
    """Run agents x environments x seeds, or go on with a sweep: `rlab sweep NAME`. The same command twice goes on."""

    sweep: Annotated[str | None, Arg("[NAME]", positional=True)] = None
    """Go on with this sweep; its finished runs are skipped."""
    agents: Annotated[str | None, Arg("A,B")] = None
    """Agents, as after `rlab train`: dqn,pqn."""
    envs: Annotated[str | None, Arg("E,F")] = None
    """Environments: MinAtar/Breakout,CartPole-v1."""
    seeds: Annotated[str | None, Arg("0-4|0,2,7", default="(default: 0-4)")] = None
    """Seeds of each agent on each environment."""
    steps: int | None = None
    """Environment steps of each run; by default the agents' own, if those agree."""
    settings: Annotated[tuple[str, ...], Arg("FIELD=VALUE", name="set")] = ()
    """Settings of the runs: agent.learning_rate=1e-3 for all agents, dqn:n_step=3 for one."""
    threads: Annotated[int | None, Arg(default="(default: 1)")] = None
    """CPU threads of torch of each run."""
    jobs: int | None = None
    """The most runs at once; by default as many as cores hold. Never more than memory holds."""
    cluster: Annotated[str | None, Arg("WHERE")] = None
    """Run them on a cluster of Ray, whose machines share the runs' folder: local, this machine; an address, such as
    host:6379; auto: what RAY_ADDRESS names, else this machine. A run whose machine is lost goes on elsewhere."""
    name: Annotated[str | None, Arg("NAME")] = None
    """The sweep's name; without it one is made from what it is."""
    tune: bool = False
    """Search hyperparameters of one agent on one environment (needs the extra `hpo`)."""
    search: Annotated[tuple[str, ...], Arg("FIELD=RANGE")] = ()
    """What to search: agent.learning_rate=1e-5:1e-2:log agent.n_step=1,3,5."""
    trials: Annotated[int | None, Arg(default=f"(default: {TRIALS})")] = None
    """How many trials there are to be in all; each is one run for every seed."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return until_stopped(lambda stop: _sweep(argv, stop))


def _sweep(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Flags, "sweep", _appended(argv))
    if flags.cluster:
        from rlab.parallel.fleet import refuse_cluster

        refuse_cluster(flags.cluster)
    with results(flags.json) as put:
        sweep = _existing(flags) if flags.sweep is not None else _defined(flags)
        if sweep.kind == "search":
            if flags.cluster:
                raise RlabError("--cluster is for sweeps; a search runs on one machine")
            return _tune(flags, sweep, stop, put)
        if flags.trials is not None:
            raise RlabError(f"--trials belongs to a search, and '{sweep.name}' is a sweep")
        from rlab.compare.sweep import at_once, run_sweep

        started = time.monotonic()
        width = at_once(sweep.definition["threads"], flags.jobs)
        say(f"sweep    {sweep.path}")
        with ExitStack() as stack:
            elsewhere = None
            if flags.cluster:
                from rlab.parallel.jobs import Cluster

                try:
                    elsewhere = Cluster(flags.cluster, flags.jobs, sweep.definition["threads"], say, stop)
                except Stopped:
                    say("stopped before the first run")
                    return stopped_status(stop)
                stack.callback(elsewhere.close)
                width = elsewhere.at_once
            say(f"runs     {len(sweep.jobs)}, at most {width} at once")
            view = stack.enter_context(SweepView())
            rows = run_sweep(sweep, flags.jobs, stop, view, elsewhere)
        return _finish(sweep, rows, time.monotonic() - started, stop, put)


def _appended(argv: Sequence[str]) -> list[str]:
    """Gather ``--set a=1 --set b=2`` into ``--set a=1 b=2``, which is what the parser takes."""
    many: dict[str, list[str]] = {}
    rest: list[str] = []
    current = ""  # the flag that the next word belongs to
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag in ("--set", "--search"):
            current = "" if equals else flag
            many.setdefault(flag, []).extend([value] if equals else [])
        elif current and not word.startswith("-") and ("=" in word or not many[current]):
            many[current].append(word)
        else:
            current = ""
            rest.append(word)
    for flag, given in many.items():
        if not given:
            raise RlabError(f"{flag} needs at least one field=value")
        rest += [flag, *given]
    return rest


def _existing(flags: Flags) -> Any:
    """The sweep that is to go on."""
    fixed = ("agents", "envs", "seeds", "steps", "settings", "threads", "name", "search")
    for field in fixed:
        if getattr(flags, field) not in (None, ()):
            flag = "set" if field == "settings" else field
            raise RlabError(
                f"`rlab sweep {flags.sweep}` goes on with what it is; --{flag} can only be said of a new one"
            )
    from rlab.compare.sweep import find_sweep

    return find_sweep(flags.sweep or "")


def _defined(flags: Flags) -> Any:
    """The sweep that the flags define: a new one, or the one that is there."""
    from rlab.compare.settings import parse_setting
    from rlab.compare.sweep import define, jobs_of, open_or_create

    if not flags.agents or not flags.envs:
        raise RlabError("which? rlab sweep --agents A,B --envs E,F [--seeds 0-4], or rlab sweep NAME to go on with one")
    if not flags.tune and (flags.search or flags.trials is not None):
        raise RlabError(f"{'--search' if flags.search else '--trials'} belongs to --tune")
    agents, envs = _listed(flags.agents), _listed(flags.envs)
    seeds = _seeds(flags.seeds or SEEDS)
    settings = [parse_setting(text) for text in flags.settings]
    threads = 1 if flags.threads is None else flags.threads
    if flags.tune:
        from rlab.compare.tuning import define_search, optuna_or_refuse

        optuna_or_refuse()
        definition = define_search(agents, envs, seeds, flags.search, flags.steps, settings, threads)
        return open_or_create("search", definition, [], flags.name)
    definition = define(agents, envs, seeds, flags.steps, settings, threads)
    return open_or_create("sweep", definition, jobs_of(definition), flags.name)


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _seeds(text: str) -> list[int]:
    """``0-4`` and ``0,2,7`` and both mixed, as numbers."""
    seeds: list[int] = []
    for part in _listed(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise RlabError(f"--seeds is '{text}'; write 0-4 or 0,2,7")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not seeds or len(seeds) > 10_000:
        raise RlabError(f"--seeds is '{text}', which are {len(seeds)} seeds; write 0-4 or 0,2,7")
    return seeds


def _finish(sweep: Any, rows: Sequence[Any], seconds: float, stop: Stop, put: Callable[[str, Any], None]) -> int:
    """Tell how a sweep ended and what comes next; return the exit status."""
    from rlab.run.folder import runs_dir

    near = (runs_dir() / sweep.name).resolve() == sweep.path.resolve()
    name = sweep.name if near else str(sweep.path)
    done = sum(row.state == "finished" for row in rows)
    failed = [row for row in rows if row.state == "failed"]
    whole = done == len(rows)
    lines = [f"sweep   {sweep.path}", f"runs    {done} of {len(rows)} finished, {len(failed)} failed"]
    lines += [f"failed  {row.job.name}: {row.error}" for row in failed]
    logs = [sweep.path / "logs" / f"{row.job.name}.log" for row in failed]
    lines += [f"        {log}" for log in logs if log.exists()]
    lines += [f"time    {duration(seconds)}"]
    following = [] if whole else [f"rlab sweep {name}"]
    following += [f"rlab compare {name}"] if done else []
    lines += [f"{'next' if not n else '':<8}{command}" for n, command in enumerate(following)]
    runs = [
        {
            "name": row.job.name,
            "agent": row.job.agent,
            "env": row.job.env,
            "seed": row.job.seed,
            "state": row.state,
            "step": row.step,
            "total": row.job.steps,
            "score": row.score,
            "error": row.error,
        }
        for row in rows
    ]
    put(
        "\n".join(lines),
        {"sweep": sweep.name, "path": str(sweep.path), "finished": whole, "runs": runs, "seconds": round(seconds, 3)},
    )
    if stop.requested and not whole:
        return stopped_status(stop)
    return 1 if failed else 0


def _tune(flags: Flags, sweep: Any, stop: Stop, put: Callable[[str, Any], None]) -> int:
    from rlab.compare.tuning import best_commands, tune

    say(f"search   {sweep.path}")
    started = time.monotonic()
    with SweepView() as view:
        search = tune(sweep, TRIALS if flags.trials is None else flags.trials, flags.jobs, stop, view)
    best, seconds = search["best"], time.monotonic() - started
    valued = sum(row["value"] is not None for row in search["trials"])
    lines = [f"search  {sweep.path}", f"trials  {len(search['trials'])}, {valued} with a value"]
    lines += [f"failed  trial {row['trial']}: {row['error']}" for row in search["trials"] if row["value"] is None]
    if best is not None:
        train, check = best_commands(sweep.definition, best)
        lines += [
            f"best    trial {best['trial']}: {number(best['value'])}, the mean final score over its seeds",
            f"        {' '.join(best['flags'])}",
            "note    the best of many trials flatters: only fresh seeds tell what it is worth",
            f"next    {train}",
            f"        {check}",
        ]
        search |= {"train": train, "check": check}
    if not search["finished"]:
        lines.append(f"        rlab sweep {sweep.name}")
    put("\n".join(lines), {"search": sweep.name, "path": str(sweep.path), **search, "seconds": round(seconds, 3)})
    if stop.requested and not search["finished"]:
        return stopped_status(stop)
    return 0 if valued else 1


class SweepView:
    """One line a run: a table that is redrawn in a terminal; elsewhere only what happens is said, line by line."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self._live: Any = None
        self._due = 0.0

    def __enter__(self) -> SweepView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, rows: Sequence[Any]) -> None:
        """Redraw the table, if it is time."""
        if not self.console.is_terminal or time.monotonic() < self._due:
            return
        from rich.live import Live

        self._due = time.monotonic() + 0.5
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(table_of(rows, max(4, self.console.height - 6)), refresh=True)

    def event(self, text: str) -> None:
        """Say that something happened."""
        if self.console.is_terminal:
            from rich.text import Text

            self.console.print(Text(printable_lines(text)))
        else:
            say(text)


def table_of(rows: Sequence[Any], most: int) -> Any:
    """A rich table with one line a run; where they are too many for the window, those at work come first."""
    from rich.table import Table
    from rich.text import Text

    order = {"running": 0, "held": 1, "failed": 2, "stopped": 3, "waiting": 4, "finished": 5}
    shown = list(rows) if len(rows) <= most else sorted(rows, key=lambda row: order[row.state])[:most]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "state", "steps", "score"):
        table.add_column(column, justify="right" if column in ("steps", "score") else "left", no_wrap=True)
    colours = {"running": "cyan", "failed": "red", "finished": "green"}
    for row in shown:
        steps = f"{row.step:,} / {row.job.steps:,} ({min(1.0, row.step / row.job.steps):.0%})"
        state = Text(row.state, style=colours.get(row.state, ""))
        table.add_row(Text(printable(row.job.name)), state, steps, number(row.score))
    done = sum(row.state == "finished" for row in rows)
    hidden = f", {len(rows) - len(shown)} not shown" if len(shown) < len(rows) else ""
    table.add_row(Text(f"{done} of {len(rows)} finished{hidden}", style="bold"))
    return table
