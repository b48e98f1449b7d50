"""Ctrl-C and SIGTERM become a request that the run's loop answers; they interrupt nothing half-way."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rlab.run.contract import Stop

GRACE = 3.0
"""Seconds that a stop may go unanswered while there is nothing to save."""


@contextmanager
def stop_on_signals(stop: Stop, leave: Callable[[int], object] | None = None) -> Iterator[Stop]:
    """While open, SIGINT and SIGTERM only set `stop`, however often they come.

    A handler before it whose attribute `came` is true has had a signal that nobody saw; it sets `stop`, too.

    Args:
        stop: what is set.
        leave: given the signal, ends a process that did not answer and has undone what it began (`Stop.undo`); None:
            it answers when it can.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        stop.request(signal.Signals(number).name)

    before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if getattr(handler, "came", False):
            ask(number, None)
    try:
        with contextlib.nullcontext() if leave is None else _watched(stop, leave):
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watched(stop: Stop, leave: Callable[[int], object]) -> Iterator[None]:
    """While open, a thread hears of signals also while the main thread is in foreign code, where no handler runs."""
    hears, tells = socket.socketpair()
    tells.setblocking(False)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while heard := hears.recv(1):
                select.select([hears], [], [], GRACE)  # wakes up once: every time it must wait for the main thread
                if heard[0] in (signal.SIGINT, signal.SIGTERM) and (undo := stop.undo) is not None:
                    undo()
                    leave(heard[0])

    thread = threading.Thread(target=watch, name="rlab-signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        tells.close()  # ends the thread
        thread.join()
        hears.close()
