"""A parameter server whose workers are actors of a fleet: asynchronous updates with bounded staleness on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from rlab.errors import RlabError
from rlab.parallel.fleet import Actors, Fleet, Ledger, Piece, pieces_of, returned
from rlab.parallel.parameter_server import Gradient, Server
from rlab.run.contract import State


class Worker:
    """Computes gradients; see `rlab.parallel.fleet.Player`.

    Args:
        gradient: see `rlab.parallel.parameter_server.Gradient`.
        worker: its number.
        started: how often it was started before.
    """

    def __init__(self, gradient: Gradient, worker: int, started: int):
        self.gradient, self.worker, self.started, self.made = gradient, worker, started, 0

    def play(self, version: int, weights: State, words: State) -> State:
        """The gradient of the parameters of a version, for the mini-batch of that `number`."""
        gradient = self.gradient(weights["parameters"], self.worker, words["number"])
        self.made += 1
        return returned([Piece((self.worker, self.started, self.made), version, {"gradient": gradient})])


def make_worker(arguments: State, stopped: Callable[[], bool]) -> Worker:
    """A worker of `train_on_cluster`; see `rlab.parallel.fleet.Maker`."""
    module, _, function = arguments["gradient"].partition(":")
    gradient = getattr(import_module(module), function)(**arguments["arguments"])
    return Worker(gradient, arguments["worker"], arguments["started"])


def train_on(fleet: Actors, server: Server, workers: int, updates: int) -> None:
    """Let a fleet's workers send gradients to a server whenever they are ready, until it has made so many updates.

    Each worker goes on with the parameters as they are after its own gradient. One that is lost computes the same
    gradient again, of the parameters as they are then.
    """
    ledger, counts = Ledger(sys.maxsize), [0] * workers

    def ask(worker: int) -> None:
        version, parameters = server.pull()
        fleet.send(version, {"parameters": parameters})
        fleet.ask(worker, {"number": counts[worker]})

    for worker in range(workers):
        ask(worker)
    while server.version < updates:
        came = fleet.next()
        if came is None:
            continue
        worker, played = came
        for piece in [] if played is None else pieces_of(played):
            if ledger.accept(piece, server.version):
                server.push(piece.version, piece.content["gradient"])
                counts[worker] += 1
        ask(worker)


def train_on_cluster(
    gradient: str,
    arguments: dict[str, Any],
    parameters: np.ndarray,
    rate: float,
    workers: int,
    updates: int,
    bound: int | None = None,
    cluster: str = "auto",
    say: Callable[[str], None] = print,
) -> Server:
    """Run workers on a cluster of Ray until the server, which is here, has made so many updates.

    Args:
        gradient: ``module:function``, which is given the `arguments` and returns a `Gradient`.
        arguments: numbers, strings, arrays, and lists and dictionaries of these.
        parameters: float[P], the first ones.
        rate: the learning rate.
        workers: how many.
        updates: to be made.
        bound: updates by others after which a gradient is refused; None: never.
        cluster: see `rlab.parallel.fleet.Fleet`.
        say: told what happens.

    Raises:
        RlabError: Ray is not installed, there is no such cluster, there are no workers, or a gradient cannot be
            computed.
    """
    if workers < 1:
        raise RlabError(f"workers is {workers}; it must be at least 1")
    server = Server(parameters, rate, bound)

    def of(worker: int, started: int) -> State:
        return {"gradient": gradient, "arguments": arguments, "worker": worker, "started": started}

    fleet = Fleet(f"{__name__}:make_worker", of, workers, cluster, say)
    try:
        train_on(fleet, server, workers, updates)
    finally:
        fleet.close()
    return server
