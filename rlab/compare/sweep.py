"""A sweep: agents x environments x seeds, each a run of its own in the sweep's folder; going on skips what is done.

Layout under the runs folder: ``NAME/sweep.json`` (what the sweep is, and the name of each run) · ``NAME/RUN/`` (run
folders) · ``NAME/logs/RUN.log`` (what the run's process said) · ``NAME/lock``.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rlab.compare.processes import Elsewhere, Job, Lines, Pool, Row, View
from rlab.compare.settings import Setting, resolve
from rlab.errors import RlabError, nearest, shortened
from rlab.machine import cores
from rlab.registry import RECIPES
from rlab.run.contract import Stop
from rlab.run.files import disk_error, make_folder, read_document, refuse_links, replace_durably, to_json
from rlab.run.folder import Lock, holds, never_begun, place_of, runs_dir
from rlab.trust import given

SCHEMA = 1
"""Version of ``sweep.json``."""

FILE = "sweep.json"
"""What makes a folder a sweep's."""


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and what its ``sweep.json`` says.

    Attributes:
        kind: "sweep", or "search" (see `rlab.compare.tuning`).
        definition: plain JSON; what may not change under this name.
        jobs: its runs; empty for a search, which makes them as it goes.
    """

    path: Path
    kind: str
    definition: dict[str, Any]
    jobs: list[Job]

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name


def define(
    agents: Sequence[str],
    envs: Sequence[str],
    seeds: Sequence[int],
    steps: int | None = None,
    settings: Iterable[Setting] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """What a sweep is, as plain JSON with every setting resolved.

    Args:
        agents: as after ``rlab train``.
        envs: as after ``--env``.
        seeds: of the runs of each agent on each environment.
        steps: environment steps of each run; None takes the agents' own, if those agree.
        settings: for all agents or one of them.
        threads: of torch, of each run.

    Raises:
        RlabError: an agent, field or value is wrong, something is named twice, or budgets differ.
    """
    import_module("rlab.recipes").load_recipes()
    settings = list(settings)
    given([*agents, *envs, *(setting.text for setting in settings)])
    for what, named in (("agent", agents), ("environment", envs), ("seed", seeds)):
        if not named:
            raise RlabError(f"name at least one {what}")
        twice = sorted({str(x) for x in named if list(named).count(x) > 1})
        if twice:
            raise RlabError(f"{what} {twice[0]} is named twice")
    for name, value, least in (("steps", steps, 1), ("threads", threads, 1), ("seeds", min(seeds), 0)):
        if value is not None and value < least:
            raise RlabError(f"--{name} is {value}; it must be at least {least}")
    for setting in settings:
        if setting.agent and setting.agent not in agents:
            raise RlabError(f"a setting is for agent '{setting.agent}'; {nearest(setting.agent, agents)}")
    resolved = {f"{agent} on {env}": resolve(agent, env, settings) for env in envs for agent in agents}
    return {
        "agents": list(agents),
        "envs": list(envs),
        "seeds": list(seeds),
        "steps": {env: steps or _own_steps(agents, env) for env in envs},
        "settings": resolved,
        "threads": threads,
    }


def jobs_of(definition: dict[str, Any]) -> list[Job]:
    """The runs of a definition: all agents and environments of the first seed, then of the next."""
    jobs: list[Job] = []
    for seed in definition["seeds"]:
        for env in definition["envs"]:
            for agent in definition["agents"]:
                name = f"{folder_name(f'{agent}-{env}')}-s{seed}"
                if any(job.name == name for job in jobs):
                    raise RlabError(f"two runs would both be called '{name}'; sweep them under two names")
                settings = definition["settings"][f"{agent} on {env}"]
                jobs.append(Job(name, agent, env, seed, definition["steps"][env], settings))
    return jobs


def open_or_create(kind: str, definition: dict[str, Any], jobs: list[Job], name: str | None) -> Sweep:
    """The sweep of this name if there is one, else a new one.

    Args:
        kind: "sweep" or "search".
        definition: what it is.
        jobs: its runs.
        name: None makes one from the definition, so that the same command finds the same sweep.

    Raises:
        RlabError: the name is taken by another definition (the message names the field) or by something else.
    """
    digest = hashlib.sha256(to_json([kind, definition])).hexdigest()[:8]
    name = name or f"{kind}-{digest}"
    if folder_name(name) != name or name in {".", "..", "latest", "reference"}:
        raise RlabError(f"'{name}' cannot be a sweep's name; use letters, digits, '.', '_', '+' and '-'")
    path = runs_dir() / name
    if holds(path, FILE):
        sweep = read_sweep(path)
        if any(path.glob("*/config.json")):
            refuse_if_changed(sweep, kind, definition)
        if sweep.kind == kind and sweep.definition == definition:
            return sweep
        # No run was ever begun under that name (all failed, say, at a misspelt environment): it is free.
    elif path.exists() and not never_begun(path, FILE):
        raise RlabError(f"{path} is there already and is no sweep; take another name")
    runs = [{"name": j.name, "agent": j.agent, "env": j.env, "seed": j.seed} for j in jobs]
    document = {"schema": SCHEMA, "kind": kind, "created": time.time(), "definition": definition, "runs": runs}
    try:
        make_folder(path)
        replace_durably(path / FILE, to_json(document))
    except OSError as e:
        raise disk_error(e, path) from None
    return read_sweep(path)


def find_sweep(name: str) -> Sweep:
    """A sweep by name or path.

    Raises:
        RlabError: there is none; the message gives the nearest names.
    """
    if path := place_of(name, FILE):
        return read_sweep(path)
    names = all_sweeps()
    if not names:
        raise RlabError(f"no sweep '{shortened(name)}'; there is none under {runs_dir()} yet")
    raise RlabError(f"no sweep '{shortened(name)}' under {runs_dir()}; {nearest(name, names)}")


def all_sweeps() -> list[str]:
    """Names of the sweeps under the runs folder."""
    try:
        return sorted(path.name for path in runs_dir().iterdir() if holds(path, FILE))
    except OSError:
        return []


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's folder.

    Raises:
        RlabError: its file is damaged or of another version.
    """
    file = path / FILE
    refuse_links(path)
    document = read_document(file, "sweep", SCHEMA)
    try:
        kind, definition = document["kind"], document["definition"]
        parts = [*definition["settings"].values(), *definition.get("search", {}).values()]
        for what, values, right in (
            ("a name", [*definition["agents"], *definition["envs"]], str),
            ("a number", [*definition["seeds"], *definition["steps"].values(), definition["threads"]], int),
            ("an object", parts, dict),
        ):
            for value in values:
                if type(value) is not right:
                    raise ValueError(f"{shortened(repr(value))} is not {what}")
        if definition["threads"] < 1:
            raise ValueError(f"threads is {definition['threads']}")
        jobs = jobs_of(definition)
        if kind == "search":
            jobs, _ = [], definition["search"]
        if kind not in ("sweep", "search") or [j.name for j in jobs] != [r["name"] for r in document["runs"]]:
            raise ValueError(f"{shortened(str(kind))} of other runs than its definition says")
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise RlabError(f"{file} is damaged ({type(e).__name__}: {e})") from None
    return Sweep(path, kind, definition, jobs)


