"""`Trainer`, the Learner of every task on a data set: epochs, validation, early stopping, exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rlab.data.batches import Batch
from rlab.errors import RlabError
from rlab.machine import cores
from rlab.nn.ema import EMA
from rlab.nn.layers import drawing_from
from rlab.nn.optim import SCHEDULES, restore, scale_rates, settle, state_of
from rlab.run.budget import Budget
from rlab.run.checkpoint import flatten
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.seeding import derive
from rlab.tasks.config import FitConfig
from rlab.tasks.task import Task, of_one_loss
from rlab.tasks.transfer import counts

REPORTED = 8
"""Updates whose numbers are fetched from the device together."""

CHECKED = {"loss": "loss", "grad_norm": "gradient"}
"""What the names of metrics begin with that must be finite -> what they are called."""


class Stateful(Protocol):
    """A part of a run's state beside its modules, such as a teacher."""

    def state(self) -> State:
        """Return everything that `restore` needs."""

    def restore(self, state: State) -> None:
        """Become what `state` describes."""


class Trainer:
    """The Learner that trains a task; progress counts training examples.

    What an update draws (dropout) comes from torch's own generators, seeded by its number and put back as they were
    after it, so that a run resumes exactly and nothing else in the process can alter it.

    Args:
        task: what is trained, and its data.
        config: how it is trained.
        seed: the run's seed.
        device: torch device.
        beside: name -> what else belongs to the state.

    Raises:
        RlabError: it should wait for validation scores, and nothing is held out; or an update should be made by several
            batches, and the task learns by more than one loss.
    """

    def __init__(
        self, task: Task, config: FitConfig, seed: int, device: str, beside: Mapping[str, Stateful] | None = None
    ):
        self.held_out = "validation" in task.data.splits
        if config.patience and not self.held_out:
            raise RlabError("--patience waits for validation scores, but --validation is 0; nearest: --validation 0.1")
        if config.accumulate > 1 and not of_one_loss(task):
            raise RlabError(
                f"--accumulate is {config.accumulate}, and this learns by several losses in turn, each from one batch; "
                "nearest: --accumulate 1"
            )
        self.task = task
        self.optimizers = task.optimizers()
        for optimizer in self.optimizers.values():
            settle(optimizer)
        self.config = config
        self.seed = seed
        self.beside = dict(beside or {})
        self.budget = Budget()
        self.device = torch.device(device)
        self.size = task.data.examples
        self.per_epoch = -(-len(task.data) // config.accumulate)
        self.updates = 0
        self.best: dict[str, Any] | None = None
        """Score, progress and parameters of the best validation."""
        self.waited = 0
        """Validations since the best one."""
        self.score: dict[str, Any] = {}
        """The newest one's."""
        self.validated = -1
        """Updates at the newest one."""
        self._last: dict[str, Tensor] | None = None
        """Parameters after the last update, in place of which the best ones were taken at the end."""
        self.stopped_early = False
        parts = [(part, list(part.parameters())) for part in task.modules.modules()]
        self._frozen = [part for part, held in parts if held and not any(p.requires_grad for p in held)]
        self._schedule = SCHEDULES.get(config.schedule)
        self._metrics: list[Mapping[str, Tensor]] = []
        self._maker = ThreadPoolExecutor(1, "rlab-batches")
        self._coming: tuple[tuple[int, int], Future[list[Batch]]] | None = None
        """An update's number and threads, and its batches, which are made while those before are learned from."""

    @property
    def total(self) -> int:
        """The number of updates of all epochs."""
        return self.per_epoch * self.config.epochs

    @property
    def done(self) -> int:
        """The number of training examples learned from so far."""
        epoch, number = divmod(self.updates, self.per_epoch)
        return epoch * self.size + min(number * self.config.accumulate * self.config.batch_size, self.size)

    def step(self) -> Metrics:
        """Make one update; metrics come with every `REPORTED`-th one and with the last of an epoch."""
        started = time.perf_counter()
        batches = self._batches()
        ready = time.perf_counter()
        for optimizer in self.optimizers.values():
            scale_rates(optimizer, self._schedule(self.schedule_place))
        self.task.modules.train()
        for part in self._frozen:  # or BatchNorm would go on taking means, and dropout dropping
            part.eval()
        with self._drawing("update", self.updates):
            if len(batches) > 1 and of_one_loss(self.task):
                self._metrics.append(self.task.update_on(batches))
            else:
                self._metrics.append(self.task.update(batches[0], self.optimizers))
        self.updates += 1
        metrics = self._reported() if len(self._metrics) == REPORTED or self.updates % self.per_epoch == 0 else {}
        return metrics | {"clock_data": ready - started, "clock_learn": time.perf_counter() - ready}

    @property
    def schedule_place(self) -> float:
        """Where schedules stand, 0..1."""
        share = self.budget.share(self.done)
        return self.updates / (self.per_epoch * self.budget.horizon(self.config.epochs)) if share is None else share

    def _batches(self) -> list[Batch]:
        """The batches of this update, known by its number; if a core is free, the next ones are begun."""
        after, threads, coming = self.updates + 1, torch.get_num_threads(), self._coming
        here = (self.updates, threads)
        batches = coming[1].result() if coming and coming[0] == here else self._make(*here)
        # Without a core to spare the two would wait for each other at every operation.
        ahead = after < self.budget.end(self.total) and (self.device.type != "cpu" or threads < cores())
        self._coming = ((after, threads), self._maker.submit(self._make, after, threads)) if ahead else None
        return batches

    def _make(self, update: int, threads: int) -> list[Batch]:
        """The batches of an update; in a thread of their own, too, torch computes with `threads`."""
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        epoch, number = divmod(update, self.per_epoch)
        first = number * self.config.accumulate
        last = min(first + self.config.accumulate, len(self.task.data))
        return [self.task.data.at(epoch, n) for n in range(first, last)]

    def _reported(self) -> dict[str, float]:
        names = list(self._metrics[0])
        numbers = torch.stack([torch.stack([m[name].float() for name in names]) for m in self._metrics]).mean(0)
        self._metrics = []
        metrics = dict(zip(names, numbers.tolist(), strict=True))
        for name, value in metrics.items():
            quantity = next((called for start, called in CHECKED.items() if name.startswith(start)), None)
            if quantity and not math.isfinite(value):
                raise NonFinite(quantity, value, f"update {self.updates:,} (epoch {self._epoch_now:,})")
        many = len(self.optimizers) > 1
        rates = {
            f"learning_rate_{name}_last" if many else "learning_rate_last": float(optimizer.param_groups[0]["lr"])
            for name, optimizer in self.optimizers.items()
        }
        return metrics | rates | {"epoch_last": float(self._epoch_now)}

    @property
    def _epoch_now(self) -> int:
        """The epoch under way, from 1."""
        return (self.updates - 1) // self.per_epoch + 1

    @property
    def skips_evaluations(self) -> bool:
        """Whether only the final evaluation is made: nothing is held out, and the task is scored by examples."""
        return not self.held_out and self.task.primary.of_examples

    def evaluate(self, stop: Stop) -> Score:
        """Score on the validation split and keep the best parameters; at the end score those on the test split.

        Raises:
            Stopped: a stop was requested.
            NonFinite: a score is NaN or infinite.
        """
        with torch.no_grad(), self._drawing("evaluation", self.updates):
            self.task.modules.eval()
            if self.held_out and self.validated != self.updates:
                self._validate(self._evaluated("validation", stop))
            if not self.progress().finished:
                return self.score if self.held_out else self._evaluated("train", stop)
            if self.best is not None:
                self._last = {name: tensor.detach().clone() for name, tensor in self.task.modules.state_dict().items()}
                self.task.modules.load_state_dict(self.best["modules"])
            score = self._evaluated("test", stop)
        if self.best is None:
            return score
        return {**score, "best_at": self.best["done"], "validation": self.best["mean"]}

    def _evaluated(self, split: str, stop: Stop) -> dict[str, Any]:
        """Score a split; a network that has diverged since the last loss was looked at is named so."""
        where = f"the evaluation after update {self.updates:,} (epoch {self._epoch_now:,})"
        try:
            score = dict(self.task.evaluate(split, stop))
        except NonFinite as e:
            raise NonFinite(e.quantity, e.value, where) from None
        if not math.isfinite(mean := score.get("mean", 0.0)):
            raise NonFinite("score", mean, where)
        return score

    def evaluate_split(self, split: str, stop: Stop) -> Score:
        """Score a split with the parameters as they are; for a restored policy.

        Raises:
            Stopped: a stop was requested.
        """
        self.task.modules.eval()
        with torch.no_grad(), self._drawing("evaluation", self.updates):
            return self.task.evaluate(split, stop)

    def _validate(self, score: dict[str, Any]) -> None:
        """Keep what is better than all before; stop early if nothing was for too long."""
        self.score, self.validated = score, self.updates
        if self.best is None or self.task.primary.better(score["mean"], self.best["mean"]):
            modules = {name: tensor.detach().clone() for name, tensor in self.task.modules.state_dict().items()}
            self.best, self.waited = {"mean": score["mean"], "done": self.done, "modules": modules}, 0
            return
        self.waited += 1
        self.stopped_early = 0 < self.config.patience <= self.waited

    def progress(self) -> Progress:
        """Return the training examples done and planned; a run that stopped early is at its end."""
        whole = self.budget.end(self.config.epochs * self.size)
        return Progress(self.done, self.done if self.stopped_early else whole, "examples")

    def footprint(self, stop: Stop) -> Footprint:
        """Estimate memory from data, parameters and activations, and time from a few updates that are undone."""
        before = copy.deepcopy(self.state())
        times, shared = [0.0], self.config.workers if self.config.shard else 1
        try:
            for _ in range(min(4, self.total) if shared == 1 else 0):  # what is divided may not fit whole
                if stop.requested:
                    raise Stopped
                started = time.perf_counter()
                self.step()
                times.append(time.perf_counter() - started)
        finally:
            self.restore(before, Stop())  # a stop may be of this measurement alone
        modules = self.task.modules
        weights = sum(p.numel() * p.element_size() for p in modules.parameters())
        kept = sum(t.nbytes for other in self.beside.values() for t in flatten(other.state())[1].values())
        held = self.task.memory(min(self.config.batch_size, self.size)) + weights + 4 * weights // shared + 2 * kept
        memory, device_memory = (held, 0) if self.device.type == "cpu" else (self.task.memory(0), held)
        learning = nn.ModuleDict({n: m.student if isinstance(m, EMA) else m for n, m in modules.items()})
        x = self.task.data.at(0, 0).tensors.get("x")
        return Footprint(
            memory,
            device_memory,
            4 * weights + kept + 20_000,
            min(times[1:], default=0.0) * self.total,
            *counts(learning),
            notes=tuple(getattr(getattr(self.task.data, "dataset", None), "notes", ())),
            one_thread=isinstance(x, Tensor) and x.ndim < 3 and x.is_floating_point(),
        )

    def state(self) -> State:
        """Return everything that decides the rest of the run."""
        return {
            "modules": self.task.modules.state_dict() if self._last is None else self._last,
            "optimizers": {name: state_of(optimizer) for name, optimizer in self.optimizers.items()},
            "updates": self.updates,
            "seen": [dict(m) for m in self._metrics],
            "score": self.score,
            "best": self.best,
            "waited": self.waited,
            "validated": self.validated,
            "stopped_early": self.stopped_early,
            **{name: other.state() for name, other in self.beside.items()},
        }

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes."""
        if stop.requested:
            raise Stopped
        state = of_several_modules(state)
        self.task.modules.load_state_dict(state["modules"])
        self.updates = state["updates"]
        for name, optimizer in self.optimizers.items():
            restore(optimizer, state["optimizers"][name])
        self._metrics = list(state["seen"])
        for name in ("score", "best", "waited", "validated", "stopped_early"):
            setattr(self, name, state[name])
        if self.budget.extended:
            self.waited, self.stopped_early = 0, False
        for name, other in self.beside.items():
            other.restore(state[name])

    def restore_policy(self, state: State) -> None:
        """Take over only what predicting needs: the parameters that were best in validation, if there was one."""
        state = of_several_modules(state)
        self.task.modules.load_state_dict((state["best"] or state)["modules"])
        self.updates = state["updates"]
        self.task.modules.eval()

    def _drawing(self, *of: str | int) -> AbstractContextManager[None]:
        """Within, torch's generators are seeded by what `of` names; afterwards they are as they were."""
        return drawing_from(torch.Generator().manual_seed(derive(self.seed, *of)), self.device)

    def close(self) -> None:
        """Stop the thread that makes the next batch."""
        self._maker.shutdown(cancel_futures=True)


def of_several_modules(state: State) -> State:
    """Convert a state of rlab 0.1, which had one model and one optimiser, to today's form; leave others as they are."""
    if "modules" in state:
        return state

    def modules(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in model.items()}

    rest = {name: value for name, value in state.items() if name not in ("model", "optimizer")}
    rest["modules"] = modules(state["model"])
    if "optimizer" in state:  # what was packed to be given away has none
        rest["optimizers"] = {"model": state["optimizer"]}
    if best := state["best"]:
        rest["best"] = {"mean": best["mean"], "done": best["done"], "modules": modules(best["model"])}
    return rest
