"""Start, resume and open runs. Knows no algorithm; recipes build the learner."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlab.errors import ForeignError, RlabError, printable, shortened
from rlab.machine import available_memory, cores, gigabytes, lacks_memory
from rlab.registry import RECIPES
from rlab.run.budget import Budget, FollowsClock
from rlab.run.checkpoint import Checkpoints, Saved, most_checkpoints
from rlab.run.config import RunConfig, flat, from_plain, to_plain
from rlab.run.contract import Footprint, Learner, Restores, StartsFromRun, State, Stop, Stopped
from rlab.run.extension import Extension, note, was_extended
from rlab.run.files import disk_error, write_document
from rlab.run.folder import RunFolder, create_run, find_run
from rlab.run.journal import Journal
from rlab.run.loop import Loop, Notes, Outcome, View, belonging, keeps_best
from rlab.run.metrics import MetricsFile
from rlab.run.provenance import describe_session, differences
from rlab.run.status import extension_of, newest_checkpoint, past_selves
from rlab.run.threads import AutoThreads, measured
from rlab.run.warm_start import AGENT, WarmStart, agent_of, load_source


@dataclass(frozen=True)
class BuildContext:
    """What a recipe's `build` is given beside the configuration.

    Attributes:
        device: resolved torch device, such as "cpu" or "cuda:0".
        journal: where the learner appends its logs.
        start: the run's folder if the learner starts at 0, where what it takes from other runs lies; else None.
        budget: where schedules stand, for parts that the run cannot give it to (`FollowsClock`).
        stop: the run's, for parts that work long within one step.
    """

    device: str
    journal: Journal
    start: Path | None = None
    budget: Budget = field(default_factory=Budget)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True)
class LoadedRun:
    """A run opened for reading: its configuration, learner and newest whole checkpoint (None before the first)."""

    folder: RunFolder
    config: Any
    learner: Learner
    saved: Saved | None


def resolve_device(device: str) -> str:
    """Turn ``auto|cpu|cuda[:n]`` into a device that exists.

    Raises:
        RlabError: it is not one of those, or torch cannot use it.
    """
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise RlabError(f"--device is '{device}'; valid: auto, cpu, cuda, cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise RlabError(f"--device is '{device}', but torch sees {count} CUDA devices here; nearest: cpu")
    return f"cuda:{int(index or 0)}"


def prepare_process(threads: int) -> int:
    """Give torch this many CPU threads (0: one per usable core) and keep freed memory; return the number."""
    import torch

    from rlab.kernels import THREADS

    _keep_freed_memory()
    torch.set_num_threads(threads or cores())
    THREADS.use(threads)
    return threads or cores()


def begin_process(threads: Literal["auto"] | int) -> Literal["auto"] | int:
    """Prepare the process to build a learner; return the number of threads, or "auto".

    With that torch has one until `AutoThreads` says how many: what is computed while a learner is built must be the
    same when the run goes on. Compiled loops use all cores; no result of theirs depends on it.
    """
    import torch

    if threads != "auto":
        return prepare_process(threads)
    prepare_process(0)
    torch.set_num_threads(1)
    return threads


def _keep_freed_memory() -> None:
    """Have glibc reuse freed blocks of up to 32 MB, its largest limit, instead of returning them to the system.

    A batch's activations are larger than the limit that it starts with; the system would hand them back page by page
    and zeroed at every update, which is about a tenth of PQN's time on two cores. Other libraries are left alone.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 1 << 30)


