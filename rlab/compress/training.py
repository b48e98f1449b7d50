"""A run's own training once more: with weights that were pruned, quantised, or set back to where they started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from rlab.compress.prune import apply_masks
from rlab.compress.quantise import quantise
from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.contract import Learner, State, Stop, Stopped
from rlab.run.files import scratch_folder
from rlab.run.folder import RunFolder
from rlab.run.journal import Journal
from rlab.run.lifecycle import BuildContext, begin_process, resolve_device
from rlab.run.loop import steps_between_evaluations
from rlab.run.warm_start import notes_of
from rlab.tasks.teacher import ROLE as TEACHER
from rlab.tasks.trainer import Trainer

Weights = dict[str, Tensor]

Hook = Callable[[nn.Module], contextlib.AbstractContextManager[None]]
"""Modules -> what surrounds each step of their training."""


@dataclass(frozen=True)
class Trained:
    """What came of some training.

    Attributes:
        weights: of all modules.
        taken: training examples after which they were.
        of: training examples of the whole training.
        validation: the score that they were chosen by; None: the data has no validation split, and they are the last.
    """

    weights: Weights
    taken: int
    of: int
    validation: float | None

    def text(self) -> str:
        """Say which weights were taken."""
        if self.validation is None:
            return "the last weights taken, for no validation split chooses among them"
        return f"best by validation taken ({self.validation:.4g}, after {self.taken:,} of {self.of:,} examples)"

    def note(self) -> dict[str, Any]:
        """Return it as JSON values, without the weights."""
        return {"examples": self.taken, "of": self.of, "validation": self.validation}


def masked(masks: Mapping[str, Tensor]) -> Hook:
    """Weights that were pruned stay 0: set back after each step."""

    @contextlib.contextmanager
    def around(modules: nn.Module) -> Iterator[None]:
        yield
        apply_masks(modules, masks)

    return around


def quantised(names: tuple[str, ...], bits: int, per_channel: bool, masks: Mapping[str, Tensor]) -> Hook:
    """A step is computed with quantised weights, and what it changes is added to the real ones (straight-through).

    Those that are masked stay 0.
    """
    zeros = masked(masks)

    @contextlib.contextmanager
    def around(modules: nn.Module) -> Iterator[None]:
        with zeros(modules), straight_through(modules):
            yield

    @contextlib.contextmanager
    def straight_through(modules: nn.Module) -> Iterator[None]:
        named = dict(modules.named_parameters())
        with torch.no_grad():
            real = {name: named[name].clone() for name in names if name in named}
            rounded = {name: quantise(w, bits, per_channel).dequantise() for name, w in real.items()}
            for name, w in rounded.items():
                named[name].copy_(w)
        yield
        with torch.no_grad():
            for name, w in real.items():
                named[name].copy_(w + (named[name] - rounded[name].to(w.device)))

    return around


@contextlib.contextmanager
def built(folder: RunFolder, config: Any, device: str = "cpu", start: bool = False) -> Iterator[Learner]:
    """Build a run's learner as it is before its first update, from its settings; it writes into a folder that goes.

    Args:
        folder: the run.
        config: its settings, or others of its recipe.
        device: torch device.
        start: take what the run took from other runs when it started, such as an encoder.

    Raises:
        RlabError: the settings do not go together, or what it took is gone.
    """
    begin_process(config.run.threads)
    place = folder.path if start and notes_of(folder) else None
    with contextlib.ExitStack() as stack:
        journal = Journal(stack.enter_context(scratch_folder()))
        stack.callback(journal.close)
        entry = RECIPES.get(folder.config()["recipe"])
        learner = cast(Learner, entry.build(config, BuildContext(device, journal, place)))
        stack.callback(learner.close)
        yield learner


def refuse_untrainable(folder: RunFolder, config: Any, flag: str = "--epochs", nearest: str = "--epochs 0") -> None:
    """Refuse to train what is no model on a data set, or has lost its teacher.

    Raises:
        RlabError: one sentence that says so.
    """
    if not hasattr(config, "fit"):
        recipe = folder.config()["recipe"]
        raise RlabError(
            f"run '{folder.name}' is one of {recipe}, and {flag} trains models on data sets; nearest: {nearest}"
        )
    made = folder.config().get("compressed")
    if made and TEACHER in notes_of(folder):
        raise RlabError(
            f"run '{folder.name}' learned from a teacher, who stayed behind when it was made smaller; nearest: the run "
            f"that it was made of, '{made[0]['of']}'"
        )


def trained(
    folder: RunFolder,
    config: Any,
    weights: Weights,
    around: Hook,
    device: str,
    stop: Stop,
    begin: State | None = None,
    updates: int | None = None,
) -> Trained:
    """Train a run's model from some weights by its own settings, each step within `around`.

    Where the data has a validation split, the weights with the best score on it are taken, as by the run itself: it is
    made at the end, and as often on the way as the run's settings say, within `around`, too.

    Args:
        folder: the run.
        config: its settings, with the epochs and the learning rate that are wanted.
        weights: of all modules.
        around: see `Hook`.
        device: auto, cpu, cuda or cuda:N.
        stop: polled at every step.
        begin: a state of the run to go on from, but for its weights; None: the first update.
        updates: after which it ends, if the epochs have as many, as where the run itself stopped early.

    Raises:
        RlabError: the run is not trained in epochs, or the weights are no finite numbers any more.
        Stopped: a stop was requested.
    """
    refuse_untrainable(folder, config)
    config = replace(config, fit=replace(config.fit, patience=0))
    fresh = bool(notes_of(folder)) and "compressed" not in folder.config()
    with built(folder, config, resolve_device(device), start=fresh) as learner:
        if not isinstance(learner, Trainer):
            raise RlabError(f"run '{folder.name}' is of a recipe that has no epochs to train for")
        if begin is not None:
            learner.restore(begin | {"modules": weights, "stopped_early": False}, stop)
        modules = learner.task.modules
        modules.load_state_dict(weights)
        best: Trained | None = None
        total = learner.progress().total
        every, validated = steps_between_evaluations(config.run, total), learner.done
        last = min(updates or learner.total, learner.total)
        while learner.updates < last:
            if stop.requested:
                raise Stopped
            with around(modules):
                learner.step()
            finished = learner.updates == last
            if learner.held_out and (finished or (every and learner.done // every > validated // every)):
                validated = learner.done
                with around(modules):
                    score = learner.evaluate_split("validation", stop)["mean"]
                if best is None or best.validation is None or learner.task.primary.better(score, best.validation):
                    best = Trained(_copied(modules), learner.done, total, score)
        found = replace(best or Trained(_copied(modules), learner.done, 0, None), of=learner.done)
        if not all_finite(found.weights):
            raise RlabError(
                f"the training of run '{folder.name}' diverged: its weights are not finite; nearest: a smaller "
                "--learning-rate"
            )
        return found


def initial_weights(folder: RunFolder, config: Any, start: bool = True) -> Weights:
    """Return the weights that a run's model has before its first update; they follow from its settings and its seed.

    Args:
        folder: the run.
        config: its settings; with another seed those that it would have had with that one.
        start: with what the run took from other runs, such as an encoder; else everything starts at random.

    Raises:
        RlabError: it was made from another run by `rlab compress`, so that no training has begun with its weights, or
            what it took from other runs is gone.
    """
    made = folder.config().get("compressed")
    if made:
        raise RlabError(
            f"run '{folder.name}' was made by `rlab compress`, so that it has no start to go back to; nearest: the run "
            f"that it was made of, '{made[0]['of']}'"
        )
    with built(folder, config, start=start) as learner:
        if not isinstance(learner, Trainer):
            raise RlabError(f"run '{folder.name}' is of a recipe that has no epochs to train for")
        return _copied(learner.task.modules)


def all_finite(weights: Weights) -> bool:
    """Whether all numbers are finite."""
    return all(bool(torch.isfinite(w).all()) for w in weights.values())


def _copied(modules: nn.Module) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in modules.state_dict().items()}
