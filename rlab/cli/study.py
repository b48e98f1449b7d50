"""``rlab study list`` and ``rlab study run NAME``: claims of the literature, put to experiments."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from rlab.cli.common import (
    JsonFlag,
    asks_for_help,
    duration,
    parse,
    refuse_below,
    results,
    say,
    stopped_status,
    until_stopped,
    value_of,
)
from rlab.cli.flags import flags_of, help_text, read_words
from rlab.errors import RlabError, nearest
from rlab.run.contract import Stop
from rlab.studies.study import Budget

C = TypeVar("C")

USAGE = """usage: rlab study list [FLAG ...]
       rlab study run NAME [FLAG ...]
       rlab study run all|NAME NAME ... [FLAG ...]
       rlab study report [FLAG ...]
       rlab study judge|counts [FLAG ...]
"""

ABOUT = """Tests a claim by an experiment. The verdict, holds, fails or undecided, is
computed from the seeds' numbers. A finished seed is kept: the same command goes
on after an interruption. rlab study run NAME --help shows the flags of one.
"""

NICE = 10
"""What --nice adds to the priority's number; processes that are started then have it, too."""


@dataclass(frozen=True)
class List:
    """Every study: its claim, where that is made, and the verdict if it was run here."""

    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Report:
    """One page with every study's claim, figure and verdict."""

    results: Path | None = None
    """Where results lie, NAME/BUDGET/result.json or NAME/result.json; by default where `rlab study run` puts them, and
    for what was not run here those that come with the repository."""
    docs: Path | None = None
    """Also write studies.md and studies.ja.md there."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Judge:
    """Judge results anew by the contrasts and rules of today; numbers stay, and nothing is measured."""

    results: Path | None = None
    """Where results lie, NAME/BUDGET/result.json or NAME/result.json; by default where `rlab study run` puts them."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Counts:
    """How many studies have which verdict, in one sentence."""

    results: Path | None = None
    """Where results lie; by default those that come with the repository, else where `rlab study run` puts them."""
    language: Literal["en", "ja"] = "en"
    """Of the sentence."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Run(Generic[C]):
    """What `rlab study run` takes: the study's own settings, and these."""

    settings: C
    seeds: int | None = None
    """Seeds 0 .. N - 1 are measured, as far as they are not on disk; below 3 nothing is decided."""
    budget: Budget = "small"
    """smoke: everything is run through in seconds, with 2 seeds; decides nothing. small: all studies together take a
    quarter of an hour on two cores. full: what it takes, up to hours; goes on where it was stopped."""
    fresh: bool = False
    """Measure every seed anew, also those on disk."""
    jobs: int = 1
    """Seeds measured at once, each in a process of its own."""
    nice: bool = False
    """Give way to other programs: priority 10."""
    threads: int = 1
    """CPU threads of torch in each process; numbers are the same to the bit only with the same number."""
    json: JsonFlag = False
    """Print the result as one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Every:
    """Run several studies, or all, in this order; seeds that were measured before are not measured again."""

    budget: Budget = "small"
    """smoke: a few minutes, decides nothing. small: a quarter of an hour on two cores. full: many hours."""
    jobs: int | None = None
    """Studies at once, each on one thread; by default as many as there are cores."""
    nice: bool = False
    """Give way to other programs: priority 10."""
    fresh: bool = False
    """Measure every seed anew, also those on disk."""
    json: JsonFlag = False
    """Print the results as one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    words = list(argv)
    verbs = {"list": _list, "run": _run, "report": _report, "judge": _judge, "counts": _counts}
    if words and words[0] in verbs:
        return verbs[words[0]](words[1:])
    if words and words[0] in ("-h", "--help"):
        print(f"{USAGE}\n{ABOUT}", end="")
        return 0
    problem = (
        f"there is no 'study {words[0]}'; {nearest(words[0], list(verbs))}"
        if words
        else "list, run, report, judge or counts?"
    )
    say(f"rlab: {problem}\n{USAGE}")
    return 2


