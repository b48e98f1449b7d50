"""Transfer of encoders: a run can start from the encoder of any other run, whatever agent or task trained it.

The new run's configuration takes over the encoder's registered name; `rlab.run.warm_start` has the rest of the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rlab.errors import RlabError, nearest
from rlab.nn.encoders import AUTO, ENCODERS, load_all
from rlab.nn.encoders.modifiers import split_name, without_start
from rlab.run.folder import RunFolder, all_runs, find_run, run_at
from rlab.run.lifecycle import find_checkpoint, read_newest
from rlab.run.warm_start import WarmStart, load_source, other_shape, source_of

ROLE = "encoder"

PLACES = {
    "online": ("encoder.",),
    "network": ("encoder.encoder.",),
    "model": ("encoder.", "teacher.encoder."),
    "modules": ("model.encoder.", "model.teacher.encoder.", "encoder."),
    "policy": ("features_extractor.encoder.", "q_net.features_extractor.encoder.", "actor.features_extractor.encoder."),
}
"""Part of a learner's state -> what the names of its encoder's weights begin with: value-based agents, policy
gradients, models (of which the average counts, if there is one), those of stable-baselines3."""

Weights = dict[str, Tensor]

OWN = "sb3"
"""What the networks of stable-baselines3 itself are called."""

DENSE = "dense."
"""What the names of an encoder's layers behind its maps begin with; where maps are looked at, there are none."""

BELOW = "below."
"""What the names of the feed-forward part of a recurrent encoder begin with."""


FORM = ("width", "layers", "heads", "positions", "norm", "ffn")
"""Settings of a sequence encoder that a run takes over with its weights."""


def warm_start_encoder(part: str, experiment: Any, sequence: bool = False) -> tuple[Any, WarmStart]:
    """Take the encoder that the configuration's `part` (agent, model) names, if that is a run.

    Args:
        part: of the configuration.
        experiment: the configuration.
        sequence: whether it is a sequence encoder, of which the form is taken over, too.

    Returns:
        The experiment with the encoder's registered name, and what is to be put into the new run's folder: nothing if
        the name is a registered encoder's, which wins over a run's.

    Raises:
        RlabError: neither an encoder nor a run has the name, the run has no encoder, or no whole checkpoint.
    """
    settings = getattr(experiment, part)
    name = settings.encoder
    registered = _sequence_encoders() if sequence else None
    if name in registered if registered is not None else _registered(name):
        if getattr(settings, "freeze", False):  # stable-baselines3 has no such setting
            raise RlabError(
                f"--freeze keeps an encoder as another run has learned it, but '{name}' is a registered encoder, whose "
                "weights start at random; nearest: --encoder RUN --freeze"
            )
        return experiment, WarmStart()
    folder, progress = _find(name, [*AUTO, *ENCODERS] if registered is None else registered)
    kind, weights, done = encoder_of(folder, progress)
    taken = {"encoder": kind}
    if registered is not None:
        if kind not in registered:
            raise RlabError(f"run '{folder.name}' has the encoder '{kind}', which reads no sequences; "
                            f"{nearest(kind, registered)}")  # fmt: skip
        theirs = folder.config()["config"]["model"]
        taken |= {field: theirs[field] for field in FORM if field in theirs}
    source = source_of(folder.name, done, weights)
    return replace(experiment, **{part: replace(settings, **taken)}), WarmStart({ROLE: source})


def _sequence_encoders() -> list[str]:
    from rlab.nn.sequence import SEQUENCE_ENCODERS
    from rlab.nn.sequence import load_all as load_sequence_encoders

    load_sequence_encoders()
    return list(SEQUENCE_ENCODERS)


def encoder_of(folder: RunFolder, progress: int | None = None) -> tuple[str, Weights, int]:
    """Read (registered name, weights, progress) of the encoder in a run's checkpoint; a model's is its best one.

    Args:
        folder: the run.
        progress: of the checkpoint; None: the newest whole one.

    Raises:
        RlabError: the run learns no encoder of the lab, or has no checkpoint.
    """
    document = folder.config()
    config = document["config"]
    kind = (config.get("agent") or config.get("model") or {}).get("encoder")
    if kind is None or kind == OWN:
        why = "stable-baselines3's own networks" if kind == OWN else "no encoder"
        raise RlabError(f"run '{folder.name}' ({document['recipe']}) has {why}, so there is nothing to start from")
    saved = read_newest(folder) if progress is None else find_checkpoint(folder, progress)
    if saved is None:
        raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is no encoder to start from")
    state = saved.state.get("agent", saved.state)
    state = state | (state.get("best") or {})
    for part, prefixes in PLACES.items():
        names = state.get(part, {})
        for prefix in prefixes:
            weights = {key.removeprefix(prefix): t for key, t in names.items() if key.startswith(prefix)}
            if weights:
                return without_start(kind), weights, saved.done
    raise RlabError(
        f"run '{folder.name}' has the encoder '{kind}', which has no weights, so there is nothing to start from; "
        "nearest: a run with --encoder mlp"
    )