def refuse_if_changed(sweep: Sweep, kind: str, definition: dict[str, Any]) -> None:
    """A sweep goes on as what it began, or not at all.

    Raises:
        RlabError: the first field that differs, with both values.
    """
    if sweep.kind != kind:
        raise RlabError(f"'{sweep.name}' is a {sweep.kind}, not a {kind}; take another --name")
    for field in [*definition, *sweep.definition]:
        was, now = sweep.definition.get(field), definition.get(field)
        if was != now:
            if isinstance(was, dict) and isinstance(now, dict):
                part = next(k for k in [*now, *was] if was.get(k) != now.get(k))
                field, was, now = f"{field} of {part}", was.get(part), now.get(part)
            raise RlabError(
                f"sweep '{sweep.name}' has {field} {was}, and now it is {now}; "
                f"go on with `rlab sweep {sweep.name}`, or take another --name"
            )


def run_sweep(
    sweep: Sweep,
    jobs: int | None = None,
    stop: Stop | None = None,
    view: View | None = None,
    elsewhere: Elsewhere | None = None,
) -> list[Row]:
    """Do the runs of a sweep that are not finished yet.

    Args:
        sweep: what `open_or_create` or `find_sweep` returned.
        jobs: the most runs at once; None is one for every `threads` cores. Memory may allow fewer.
        stop: set it, and the runs save and stop.
        view: shows how they stand.
        elsewhere: where the runs' processes are; None: on this machine.

    Returns:
        How each run stands, in the order of `sweep.jobs`.

    Raises:
        RlabError: another process works on this sweep, or the disk refused.
    """
    lock = Lock(sweep.path / "lock")
    try:
        threads = sweep.definition["threads"]
        pool = Pool(sweep.path, threads, at_once(threads, jobs), stop or Stop(), view or Lines(), elsewhere)
        return pool.run(sweep.jobs)
    finally:
        lock.release()


def at_once(threads: int, jobs: int | None) -> int:
    """How many runs go on at once."""
    if jobs is not None and jobs < 1:
        raise RlabError(f"--jobs is {jobs}; it must be at least 1")
    return jobs or max(1, cores() // threads)


def folder_name(text: str) -> str:
    """Text as a folder can be called; of a long one its beginning and a digest."""
    name = re.sub(r"[^\w.+-]+", "-", text)
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _own_steps(agents: Sequence[str], env: str) -> int:
    """The budget that all these agents have on an environment by default."""
    steps = {agent: int(RECIPES.get(agent).default(env).env.steps) for agent in agents}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{agent} {n:,}" for agent, n in steps.items())
        raise RlabError(f"the agents' own budgets on {env} differ ({listed} steps); say --steps for all of them")
    return steps[agents[0]]