def _list(argv: Sequence[str]) -> int:
    flags = parse(List, "study list", argv)
    with results(flags.json) as put:
        from rlab.studies import load_studies
        from rlab.studies.runner import result_of

        rows = []
        for name in (studies := load_studies()):
            study, result = studies.get(name), result_of(name)
            rows.append({
                "study": name,
                "claim": study.claim,
                "source": study.source,
                "seeds": study.seeds,
                "verdict": result and result.get("verdict"),
            })  # fmt: skip
        blocks = [
            f"{row['study']}  ({row['verdict'] or 'not run here'})\n"
            + textwrap.indent(textwrap.fill(f"{row['claim']} [{row['source']}]", 110), "    ")
            for row in rows
        ]
        put("\n".join([*blocks, "\nnext    rlab study run NAME"]), {"studies": rows})
        return 0


def _report(argv: Sequence[str]) -> int:
    flags = parse(Report, "study report", argv)
    with results(flags.json) as put:
        from rlab.run.folder import runs_dir
        from rlab.studies.report import collect, committed, write

        home = runs_dir() / "studies"
        entries = collect([flags.results] if flags.results else [home, committed()])
        files = write(entries, home / "studies.html", flags.docs)
        rows = {entry.name: entry.verdict for entry in entries}
        put(
            "\n".join(f"{verdict or 'not run':<22}{name}" for name, verdict in rows.items())
            + "".join(f"\nwrote   {file}" for file in files),
            {"verdicts": rows, "files": [str(file) for file in files]},
        )
        return 0


def _judge(argv: Sequence[str]) -> int:
    flags = parse(Judge, "study judge", argv)
    with results(flags.json) as put:
        from rlab.run.folder import runs_dir
        from rlab.studies import load_studies
        from rlab.studies.report import results_in
        from rlab.studies.runner import judge_again

        folder, studies = flags.results or runs_dir() / "studies", load_studies()
        verdicts, problems = {}, []
        for name in studies:
            for place in results_in(folder, name):
                try:
                    verdicts[str(place)] = judge_again(name, studies.get(name), place)
                except RlabError as e:
                    problems.append(f"rlab: {e}")
        if not verdicts and not problems:
            raise RlabError(f"there is no result of a study below {folder}; rlab study run NAME makes one")
        for problem in problems:
            say(problem)
        changed = [f"{was} -> {now}: {place}" for place, (was, now) in verdicts.items() if was != now]
        put(
            "\n".join([*changed, f"judged  {len(verdicts)} results, {len(changed)} otherwise than before"]),
            {"verdicts": {place: now for place, (_, now) in verdicts.items()}, "changed": len(changed)},
        )
        return int(bool(problems))


def _counts(argv: Sequence[str]) -> int:
    flags = parse(Counts, "study counts", argv)
    with results(flags.json) as put:
        from rlab.run.folder import runs_dir
        from rlab.studies.report import collect, committed, counts

        usual = folder if (folder := committed()).is_dir() else runs_dir() / "studies"
        sentence = counts(collect([flags.results or usual]), flags.language)
        put(sentence, {"counts": sentence})
        return 0