def start_run(
    recipe: str,
    config: Any,
    name: str | None,
    stop: Stop,
    view: View,
    prepare: Prepare,
    clock: Callable[[], float] | None = None,
    start: str = "",
    lead: Lead | None = None,
    began: float | None = None,
) -> tuple[RunFolder, Outcome]:
    """Create a run and drive it to its end or to a stop.

    Args:
        recipe: the recipe's registered name.
        config: its typed configuration, with a `run: RunConfig` part.
        name: the run's name, or None for one made from recipe, subject and time.
        stop: polled between steps.
        view: shows the run.
        prepare: sees the learner's footprint before anything starts; may return a configuration with another budget.
        clock: tells seconds, for a run that goes by them.
        start: a run whose agent's parameters this one begins with; "" is none.
        lead: see `Lead`.
        began: since when the time of a run that goes by the clock counts, as `clock` tells it, so that loading torch
            counts, too; None: since now.

    Raises:
        RlabError: the run cannot start, or ended at a bad number, a collapse or a failing disk.
        Stopped: a stop was requested before anything was learned; nothing is left of the run.
    """
    now = clock or time.monotonic
    began = now() if began is None else began
    entry = RECIPES.get(recipe)
    device = resolve_device(config.run.device)
    auto = config.run.threads == "auto"
    config = with_run(config, threads=begin_process(config.run.threads))
    config, warm_start = entry.warm_start(config) if entry.warm_start else (config, None)
    if start:
        warm_start = _with_agent(start, warm_start)
    fill = warm_start.save if warm_start is not None else lambda folder: None
    folder = create_run(recipe, entry.subjects(config), to_plain(config), name, entry.unit, fill)
    with contextlib.ExitStack() as stack:
        lock = folder.lock()
        stack.callback(lock.release)
        stop.undo = partial(shutil.rmtree, folder.path, ignore_errors=True)
        try:
            journal = Journal(folder.journal)
            stack.callback(journal.close)
            budget = _budget_of(config)
            context = BuildContext(device, journal, folder.path, budget, stop)
            learner = entry.build(config, context)
            stack.callback(learner.close)
            _begin_with_agent(recipe, learner, folder)
            if auto and device == "cpu":
                number, footprint = measured(learner, stop)
            else:
                number, footprint = cores(), learner.footprint(stop)
            several = device == "cpu" and not footprint.one_thread
            threads = AutoThreads.begin(folder.threads, number, several) if auto else None
            if threads is not None:
                threads.use(0)
            total, planned = learner.progress().total, config
            if config.run.minutes:
                config, footprint = _planned_by_clock(recipe, config, footprint)
                total = round(total * entry.budget_of(config) / entry.budget_of(planned))
            kept = most_checkpoints(total, config.run.keep_steps, keeps_best(learner))
            footprint = replace(footprint, checkpoints=kept)
            refuse_if_too_large(footprint, folder.path, device, entry.memory_hint)
            config = prepare(config, footprint, folder)
            for text in footprint.notes:
                view.event(f"note: {text}")
            if config != planned:
                learner.close()
                begin_process(config.run.threads)
                learner = entry.build(config, context)
                stack.callback(learner.close)
                _begin_with_agent(recipe, learner, folder)
            document = folder.config() | {"config": to_plain(config)}
            write_document(folder.path / "config.json", document)
            _write_sessions(folder, [describe_session(device, config.run.threads, config.run.seed)])
            if lead is not None:
                stack.enter_context(lead(folder, learner, view))
            stop.undo = None
        except BaseException as e:
            stop.undo = None
            stack.close()
            shutil.rmtree(folder.path, ignore_errors=True)  # nothing was learned yet
            if lacks_memory(e):
                free, smaller = gigabytes(available_memory()), entry.memory_hint or SMALLER
                raise RlabError(f"the run needs more memory than the {free} that are free; {smaller}") from None
            raise
        checkpoints = Checkpoints(folder.checkpoints, journal)
        # Loading and measuring are part of the time asked for, as far as that leaves half of it.
        notes = Notes(**_noted(document), seconds=min(now() - began, 0.5 * budget.limit))
        with failures_kept(folder, halts=True):
            outcome = _drive(folder, learner, checkpoints, config, stop, view, notes, budget, clock, threads=threads)
        return folder, outcome


def _noted(document: dict[str, Any]) -> dict[str, Any]:
    """What checkpoints note of a config.json."""
    return {"config": document["config"], "run": {k: v for k, v in document.items() if k != "config"}}


Prepare = Callable[[Any, Footprint, RunFolder], Any]
"""(configuration, footprint, folder) -> configuration; prints what the run will need."""


Give = Callable[[Any], Any]
"""Configuration -> the same with what no file could hold, such as an environment that only Python code has."""


Lead = Callable[[RunFolder, Learner, View], AbstractContextManager[None]]
"""(folder, learner, view) -> a context in which other processes learn with this one (`rlab.parallel`)."""


