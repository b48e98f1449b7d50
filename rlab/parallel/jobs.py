"""Processes on the machines of a cluster: each run of a sweep is an `rlab train` or `rlab resume` where there is room.

The runs' folder must lie on a disk that all machines share. A run whose machine is lost goes on elsewhere from its last
checkpoint (`rlab.compare.processes.Pool`).
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rlab.compare.child import PATIENCE_SECONDS
from rlab.compare.processes import LOST, POLL_SECONDS, begin
from rlab.errors import RlabError
from rlab.parallel.fleet import Fleet
from rlab.run.contract import State, Stop
from rlab.run.files import open_plain


class Runner:
    """Runs one process at a time; see `rlab.parallel.fleet.Player`.

    Args:
        stopped: whether the process is to save and leave.
    """

    def __init__(self, stopped: Callable[[], bool]):
        self.stopped = stopped

    def play(self, version: int, weights: State, words: State) -> State:
        """Run `rlab` with the `words`, and append what it says to `log`; return its exit status and what was wrong."""
        try:
            with open_plain(Path(words["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as log:
                process = begin("rlab", words["words"], log, log, os.environ | words["variables"])
        except OSError as e:
            where = f"{socket.gethostname()} cannot write {words['log']} ({e.strerror})"
            return {"status": 1, "error": f"{where}; all machines of a cluster must share the folder of the runs"}
        deadline = None
        while process.poll() is None:
            if deadline is None and self.stopped():
                process.terminate()
                deadline = time.monotonic() + PATIENCE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                process.kill()
            time.sleep(POLL_SECONDS)
        return {"status": process.returncode, "error": ""}


def make_runner(arguments: State, stopped: Callable[[], bool]) -> Runner:
    """An actor of a sweep; see `rlab.parallel.fleet.Maker`."""
    return Runner(stopped)


class ClusterProcess:
    """A process on some machine, with what `Pool` needs of a `subprocess.Popen`."""

    def __init__(self, cluster: Cluster, actor: int):
        self.cluster, self.actor = cluster, actor
        self.status: int | None = None
        self.asked = False
        """Whether it was asked to leave."""

    def poll(self) -> int | None:
        """Its exit status, `LOST` if its machine is gone, or None: it is at work."""
        self.cluster.hear(0)
        return self.status

    def terminate(self) -> None:
        """Ask it to save and leave."""
        self.asked = True
        self.cluster.fleet.stop(self.actor)

    def kill(self) -> None:
        """End all actors, and the processes with them: a pool kills those that do not leave, and no other is left."""
        self.cluster.fleet.close()
        self.status = -signal.SIGKILL

    def wait(self) -> int:
        """Its exit status, once it has one."""
        while self.status is None:
            self.cluster.hear(POLL_SECONDS)
        return self.status


class Cluster:
    """Where the processes of a sweep run.

    Args:
        cluster: see `Fleet`.
        most: processes at once; None: as many as its CPUs hold.
        threads: of each process.
        say: told what happens.
        stop: polled while Ray is waited for.

    Raises:
        RlabError: there is no such cluster.
        Stopped: a stop was requested before there was one.
    """

    def __init__(
        self, cluster: str, most: int | None, threads: int, say: Callable[[str], None], stop: Stop | None = None
    ):
        self.fleet = Fleet(f"{__name__}:make_runner", lambda actor, started: {}, most, cluster, say, threads, stop)
        self.at_once = self.fleet.actors
        self._free = list(range(self.at_once))
        self._working: dict[int, ClusterProcess] = {}

    def begin(self, words: Sequence[str], log: Path, variables: Mapping[str, str]) -> ClusterProcess:
        """Begin ``rlab WORD ...`` on a machine that has room."""
        self.hear(0)  # what an actor lost before is not lost with what it begins now
        actor = self._free.pop()
        self._working[actor] = process = ClusterProcess(self, actor)
        self.fleet.ask(actor, {"words": list(words), "log": str(log), "variables": dict(variables)})
        return process

    def hear(self, wait: float) -> None:
        """Take in what has become of processes.

        Raises:
            RlabError: one cannot begin where it is.
        """
        while (came := self.fleet.next(wait)) is not None:
            actor, played = came
            if process := self._working.pop(actor, None):
                self._free.append(actor)
                lost = -signal.SIGTERM if process.asked else LOST
                process.status = lost if played is None else int(played["status"])
                if played is not None and played["error"]:
                    raise RlabError(played["error"])

    def close(self) -> None:
        """End what still runs."""
        self.fleet.close()
