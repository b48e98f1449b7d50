"""Processes and waits of tests: they wait for what happens, so that a busy machine only takes longer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

LONGEST = 500
"""Seconds that anything is waited for: below pytest's own limit, and more than a busy machine needs."""

Spawn = Callable[..., subprocess.Popen[str]]
"""(word, ..., **options of `subprocess.Popen`) -> the process, which ends with its test."""


def until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is true, which a process that has ended cannot make it any more."""
    deadline = time.monotonic() + LONGEST
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process, if it still is there, and close its pipes: left open, they would fail a later test."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
