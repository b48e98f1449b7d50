"""Warm start: copy encoders, models, teachers and players of other runs into a new run's folder.

When a run starts, its recipe's `warm_start` copies tensors out of the other runs' checkpoints into the new run's
folder, each source under its role. From then on the other runs are not needed: a learner that starts at 0 reads the
copies (`load_source`), one that resumes has what it needs in its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from rlab.errors import RlabError
from rlab.run.checkpoint import digest
from rlab.run.contract import State
from rlab.run.files import read_plain, replace_durably, to_json
from rlab.run.folder import RunFolder

NOTE = "warm_start"
"""In config.json: role -> what was copied from which run."""


@dataclass(frozen=True)
class Source:
    """Tensors that are copied from another run, with a note of where they come from.

    Attributes:
        note: which run it is of (``run``), at which progress (``step``), its ``digest``, and what else describes it.
        tensors: by name.
    """

    note: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class WarmStart:
    """Load all that a new run starts from, by role."""

    sources: Mapping[str, Source] = field(default_factory=dict)

    def save(self, folder: RunFolder) -> None:
        """Write the sources into a new run's folder: a file for each role, and a note in config.json."""
        from safetensors.torch import save

        if not self.sources:
            return
        for role, source in self.sources.items():
            replace_durably(_file(folder.path, role), save(source.tensors))
        notes = {role: source.note for role, source in self.sources.items()}
        replace_durably(folder.path / "config.json", to_json(folder.config() | {NOTE: notes}))


AGENT = "agent"
"""The role of the run that a whole agent starts from."""

NETWORKS = ("online", "network", "policy")
"""Parts of an agent's state that hold its network: value-based agents, policy gradients, those of stable-baselines3."""


def agent_of(folder: RunFolder, state: State, done: int) -> Source:
    """Take all parameters of the network of a run's agent.

    Args:
        folder: the run.
        state: of its newest checkpoint.
        done: its progress then.

    Raises:
        RlabError: it has no such network.
    """
    for holder in (state.get(AGENT, {}), state):  # an AlphaZero has no agent beside its network
        for part in NETWORKS:
            network = holder.get(part)
            if isinstance(network, dict) and all(isinstance(value, Tensor) for value in network.values()):
                return source_of(folder.name, done, network, part=part)
    recipe = folder.config()["recipe"]
    raise RlabError(f"run '{folder.name}' is one of {recipe}, which holds no network that an agent could start from")


def source_of(run: str, step: int | None, tensors: Mapping[str, Tensor], **note: Any) -> Source:
    """Make a source of a run's tensors, with their digest."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    at = {} if step is None else {"step": step}
    return Source({"run": run, **at, "digest": digest(cast(State, whole)), **note}, whole)


def refuse_other_shapes(own: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Refuse the parameters of another network.

    Raises:
        RlabError: it differs from the own one, and what differs first.
    """
    if found := other_shape(own, parameters):
        raise RlabError(f"{found}; nearest: --like with the same run, which takes over its settings, too")


def other_shape(own: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> str:
    """Say which tensor of another network has another shape than the own one, or is in one of them only; "": none."""
    for name in sorted({*own, *parameters}):
        there, here = (str(list(w[name].shape)) if name in w else "none" for w in (parameters, own))
        if there != here:
            return f"'{name}' has shape {there} there and {here} here"
    return ""


def notes_of(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the notes of what a run started from, by role."""
    notes: dict[str, dict[str, Any]] = folder.config().get(NOTE, {})
    return notes


def load_source(folder: Path, role: str) -> Source | None:
    """Load what a new run starts from in a role; None if nothing was copied for it.

    Raises:
        RlabError: the copy is gone or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    note, path = notes_of(RunFolder(folder)).get(role), _file(folder, role)
    if note is None:
        return None
    try:
        tensors = load(read_plain(path))
    except (OSError, SafetensorError) as e:
        raise RlabError(f"{path}, which this run starts from, cannot be read ({e})") from None
    if digest(cast(State, tensors)) != note["digest"]:
        raise RlabError(f"{path}, which this run starts from, is damaged (its digest differs)")
    return Source(note, tensors)


def load_sources(folder: Path) -> dict[str, Source]:
    """Load all that a new run starts from, by role.

    Raises:
        RlabError: nothing was copied for it, or a copy is gone or damaged.
    """
    sources = {role: load_source(folder, role) for role in notes_of(RunFolder(folder))}
    if not sources:
        raise RlabError(f"{folder / 'config.json'} does not say what 'rlab train' took from other runs")
    return {role: source for role, source in sources.items() if source is not None}


def _file(folder: Path, role: str) -> Path:
    return folder / f"{role}.safetensors"