def _planned_by_clock(recipe: str, config: Any, footprint: Footprint) -> tuple[Any, Footprint]:
    """A configuration whose budget is what its minutes will probably come to, and the footprint of that.

    Raises:
        RlabError: the learner's speed was not measured.
    """
    entry = RECIPES.get(recipe)
    if not footprint.seconds:
        raise RlabError(f"--minutes needs a measured speed, which '{recipe}' does not give; use --{entry.budget_name}")
    budget = entry.budget_of(config)
    config = entry.with_budget(config, budget * config.run.minutes * 60 / footprint.seconds)
    return config, replace(footprint, seconds=footprint.seconds * entry.budget_of(config) / budget)


def _budget_of(config: Any, extended: bool = False) -> Budget:
    return Budget(config.run.minutes, config.run.schedule_end, extended)


def resume_run(
    folder: RunFolder,
    device: str | None,
    stop: Stop,
    view: View,
    extension: Extension | None = None,
    clock: Callable[[], float] | None = None,
    give: Give = lambda config: config,
    lead: Lead | None = None,
) -> Outcome:
    """Go on with a run where its newest whole checkpoint stands; without one, from 0.

    Args:
        folder: the run.
        device: another device than the run was started on, or None.
        stop: polled between steps and while environments are fast-forwarded.
        view: shows the run; told when the result will not be bit-exact.
        extension: another budget than it was begun with, or None; config.json and later checkpoints tell of it.
        clock: tells seconds, for a run that goes by them.
        give: see `Give`.
        lead: see `Lead`.

    Raises:
        RlabError: another process holds the run, no checkpoint is whole, or more is done than the extension allows.
    """
    lock = folder.lock()
    try:
        recipe, config = configuration_of(folder)
        if folder.config().get("compressed"):
            raise RlabError(
                f"run '{folder.name}' was made by `rlab compress` and keeps only what acts or predicts, so it "
                "cannot learn further; go on with the run that it was made of"
            )
        config = give(config)
        chosen = resolve_device(device or config.run.device)
        threads = begin_process(config.run.threads)
        session = describe_session(chosen, threads, config.run.seed)
        sessions = _sessions(folder, view.event)
        for line in differences(sessions, session):
            view.event(line)
        entry = RECIPES.get(recipe)
        if entry.resume:
            view.event(f"resume: {entry.resume}")
        journal = Journal(folder.journal)
        checkpoints = Checkpoints(folder.checkpoints, journal)
        with failures_kept(folder, halts=True), contextlib.ExitStack() as stack:
            stack.callback(journal.close)
            saved = checkpoints.load_newest(view.event)
            notes, loaded, done = Notes(**_noted(folder.config() | {"config": to_plain(config)})), None, 0
            if saved is not None:
                if other := edited(folder, recipe, config, _notes(saved)):
                    raise RlabError(
                        f"{other}; put the old value back (`rlab runs repair {folder.name}` does), "
                        "or start a new run with the new one"
                    )
                notes, loaded, done = replace(_notes(saved), run=notes.run), saved.path, saved.done
            before = config
            if extension is not None:
                config = extension.applied(folder, entry, config, notes, done)
            budget = _budget_of(config, was_extended(entry, config, notes.config))
            start = folder.path if saved is None else None
            stop.undo = _nothing
            learner: Learner = entry.build(config, BuildContext(chosen, journal, start, budget, stop))
            stack.callback(learner.close)
            if saved is None:
                _begin_with_agent(recipe, learner, folder)
            progress = learner.progress()
            if extension is not None:
                extension.check(config, progress, done)
            if budget.extended:
                notes.config, loaded = to_plain(config), None
            if saved is not None:
                if isinstance(learner, FollowsClock):
                    learner.budget = budget
                try:
                    with of_this_version(folder):
                        learner.restore(saved.state, stop)
                except Stopped:  # nothing was done that would have to be saved
                    return Outcome(False, saved.done, saved.path, notes.score, notes.seconds)
            stop.undo = None
            _write_sessions(folder, [*sessions, session])  # not of a resume that was refused or given up
            if config != before:
                view.event(note(folder, entry, before, config, progress, done))
            checkpoints.discard_after(saved)
            chosen_threads = _logged_threads(folder, view.event) if threads == "auto" else None
            if lead is not None:
                stack.enter_context(lead(folder, learner, view))
            return _drive(
                folder, learner, checkpoints, config, stop, view, notes, budget, clock, loaded, done, chosen_threads
            )
    finally:
        stop.undo = None
        lock.release()


def _nothing() -> None:
    """What undoes a resume that has only built and restored."""


