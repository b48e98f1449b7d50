"""What text from a run's folder must not do: import a module, start a program. Both pass the gates of this file.

Whatever is read from a JSON file counts as a stranger's. A module or a program that it names is used only if the user
has named it, too: on this command line, in a Python call, in `--trust`, at a prompt, or in one of these earlier on this
machine, which is remembered with the place that the module came from (of a program, the folder that it was started in).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlab.errors import RlabError, printable

PROGRAM = "gtp:"
"""What the name of a program begins with; its command line follows."""

NAMING = ("train", "sweep", "study", "bench", "data", "list")
"""Verbs on whose command line modules are named; elsewhere ``name:number`` is a run's checkpoint."""

INHERITED = "RLAB_GIVEN"
"""For a process whose command line comes out of a sweep's folder: what the user has named, as a JSON list."""


class Untrusted(RlabError):
    """A run's folder names a module or a program that the user has not named; nothing was imported or started."""


_foreign: set[str] = set()
_given: set[str] = set(json.loads(os.environ.get(INHERITED, "[]")))
_asks = False


def begin(verb: str, words: Sequence[str]) -> None:
    """Take the command line of a new process: the user has named what stands on it, unless a sweep's folder has."""
    global _asks
    _foreign.clear()
    _given.clear()
    _asks = False
    if INHERITED in os.environ:
        _given.update(json.loads(os.environ[INHERITED]))
        foreign(list(words))
    elif verb in NAMING:
        given(list(words))
    else:
        values = (word.partition("=")[2] if word.startswith("--") else word for word in words)
        given([value for value in values if value.startswith(PROGRAM)])


def foreign(value: Any) -> None:
    """Note that these JSON values come out of a file: by themselves they import and start nothing."""
    _foreign.update(_names_in(value))


def given(value: Any) -> None:
    """Note that the user has named what stands in these JSON values; in a process of `INHERITED` nothing counts."""
    if INHERITED not in os.environ:
        _given.update(_names_in(value))


def allow(names: Sequence[str], ask: bool = False) -> None:
    """Trust ``module`` or ``gtp:COMMAND`` by name, as `--trust` does.

    Args:
        names: of modules and programs.
        ask: ask at the terminal, if there is one, about what is not trusted.
    """
    global _asks
    _asks = ask
    given([name if ":" in name else f"{name}:" for name in names])


def environment() -> dict[str, str]:
    """What a process needs in its environment whose command line comes out of a folder."""
    return {INHERITED: json.dumps(sorted(_given))}


def check_module(module: str) -> None:
    """Let a module through that a run's folder has not named, that the user has named, or that is imported already.

    Raises:
        Untrusted: a run's folder alone has named it.
    """
    spec = spec_of(module)
    # Where it lies belongs to it: another folder may hold another module of that name.
    places = [spec.origin] if spec and spec.origin else list(spec.submodule_search_locations or ()) if spec else []
    entry = ["module", module, *map(os.path.realpath, places)]
    what = f"the module '{module}'", "importing it would run whatever it holds"
    _check(entry, f"{module}:", rf"(?:^|[=,+]){re.escape(module)}:(?!\d+$)", what, module, module in sys.modules)


def check_program(line: str) -> None:
    """The same of a program, by its command line.

    Raises:
        Untrusted: a run's folder alone has named it.
    """
    entry = ["program", line, os.getcwd()]  # a word of the line may be a file of this folder
    what = f"the program `{printable(line)}`", "it could do anything"
    name = PROGRAM + line
    _check(entry, name, rf"(?:^|[=,]){re.escape(name)}(?:,|$)", what, name, False)


def check_callable(name: str) -> None:
    """The same of a function, by its whole name ``module:function``; that its module is imported does not count.

    Raises:
        Untrusted: a run's folder alone has named it.
    """
    module = name.partition(":")[0]
    spec = spec_of(module)
    entry = ["callable", name, os.path.realpath(spec.origin) if spec and spec.origin else os.getcwd()]
    what = f"the function '{name}'", "it could do anything"
    _check(entry, name, rf"(?:^|[=,+]){re.escape(name)}(?:,|$)", what, name, False)


def spec_of(module: str) -> ModuleSpec | None:
    """Where a module's uppermost package would be imported from, the current directory first; imports nothing."""
    top = module.partition(".")[0]
    with contextlib.suppress(ImportError, ValueError):  # it is there, but was not imported from a file
        here = None if top in sys.modules else PathFinder.find_spec(top, [os.getcwd()])
        return here if here and here.has_location else find_spec(top) or here  # a mere folder comes last, as in Python
    return None


def _check(entry: list[str], name: str, pattern: str, what: tuple[str, str], flag: str, harmless: bool) -> None:
    if any(re.search(pattern, text) for text in _given):
        _remember(entry)
        return
    if harmless or not any(name in text for text in _foreign) or entry in _remembered():
        return
    if _asks and confirmed(f"rlab: A file of the run names {what[0]}, and {what[1]}. Trust it? [y/N] "):
        _remember(entry)
        given([name])
        return
    raise Untrusted(
        f"a file of the run names {what[0]}, which you have not: {what[1]}, so nothing was done; if you trust it, add "
        f"--trust {printable(shlex.quote(flag))}"
    )


def _names_in(value: Any) -> Iterator[str]:
    """Every text in JSON values in which a name could stand."""
    nodes = [value]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            nodes += [*node, *node.values()]
        elif isinstance(node, (list, tuple)):
            nodes += node
        elif isinstance(node, str) and ":" in node:
            yield node


def confirmed(question: str) -> bool:
    """Ask a question at the terminal; without one the answer is no, and so is Ctrl-C."""
    main = threading.current_thread() is threading.main_thread()
    if not (main and sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(printable(question), end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _memory() -> Path:
    """The user's file of what they have named before: JSON lists, one a line. Deleting it forgets them."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "")
    return (state if state.is_absolute() else Path.home() / ".local/state") / "rlab" / "trusted.jsonl"


def _remembered() -> list[list[str]]:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no home, or a damaged file: nothing is remembered
        return [json.loads(line) for line in _memory().read_text("utf-8").splitlines()]
    return []


def _remember(entry: list[str]) -> None:
    if entry[2:] and entry not in _remembered():
        with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written to: one is asked again
            _memory().parent.mkdir(parents=True, exist_ok=True)
            with open(_memory(), "a", encoding="utf-8") as file:  # a line at once: many processes write here
                file.write(json.dumps(entry) + "\n")
