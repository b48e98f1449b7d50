"""``rlab chat RUN``: converse with a run that learned from dialogues; without a terminal line by line from stdin."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlab.cli.common import DeviceName, RunName, TrustFlag, parse, refuse_below, say
from rlab.errors import RlabError
from rlab.run.formatting import printable_lines

LONGEST = 10_000
"""Characters of a line that are read."""


@dataclass(frozen=True)
class Flags:
    """Answer what you type, one line at a time, by the dialogue so far. An empty line begins a new dialogue; the end of
    the input (Ctrl-D) ends it."""

    run: RunName
    """A run's name, a path, or `latest`."""
    temperature: float = 0.0
    """What the words' scores are divided by before one is drawn; 0: always the most probable word."""
    seed: int = 0
    """Of what is drawn."""
    device: DeviceName = None
    """Where the network runs; by default a GPU where there is one."""
    trust: TrustFlag = ()
    """A module or program that the run names and may use; can be given several times (docs/security.md)."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    flags = parse(Flags, "chat", argv)
    refuse_below(flags, seed=0)
    if not 0 <= flags.temperature < math.inf:
        raise RlabError(f"--temperature is {flags.temperature}; it must be a number of at least 0")
    from rlab.api import load
    from rlab.run.contract import Converses

    stdin: Any = sys.stdin
    if hasattr(stdin, "reconfigure"):
        stdin.reconfigure(errors="replace")  # bytes that are no UTF-8
    people = stdin.isatty()
    with load(flags.run, flags.device or "auto") as loaded:
        speaker = loaded.ability(Converses)
        if people:
            say("write a line; an empty one begins a new dialogue, Ctrl-D ends")
        turns: list[str] = []
        answered = 0
        while True:
            if people:
                print("> ", end="", file=sys.stderr, flush=True)
            line = stdin.readline()
            if not line:
                return 0
            text = line[:LONGEST].strip()
            if not text:
                turns = []
                continue
            turns.append(text)
            turns.append(speaker.answer(turns, flags.temperature, flags.seed + answered))
            answered += 1
            print(printable_lines(turns[-1]), flush=True)
