"""A study from its first seed to its figure. What a seed came to is kept, so that nothing is measured twice.

``RLAB_RUNS/studies/NAME/BUDGET/`` holds ``result.json``, ``figure.png``, for some ``animation.gif``, and
``seeds/DIGEST/SEED.json``, where the digest is that of settings and variants: numbers of other settings stay, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Thread
from typing import Any

from rlab.errors import RlabError
from rlab.run.config import to_plain
from rlab.run.files import disk_error, make_folder, read_json, refuse_links, replace_durably, to_json
from rlab.run.folder import Lock, runs_dir
from rlab.run.provenance import git_state, processor, versions
from rlab.studies.study import LEVEL, Budget, Numbers, Results, Study, Verdict, judge

SCHEMA = 1

DRAWN = 0.6
"""Share of a figure's width that the study draws; the rest are its contrasts."""


def folder_of(name: str, budget: Budget) -> Path:
    """Where a study's files lie."""
    return runs_dir() / "studies" / name / budget


def result_of(name: str, budget: Budget = "full") -> dict[str, Any] | None:
    """The newest result on disk, None if there is none.

    Raises:
        RlabError: it is damaged.
    """
    path = folder_of(name, budget) / "result.json"
    return read_json(path) if path.is_file() else None


def run_study(
    name: str,
    study: Study,
    settings: Any,
    seeds: int,
    budget: Budget,
    fresh: bool,
    say: Callable[[str], None],
    jobs: int = 1,
) -> dict[str, Any]:
    """Measure what is not measured yet, judge, draw, and write it down.

    Args:
        name: the study's, as after ``rlab study run``.
        study: the study.
        settings: of its own type.
        seeds: 0 .. seeds - 1 are measured.
        budget: for the folder; the settings are given already.
        fresh: measure everything anew.
        say: told of each seed.
        jobs: seeds measured at once; several have a process each, of as many threads as this one.

    Returns:
        What ``result.json`` holds.

    Raises:
        RlabError: another process is at it, a number is not finite, a file is damaged, the disk refuses, or a seed's
            process was killed.
    """
    called, name = name, name.split(":")[-1]
    folder = folder_of(name, budget)
    plain = {"settings": to_plain(settings), "variants": to_plain(dict(study.variants))}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
    try:
        for path in (folder.parent, folder, folder / "seeds", folder / "seeds" / digest):
            make_folder(path)
    except OSError as e:
        raise disk_error(e, folder) from None
    refuse_links(folder)
    lock = Lock(folder / "lock")
    try:
        cells: list[dict[str, Any]] = [{}] * seeds
        tasks = [(folder / "seeds" / digest / f"{seed}.json", settings, seed, fresh) for seed in range(seeds)]
        missing = [task for task in tasks if fresh or len(_read_seed(task[0], study)) < len(study.variants)]
        apart = missing if min(jobs, len(missing)) > 1 else []
        here = (_seed(study, name, *task) for task in tasks if task not in apart)
        for seed, measured, summary in chain(here, _at_once(called, name, apart, jobs) if apart else ()):
            cells[seed] = measured
            say(f"{name}: seed {seed + 1} of {seeds}: {summary}")
        results = {variant: [seed[variant]["numbers"] for seed in cells] for variant in study.variants}
        verdict = judge(study.contrasts, results, budget, plain["settings"])
        document = _document(name, study, plain, budget, cells, results, verdict)
        replace_durably(folder / "figure.png", picture(name, study, results, verdict))
        if study.animate is not None:
            replace_durably(folder / "animation.gif", study.animate(settings, results))
        replace_durably(folder / "result.json", to_json(document))
    except OSError as e:
        raise disk_error(e, folder) from None
    finally:
        lock.release()
    return document | {"folder": str(folder)}


Task = tuple[Path, Any, int, bool]
"""A seed's file, settings, the seed, and whether to measure it anew."""


def _at_once(called: str, name: str, tasks: list[Task], jobs: int) -> Iterator[tuple[int, dict[str, Any], str]]:
    """`_seed` of each, in processes that end with this one."""
    from torch import get_num_threads

    begin = (get_num_threads(), os.getpid())
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), _begin, begin) as pool:
        try:
            for done in as_completed([pool.submit(_apart, called, name, *task) for task in tasks]):
                yield done.result()
        except BaseException as e:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            if not isinstance(e, BrokenProcessPool):
                raise
            raise RlabError(
                f"study '{name}': a seed's process ended without a word (killed? out of memory?); what was finished is "
                f"kept; fewer --jobs need less memory"
            ) from None


def _begin(threads: int, parent: int) -> None:
    """Ctrl-C is for the parent, and nothing goes on without it."""
    from rlab.run.lifecycle import prepare_process

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=watch, daemon=True).start()
    prepare_process(threads)


def _apart(called: str, name: str, *task: Any) -> tuple[int, dict[str, Any], str]:
    from rlab.studies import load_studies

    return _seed(load_studies().get(called), name, *task)


