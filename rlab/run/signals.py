"""Ctrl-C and SIGTERM become a request that the run's loop answers; they interrupt nothing half-way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlab.run.contract import Stop


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[Stop]:
    """While open, SIGINT and SIGTERM only set `stop`, however often they come.

    A handler before it whose attribute `came` is true has had a signal that nobody saw; it sets `stop`, too.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        stop.request(signal.Signals(number).name)

    before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if getattr(handler, "came", False):
            ask(number, None)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
