"""The process between a learner and Ray, so that nothing that becomes of Ray ends the learner.

A process that is connected to Ray is ended by it, with no way to object, when its node is gone or the head stays away.
So a learner starts this one (`rlab.parallel.fleet`) and talks to it over a socket, in messages of bytes: a header in
JSON and a body that nobody but learner and actor reads. It imports neither torch nor what is played.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import secrets
import shutil
import socket
import sys
import threading
import time
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

STORE = 256 << 20
"""Bytes of the object store of a cluster that is started here."""

GROUP = "signs"
"""In which an actor hears while it works."""

LEAVING = 10.0
"""Seconds that this process has to end once the learner is gone; Ray may hang."""


class Host:
    """An actor on Ray: makes a player when it is first asked, and has it play.

    Args:
        maker: ``module:function``, see `rlab.parallel.fleet.Maker`.
        variables: for the environment.
        arguments: packed, what the maker is given.
    """

    def __init__(self, maker: str, variables: dict[str, str], arguments: bytes):
        os.environ.update(variables)
        self.maker, self.arguments = maker, arguments
        self.stopped = threading.Event()
        self.player: Any = None
        self.version = -1
        self.weights: Any = None

    def play(self, version: int, weights: bytes, words: bytes) -> tuple[str, bytes]:
        """(what went wrong, or "", and what was played)."""
        from rlab.errors import RlabError
        from rlab.run.checkpoint import from_bytes, to_bytes

        try:
            if self.player is None:
                module, _, function = self.maker.partition(":")
                make = getattr(import_module(module), function)
                self.player = make(from_bytes(self.arguments), self.stopped.is_set)
            if version != self.version:
                self.version, self.weights = version, from_bytes(weights)
            return "", to_bytes(self.player.play(version, self.weights, from_bytes(words)))
        except RlabError as e:
            return str(e), b""
        except Exception as e:
            return f"{type(e).__name__}: {e}", b""

    def alive(self) -> None:
        """Say that the process is there and not stopped."""

    def stop(self) -> None:
        """Ask what it is at to end early."""
        self.stopped.set()


class Broker:
    """Passes on what the learner asks of actors, and what they answer.

    Args:
        learner: the connection.
        setting: see `main`.
        happened: what is to be done; the learner's messages come in there, see `listen`.
    """

    def __init__(self, learner: Connection, setting: dict[str, Any], happened: queue.Queue[tuple[Any, ...]]):
        import ray

        self.ray, self.learner, self.setting, self.happened = ray, learner, setting, happened
        self.silent: float = setting["silent"]
        options: dict[str, Any] = {"max_restarts": 0, "num_cpus": setting["num_cpus"], "scheduling_strategy": "SPREAD",
                                   "concurrency_groups": {GROUP: 1}}  # fmt: skip
        self.remote: Any = ray.remote(**options)(Host)
        self.handles: dict[int, Any] = {}
        self.starts: dict[int, int] = {}
        self.signs: dict[int, float] = {}
        """When each actor gave a sign of life; until its first answer, when it may be expected to at the latest."""
        self.waits: set[int] = set()
        """Actors that have been asked whether they are there."""
        self.weights: tuple[int, Any] = (0, b"")
        self.due = 0.0

    def run(self) -> None:
        """Go on until the learner is gone or says so."""
        while True:
            try:
                what, *about = self.happened.get(timeout=self.silent / 4)
            except queue.Empty:
                self._look()
                continue
            if what == "end":
                return
            getattr(self, f"_{what}")(*about)
            if time.monotonic() > self.due:
                self._look()

    def _say(self, *header: Any, body: bytes = b"") -> None:
        tell(self.learner, *header, body=body)

    def _weights(self, version: int, body: bytes) -> None:
        self.weights = version, self.ray.put(body)

    def _make(self, actor: int, started: int, body: bytes) -> None:
        s = self.setting
        self.handles[actor] = self.remote.remote(s["maker"], s["variables"], body)
        self.starts[actor] = started
        self.waits.discard(actor)
        self.signs[actor] = time.monotonic() + s["starting"]

    def _ask(self, actor: int, body: bytes) -> None:
        if actor in self.handles:
            ref = self.handles[actor].play.remote(*self.weights, body)
            started = self.starts[actor]
            ref.future().add_done_callback(lambda done: self.happened.put(("answered", actor, started, done)))

    def _stop(self, actor: int, body: bytes) -> None:
        if actor in self.handles:
            self.handles[actor].stop.options(concurrency_group=GROUP).remote()

    def _answered(self, actor: int, started: int, done: Any) -> None:
        if actor not in self.handles or self.starts[actor] != started:
            return  # of one that was given up
        self.signs[actor] = time.monotonic()
        try:
            error, body = done.result()
        except self.ray.exceptions.RayError as e:
            self._gone(actor, started, e)
            return
        if error:
            self._say("error", actor, error)
        else:
            self._say("answer", actor, started, body=body)

    def _lose(self, actor: int, why: str) -> None:
        handle = self.handles.pop(actor)
        with contextlib.suppress(Exception):
            self.ray.kill(handle)
        self._say("lost", actor, why)

    def _look(self) -> None:
        """Ask all actors for a sign of life, and give up those that gave none; give one to the learner."""
        now = time.monotonic()
        self._say("alive")
        self.due = now + self.silent / 4
        for actor, handle in list(self.handles.items()):
            if actor not in self.waits:
                self.waits.add(actor)
                self.signs[actor] = max(now, self.signs[actor])
                ref, started = handle.alive.options(concurrency_group=GROUP).remote(), self.starts[actor]
                ref.future().add_done_callback(lambda done, a=actor, s=started: self._sign(a, s, done))
            elif now - self.signs[actor] > self.silent and self.happened.empty():
                self._lose(actor, f"has been silent for {self.silent:g} s")

    def _sign(self, actor: int, started: int, done: Any) -> None:
        """Hear an actor, in a thread of Ray's."""
        if self.starts.get(actor) != started:
            return
        if done.exception() is None:
            self.signs[actor] = max(time.monotonic(), self.signs[actor])
            self.waits.discard(actor)
        else:
            self.happened.put(("gone", actor, started, done.exception()))

    def _gone(self, actor: int, started: int, error: Exception) -> None:
        if actor not in self.handles or self.starts[actor] != started:
            return
        if getattr(error, "actor_init_failed", False):  # it would fail again, such as on a machine without rlab
            self._say("error", actor, f"it cannot be made ({last_line(error)})")
        else:
            self._lose(actor, f"is gone ({type(error).__name__})")