def _seed(
    study: Study, name: str, path: Path, settings: Any, seed: int, fresh: bool
) -> tuple[int, dict[str, Any], str]:
    """The seed, variant -> {numbers, seconds, cpu_seconds, commit, dirty}, and how long it took.

    Each variant is on disk before the next begins.
    """
    cells: dict[str, Any] = {} if fresh else _read_seed(path, study)
    kept = len(cells)
    started, source = time.perf_counter(), git_state()
    for variant, value in study.variants.items():
        if variant in cells:
            continue
        began, began_cpu = time.perf_counter(), time.process_time()
        numbers = _finite(name, variant, seed, study.measure(settings, value, seed))
        took = {
            "seconds": round(time.perf_counter() - began, 3),
            "cpu_seconds": round(time.process_time() - began_cpu, 3),
        }
        cells[variant] = {"numbers": numbers, **took, **source}
        replace_durably(path, to_json({"schema": SCHEMA, "study": name, "seed": seed, "cells": cells}))
    return (
        seed,
        cells,
        "was measured before" if kept == len(study.variants) else f"{time.perf_counter() - started:.1f} s",
    )


CELL = ("numbers", "seconds", "cpu_seconds", "commit", "dirty")


def _read_seed(path: Path, study: Study) -> dict[str, Any]:
    """The cells of a seed's file, as far as there are any and the study has such variants."""
    if not path.is_file():
        return {}
    try:
        document = read_json(path)
        cells = {v: cell for v, cell in document["cells"].items() if v in study.variants}
        if all(isinstance(cell["numbers"], dict) and all(key in cell for key in CELL) for cell in cells.values()):
            return cells
        problem = f"{path} holds no numbers of a seed"
    except (AttributeError, KeyError, TypeError):
        problem = f"{path} holds no numbers of a seed"
    except RlabError as e:
        problem = str(e)
    raise RlabError(f"{problem}; delete it, or measure everything anew: --fresh")


def _finite(name: str, variant: str, seed: int, numbers: Numbers) -> dict[str, Any]:
    """Numbers as JSON values: floats and nested lists of them."""

    def plain(key: str, value: Any) -> Any:
        if hasattr(value, "tolist"):  # NumPy's
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            return [plain(key, part) for part in value]
        if not math.isfinite(value):
            raise RlabError(f"study '{name}', variant '{variant}', seed {seed}: {key} became {value}")
        return value

    return {key: plain(key, value) for key, value in numbers.items()}


def _document(
    name: str,
    study: Study,
    plain: Mapping[str, Any],
    budget: Budget,
    cells: list[dict[str, Any]],
    results: Results,
    verdict: Verdict,
) -> dict[str, Any]:
    measured = [cell for seed in cells for cell in seed.values()]
    commits = sorted({f"{c['commit']}{' with changes' if c['dirty'] else ''}" for c in measured})
    return {
        "schema": SCHEMA,
        "study": name,
        **_judged(study, verdict),
        "budget": budget,
        **plain,
        "seeds": list(range(len(cells))),
        "numbers": results,
        "seconds": round(sum(cell["seconds"] for cell in measured), 3),
        "cpu_seconds": round(sum(cell["cpu_seconds"] for cell in measured), 3),
        "commits": commits,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **versions()},
        "written": time.time(),
    }


def _judged(study: Study, verdict: Verdict) -> dict[str, Any]:
    """The part of a result that follows from its numbers and from the study as it is."""
    return {
        "claim": study.claim,
        "claim_ja": study.claim_ja,
        "correction": study.correction,
        "correction_ja": study.correction_ja,
        "source": study.source,
        "verdict": verdict.verdict,
        "level": LEVEL,
        "findings": [dataclasses.asdict(finding) for finding in verdict.findings],
    }


def judge_again(name: str, study: Study, folder: Path) -> tuple[str, str]:
    """Judge the numbers of a stored result by the contrasts and rules of today; nothing is measured.

    Writes ``result.json`` and ``figure.png`` if what they say changes.

    Args:
        name: the study's.
        study: as it is now.
        folder: in which ``result.json`` lies.

    Returns:
        The verdict that was stored, and that of today.

    Raises:
        RlabError: the result is damaged, is of other variants than the study has, or cannot be written.
    """
    document = read_json(folder / "result.json")
    if document.get("variants") != to_plain(dict(study.variants)):
        raise RlabError(
            f"{folder / 'result.json'} has numbers of other variants than study '{name}' has now; measure them: "
            f"rlab study run {name} --budget {document.get('budget', 'small')}"
        )
    results = document["numbers"]
    verdict = judge(study.contrasts, results, document["budget"], document["settings"])
    judged = document | _judged(study, verdict)
    if judged != document:
        try:
            replace_durably(folder / "figure.png", picture(name, study, results, verdict))
            replace_durably(folder / "result.json", to_json(judged))
        except OSError as e:
            raise disk_error(e, folder) from None
    return document["verdict"], verdict.verdict


def picture(name: str, study: Study, results: Results, verdict: Verdict) -> bytes:
    """The figure as PNG: what the study draws on the left, its contrasts with their intervals on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from rlab.studies.plots import draw_findings

    rows = len(verdict.findings)
    width = 5.0 if study.draw is None else 10.5
    figure = Figure(figsize=(width, max(3.6, 0.9 * rows + 0.9)), dpi=90, layout="constrained")
    figure.suptitle(f"{name}: {verdict.verdict}", fontsize=11)
    if study.draw is None:
        draw_findings(figure, verdict)
    else:
        parts: Any = figure.subfigures(1, 2, width_ratios=[DRAWN, 1 - DRAWN])
        left, right = parts
        study.draw(left, results)
        draw_findings(right, verdict)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()