def start_from(encoders: Iterable[nn.Module], folder: Path) -> None:
    """Copy the weights that a new run starts from into its encoders; does nothing where it starts afresh.

    Between an encoder with dense layers and one of maps alone (a detector's) only what makes the maps is copied.

    Raises:
        RlabError: they do not fit, or the copy in the run's folder is gone or damaged.
    """
    source = load_source(folder, ROLE)
    if source is None:
        return
    fresh = list[nn.Parameter]()
    for encoder in encoders:
        fresh += _copy_into(source.tensors, encoder, f"run '{source.note['run']}'")
    if fresh and not any(parameter.requires_grad for parameter in fresh):
        raise RlabError(
            f"run '{source.note['run']}' has learned maps alone, so that --freeze would keep the dense layers above "
            "them as they were drawn; nearest: without --freeze"
        )


def freeze(encoders: Iterable[nn.Module]) -> None:
    """Freeze encoders, norms included; a recurrent layer on top of one goes on learning."""
    for encoder in encoders:
        _feed_forward(encoder).requires_grad_(False)


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn, as an optimiser takes them."""
    return [p for p in network.parameters() if p.requires_grad]


def counts(network: nn.Module) -> tuple[int, int]:
    """Count (trainable parameters, frozen parameters)."""
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return sum(n for n, learns in sizes if learns), sum(n for n, learns in sizes if not learns)


def _registered(name: str) -> bool:
    load_all()
    base = split_name(name)[0]
    if ":" in base and _names_checkpoint(base):
        return False
    return base in AUTO or base in ENCODERS or base == OWN or ":" in base


def _names_checkpoint(name: str) -> bool:
    """Whether it is RUN:PROGRESS or RUN:best, and not the encoder of a module, package.module:name."""
    run, _, at = name.rpartition(":")
    if not (at == "best" or at.isdecimal()):
        return False
    with contextlib.suppress(RlabError, OSError, ValueError):
        find_run(run)
        return True
    return False


def _find(name: str, encoders: Iterable[str]) -> tuple[RunFolder, int | None]:
    try:
        return run_at(name)
    except RlabError:
        if name == "latest" or ":" in name:
            raise
        valid = [*encoders, *(run.name for run in all_runs())]
        raise RlabError(f"unknown encoder '{name}', and there is no such run; {nearest(name, valid)}") from None


def _feed_forward(encoder: nn.Module) -> nn.Module:
    below = getattr(encoder, "below", None)
    return below if isinstance(below, nn.Module) else encoder


def _cores(weights: Mapping[str, Tensor]) -> set[str]:
    """Names of what a recurrent encoder remembers with."""
    return {key for key in weights if not key.startswith(BELOW)}


def _copy_into(weights: Weights, encoder: nn.Module, run: str) -> list[nn.Parameter]:
    """Copy weights into an encoder of the same shapes; of a recurrent one and another, what both have.

    Returns:
        Its dense layers' parameters, if the weights have none for them: they stay as they are.
    """
    recurrent = any(key.startswith(BELOW) for key in weights)
    if recurrent and _feed_forward(encoder) is encoder:
        weights = {key.removeprefix(BELOW): t for key, t in weights.items() if key.startswith(BELOW)}
    elif not recurrent or _cores(weights) != _cores(encoder.state_dict()):  # another kind of memory stays behind
        weights = {key.removeprefix(BELOW): t for key, t in weights.items() if not recurrent or key.startswith(BELOW)}
        encoder = _feed_forward(encoder)
    own = encoder.state_dict()
    dense = {key: t for key, t in own.items() if key.startswith(DENSE)}
    fresh = bool(dense) and not any(key.startswith(DENSE) for key in weights)
    if fresh:
        weights = weights | dense
    elif not dense:
        weights = {key: t for key, t in weights.items() if not key.startswith(DENSE)}
    if found := other_shape(own, weights):
        raise RlabError(
            f"the encoder of {run} does not fit these observations: {found}; nearest: a run on observations of the "
            "same shape"
        )
    encoder.load_state_dict(weights)
    return [p for name, p in encoder.named_parameters() if fresh and name.startswith(DENSE)]
