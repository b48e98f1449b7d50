"""`Fit`, the Learner of everything that is trained on a data set: epochs, validation, early stopping, exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from rlab.data.batches import Batch, Batches
from rlab.errors import RlabError
from rlab.machine import cores
from rlab.nn.average import Averaged
from rlab.nn.layers import drawing_from
from rlab.nn.optim import SCHEDULES, restore, scale_rates, state_of
from rlab.run.checkpoint import flatten
from rlab.run.learner import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.seeding import derive
from rlab.tasks.config import FitConfig
from rlab.tasks.transfer import counts

REPORTED = 8
"""Updates whose numbers are fetched from the device together."""


class Task(Protocol):
    """What `Fit` trains: a model, what is wrong with it on a batch, and how good it is."""

    batches: Batches
    """Of the training examples."""

    @property
    def model(self) -> nn.Module:
        """What learns."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Of a training batch: "loss", a scalar to be made small, and other scalars to be told."""

    def examine(self, split: str, stop: Stop) -> dict[str, Any]:
        """A score by the examples of a split, the model being in evaluation; see `Score`. More "mean" is better."""

    def memory(self, batch_size: int) -> int:
        """Bytes that data, and the activations of a batch, take."""


class Kept(Protocol):
    """What a run goes on with beside its model."""

    def state(self) -> State:
        """What it is."""

    def restore(self, state: State) -> None:
        """Become what `state` describes."""


