"""Distillation: a model learns from the probabilities of another run's model, too (Hinton et al. 2015).

A learner that starts at 0 reads the copy of the teacher in its folder (`rlab.run.warm_start`), one that resumes has the
teacher in its own checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rlab.data.batches import Batch
from rlab.data.preprocess import Transform
from rlab.errors import RlabError
from rlab.nn.losses import distillation
from rlab.run.config import from_plain, to_plain
from rlab.run.contract import State
from rlab.run.folder import run_at
from rlab.run.lifecycle import of_this_version, open_run, restore_policy
from rlab.run.warm_start import Source, load_source, source_of
from rlab.tasks.classification import Classification
from rlab.tasks.config import ModelConfig
from rlab.tasks.task import Losses, Term

ROLE = "teacher"

MODEL, PREPROCESSING = "model.", "preprocessing."
"""What the names of tensors in the file begin with."""

PARTS = ("shift", "forward", "backward")
"""The tensors of a `Transform`."""

Make = Callable[[ModelConfig, tuple[int, ...], int], nn.Module]
"""(settings, shape of an input, outputs) -> model."""


def warm_start_teacher(name: str) -> Source:
    """Take the model of a run, as it predicts, and its preprocessing; changes nothing there.

    Raises:
        RlabError: there is no such run, it has no checkpoint, or it is no network that tells classes apart.
    """
    folder, progress = run_at(name)
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)  # opening a run takes that run's number
        run = stack.enter_context(open_run(folder, "cpu", progress=progress))
        task = getattr(run.learner, "task", None)
        if not isinstance(task, Classification) or task.classes is None:
            raise RlabError(
                f"run '{folder.name}' ({folder.config()['recipe']}) is no network that tells classes apart, so it "
                "cannot be a teacher; nearest: a run of 'rlab train lenet --data ...'"
            )
        if run.saved is None:
            raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is no teacher to learn from")
        with of_this_version(folder):
            restore_policy(run.learner, run.saved.state)
        tensors = {MODEL + key: tensor for key, tensor in task.predictor.state_dict().items()}
        if task.transform is not None:
            tensors |= {PREPROCESSING + part: getattr(task.transform, part) for part in PARTS}
        return source_of(
            folder.name,
            run.saved.done,
            tensors,
            data=task.dataset.name,
            model=to_plain(run.config.model),
            outputs=task.heads[-1].outputs.stop,
            features=int(task.predictor.encoder.out_dim),  # type: ignore[arg-type]
            classes=list(task.classes),
            shape=list(task.dataset.shape),
            preprocess=task.transform.name if task.transform is not None else "",
        )


class Teacher:
    """Another run's model, from which this run learns; the teacher itself does not change.

    Args:
        make: builds a model.
        classes: that both must know.
        shape: of an input, which both must take.
        data: the data set's name, for messages.
        device: torch device.
    """

    def __init__(self, make: Make, classes: Sequence[str], shape: tuple[int, ...], data: str, device: str):
        self.make = make
        self.classes = list(classes)
        self.shape = shape
        self.data = data
        self.device = torch.device(device)
        self.model: nn.Module | None = None
        self.transform: Transform | None = None
        self._state: State = {}

    def start_from(self, folder: Path) -> None:
        """Become the teacher that lies in a new run's folder.

        Raises:
            RlabError: it knows other classes or takes other inputs, or the copy is gone or damaged.
        """
        source = load_source(folder, ROLE)
        if source is None:
            raise RlabError(
                f"{folder / 'config.json'} says nothing of a teacher, which 'rlab train' takes at the start"
            )
        self._refuse_other(source.note)
        self.restore({"note": source.note, "tensors": source.tensors})

    def _refuse_other(self, note: dict[str, Any]) -> None:
        run = f"the teacher '{note['run']}' ({note['data']})"
        if tuple(note["shape"]) != self.shape:
            raise RlabError(f"{run} takes inputs of shape {note['shape']}, and '{self.data}' has {list(self.shape)}")
        if note["classes"] != self.classes:
            theirs, own = _classes_text(note["classes"]), _classes_text(self.classes)
            raise RlabError(f"{run} knows {theirs}, and '{self.data}' has {own}")

    def state(self) -> State:
        """Return the model's tensors, its settings and its preprocessing."""
        return self._state

    def restore(self, state: State) -> None:
        """Become what `state` describes."""
        self._state = state
        note, tensors = state["note"], state["tensors"]
        with torch.random.fork_rng(devices=[]):  # what it is initialised with is replaced at once
            model = self.make(from_plain(ModelConfig, note["model"]), tuple(note["shape"]), note["outputs"])
        model.load_state_dict({k.removeprefix(MODEL): t for k, t in tensors.items() if k.startswith(MODEL)})
        self.model = model.to(self.device).eval().requires_grad_(False)
        if note["preprocess"]:
            parts = {part: tensors[PREPROCESSING + part].to(self.device) for part in PARTS}
            self.transform = Transform(note["preprocess"], tuple(note["shape"]), **parts)

    def answers(self, task: Classification, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the teacher's logits and features without a gradient: x[B, *shape] -> [B, K], [B, D].

        Raises:
            RlabError: there is no teacher yet.
        """
        if self.model is None:
            raise RlabError("a teacher is taken when a run starts, by 'rlab train' or rlab.train; here is none")
        model: Any = self.model
        seen: list[Tensor] = []

        def forward(inputs: Tensor) -> Tensor:
            seen.append(model.encoder(inputs))
            logits: Tensor = model.head(seen[-1])
            return logits

        with torch.no_grad():
            logits = task.apply_model(forward, self.transform, x)
        return logits[:, : len(self.classes)], seen[-1].float()


class Features:
    """What pulls a student's features to its teacher's: a linear map that learns with it (Romero et al. 2015, eq. 3).

    Args:
        encoder: the student's, which gives features[B, D].
        name: of that encoder, for messages.
        dim: features of the teacher's encoder.
        weight: factor of the loss.
        device: torch device.

    Raises:
        RlabError: the encoder gives no vectors, or has nothing that learns.
    """

    def __init__(self, encoder: nn.Module, name: str, dim: int, weight: float, device: str):
        if not any(p.requires_grad for p in encoder.parameters()):
            raise RlabError(
                f"--teacher-features is {weight:g}, and encoder '{name}' has nothing that learns, so that its features "
                "cannot be pulled to the teacher's; nearest: --teacher-features 0"
            )
        if dim < 1:
            raise RlabError("a teacher is taken when a run starts, by 'rlab train' or rlab.train; here is none")
        self.encoder = encoder
        self.weight = weight
        self.map = nn.Linear(int(encoder.out_dim), dim).to(device)  # type: ignore[arg-type]
        self._student: Tensor | None = None
        encoder.register_forward_hook(self._keep)

    def _keep(self, encoder: nn.Module, inputs: Any, features: Tensor) -> None:
        if torch.is_grad_enabled():
            self._student = features

    def loss(self, teacher: Tensor) -> Tensor:
        """Compute the mean squared error of the student's last features by those of the teacher, [B, D']."""
        student, self._student = self._student, None
        assert student is not None
        return mse_loss(self.map(student.float()), teacher)

    def state(self) -> State:
        """Return the map."""
        return dict(self.map.state_dict())

    def restore(self, state: State) -> None:
        """Become what `state` describes."""
        self.map.load_state_dict(state)


def distil(teacher: Teacher, temperature: float, share: float, features: Features | None = None) -> Term:
    """Make the loss term of distillation: `share` times the loss by the teacher's soft targets at a temperature.

    With `features` their loss is added, times its factor.
    """

    def term(task: Classification, batch: Batch, outputs: Tensor) -> Losses:
        logits = outputs[:, task.heads[0].outputs]
        theirs, pulled_to = teacher.answers(task, batch.x)
        soft = distillation(logits, theirs, temperature)
        losses = {"loss": share * soft, "loss_teacher": soft}
        if features is not None:
            pull = features.loss(pulled_to)
            losses |= {"loss": losses["loss"] + features.weight * pull, "loss_teacher_features": pull}
        return losses

    return term


def _classes_text(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} classes ({shown})"
