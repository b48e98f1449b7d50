"""Fleets for tests: one in this process, and the processes of one on Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

from rlab.parallel.fleet import Piece, pieces_of
from rlab.run.checkpoint import from_bytes, to_bytes


class Local:
    """A fleet in this process, whose actors die now and then, some of them after they have played."""

    def __init__(self, make: Callable[[int, int], Any], dies: Callable[[int], bool], actors: int = 2):
        self.make, self.dies = make, dies
        self.lost = self.asked = 0
        self.started = [0] * actors
        self.weights: tuple[int, Any] = (0, {})
        self.players = [make(actor, 0) for actor in range(actors)]
        self.queue: list[tuple[int, Any]] = []
        self.returned: list[Piece] = []

    def send(self, version: int, weights: Any) -> None:
        self.weights = version, from_bytes(to_bytes(dict(weights)))

    def ask(self, actor: int, words: Any) -> None:
        # However slow the learner is: what is played ahead of it lies in Ray's object store.
        assert actor not in (other for other, _ in self.queue), "an actor has one task at a time"
        self.asked += 1
        played = from_bytes(to_bytes(self.players[actor].play(*self.weights, from_bytes(to_bytes(words)))))
        self.queue.append((actor, None if self.dies(self.asked) else played))

    def stop(self, actor: int) -> None:
        """What is asked is played at once."""

    def next(self) -> tuple[int, Any]:
        actor, played = self.queue.pop(0)
        if played is None:
            self.lost += 1
            self.started[actor] += 1
            self.players[actor] = self.make(actor, self.started[actor])
        else:
            self.returned += pieces_of(played) if "pieces" in played else []
        return actor, played

    def close(self) -> None:
        """Nothing is held."""


def processes(name: str) -> list[psutil.Process]:
    """Of Ray, below this one."""
    below = psutil.Process().children(recursive=True)
    return [p for p in below if p.name().startswith(name) and p.status() != psutil.STATUS_ZOMBIE]


def first(name: str) -> psutil.Process:
    """The first of them, waited for: one that was started anew has its name only once it stands."""
    for _ in range(600):
        if found := processes(name):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no process {name} came")
