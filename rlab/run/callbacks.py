"""Functions of the user's that a run calls on its way: they see copies, and leave its random numbers as they were."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlab.run.contract import Metrics, Progress, Score, Stop
from rlab.run.loop import CLOCK, View

OnStep = Callable[[Progress, dict[str, float]], Any]
"""(how far the run is, numbers of this step) after every step of the learner, which may be many of the environment."""

OnEvaluation = Callable[[Progress, dict[str, Any]], Any]
"""(how far the run is, the score) after every evaluation."""

OnCheckpoint = Callable[[Progress, Path], Any]
"""(how far the run is, the checkpoint's folder) after every checkpoint."""


class StopTraining(Exception):
    """Raised in a callback: the run stops, saved, and can be resumed. A callback that returns False says the same."""


@dataclass
class CallingView:
    """A `rlab.run.loop.View` that shows a run by another one and calls the user's functions (`rlab.run.loop.Listens`).

    Attributes:
        view: shows the run.
        stop: requested when a function wants an end, or fails.
        error: the first exception that a function raised; for whoever started the run, once it is saved.
    """

    view: View
    stop: Stop
    on_step: OnStep | None = None
    on_evaluation: OnEvaluation | None = None
    on_checkpoint: OnCheckpoint | None = None
    error: Exception | None = field(default=None, init=False)

    def show(self, progress: Progress, metrics: Metrics) -> None:
        """Show a step, then tell of it."""
        self.view.show(progress, metrics)
        if self.on_step is not None:
            self._call(self.on_step, progress, {k: v for k, v in metrics.items() if not k.startswith(CLOCK)})

    def event(self, text: str) -> None:
        """Show what happened."""
        self.view.event(text)

    def evaluating(self, done: int, total: int) -> None:
        """Show how far an evaluation is, where the other view does."""
        if hasattr(self.view, "evaluating"):
            self.view.evaluating(done, total)

    def evaluated(self, progress: Progress, score: Score) -> None:
        """Tell of an evaluation."""
        if self.on_evaluation is not None:
            self._call(self.on_evaluation, progress, copy.deepcopy(dict(score)))

    def saved(self, progress: Progress, checkpoint: Path) -> None:
        """Tell of a checkpoint."""
        if self.on_checkpoint is not None:
            self._call(self.on_checkpoint, progress, checkpoint)

    def _call(self, callback: Callable[..., Any], *values: Any) -> None:
        if self.error is not None:  # it failed before; the run is being saved
            return
        try:
            with untouched():
                goes_on = callback(*values)
        except StopTraining as e:
            self.stop.request(f"StopTraining {e}".strip())
        except Exception as e:
            self.error = e
            self.stop.request(f"{type(e).__name__} in a callback")
        else:
            if goes_on is False:
                self.stop.request("a callback")


@contextmanager
def untouched() -> Iterator[None]:
    """Put back the global random numbers of Python, numpy and torch, and torch's threads, gradients and dtype."""
    import torch

    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    threads, gradients, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
