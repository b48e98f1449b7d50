"""Distillation: a model that learns from another run's probabilities, too (Hinton et al. 2015).

When a run starts, `fetch` copies the other run's model and its preprocessing into the new run's folder. From then on
the other run is not needed: a learner that starts at 0 reads the copy, one that resumes has the teacher in its own
checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rlab.data.batches import Batch
from rlab.data.preprocess import Transform
from rlab.errors import RlabError
from rlab.nn.losses import distillation
from rlab.registry import Taken
from rlab.run.checkpoint import digest
from rlab.run.config import from_plain, to_plain
from rlab.run.files import read_plain
from rlab.run.folder import RunFolder, find_run
from rlab.run.learner import State
from rlab.run.life import of_this_version, open_run
from rlab.tasks.classify import Classify
from rlab.tasks.config import ModelConfig

FILE = "teacher.safetensors"
"""In a run's folder: the teacher's weights and preprocessing."""

NOTE = "teacher"
"""In a run's config.json: which run the teacher is of, and what kind of model it is."""

MODEL, PREPROCESSING = "model.", "preprocessing."
"""What the names of tensors in the file begin with."""

PARTS = ("shift", "forward", "backward")
"""The tensors of a `Transform`."""

Make = Callable[[ModelConfig, tuple[int, ...], int], nn.Module]
"""(settings, shape of an input, outputs) -> model."""


def fetch(name: str) -> Taken:
    """Take the model of a run, as it predicts, and its preprocessing; changes nothing there.

    Raises:
        RlabError: there is no such run, it has no checkpoint, or it is no network that tells classes apart.
    """
    folder = find_run(name)
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)  # opening a run takes that run's number
        run = stack.enter_context(open_run(folder, "cpu"))
        task = getattr(run.learner, "task", None)
        if not isinstance(task, Classify) or task.classes is None:
            raise RlabError(
                f"run '{folder.name}' ({folder.config()['recipe']}) is no network that tells classes apart, so it "
                "cannot be a teacher; nearest: a run of 'rlab train lenet --data ...'"
            )
        if run.saved is None:
            raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is no teacher to learn from")
        with of_this_version(folder):
            run.learner.restore_policy(run.saved.state)  # type: ignore[attr-defined]
        tensors = {MODEL + key: tensor.contiguous() for key, tensor in task.judged.state_dict().items()}
        if task.transform is not None:
            tensors |= {PREPROCESSING + part: getattr(task.transform, part).contiguous() for part in PARTS}
        note = {
            "run": folder.name,
            "step": run.saved.done,
            "digest": digest(tensors),
            "data": task.data.name,
            "model": to_plain(run.config.model),
            "outputs": task.heads[-1].outputs.stop,
            "classes": list(task.classes),
            "shape": list(task.data.shape),
            "preprocess": task.transform.name if task.transform is not None else "",
        }
    return Taken({NOTE: note}, {FILE: save(tensors)})


class Teacher:
    """Another run's model, which this one learns from; it does not learn itself.

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
        path = folder / FILE
        note = RunFolder(folder).config().get(NOTE)
        if note is None:
            raise RlabError(
                f"{folder / 'config.json'} says nothing of a teacher, which 'rlab train' takes at the start"
            )
        self._refuse_other(note)
        try:
            tensors = load(read_plain(path))
        except (OSError, SafetensorError) as e:
            raise RlabError(f"{path}, the teacher of this run, cannot be read ({e})") from None
        if digest(tensors) != note["digest"]:
            raise RlabError(f"{path}, the teacher of this run, is damaged (its digest differs)")
        self.restore({"note": note, "tensors": tensors})

    def _refuse_other(self, note: dict[str, Any]) -> None:
        run = f"the teacher '{note['run']}' ({note['data']})"
        if tuple(note["shape"]) != self.shape:
            raise RlabError(f"{run} takes inputs of shape {note['shape']}, and '{self.data}' has {list(self.shape)}")
        if note["classes"] != self.classes:
            raise RlabError(f"{run} knows {_said(note['classes'])}, and '{self.data}' has {_said(self.classes)}")

    def state(self) -> State:
        """The model, what kind it is, and its preprocessing."""
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

    def logits(self, task: Classify, x: Tensor) -> Tensor:
        """x[B, *shape] as in the data set -> logits[B, K], without a gradient."""
        if self.model is None:
            raise RlabError("a teacher is taken when a run starts, by 'rlab train' or rlab.train; here is none")
        with torch.no_grad():
            return task.through(self.model, self.transform, x)[:, : len(self.classes)]


def distil(teacher: Teacher, temperature: float, share: float) -> Any:
    """The term of a loss: `share` of the teacher's soft targets at a temperature, on the same inputs."""

    def term(task: Classify, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        soft = distillation(logits, teacher.logits(task, batch.x), temperature)
        return {"loss": share * soft, "loss_teacher": soft}

    return term


def _said(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} classes ({shown})"
