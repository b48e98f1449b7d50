"""A `Task` is what the trainer trains; `SingleLossTask` serves all that one loss and one optimiser can train.

A new task writes a loss, an evaluation and, if there is something to look at, what it shows (`rlab.run.contract` has
the
protocols: `Predicts`, `Samples`, `Detects`, `Draws`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlab.data.batches import Batch, DataModule
from rlab.nn.ema import EMA
from rlab.run.contract import Score, Stop, Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """The number that a task is scored by; it chooses the best parameters and decides when to stop early.

    Attributes:
        name: such as "accuracy" or "perplexity"; stands as ``measure`` in a score, with the unit.
        unit: such as "percent"; empty: none.
        higher_is_better: whether more of it is better.
        of_examples: whether it tells how well the examples of a split are done. Of those that are learned from that
            says little and takes long, so where nothing is held out such a task is scored at the end alone. Others, of
            samples or of games, are scored on the way all the same.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    of_examples: bool = True

    @property
    def measure(self) -> str:
        """The metric in words, such as "accuracy in percent"."""
        return f"{self.name} in {self.unit}" if self.unit else self.name

    def better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`."""
        return value > than if self.higher_is_better else value < than

    def score(self, mean: float, low: float, high: float, **more: Any) -> dict[str, Any]:
        """Make a `Score` of the value with its 95 % interval, and of whatever else there is to say."""
        direction = {} if self.higher_is_better else {"higher_is_better": False}
        return {"measure": self.measure, "mean": mean, "low": low, "high": high} | direction | more


class Task(Protocol):
    """Modules that learn from data, with the optimisers that change them and a score.

    Attributes:
        modules: all that learns, such as ``model``, or ``generator`` and ``discriminator``; checkpoints have them.
        data: batches to learn from.
        primary: the number that it is judged by.
    """

    modules: nn.ModuleDict
    data: DataModule
    primary: Metric

    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimisers by name, the same ones at every call; schedules multiply the rates of all."""

    def update(self, batch: Batch, optimizers: Mapping[str, Optimizer]) -> Mapping[str, Tensor]:
        """Learn from a batch, the modules being in training mode; scalars to be logged, the same names each time.

        A name that begins with ``loss`` or ``grad_norm`` ends the run when it is no finite number.
        """

    def evaluate(self, split: str, stop: Stop) -> Score:
        """Score a split, the modules being in evaluation mode and no gradient wanted; polls `stop` (raises `Stopped`).

        ``mean``, ``low`` and ``high`` are of the primary metric (see `Metric.score`).
        """

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes that the data and the activations of a batch take; 0: unknown."""


Losses = dict[str, Tensor]
"""``loss``, a scalar to be made small, and other scalars to be logged."""

Term = Callable[[Any, Batch, Any], Losses]
"""(task, batch, outputs) -> ``loss``, what is added to the task's own, and other scalars to be logged."""


Learn = Callable[[Callable[[Batch], Losses], Callable[[Batch], float], Sequence[Batch]], Losses]
"""(losses of a batch, what its loss is divided by, batches) -> their losses as of one batch, with the gradients of
``loss`` added up in the parameters."""


def backpropagate(
    losses: Callable[[Batch], Losses], denominator: Callable[[Batch], float], batches: Sequence[Batch]
) -> Losses:
    """Compute the losses of batches as of one, each by its share of the denominator, and the gradients of ``loss``."""
    if len(batches) == 1:
        computed = losses(batches[0])
        computed["loss"].backward()
        return computed
    counts = [denominator(batch) for batch in batches]
    whole, total = max(sum(counts), 1.0), Losses()
    for batch, count in zip(batches, counts, strict=True):
        computed = losses(batch)
        (count / whole * computed["loss"]).backward()
        for name, value in computed.items():
            part = count / whole * value.detach()
            total[name] = total[name] + part if name in total else part
    return total


def of_one_loss(task: Task) -> TypeGuard[SingleLossTask]:
    """Whether a task makes its updates as `SingleLossTask` does, so that several batches can be one update."""
    return isinstance(task, SingleLossTask) and type(task).update is SingleLossTask.update


class SingleLossTask:
    """A `Task` of one model, one loss and one optimiser: forward, backward, clip and step are written here once.

    A subclass writes `loss` and `evaluate`, and sets `primary`.

    Args:
        model: inputs -> outputs; an `EMA` is updated after every step.
        data: batches to learn from.
        optimizer: over the model's parameters, each group with the rate that the schedule multiplies.
        device: torch device, to which the model is moved.
        bf16: whether the model computes in bfloat16 where torch's autocast says so.
        max_grad_norm: gradients with a larger L2 norm are scaled down to it; 0: never.
        weight: factor of the task's own loss, beside the terms.
        terms: what else is learned from, added to the loss.
    """

    primary = Metric("loss", higher_is_better=False)
    learn: Learn = staticmethod(backpropagate)
    """How gradients come about; `rlab.parallel` puts in its place what shares batches with other processes."""

    def __init__(
        self,
        model: nn.Module,
        data: DataModule,
        optimizer: Optimizer,
        *,
        device: str | torch.device = "cpu",
        bf16: bool = False,
        max_grad_norm: float = 0.0,
        weight: float = 1.0,
        terms: Sequence[Term] = (),
    ):
        self.device = torch.device(device)
        self.modules = nn.ModuleDict({"model": model.to(self.device)})
        self.data = data
        self.optimizer = optimizer
        self.bf16 = bf16
        self.max_grad_norm = max_grad_norm
        self.weight = weight
        self.terms = tuple(terms)

    @property
    def model(self) -> Any:
        """The module that learns."""
        return self.modules["model"]

    def optimizers(self) -> Mapping[str, Optimizer]:
        """Return the one optimiser under the name ``model``."""
        return {"model": self.optimizer}

    def forward(self, batch: Batch) -> Any:
        """Compute the model's outputs for a batch, which the loss and the terms are given."""
        with self.autocast():
            return self.model(batch.x)

    def loss(self, outputs: Any, batch: Batch) -> Losses:
        """Compute the loss of the outputs for a batch; a subclass writes it."""
        raise NotImplementedError

    def evaluate(self, split: str, stop: Stop) -> Score:
        """Score a split; see `Task.evaluate`."""
        raise NotImplementedError

    def autocast(self) -> torch.autocast:
        """Open a context with the precision in which the model computes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def losses(self, batch: Batch) -> Losses:
        """Compute the whole loss of a batch: the task's own and those of the terms, with its parts by name."""
        outputs = self.forward(batch)
        losses = self.loss(outputs, batch)
        if self.terms:
            losses |= {"loss_labels": losses["loss"], "loss": self.weight * losses["loss"]}
        for term in self.terms:
            more = term(self, batch, outputs)
            losses |= more | {"loss": losses["loss"] + more["loss"]}
        return losses

    def denominator(self, batch: Batch) -> float:
        """Tell what the loss of a batch is divided by, by which it counts beside other batches: its items.

        Where the loss is a mean over something else, such as tokens, a subclass says how many of it there are.
        """
        return len(batch)

    def update(self, batch: Batch, optimizers: Mapping[str, Optimizer]) -> Mapping[str, Tensor]:
        """Make one step of the optimiser; L-BFGS computes the loss of the batch several times."""
        return self.update_on([batch])

    def update_on(self, batches: Sequence[Batch]) -> Mapping[str, Tensor]:
        """Make one step of the optimiser by several batches, as if they were one (accumulated gradients)."""
        metrics: Losses = {}

        def closure() -> Tensor:
            nonlocal metrics
            self.optimizer.zero_grad(set_to_none=True)
            metrics = self.learn(self.losses, self.denominator, batches)
            metrics["grad_norm"] = clip_gradients(self.model, self.max_grad_norm)
            return metrics["loss"]

        self.optimizer.step(cast(Any, closure))
        if isinstance(self.model, EMA):
            self.model.update()
        return {name: value.detach() for name, value in metrics.items()}

    def memory(self, batch_size: int) -> int:
        """Estimate the bytes of the data and of a batch's activations from the inputs of the data set."""
        x = getattr(getattr(self.data, "dataset", None), "x", None)
        if not isinstance(x, Tensor):
            return 0
        return x.numel() * x.element_size() + 200 * 4 * batch_size * math.prod(x.shape[1:])


def until(stop: Stop, items: Iterable[T]) -> Iterator[T]:
    """Yield the items one by one, polling `stop` before each and telling it how many there were.

    Raises:
        Stopped: a stop was requested.
    """
    for number, item in enumerate(items):
        if stop.requested:
            raise Stopped
        stop.tell(number, 0)
        yield item


def clip_gradients(module: nn.Module, largest: float) -> Tensor:
    """Scale a module's gradients down to the L2 norm `largest` if that is not 0; return the norm that they had."""
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    norm = getattr(norm, "full_tensor", lambda: norm)()  # of gradients that are divided among processes
    if largest:
        nn.utils.clip_grads_with_norm_(module.parameters(), largest, norm)
    return norm
