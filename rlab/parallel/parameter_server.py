"""A parameter server: workers fetch parameters, compute gradients, and send them back whenever they are ready.

Asynchronous updates wait for nobody, but a gradient is of parameters that others have changed meanwhile. The server
counts its updates, so each gradient has a staleness, and one that is too stale is refused (as Ho et al. 2013 bound it).
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlab.errors import RlabError

Gradient = Callable[[np.ndarray, int, int], np.ndarray]
"""(parameters, worker, how many it has computed before) -> the gradient of a mini-batch, alike at every call."""

Seconds = Callable[[int, int], float]
"""(worker, how many it has computed before) -> the time that its next gradient takes."""


class Server:
    """Parameters under plain gradient descent; safe to be used by several threads.

    Args:
        parameters: float[P], the first ones.
        rate: the learning rate.
        bound: updates by others after which a gradient is refused; None: never.

    Attributes:
        version: updates so far.
        refused: gradients that came too late.
    """

    def __init__(self, parameters: np.ndarray, rate: float, bound: int | None = None):
        if bound is not None and bound < 0:
            raise RlabError(f"the bound of the staleness is {bound}; it must be 0 or more, or None")
        self.parameters = np.array(parameters, float)
        self.rate, self.bound = rate, bound
        self.version = self.refused = 0
        self.staleness: list[int] = []
        self._lock = threading.Lock()

    def pull(self) -> tuple[int, np.ndarray]:
        """(version, parameters) as they are now."""
        with self._lock:
            return self.version, self.parameters.copy()

    def push(self, version: int, gradient: np.ndarray) -> bool:
        """Take a gradient of the parameters of a version; False: it was too stale and changed nothing."""
        with self._lock:
            staleness = self.version - version
            if staleness < 0:
                raise RlabError(f"a gradient is of version {version}, and the newest is {self.version}")
            if self.bound is not None and staleness > self.bound:
                self.refused += 1
                return False
            self.parameters -= self.rate * gradient
            self.version += 1
            self.staleness.append(staleness)
            return True


@dataclass
class Trace:
    """What a simulation came to.

    Attributes:
        parameters: the last ones.
        seconds: the simulated time of each update.
        staleness: of each update.
        refused: gradients that came too late.
    """

    parameters: np.ndarray
    seconds: list[float] = field(default_factory=list)
    staleness: list[int] = field(default_factory=list)
    refused: int = 0


def simulate_asynchronous(
    gradient: Gradient,
    parameters: np.ndarray,
    rate: float,
    workers: int,
    seconds: Seconds,
    limit: float,
    bound: int | None = None,
) -> Trace:
    """Let workers send gradients whenever they are ready, by a simulated clock, until `limit` seconds.

    Ties go to the worker of the lower number, so that the same arguments give the same trace.
    """
    server, trace = Server(parameters, rate, bound), Trace(parameters)
    pulled = [server.pull() for _ in range(workers)]
    counts = [0] * workers
    queue = [(seconds(w, 0), w) for w in range(workers)]
    heapq.heapify(queue)
    while queue and queue[0][0] <= limit:
        now, worker = heapq.heappop(queue)
        version, then = pulled[worker]
        if server.push(version, gradient(then, worker, counts[worker])):
            trace.seconds.append(now)
        counts[worker] += 1
        pulled[worker] = server.pull()
        heapq.heappush(queue, (now + seconds(worker, counts[worker]), worker))
    trace.parameters, trace.staleness, trace.refused = server.parameters, server.staleness, server.refused
    return trace


def simulate_synchronous(
    gradient: Gradient, parameters: np.ndarray, rate: float, workers: int, seconds: Seconds, limit: float
) -> Trace:
    """Average the gradients of all workers for each update, which waits for the slowest, until `limit` seconds."""
    trace, now, number = Trace(np.array(parameters, float)), 0.0, 0
    while (now := now + max(seconds(w, number) for w in range(workers))) <= limit:
        mean = np.mean([gradient(trace.parameters, w, number) for w in range(workers)], axis=0)
        trace.parameters = trace.parameters - rate * mean
        trace.seconds.append(now)
        trace.staleness.append(0)
        number += 1
    return trace


def simulate_delay(gradient: Gradient, parameters: np.ndarray, rate: float, delay: int, updates: int) -> list[float]:
    """Make updates with gradients of the parameters of `delay` updates before; the norm of the parameters after each.

    It ends early where they have grown a million times.
    """
    past, norms = [np.array(parameters, float)], []
    for number in range(updates):
        old = past[max(0, len(past) - 1 - delay)]
        past.append(past[-1] - rate * gradient(old, 0, number))
        norms.append(float(np.linalg.norm(past[-1])))
        if norms[-1] > 1e6 * np.linalg.norm(past[0]):
            break
    return norms


def train_in_threads(
    gradient: Gradient, parameters: np.ndarray, rate: float, workers: int, updates: int, bound: int | None = None
) -> Server:
    """Run real workers, a thread each, until the server has made so many updates; the order is that of the machine."""
    server = Server(parameters, rate, bound)
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        number = 0
        try:
            while server.version < updates and not failures:
                version, then = server.pull()
                server.push(version, gradient(then, worker, number))
                number += 1
        except BaseException as e:
            failures.append(e)

    threads: Sequence[threading.Thread] = [threading.Thread(target=work, args=(w,)) for w in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return server
