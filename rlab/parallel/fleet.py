"""Fleets of actors on Ray: what is played is given as a function; who plays, dies, falls silent and returns is here.

Actors keep nothing that could be lost (Horgan et al. 2018): each is sent parameters with their version and what it is
to do, and returns what it has played, in pieces. A piece is accepted once, by its id, if it is not of parameters that
are too old. An actor that dies or falls silent is started again. Where the connection to Ray itself is lost, the whole
fleet starts anew as soon as a cluster answers, and the learner stays: Ray lives in a process of its own
(`rlab.parallel.broker`).
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

from rlab.compare.processes import python_command
from rlab.errors import RlabError
from rlab.run.checkpoint import from_bytes, to_bytes
from rlab.run.contract import State, Stop, Stopped
from rlab.run.folder import runs_dir
from rlab.trust import environment as trusted

PUSH = 50
"""Updates from one version of the parameters to the next that actors are sent."""

OLDEST = 2_000
"""Updates that may have been made since the parameters of a piece; older ones are refused."""

SILENT = 30.0
"""Seconds after which an actor that gives no sign of life is started again."""

STARTING = 120.0
"""Seconds that it may take besides at its first start: modules are imported, kernels compiled."""

REACH = 15.0
"""Seconds for which the address of a cluster is tried, whatever it is that does not answer there."""

JOIN = 60.0
"""Seconds that a cluster whose address can be reached may take to answer when a learner starts."""

AGAIN = 5.0
"""Seconds from one attempt to reach a cluster to the next."""

WAIT = 0.5
"""Seconds for which a learner waits for actors before it looks whether it is to stop."""

HERE = "this machine"

Id = tuple[int, int, int]
"""(actor, how often it was started before, number of what it has played)."""

Player = Any
"""What has ``play(version, weights, words)``, and returns a state of what it has played."""

Maker = Callable[[State, Callable[[], bool]], Player]
"""(arguments, whether it is to end early) -> what plays; named as ``module:function``."""


class Piece(NamedTuple):
    """Something whole that an actor has played: a chunk of steps, a game, a gradient."""

    id: Id
    version: int  # updates that the oldest of its parameters had seen
    content: State


class Ledger:
    """Which pieces were accepted, so that none counts twice, and none of parameters that are too old.

    Attributes:
        accepted: pieces.
        refused: pieces of parameters that were too old.
        repeated: pieces that had been accepted before, or were of an actor that had been given up.
    """

    def __init__(self, oldest: int = OLDEST):
        self.oldest = oldest
        self.accepted = self.refused = self.repeated = 0
        self._newest: dict[int, tuple[int, int]] = {}

    def accept(self, piece: Piece, updates: int) -> bool:
        """Whether a piece is to be learned from, by a learner with so many updates."""
        actor, *when = piece.id
        if tuple(when) <= self._newest.get(actor, (-1, -1)):
            self.repeated += 1
            return False
        self._newest[actor] = (when[0], when[1])
        if updates - piece.version > self.oldest:
            self.refused += 1
            return False
        self.accepted += 1
        return True


SERVE = "import sys; from rlab.parallel.broker import main; sys.exit(main(int(sys.argv[1])))"
"""What the process between this one and Ray runs; not ``-m``, by which actors would not find its classes."""


class Actors(Protocol):
    """What a learner needs of a fleet."""

    lost: int
    """Actors that were started again."""

    def send(self, version: int, weights: Mapping[str, Any]) -> None:
        """Give all that is asked for from now on these parameters."""

    def ask(self, actor: int, words: State) -> None:
        """Ask an actor to play; it has one such task at a time."""

    def stop(self, actor: int) -> None:
        """Ask an actor to end early what it is at; that is final."""

    def next(self) -> tuple[int, State | None] | None:
        """(actor, what it has played, or None: it was lost, and stands there anew), or None: nothing yet."""

    def close(self) -> None:
        """End all actors."""


class Fleet:
    """Actors on Ray, each with one task under way, so that what lies in the object store is bounded.

    Args:
        maker: ``module:function``, see `Maker`.
        arguments: (actor, how often it was started before) -> what the maker is given.
        actors: how many; None: one for each CPU of the cluster, or for `num_cpus` of them.
        cluster: local, this machine; an address of Ray; auto: what RAY_ADDRESS names, else this machine.
        say: told what happens.
        num_cpus: that Ray sets aside for an actor; of such there are no more than its CPUs hold.
        stop: polled while Ray is waited for.

    Raises:
        RlabError: Ray is not installed, or there is no such cluster.
        Stopped: a stop was requested before there was one.
    """

    def __init__(
        self,
        maker: str,
        arguments: Callable[[int, int], State],
        actors: int | None,
        cluster: str,
        say: Callable[[str], None],
        num_cpus: float = 0,
        stop: Stop | None = None,
    ):
        refuse_cluster(cluster)
        self.arguments, self.cluster, self.say = arguments, cluster, say
        self.lost = self.cpus = self.actors = self.bytes_in = 0
        variables = {"RLAB_RUNS": str(runs_dir()), **trusted()}
        self._setting = {"cluster": cluster, "maker": maker, "variables": variables,
                         "num_cpus": num_cpus, "silent": SILENT, "starting": STARTING, "reach": REACH}  # fmt: skip
        self._weights = ["weights", 0], to_bytes({})
        self._events: deque[tuple[int, State | None]] = deque()
        self._broker: subprocess.Popen[bytes] | None = None
        self._ready, self._due, self._told = False, 0.0, False
        self._connect()
        try:
            self._wait(stop or Stop())
        except BaseException:
            self.close()
            raise
        most = max(1, int(self.cpus / max(1, num_cpus)))
        self.actors = min(actors or most, most) if num_cpus else actors or most
        if actors and self.actors < actors:
            say(f"{actors} were asked for at once; the {self.cpus} CPUs of {self._where} hold {self.actors}")
        self._started = [-1] * self.actors
        for actor in range(self.actors):
            self._start(actor)

    def send(self, version: int, weights: Mapping[str, Any]) -> None:
        """See `Actors`."""
        self._weights = ["weights", version], to_bytes(dict(weights))
        self._say(*self._weights)

    def ask(self, actor: int, words: State) -> None:
        """See `Actors`."""
        self._say(["ask", actor], to_bytes(words))

    def stop(self, actor: int) -> None:
        """See `Actors`."""
        self._say(["stop", actor], b"")

    def next(self, wait: float = WAIT) -> tuple[int, State | None] | None:
        """See `Actors`; waits for so many seconds at the most."""
        end = time.monotonic() + wait
        while not self._events:
            left = max(0.0, end - time.monotonic())
            if self._broker is not None:
                if failure := self._hear(left):
                    self._give_up(failure)
            elif time.monotonic() >= self._due:
                self._connect()
            else:
                time.sleep(min(left, max(0.0, self._due - time.monotonic())))
            if not left:
                break
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """End all actors, and a cluster that was started for them."""
        if self._broker is not None:
            self._pipe.close()
            if not self._ready:
                self._broker.kill()  # it may hang in an attempt to reach a cluster
            try:
                self._broker.wait(10)
            except subprocess.TimeoutExpired:
                self._broker.kill()
                self._broker.wait()
            self._broker = None

    def _connect(self) -> None:
        """Start a broker, which tells when it is ready."""
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        self._broker = subprocess.Popen(
            [*python_command(), "-c", SERVE, str(fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # Ray's own logs are in its folder
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C is for the learner, which saves first
        )
        theirs.close()
        for way in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # a stopped broker must not stop the learner
            ours.setsockopt(socket.SOL_SOCKET, way, struct.pack("ll", max(1, int(SILENT)), 0))
        self._pipe = Connection(ours.detach())
        self._ready, self._heard = False, time.monotonic()
        self._pipe.send_bytes(json.dumps(self._setting).encode())

    def _wait(self, stop: Stop) -> None:
        """Wait for the first broker to be ready.

        Raises:
            RlabError: it cannot be, or is not in time.
            Stopped: a stop was requested.
        """
        patience = STARTING if self._where == HERE else JOIN
        self.say(f"waiting for Ray on {self._where}, {patience:g} s at the most")
        end = time.monotonic() + patience
        while not self._ready:
            if stop.requested:
                raise Stopped
            failure = self._hear(WAIT)
            if not self._ready and time.monotonic() > end:
                failure = self._absent(f"no answer within {patience:g} s")
            if failure:
                raise RlabError(failure)

    @property
    def _where(self) -> str:
        """Where the actors are to play."""
        named = os.environ.get("RAY_ADDRESS")
        place = {"local": HERE, "auto": f"RAY_ADDRESS={named}" if named else HERE}
        return place.get(self.cluster, self.cluster)

    def _absent(self, why: str) -> str:
        """What to say where there is no cluster."""
        if self._where == HERE:
            return f"Ray cannot be started on this machine ({why})"
        return (
            f"no cluster of Ray answers at '{self._where}' ({why}); check the address, that `ray start --head` runs "
            "there, and that RAY_AUTH_MODE and RAY_AUTH_TOKEN are as there; nearest: --cluster local"
        )

    def _say(self, header: list[Any], body: bytes) -> None:
        if self._broker is None or not self._ready:
            return  # a new broker is told all that counts
        try:
            self._pipe.send_bytes(json.dumps(header).encode())
            self._pipe.send_bytes(body)
        except OSError:
            self._give_up("the connection to Ray is gone")

    def _hear(self, wait: float) -> str:
        """Take in one message, if one comes in time; return what is wrong with the connection, or ""."""
        try:
            if not self._pipe.poll(wait):
                patience = 2 * SILENT if self._ready else STARTING
                waited = time.monotonic() - self._heard
                return f"Ray has been silent for {waited:.0f} s" if waited > patience else ""
            what, *about = json.loads(self._pipe.recv_bytes())
            body = self._pipe.recv_bytes()
        except (OSError, EOFError):
            return "the connection to Ray is gone"
        self._heard, self.bytes_in = time.monotonic(), self.bytes_in + len(body)
        if what == "ready":
            self._stand(*about)
        elif what == "failed":
            return f"the connection to Ray is gone ({about[0]})" if self._ready else self._absent(about[0])
        elif what == "error":
            raise RlabError(f"actor {about[0]}: {about[1]}")
        elif what == "lost":
            actor, why = about
            self.say(f"actor {actor} {why}; it starts again")
            self._lose(actor)
            self._start(actor)
        elif what == "answer" and about[1] == self._started[about[0]]:
            self._events.append((about[0], from_bytes(body)))
        return ""

    def _stand(self, cpus: int) -> None:
        """Go on where a broker is ready."""
        self._ready, self.cpus = True, cpus
        self._say(*self._weights)
        if not self.actors:
            self.say(f"the fleet stands on {self._where}")
            return
        self._told = False
        self.say("the fleet stands again")
        for actor in range(self.actors):
            self._lose(actor)
            self._start(actor)

    def _give_up(self, why: str) -> None:
        """Leave a broker that is no good, and try another one soon."""
        assert self._broker is not None
        if not self._told:
            self._told = True
            self.say(f"{why}; the learner waits, and the fleet starts anew as soon as it can")
        self._broker.kill()
        self._broker.wait()
        self._pipe.close()
        self._broker, self._due = None, time.monotonic() + AGAIN * (not self._ready)
        self._ready = False

    def _lose(self, actor: int) -> None:
        self.lost += 1
        self._events = deque(event for event in self._events if event[0] != actor)  # not accepted yet
        self._events.append((actor, None))

    def _start(self, actor: int) -> None:
        self._started[actor] += 1
        self._say(["make", actor, self._started[actor]], to_bytes(self.arguments(actor, self._started[actor])))


def refuse_cluster(cluster: str) -> None:
    """Refuse what cannot name a cluster, and a machine without Ray.

    Raises:
        RlabError: it is so.
    """
    host, _, port = cluster.rpartition(":")
    address = host and "/" not in host and port.isdecimal() and 0 < int(port) < 1 << 16
    if cluster not in ("auto", "local") and not address:
        raise RlabError(f"--cluster is '{cluster}'; valid: local, auto, HOST:PORT such as 10.0.0.1:6379")
    if find_spec("ray") is None:
        raise RlabError("fleets need Ray, which is not installed: pip install 'rlab-rl[cluster]'")


class Exchange:
    """Sends a learner's parameters to a fleet, and accepts what is played with them, each piece once.

    Args:
        fleet: the actors.
        weights: the learner's parameters as they are now.
        updates: how many updates they have seen.
    """

    def __init__(self, fleet: Actors, weights: Callable[[], Mapping[str, Any]], updates: Callable[[], int]):
        self.fleet, self.ledger = fleet, Ledger()
        self._weights, self._updates = weights, updates
        self._sent = updates()
        fleet.send(self._sent, weights())

    def renew(self) -> None:
        """Send the parameters, if they have changed enough."""
        if self._updates() - self._sent >= PUSH:
            self._sent = self._updates()
            self.fleet.send(self._sent, self._weights())

    def accepts(self, piece: Piece) -> bool:
        """Whether a piece is to be learned from; see `Ledger`."""
        return self.ledger.accept(piece, self._updates())

    def gauges(self, pieces: list[Piece]) -> dict[str, float]:
        """What metrics tell of the fleet, where these pieces have come in."""
        counts = {"actors_lost_last": float(self.fleet.lost), "refused_last": float(self.ledger.refused)}
        if not pieces:
            return counts
        lags = [float(self._updates() - piece.version) for piece in pieces]
        return counts | {"lag": sum(lags) / len(lags), "largest_lag_max": max(lags)}


def pieces_of(played: State) -> list[Piece]:
    """What an actor has returned, as pieces."""
    return [Piece((p["id"][0], p["id"][1], p["id"][2]), p["version"], p["content"]) for p in played["pieces"]]


def returned(pieces: list[Piece]) -> State:
    """Undo `pieces_of`."""
    return {"pieces": [piece._asdict() for piece in pieces]}
