"""Hyperparameter search with Optuna: each trial is one run for every seed, its value their mean final evaluation.

The search is a sweep's folder with ``optuna.journal`` beside ``sweep.json``. What is honest to say of it: the best
trial's value is the largest of many noisy ones, so it flatters; only runs on fresh seeds tell what it is worth.
"""

from __future__ import annotations

import hashlib
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlab.compare.processes import Job, Lines, Pool, Row, View
from rlab.compare.settings import Setting, as_flags, field_of, parse_setting, value_of
from rlab.compare.sweep import Sweep, at_once, define, folder_name
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.contract import Stop
from rlab.run.folder import Lock
from rlab.seeding import derive

JOURNAL = "optuna.journal"
"""Optuna's own file: one JSON object a line."""


def define_search(
    agents: Sequence[str],
    envs: Sequence[str],
    seeds: Sequence[int],
    search: Sequence[str],
    steps: int | None = None,
    settings: Sequence[Setting] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """What a search is, as plain JSON: a sweep's definition and its ``search`` space.

    Args:
        agents: one agent.
        envs: one environment.
        seeds: of the runs of each trial.
        search: ``field=LOW:HIGH``, ``field=LOW:HIGH:log`` or ``field=A,B,C``.
        steps: of each run.
        settings: fixed ones.
        threads: of each run.

    Raises:
        RlabError: more than one agent or environment, or a field or bound is wrong.
    """
    for what, given in (("agent", agents), ("environment", envs)):
        if len(given) > 1:
            raise RlabError(f"a search is for one {what}, not {len(given)}: scores of several have no common scale")
    if not search:
        raise RlabError("say what to search: --search agent.learning_rate=1e-5:1e-2:log")
    definition = define(agents, envs, seeds, steps, settings, threads)
    fixed = definition["settings"][f"{agents[0]} on {envs[0]}"]
    space: dict[str, Any] = {}
    for given in search:
        field, spec = _dimension(agents[0], envs[0], given, fixed)
        if field in space or field in fixed:
            raise RlabError(f"'{field}' is given twice")
        space[field] = spec
    return definition | {"search": space}


def tune(
    sweep: Sweep, trials: int, jobs: int | None = None, stop: Stop | None = None, view: View | None = None
) -> dict[str, Any]:
    """Search until there are so many trials; goes on with the trials and runs that an earlier call left.

    Args:
        sweep: of kind "search".
        trials: how many there are to be in all, those before included.
        jobs: the most runs at once.
        stop: set it, and the runs save and stop.
        view: shows how the runs stand.

    Returns:
        JSON: ``finished``, ``trials`` (number, value or None, settings, error) and ``best`` (None before the first):
        the same with the ``flags`` that train so.

    Raises:
        RlabError: Optuna is not installed, another process works on the search, or the disk refused.
    """
    optuna = optuna_or_refuse()
    if trials < 1:
        raise RlabError(f"--trials is {trials}; it must be at least 1")
    stop, view = stop or Stop(), view or Lines()
    definition = sweep.definition
    width = at_once(definition["threads"], jobs)
    lock = Lock(sweep.path / "lock")
    try:
        journal = optuna.storages.journal
        file = str(sweep.path / JOURNAL)
        # Its usual lock is a link, and there may be none in the folder.
        backend = journal.JournalFileBackend(file, lock_obj=journal.JournalFileOpenLock(file))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name=sweep.name, direction="maximize", load_if_exists=True)
        while not stop.requested:
            batch = _next_trials(optuna, study, definition, trials, max(1, width // len(definition["seeds"])))
            if not batch:
                break
            made = {trial: _jobs(definition, trial) for trial in batch}
            view.event("\n".join(f"trial {t.number}: {_text(t.params)}" for t in batch))
            pool = Pool(sweep.path, definition["threads"], width, stop, view)
            rows = {row.job.name: row for row in pool.run([job for jobs in made.values() for job in jobs])}
            for trial, its in made.items():
                _report_value(optuna, study, trial, [rows[job.name] for job in its], view)
        return _summary(study, definition, trials)
    finally:
        lock.release()


def best_commands(definition: dict[str, Any], best: dict[str, Any]) -> tuple[str, str]:
    """(the command that trains with the best trial's settings, the one that checks them on as many fresh seeds)."""
    agent, env = definition["agents"][0], definition["envs"][0]
    settings = definition["settings"][f"{agent} on {env}"] | best["settings"]
    first, count = max(definition["seeds"]) + 1, max(5, len(definition["seeds"]))
    job = Job("", agent, env, first, definition["steps"][env], settings)
    given = " ".join(f"{name}={value}" for name, value in settings.items())
    seeds = f"{first}-{first + count - 1}"
    check = f"rlab sweep --agents {agent} --envs {env} --seeds {seeds} --steps {job.steps} --set {given}"
    return f"rlab {' '.join(job.words(definition['threads']))}", check


def _next_trials(optuna: Any, study: Any, definition: dict[str, Any], trials: int, count: int) -> list[Any]:
    """Trials that were begun and not told; if there are none, up to `count` new ones."""
    begun = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    batch = [optuna.trial.Trial(study, trial._trial_id) for trial in begun]
    there = len(study.get_trials(deepcopy=False))
    # A sampler of its own for each batch, so that a search that was interrupted draws what it would have drawn.
    seed = derive(_seed(definition), "trials", there)
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=False, constant_liar=True)
    if not batch:
        batch = [study.ask() for _ in range(min(count, trials - there))]
    for trial in batch:
        for field, spec in definition["search"].items():
            if "choices" in spec:
                trial.suggest_categorical(field, spec["choices"])
            else:
                suggest = trial.suggest_int if spec["type"] == "int" else trial.suggest_float
                suggest(field, spec["low"], spec["high"], log=spec["log"])
    return batch


def _jobs(definition: dict[str, Any], trial: Any) -> list[Job]:
    agent, env = definition["agents"][0], definition["envs"][0]
    settings = definition["settings"][f"{agent} on {env}"] | trial.params
    base = Job("", agent, env, 0, definition["steps"][env], settings)
    stem = f"trial-{trial.number:04d}-{folder_name(agent)}"
    return [replace(base, name=f"{stem}-s{seed}", seed=seed) for seed in definition["seeds"]]


def _report_value(optuna: Any, study: Any, trial: Any, rows: list[Row], view: View) -> None:
    """Give a trial its value once all its runs are finished; one with a failed run has none."""
    failed = [row for row in rows if row.state == "failed"]
    scores = [row.score for row in rows if row.state == "finished" and row.score is not None]
    if failed:
        error = f"{failed[0].job.name}: {failed[0].error}"
        trial.set_user_attr("error", error)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        view.event(f"trial {trial.number} failed: {error}")
    elif len(scores) == len(rows):
        study.tell(trial, statistics.fmean(scores))
        view.event(f"trial {trial.number}: {statistics.fmean(scores):,.2f}, the mean of {len(scores)} runs")


def _summary(study: Any, definition: dict[str, Any], trials: int) -> dict[str, Any]:
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    rows = [
        {"trial": t.number, "value": t.value, "settings": t.params, "error": t.user_attrs.get("error")}
        for t in finished
    ]
    valued = [row for row in rows if row["value"] is not None]
    best = max(valued, key=lambda row: row["value"], default=None)
    if best is not None:
        job = Job("", definition["agents"][0], definition["envs"][0], 0, 0, best["settings"])
        best = best | {"flags": as_flags(job.settings)}
    return {"finished": len(finished) >= trials, "trials": rows, "best": best}


def _dimension(agent: str, env: str, given: str, fixed: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(field, its part of the search space) from ``field=LOW:HIGH[:log]`` or ``field=A,B``."""
    setting = parse_setting(given, "--search")
    config = RECIPES.get(agent).default(env)
    try:
        field, hint = field_of(config, setting.field)
        bounds = setting.text.split(":")
        if len(bounds) == 1:
            spec: dict[str, Any] = {"choices": [value_of(hint, field, text) for text in setting.text.split(",")]}
            ends = spec["choices"]
            if len(set(map(repr, ends))) < len(ends) or len(ends) < 2:
                raise RlabError(f"--search {given} needs two or more different values")
        else:
            if hint not in (int, float) or len(bounds) > 3 or (len(bounds) == 3 and bounds[2] != "log"):
                raise RlabError(f"--search is '{given}'; write field=LOW:HIGH, field=LOW:HIGH:log or field=A,B,C")
            ends = [value_of(hint, field, text) for text in bounds[:2]]
            low, high = (hint(end) for end in ends)
            log = len(bounds) == 3
            if not low < high or (log and low <= 0):
                raise RlabError(f"--search is '{given}'; LOW must be below HIGH, and above 0 on a log scale")
            spec = {"type": hint.__name__, "low": low, "high": high, "log": log}
        for end in ends:
            changed(config, fixed | {field: end})
    except RlabError as e:
        raise RlabError(f"{agent} on {env}: {e}") from None
    return field, spec


def _seed(definition: dict[str, Any]) -> int:
    return int.from_bytes(hashlib.sha256(repr(sorted(definition["search"].items())).encode()).digest()[:4], "big")


def _text(params: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items())


def optuna_or_refuse() -> Any:
    """The package.

    Raises:
        RlabError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise RlabError("--tune needs Optuna: pip install 'rlab-rl[hpo]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # constant_liar
    return optuna
