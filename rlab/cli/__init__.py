"""The command ``rlab``: one file per verb. This one only dispatches: ``rlab --help`` is instant."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import namedtuple
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from rlab.errors import Misspelt, RlabError, nearest, printable, printable_lines
from rlab.trust import begin

TASKS = {
    "train": {
        "train": "learn: rlab train AGENT --env ENV",
        "resume": "go on with a run that was stopped or killed",
        "sweep": "agents x environments x seeds in parallel, or a search of settings",
    },
    "look": {
        "runs": "list the runs, show one, remove some",
        "eval": "play whole games and score them",
        "watch": "play, show it, and write a video",
        "predict": "say what a model sees in pictures: rlab predict RUN IMAGE",
        "sample": "let a model write: rlab sample RUN --prompt TEXT",
        "translate": "translate text: rlab translate RUN TEXT",
        "report": "write a page with curves, score, settings and video",
        "compare": "compare runs over seeds, with intervals",
    },
    "make smaller": {
        "compress": "a smaller run of a trained one: quantised, pruned",
        "export": "one file that runs without rlab: ONNX, torch",
    },
    "language": {
        "neighbours": "words near a word, and analogies, by word vectors",
        "chat": "converse with a run that learned from dialogues",
    },
    "play Go": {
        "play": "play against a player: rlab play go9 --with RUN",
        "analyze": "judge the moves of a game's record",
        "gtp": "be an engine for Go programs (Go Text Protocol)",
        "tournament": "let players meet, and rate them",
    },
    "find out": {
        "list": "agents, models, environments, encoders, data sets, studies",
        "data": "list, fetch, verify and show data sets",
        "study": "test a claim of the literature by an experiment",
        "bench": "measure speed side by side with other libraries",
        "doctor": "say what works on this machine",
        "completion": "let a shell complete verbs, flags and names",
    },
}
"""Task -> verb -> one line for the help text."""

VERBS = {verb: line for verbs in TASKS.values() for verb, line in verbs.items()}
"""Verb -> its line; each is ``main(argv) -> exit status`` in a module, see `module_of`."""


def module_of(verb: str) -> ModuleType:
    """The module of a verb; that of `list` would hide the type of that name here."""
    return import_module("rlab.cli.listing" if verb == "list" else f"rlab.cli.{verb}")


def usage() -> str:
    """The text of ``rlab --help``."""
    blocks = [
        "\n".join([f"{task}:", *(f"  {name:<12}{line}" for name, line in verbs.items())])
        for task, verbs in TASKS.items()
    ]
    tasks = "\n\n".join(blocks)
    return f"""usage: rlab VERB ...

{tasks}

RUN is a run's name, a path, or `latest`. `rlab VERB --help` tells the rest.

examples:
  rlab train dqn --env Breakout --minutes 10
  rlab watch latest
  rlab report latest
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``rlab``; None takes them from the process.

    Returns:
        The exit status: 0 done, 1 one clear sentence on stderr says why not, 2 the command was misspelt,
        130 and 143 stopped by Ctrl-C and by SIGTERM.
    """
    _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    early = None
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it may be ignored, as in the background
    if usual and threading.current_thread() is threading.main_thread():
        early = signal.signal(signal.SIGINT, Interrupt())
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except RlabError as e:
        print(f"rlab: {printable_lines(e)}", file=sys.stderr)
        return 2 if isinstance(e, Misspelt) else 1
    except SystemExit as e:  # the flag parser ends with it
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        # Where it came inside text that Python runs (an import that makes dataclasses), CPython would end the process
        # by the signal instead of with our status; to run other text, as a namedtuple does, takes that back.
        namedtuple("Interrupted", ())
        before = words[0] == "train"  # later its own handler is in place
        print("stopped before the run began; nothing was written" if before else "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        if early is not None and isinstance(signal.getsignal(signal.SIGINT), Interrupt):
            signal.signal(signal.SIGINT, early)


def _open_closed_streams() -> None:
    """Give a process that was started with a closed standard stream an empty one, so that no file takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - for all of the process


class Interrupt:
    """What SIGINT does until a verb has a handler of its own: it raises KeyboardInterrupt, and is remembered.

    Python throws away what is raised in a callback of its import system; `stop_on_signals` finds it here.

    Attributes:
        came: whether there was one.
    """

    came = False

    def __call__(self, number: int, frame: object) -> None:
        """See `signal.signal`."""
        self.came = True
        raise KeyboardInterrupt


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if words[0] in ("-V", "--version"):
        import rlab

        print(f"rlab {rlab.__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"rlab: there is no verb '{printable(verb)}'; {nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    begin(verb, rest)
    return module_of(verb).main(rest)
