"""What the verbs share: parsing, JSON, stopping, and numbers as a reader likes them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, TypeVar

from rlab.cli.flags import Arg, flags_of, help_text, read_words
from rlab.errors import RlabError, shortened
from rlab.run.contract import Stop
from rlab.run.folder import RunFolder, find_run
from rlab.run.formatting import printable_lines
from rlab.run.signals import stop_on_signals
from rlab.trust import allow
from rlab.trust import confirmed as confirmed

F = TypeVar("F")

RunName = Annotated[str, Arg("RUN", positional=True)]
"""The positional RUN of a verb."""

JsonFlag = bool
"""The flag --json."""

DeviceName = Annotated[str | None, Arg("auto|cpu|cuda[:N]")]
"""A device that may be left open."""


TrustFlag = Annotated[tuple[str, ...], Arg("MODULE|gtp:COMMAND", repeat=True)]
"""The flag --trust, which may be given several times."""


def parse(flags: type[F], verb: str, argv: Sequence[str], ask: bool = True) -> F:
    """Parse a verb's flags, or print its help and end.

    Args:
        flags: their type.
        verb: the words after `rlab`.
        argv: the words after those.
        ask: with --trust among the flags: ask at the terminal about what is not trusted; else it is refused.

    Raises:
        Misspelt: a flag is unknown or has no such value, or a word is missing or too many.
        SystemExit: help was asked for.
    """
    table = flags_of(flags)
    if asks_for_help(argv):
        words = [flag.name if flag.default is MISSING else f"[{flag.name}]" for flag in table if flag.arg.positional]
        usage = " ".join(["rlab", verb, *words, "[FLAG ...]"]).replace("[[", "[").replace("]]", "]")
        print(help_text(usage, flags.__doc__ or "", table), end="")
        raise SystemExit(0)
    parsed = flags(**read_words(table, argv, verb))
    if hasattr(parsed, "trust"):
        allow(parsed.trust, ask)
    return parsed


def asks_for_help(argv: Sequence[str], *more: str) -> bool:
    """Whether -h, --help or one of `more` is among the words."""
    return any(word in ("-h", "--help", *more) for word in argv)


def say(text: str) -> None:
    """Tell the user something that is not the result."""
    print(printable_lines(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def results(as_json: bool) -> Iterator[Callable[[str, Any], None]]:
    """Yield ``put(text, value)``, which prints the one result: the text, or the value as JSON.

    With JSON, whatever else is printed meanwhile goes to stderr, so that stdout holds exactly one object.
    """
    stdout = sys.stdout

    def put(text: str, value: Any) -> None:
        print(json.dumps(value, allow_nan=False) if as_json else printable_lines(text), file=stdout, flush=True)

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield put


def until_stopped(work: Callable[[Stop], int]) -> int:
    """Do `work` with a `Stop` that Ctrl-C and SIGTERM set; nothing is interrupted half-way."""
    stop = Stop()

    def leave(number: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\r\n")  # a progress bar hides the cursor
        say("stopped before anything was learned; nothing was written")
        os._exit(143 if number == signal.SIGTERM else 130)

    with stop_on_signals(stop, leave):
        status = work(stop)
    if stop.requested:
        # The process ends now; another Ctrl-C must not put a traceback into that.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return status


def stopped_status(stop: Stop) -> int:
    """The exit status that says which signal stopped the command."""
    return 143 if stop.reason == "SIGTERM" else 130


def reference(folder: RunFolder) -> str:
    """How the user names this run in the next command: its name, or its path if it lies elsewhere."""
    with contextlib.suppress(RlabError):
        if find_run(folder.name).path.resolve() == folder.path.resolve():
            return folder.name
    return str(folder.path)


def shown_by(folder: RunFolder) -> str:
    """The command that shows what a run has learned: a game against it where it plays Go, text that it writes or
    translates, else a film or pictures."""
    from rlab.data.catalog import DATASETS
    from rlab.envs.go.ids import go_size

    document = folder.config()
    env, data = (document["subject"].get(part, "") for part in ("env", "data"))
    go = go_size(env) is not None or (data in DATASETS and DATASETS.get(data).kind == "games")
    from rlab.recipes import verb_of

    return f"rlab {'play' if go else verb_of(document)} {reference(folder)}"


def duration(seconds: float) -> str:
    """Seconds for a reader: 42 s, 3 min 05 s, 2 h 10 min."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"


LONGEST_LINE = 1_000_000
"""Of standard input, in bytes."""


def input_lines() -> Iterator[str]:
    """Yield the lines of standard input, without their ends, as they come.

    Raises:
        RlabError: a line is no UTF-8, or too long.
    """
    source = getattr(sys.stdin, "buffer", None)
    number = 0
    while source is not None and (line := source.readline(LONGEST_LINE + 1)):
        number += 1
        if len(line) > LONGEST_LINE:
            raise RlabError(
                f"line {number:,} of the input has more than {LONGEST_LINE:,} bytes; nearest: split it into lines"
            )
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as e:
            raise RlabError(f"line {number:,} of the input is no UTF-8 (byte {e.start + 1:,})") from None


def note_unknown(pieces: Sequence[str]) -> None:
    """Say which parts of a text a model has never seen."""
    if pieces:
        shown = ", ".join(f"'{piece}'" for piece in list(dict.fromkeys(pieces))[:5])
        more = "" if len(set(pieces)) <= 5 else f" and {len(set(pieces)) - 5:,} more"
        say(f"note    unknown to this model: {shortened(shown, 200)}{more}")


def output_file(flag: str, file: Path, ending: str) -> Path:
    """Return where a flag says that something is to be written, `~` expanded; asked before the work begins.

    Raises:
        RlabError: it is a folder, would lie in none, or has another ending than the one given.
    """
    from rlab.data.own import at

    file = at(str(file))
    if file.is_dir():
        raise RlabError(f"{flag} is '{file}', a folder; nearest: {file / f'FILE{ending}'}")
    if ending and file.suffix.lower() != ending:
        raise RlabError(f"{flag} is '{file}'; it must end in {ending}; nearest: {file.with_suffix(ending)}")
    if not file.absolute().parent.is_dir():
        raise RlabError(f"{flag} is '{file}', and there is no folder '{file.parent}'")
    return file


def refuse_below(flags: Any, **bounds: int) -> None:
    """Refuse flags that lie below a bound, naming flag and value."""
    for name, bound in bounds.items():
        value = getattr(flags, name)
        if value < bound:
            raise RlabError(f"--{name.replace('_', '-')} is {value}; it must be at least {bound}")


def value_of(argv: list[str], flag: str) -> str | None:
    """The last value given for a flag, before the real parser has run."""
    value = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        if word == flag:
            value = following
        elif word.startswith(flag + "="):
            value = word[len(flag) + 1 :]
    return value