def _notes(saved: Saved) -> Notes:
    try:
        return Notes(**saved.loop)
    except TypeError as e:
        raise RlabError(f"{saved.path / 'state.json'} was written by another version of rlab ({e})") from None


@contextmanager
def open_run(
    folder: RunFolder, device: str = "auto", give: Give = lambda config: config, progress: int | None = None
) -> Iterator[LoadedRun]:
    """Open a run for reading (evaluation, watching): builds its learner, changes nothing in its folder.

    Settings that are not those of the checkpoint are told on stderr. A failure of somebody else's code is kept in the
    folder, see `failures_kept`.

    Args:
        folder: the run.
        device: auto, cpu, cuda or cuda:N.
        give: see `Give`.
        progress: of the checkpoint; None: the newest one.

    Raises:
        RlabError: its config.json or every checkpoint is damaged, or its settings do not fit the checkpoint.
    """
    recipe, config = configuration_of(folder)
    config = give(config)
    chosen = resolve_device(device)
    begin_process(config.run.threads)
    journal = Journal(folder.journal)
    saved = read_newest(folder, journal) if progress is None else find_checkpoint(folder, progress, journal)
    other = None if saved is None else edited(folder, recipe, config, _notes(saved))
    if other:
        told = f"rlab: {other}; `rlab runs repair {folder.name}` puts the old value back"
        print(printable(told), file=sys.stderr)
    try:
        with failures_kept(folder), contextlib.ExitStack() as stack:
            learner = RECIPES.get(recipe).build(config, BuildContext(chosen, journal))
            stack.callback(learner.close)
            if config.run.threads == "auto":
                with contextlib.suppress(RlabError):  # only going on needs to know
                    AutoThreads.load(folder.threads).use(0 if saved is None else saved.done)
            yield LoadedRun(folder, config, learner, saved)
    except (RlabError, Stopped):
        raise
    except Exception as e:
        if other:
            raise RlabError(f"{other}, and does not fit it ({type(e).__name__}: {shortened(str(e))})") from e
        raise


@contextmanager
def failures_kept(folder: RunFolder, halts: bool = False) -> Iterator[None]:
    """Append the traceback of a `ForeignError` within to ``errors.log`` of a run, and say so in its sentence.

    Args:
        folder: the run.
        halts: whether the run halts by it; then the sentence says where it stands and how it goes on.
    """
    try:
        yield
    except ForeignError as e:
        text = str(e)
        if halts:
            newest = newest_checkpoint(folder)
            kept = (
                "no checkpoint had been saved yet" if newest is None else f"the last checkpoint was kept: {newest[0]}"
            )
            text += f"; the run halted, {kept}; once this is mended: rlab resume {folder.name}"
        with contextlib.suppress(OSError):
            log = folder.made / "errors.log"
            trace = "".join(traceback.format_exception(e.__cause__ or e))
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n{trace}\n")
            text += f"; traceback: {log}"
        raise ForeignError(text) from e.__cause__