def _run(argv: list[str]) -> int:
    from rlab.studies import load_studies

    studies = load_studies()
    if not argv or argv[0].startswith("-"):
        listing = "\n".join(f"  {name}" for name in studies)
        if "-h" in argv or "--help" in argv:
            print(f"{USAGE}\nstudies:\n{listing}\n\nrlab study run NAME --help tells a study's own settings.")
            return 0
        say(f"rlab: which study? It comes first: rlab study run NAME\n{listing}")
        return 2
    name = argv[0]
    names = list(takewhile(lambda word: not word.startswith("-"), argv))
    if names == ["all"] or len(names) > 1:
        several = list(studies) if names == ["all"] else names
        for one in several:
            studies.get(one)
        return until_stopped(lambda stop: _every(several, argv[len(names) :], stop))
    study = studies.get(name)
    budget = value_of(argv[1:], "--budget")
    if budget is not None and budget not in get_args(Budget):
        raise RlabError(f"--budget is '{budget}'; {nearest(budget, get_args(Budget))}")
    settings, usual = study.budget(cast(Budget, budget or "small"))
    table = flags_of(type(settings), settings, "settings of this study") + [
        f for f in flags_of(Run) if f.field != "settings"
    ]
    if asks_for_help(argv):
        print(help_text(f"rlab study run {name} [FLAG ...]", f"{study.claim} ({study.source})", table), end="")
        return 0
    given = read_words(table, argv[1:], f"study run {name}")
    own = {f.name: given.pop(f.name) for f in fields(Run) if f.name in given}
    flags = Run(replace(settings, **given), **own)
    seeds = usual if flags.seeds is None else flags.seeds
    if seeds < 1:
        raise RlabError(f"--seeds is {seeds}; it must be at least 1")
    refuse_below(flags, threads=0, jobs=1)
    with results(flags.json) as put:
        from rlab.run.lifecycle import prepare_process
        from rlab.studies.runner import run_study

        prepare_process(flags.threads)
        if flags.nice:
            os.nice(NICE)
        try:
            result = run_study(name, study, flags.settings, seeds, flags.budget, flags.fresh, say, flags.jobs)
        except KeyboardInterrupt:
            say("stopped; what was finished is kept, and the same command goes on from there")
            return 130
        put(_text(result), result)
        return 0


def _every(names: list[str], argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Every, "study run all", argv)
    if flags.jobs is not None:
        refuse_below(flags, jobs=1)
    with results(flags.json) as put:
        from rlab.machine import cores
        from rlab.studies.run_all import run_every

        started = time.monotonic()
        if flags.nice:
            os.nice(NICE)
        words = ["--budget", flags.budget, *["--fresh"] * flags.fresh]
        outcomes = run_every(names, words, flags.jobs or cores(), stop, say)
        rows = {name: result.get("verdict", "failed") for name, result in outcomes.items()}
        spent = sum(result.get("cpu_seconds", 0.0) for result in outcomes.values())
        lines = [f"{verdict:<22}{name}" for name, verdict in rows.items()]
        lines.append(
            f"time    {duration(time.monotonic() - started)}; {duration(spent)} of processor time in all seeds"
        )
        put("\n".join([*lines, "next    rlab study report"]), {"studies": outcomes, "asked": len(names)})
        if stop.requested:
            say("stopped; what was finished is kept, and the same command goes on from there")
            return stopped_status(stop)
        return int("failed" in rows.values())


def _text(result: dict[str, Any]) -> str:
    """A result for a reader."""
    lines = [
        textwrap.fill(f"claim   {result['claim']}", 110, subsequent_indent=" " * 8),
        textwrap.fill(f"source  {result['source']}", 110, subsequent_indent=" " * 8),
        "",
    ]
    width = 1 + max(len(finding["verdict"]) for finding in result["findings"])
    for finding in result["findings"]:
        inside = f" [{finding['low']:.4g}, {finding['high']:.4g}]" if finding["low"] is not None else ""
        measured = f"{finding['mean']:.4g}{inside} above {finding['above']:g}?"
        lines.append(f"{finding['verdict']:<{width}}{measured:<44} {finding['says']}")
    seeds = len(result["seeds"])
    thin = " (fewer than 3: nothing is decided)" if seeds < 3 else ""
    lines += [
        "",
        f"verdict {result['verdict']}, from {seeds} seeds{thin}; intervals of 95 %",
        f"time    {duration(result['seconds'])} ({duration(result['cpu_seconds'])} of processor time)",
        f"figure  {result['folder']}/figure.png",
        f"numbers {result['folder']}/result.json",
    ]
    if len(result["commits"]) > 1:
        lines.append(f"note    seeds were measured by several states of the source: {', '.join(result['commits'])}")
    return "\n".join(lines)
