"""Learning beside acting: one job at a time in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Runs a job while its caller goes on, each with half of torch's CPU threads.

    Two halves at work do more than all threads at one and then at the other, as nobody waits for the slowest part of
    every operation. With one thread, or on a GPU, a job runs at once, so that the order of everything is the same.

    Args:
        device: that the job computes on.
    """

    def __init__(self, device: torch.device):
        self._on_cpu = device.type == "cpu"
        self._pool: ThreadPoolExecutor | None = None
        self._job: Future[Result] | None = None

    @contextmanager
    def half_of_threads(self) -> Iterator[None]:
        """What the caller computes beside a job; the same when there is none, so that its numbers are too."""
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // 2))
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def start(self, job: Callable[[], Result], threads: int) -> None:
        """Run a job, which gets half of so many threads; the one before must have been waited for."""
        if self._on_cpu and threads > 1:
            self._pool = self._pool or ThreadPoolExecutor(1, "rlab-learner")
            self._job = self._pool.submit(self._with_half, threads, job)
            return
        before = torch.get_num_threads()
        self._job = Future()
        try:
            self._job.set_result(self._with_half(threads, job))
        finally:
            torch.set_num_threads(before)

    def wait(self) -> Result | None:
        """The result of the job, None if none was started since.

        Raises:
            Exception: what the job raised.
        """
        job, self._job = self._job, None
        return None if job is None else job.result()

    def _with_half(self, threads: int, job: Callable[[], Result]) -> Result:
        torch.get_num_threads()  # a thread's first use of torch sets its own number, from the newest one given anywhere
        torch.set_num_threads(threads)
        with self.half_of_threads():
            return job()
