"""``python -m rlab.compare.child FD ...``: a process that ends with the one that began it, however that one ends.

FD is the reading end of a pipe whose writing end only the parent holds. At its end this process asks itself to save and
leave, as by SIGTERM; what does not leave in time is killed, which a run survives.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from functools import cache

PATIENCE_SECONDS = 120.0
"""How long a process may take to save and leave once it was asked to."""


@cache
def lifeline() -> int:
    """Open the pipe of this process, once; return the reading end, which is for its children."""
    reading, _ = os.pipe()  # the writing end stays open, here alone, for as long as this process lives
    return reading


def end_with_parent(fd: int) -> None:
    """Watch the pipe in a thread of its own."""
    threading.Thread(target=_watch, args=(fd,), name="parent", daemon=True).start()


def _watch(fd: int) -> None:
    while os.read(fd, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    del sys.argv[0:2]  # what stays is the command line as `python -m MODULE ...` has it
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