@contextmanager
def of_this_version(folder: RunFolder) -> Iterator[None]:
    """Turn errors of restoring within into one sentence: the checkpoint has other parts than its agent has now.

    Raises:
        RlabError: that sentence.
    """
    try:
        yield
    except (KeyError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "state_dict" not in str(error):
            raise
        raise RlabError(
            f"run '{folder.name}' was written by another version of rlab, whose agent had other parts; go on with the "
            "commit that its env.json names, or train anew"
        ) from error


def restore_policy(learner: Learner, state: State) -> None:
    """Restore of a state only what a learner needs to act, predict or sample.

    Raises:
        RlabError: it learns nothing of the kind.
    """
    if not isinstance(learner, Restores):
        raise RlabError("this run learns nothing that could be played or predicted with")
    learner.restore_policy(state)


def read_newest(folder: RunFolder, journal: Journal | None = None) -> Saved | None:
    """The newest whole checkpoint of a run, verified; None if it has none. Changes nothing; warns of bad ones."""
    if not folder.checkpoints.is_dir():
        return None
    checkpoints = Checkpoints(folder.checkpoints, journal or Journal(folder.journal))
    return checkpoints.load_newest(lambda text: print(f"rlab: {printable(text)}", file=sys.stderr))


def find_checkpoint(folder: RunFolder, progress: int | None, journal: Journal | None = None) -> Saved:
    """A run's checkpoint at a progress, or its newest.

    Raises:
        RlabError: there is none.
    """
    if progress is None:
        saved = read_newest(folder, journal)
        if saved is None:
            raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is nothing to play with")
        return saved
    there = past_selves(folder, with_best=True)
    with contextlib.suppress(RlabError, KeyError, TypeError, ValueError):  # a bad one is as if it were not there
        return Checkpoints(folder.checkpoints, journal or Journal(folder.journal)).load(there[progress])
    known = ", ".join(map(str, there)) or "none"
    raise RlabError(f"run '{folder.name}' has no whole checkpoint at {progress}; there is {known}")


def configuration_of(folder: RunFolder) -> tuple[str, Any]:
    """(recipe's name, typed configuration) of a run."""
    document = folder.config()
    recipe = document["recipe"]
    return recipe, from_plain(type(RECIPES.get(recipe).default("")), document["config"], str(folder.path))


def _with_agent(run: str, others: WarmStart | None) -> WarmStart:
    """What a new run starts from, and the agent of another run.

    Raises:
        RlabError: there is no such run, or it has no checkpoint or no agent with a network.
    """
    folder = find_run(run)
    saved = read_newest(folder)
    if saved is None:
        raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is no agent to start from")
    return WarmStart({**(others.sources if others else {}), AGENT: agent_of(folder, saved.state, saved.done)})


def _begin_with_agent(recipe: str, learner: Learner, folder: RunFolder) -> None:
    """Copy the parameters of the agent that a run starts from, if there is one, into its learner.

    Raises:
        RlabError: they do not fit, or no learner of the recipe can start so.
    """
    source = load_source(folder.path, AGENT)
    if source is None:
        return
    if not isinstance(learner, StartsFromRun):
        raise RlabError(f"a run of {recipe} cannot start from another run's agent; agents with a network can")
    try:
        learner.start_from(source.note["part"], source.tensors)
    except RlabError as e:
        raise RlabError(f"--start: the agent of run '{source.note['run']}' does not fit: {e}") from None


def with_run(config: Any, **changes: Any) -> Any:
    """A copy of a configuration with fields of its `run` part changed."""
    run: RunConfig = replace(config.run, **changes)
    return replace(config, run=run)


SMALLER = "take a smaller batch or model"
"""What helps a run that memory will not hold, where its recipe does not say."""


def refuse_if_too_large(footprint: Footprint, folder: Path, device: str, hint: str = "") -> None:
    """Refuse a run that memory or disk will not hold; `hint` says which setting makes it smaller.

    Raises:
        RlabError: one sentence with what is needed, what there is, and which setting makes it smaller.
    """
    smaller = hint or SMALLER
    memory = available_memory()
    if footprint.memory > memory:
        raise RlabError(
            f"the run needs {gigabytes(footprint.memory)} of memory and {gigabytes(memory)} are free; {smaller}"
        )
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        if footprint.device_memory > free:
            raise RlabError(
                f"the run needs {gigabytes(footprint.device_memory)} on {device} and {gigabytes(free)} are free; "
                f"{smaller}"
            )
    disk = shutil.disk_usage(folder).free
    if footprint.disk > disk:
        raise RlabError(
            f"the run needs {gigabytes(footprint.disk)} under {folder} and {gigabytes(disk)} are free; "
            f"set RLAB_RUNS to a larger disk or {smaller}"
            + (" or a larger --keep-steps" if footprint.checkpoints > most_checkpoints(0, 0) else "")
        )


def _logged_threads(folder: RunFolder, report: Callable[[str], None]) -> AutoThreads:
    """What was chosen so far. A damaged threads.json is set aside, and choosing begins anew."""
    try:
        return AutoThreads.load(folder.threads)
    except RlabError as e:
        if os.path.lexists(folder.threads):
            os.replace(folder.threads, folder.threads.with_name("threads-bad.json"))
        report(f"not bit-exact from here: {e}; how many threads torch has is chosen anew")
        return AutoThreads.begin(folder.threads, 1, several=True)


def _sessions(folder: RunFolder, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """The sessions so far. A damaged env.json is set aside: it tells of a run, no run depends on it."""
    path = folder.path / "env.json"
    if not path.exists():
        return []
    try:
        return folder.environment()["sessions"]
    except RlabError as e:
        try:
            path.replace(path.with_name("env-bad.json"))
        except OSError as failure:
            raise disk_error(failure, folder.path) from None
        report(f"{e}; kept as env-bad.json, a new one is begun")
        return []


def _write_sessions(folder: RunFolder, sessions: list[dict[str, Any]]) -> None:
    write_document(folder.path / "env.json", {"schema": 1, "sessions": sessions})


def _drive(
    folder: RunFolder,
    learner: Learner,
    checkpoints: Checkpoints,
    config: Any,
    stop: Stop,
    view: View,
    notes: Notes,
    budget: Budget,
    clock: Callable[[], float] | None,
    loaded: Path | None = None,
    done: int = 0,
    threads: AutoThreads | None = None,
) -> Outcome:
    """Drive a learner to its end or to a stop from where it stands: at 0, or `done` of the checkpoint `loaded`."""
    with contextlib.ExitStack() as stack:
        metrics = MetricsFile(folder.metrics, notes.metrics, belonging(notes, done), view.event)
        stack.callback(metrics.close)
        observe = _tensorboard(folder, stack) if config.run.tensorboard else (lambda row: None)
        budget.open(folder.path / "clock.jsonl", notes.readings, view.event)
        stack.callback(budget.close)
        if isinstance(learner, FollowsClock):
            learner.budget = budget
        elif budget.limit:
            view.event("this learner does not follow the clock: its schedules go by the steps that were estimated")
        outcome = Loop(
            learner, config.run, checkpoints, metrics, view, stop, notes, loaded, observe, threads, budget, clock
        ).run()
    if outcome.finished and outcome.checkpoint != loaded:
        _write_evaluation(folder, outcome.done, outcome.score)
    return outcome


def _write_evaluation(folder: RunFolder, done: int, score: Mapping[str, Any] | None) -> None:
    write_document(folder.evaluation, {"schema": 1, "step": done, **(score or {})})


def complete(folder: RunFolder) -> None:
    """Write the evaluation.json of a finished run if it is missing, for the run was killed just before.

    Raises:
        RlabError: another process holds the run, no checkpoint is whole, or the disk refused.
    """
    lock = folder.lock()
    try:
        saved = read_newest(folder)
        if saved is not None and not folder.evaluation.is_file():
            _write_evaluation(folder, saved.done, _notes(saved).score)
    finally:
        lock.release()


FREE = ("stop_on_collapse", "keep_steps", "env_timeout")
"""Settings that may be edited between sessions: no number that is learned depends on them."""


def edited(folder: RunFolder, recipe: str, config: Any, notes: Notes) -> str | None:
    """Say which setting of a run's config.json is another than that of its checkpoint, None if all are alike.

    Args:
        folder: the run.
        recipe: what its config.json says.
        config: the same, typed.
        notes: of its checkpoint.
    """
    if notes.config is None:
        return None
    was = to_plain(from_plain(type(config), notes.config, str(folder.checkpoints)))  # a field that came later: default
    admitted = extension_of(folder.config()).get("to", {})  # a budget that the run went on to
    admitted = admitted if isinstance(admitted, dict) else {}
    pairs = [("recipe", recipe, (notes.run or {}).get("recipe", recipe))]
    for part, fields in to_plain(config).items():
        new, old = flat(fields), flat(was[part])
        pairs += [(name, new.get(name, _NOTHING), old.get(name, _NOTHING)) for name in dict.fromkeys([*new, *old])]
    for name, says, said in pairs:
        if says != said and name not in FREE and says != admitted.get(name, _NOTHING):
            return f"{folder.path / 'config.json'} says {name} {_value(says)}, its checkpoint {_value(said)}"
    return None


_NOTHING = object()


def _value(value: Any) -> str:
    return "nothing" if value is _NOTHING else shortened(repr(value))


def _tensorboard(folder: RunFolder, stack: contextlib.ExitStack) -> Callable[[dict[str, Any]], None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise RlabError("--tensorboard needs the extra: pip install 'rlab-rl[tensorboard]'") from None
    writer = SummaryWriter(str(folder.path / "tensorboard"))
    stack.callback(writer.close)

    def observe(row: dict[str, Any]) -> None:
        for name, value in (row | row.get("clock", {})).items():
            if isinstance(value, (int, float)) and name != "step":
                writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    return observe