class Fit:
    """The Learner of a task. Progress counts training examples.

    What an update draws (dropout) comes from torch's own generators, seeded by its number and put back as they were
    after it, so that a run resumes exactly and nothing else in the process can alter it.

    Args:
        task: the model and its data.
        optimizer: over the model's parameters, each group with the learning rate that the schedule multiplies.
        config: how it is trained.
        seed: the run's seed.
        device: torch device.
        kept: name -> what else belongs to the state.
    """

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        config: FitConfig,
        seed: int,
        device: str,
        kept: Mapping[str, Kept] | None = None,
    ):
        self.held_out = "validation" in task.batches.dataset.splits
        if config.patience and not self.held_out:
            raise RlabError("--patience waits for validation scores, but --validation is 0; nearest: --validation 0.1")
        self.task = task
        self.optimizer = optimizer
        self.config = config
        self.seed = seed
        self.kept = dict(kept or {})
        self.device = torch.device(device)
        self.size = task.batches.examples
        self.per_epoch = len(task.batches)
        self.updates = 0
        self.best: dict[str, Any] | None = None
        """Score, progress and parameters of the best validation."""
        self.waited = 0
        """Validations since the best one."""
        self.score: dict[str, Any] = {}
        """The newest one's."""
        self.validated = -1
        """Updates at the newest one."""
        self.stopped_early = False
        parts = [(part, list(part.parameters())) for part in task.model.modules()]
        self._frozen = [part for part, held in parts if held and not any(p.requires_grad for p in held)]
        self._schedule = SCHEDULES.get(config.schedule)
        self._seen: list[dict[str, Tensor]] = []
        self._maker = ThreadPoolExecutor(1, "rlab-batches")
        self._coming: tuple[int, Future[Batch]] | None = None
        """The number of an update and its batch, which is made while the one before is learned from."""
        # Without a core to spare the two would wait for each other at every operation.
        self._ahead = self.device.type != "cpu" or torch.get_num_threads() < cores()

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.per_epoch * self.config.epochs

    @property
    def done(self) -> int:
        """Training examples seen."""
        epoch, number = divmod(self.updates, self.per_epoch)
        return epoch * self.size + min(number * self.config.batch_size, self.size)

    def step(self) -> Metrics:
        """One update; numbers are told with every `REPORTED`-th one and with the last of an epoch."""
        started = time.perf_counter()
        batch = self._batch()
        ready = time.perf_counter()
        scale_rates(self.optimizer, self._schedule(self.updates / self.total))
        self.task.model.train()
        for part in self._frozen:  # or BatchNorm would go on taking means, and dropout dropping
            part.eval()
        with self._drawing("update", self.updates):
            self._seen.append(self._update(batch))
        self.updates += 1
        told = self._told() if len(self._seen) == REPORTED or self.updates % self.per_epoch == 0 else {}
        return told | {"clock_data": ready - started, "clock_learn": time.perf_counter() - ready}

    def _batch(self) -> Batch:
        """The batch of this update, known by its number; if a core is free, the next one is begun."""
        here, after = self.updates, self.updates + 1
        coming, at = self._coming, self.task.batches.at
        batch = coming[1].result() if coming and coming[0] == here else at(*divmod(here, self.per_epoch))
        ahead = self._ahead and after < self.total
        self._coming = (after, self._maker.submit(at, *divmod(after, self.per_epoch))) if ahead else None
        return batch

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from a batch; scalars on the device."""
        seen: dict[str, Tensor] = {}

        def closure() -> Tensor:  # L-BFGS calls it several times
            nonlocal seen
            self.optimizer.zero_grad(set_to_none=True)
            seen = self.task.loss(batch)
            seen["loss"].backward()
            gradients = [p.grad for p in self.task.model.parameters() if p.grad is not None]
            seen["grad_norm"] = nn.utils.get_total_norm(gradients)
            if self.config.max_grad_norm:
                nn.utils.clip_grads_with_norm_(
                    self.task.model.parameters(), self.config.max_grad_norm, seen["grad_norm"]
                )
            return seen["loss"]

        self.optimizer.step(cast(Any, closure))
        return {name: value.detach() for name, value in seen.items()}

    def _told(self) -> dict[str, float]:
        names = list(self._seen[0])
        numbers = torch.stack([torch.stack([seen[name].float() for name in names]) for seen in self._seen]).mean(0)
        self._seen = []
        told = dict(zip(names, numbers.tolist(), strict=True))
        for name in ("loss", "grad_norm"):
            if not math.isfinite(told[name]):
                quantity = "loss" if name == "loss" else "gradient"
                raise NonFinite(quantity, told[name], f"update {self.updates:,} (epoch {self._epoch_now:,})")
        return told | {"learning_rate_last": self.optimizer.param_groups[0]["lr"], "epoch_last": float(self._epoch_now)}

    @property
    def _epoch_now(self) -> int:
        """The epoch under way, from 1."""
        return (self.updates - 1) // self.per_epoch + 1

    def evaluate(self, stop: Stop) -> Score:
        """By validation examples on the way, keeping the best parameters; by test examples, and with those, at the end.

        Raises:
            Stopped: a stop was requested.
        """
        with torch.no_grad(), self._drawing("evaluation", self.updates):
            self.task.model.eval()
            if self.held_out and self.validated != self.updates:
                self._validate(self.task.examine("validation", stop))
            if not self.progress().finished:
                return self.score if self.held_out else self.task.examine("train", stop)
            if self.best is not None:
                self.task.model.load_state_dict(self.best["model"])
            score = self.task.examine("test", stop)
        return score if self.best is None else score | {"best_at": self.best["done"], "validation": self.best["mean"]}

    def _validate(self, score: dict[str, Any]) -> None:
        """Keep what is better than all before; stop early if nothing was for too long."""
        self.score, self.validated = score, self.updates
        if self.best is None or score["mean"] > self.best["mean"]:
            model = {name: tensor.detach().clone() for name, tensor in self.task.model.state_dict().items()}
            self.best, self.waited = {"mean": score["mean"], "done": self.done, "model": model}, 0
            return
        self.waited += 1
        self.stopped_early = 0 < self.config.patience <= self.waited

    def progress(self) -> Progress:
        """Training examples seen and planned; a run that stops early has planned no more."""
        whole = self.config.epochs * self.size
        return Progress(self.done, self.done if self.stopped_early else whole, "examples")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory from data, parameters and activations; time from a few updates that are taken back."""
        before = copy.deepcopy(self.state())
        times = []
        for _ in range(min(4, self.total)):
            if stop.requested:
                raise Stopped
            started = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - started)
        self.restore(before, stop)
        model = self.task.model
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        kept = sum(t.nbytes for other in self.kept.values() for t in flatten(other.state())[1].values())
        held = self.task.memory(self.config.batch_size) + 5 * weights + 2 * kept
        memory, device_memory = (held, 0) if self.device.type == "cpu" else (self.task.memory(0), held)
        return Footprint(
            memory,
            device_memory,
            4 * weights + kept + 20_000,
            min(times) * self.total,
            *counts(model.student if isinstance(model, Averaged) else model),
        )

    def state(self) -> State:
        """Everything that decides the rest of the run."""
        return {
            "model": self.task.model.state_dict(),
            "optimizer": state_of(self.optimizer),
            "updates": self.updates,
            "seen": self._seen,
            "score": self.score,
            "best": self.best,
            "waited": self.waited,
            "validated": self.validated,
            "stopped_early": self.stopped_early,
            **{name: kept.state() for name, kept in self.kept.items()},
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes."""
        if stop.requested:
            raise Stopped
        self.task.model.load_state_dict(state["model"])
        self.updates = state["updates"]
        restore(self.optimizer, state["optimizer"])
        self._seen = list(state["seen"])
        for name in ("score", "best", "waited", "validated", "stopped_early"):
            setattr(self, name, state[name])
        for name, kept in self.kept.items():
            kept.restore(state[name])

    def restore_policy(self, state: State) -> None:
        """Take over only what predicting needs: the parameters that were best in validation, if there was one."""
        self.task.model.load_state_dict((state["best"] or state)["model"])
        self.updates = state["updates"]
        self.task.model.eval()

    def _drawing(self, *of: str | int) -> AbstractContextManager[None]:
        """Within, torch's generators are seeded by what `of` names; afterwards they are as they were."""
        return drawing_from(torch.Generator().manual_seed(derive(self.seed, *of)), self.device)

    def close(self) -> None:
        """Let the next batch go."""
        self._maker.shutdown(cancel_futures=True)