def tell(learner: Connection, *header: Any, body: bytes = b"") -> None:
    """Send a message to the learner."""
    learner.send_bytes(json.dumps(header).encode())
    learner.send_bytes(body)


def listen(learner: Connection, happened: queue.Queue[tuple[Any, ...]]) -> None:
    """Take in the learner's messages, and end this process soon after the learner, whatever it is at."""
    try:
        while True:
            header = json.loads(learner.recv_bytes())
            happened.put((*header, learner.recv_bytes()))
    except (OSError, EOFError):
        happened.put(("end",))
    time.sleep(LEAVING)
    os._exit(1)


def last_line(error: Exception) -> str:
    """What an error says in the end; Ray's begin with where it happened."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def reach(address: str, seconds: float) -> None:
    """Wait until something answers at ``host:port``; Ray itself takes minutes to find that nothing does.

    Raises:
        OSError: nothing does, within so many seconds.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), max(0.1, end - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > end - 0.5:
                raise
        time.sleep(0.5)


def connect(cluster: str, seconds: float) -> tuple[int, str]:
    """Be connected to a cluster; one that is started here asks for a token.

    Returns:
        How many CPUs it has, and the folder of one that is started here, else "".

    Args:
        cluster: local, an address, or auto.
        seconds: for which the address is tried.

    Raises:
        Exception: there is no such cluster.
    """
    address, named = cluster, os.environ.get("RAY_ADDRESS", "")
    if cluster == "auto":
        address = "auto" if named else "local"
    at = named if address == "auto" else address
    if at.rpartition(":")[2].isdecimal() and "/" not in at:
        reach(at, seconds)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default, which starves actors beside other work
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options = {"include_dashboard": False, "object_store_memory": STORE}
    import ray

    context: Any = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    folder = context.address_info["session_dir"] if address == "local" else ""
    return int(ray.cluster_resources().get("CPU", 1)), folder


def main(fd: int) -> int:
    """Serve the learner at the other end of a socket until it is gone.

    The first message is the setting: `cluster`, `maker`, `variables`, `num_cpus` of an actor, the seconds `silent` and
    `starting` for which an actor may give no sign of life, and that it may take longer at first, and the seconds
    `reach` for which a cluster's address is tried.
    """
    learner = Connection(socket.socket(fileno=fd).detach())
    setting = json.loads(learner.recv_bytes())
    happened: queue.Queue[tuple[Any, ...]] = queue.Queue()
    threading.Thread(target=listen, args=(learner, happened), daemon=True).start()
    folder = ""
    try:
        cpus, folder = connect(setting["cluster"], setting["reach"])
        broker = Broker(learner, setting, happened)
        broker._say("ready", cpus)
        broker.run()
    except Exception as e:
        with contextlib.suppress(OSError):  # the learner may be gone
            tell(learner, "failed", last_line(e))
        return 1
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)  # Ray leaves its logs
    return 0
