"""What an agent remembers with can come from another run: a sequence encoder that was trained on text, for instance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rlab.agents.config import NO_MEMORY
from rlab.errors import RlabError, nearest
from rlab.nn.encoders.recurrent import Memory, read_memory
from rlab.nn.sequence import SEQUENCE_ENCODERS, load_all
from rlab.run.folder import RunFolder, all_runs, run_at
from rlab.run.warm_start import WarmStart, load_source, source_of
from rlab.tasks.sequence.config import usual_heads
from rlab.tasks.transfer import encoder_of

ROLE = "memory"

INPUTS = re.compile(r"project\.weight|layers\.0\.(core\.)?(weight_ih(_l0)?|linear\.weight)")
"""The weights of a sequence encoder whose columns are its inputs; one without them has as many as it is wide."""

FORM = ("positions", "norm", "ffn")
"""Settings of a Transformer that its run names as the encoder does."""


def warm_start_memory(experiment: Any, start: WarmStart) -> tuple[Any, WarmStart]:
    """Take the sequence encoder that the agent's `memory` names, if that is a run.

    Args:
        experiment: the configuration.
        start: what the new run takes besides.

    Returns:
        The experiment with the encoder's registered name and form, and all that is to be put into the new run's folder.

    Raises:
        RlabError: neither a sequence encoder nor a run has the name, the run has none, or no whole checkpoint.
    """
    text = getattr(experiment.agent, "memory", NO_MEMORY)
    wanted = read_memory(text)
    load_all()
    if text == NO_MEMORY or wanted.name in SEQUENCE_ENCODERS:
        return experiment, start
    try:
        folder, progress = run_at(wanted.name)
    except RlabError:
        if ":" in wanted.name:  # a sequence encoder of a module
            return experiment, start
        valid = [NO_MEMORY, *SEQUENCE_ENCODERS, *(run.name for run in all_runs())]
        raise RlabError(
            f"unknown memory '{wanted.name}', and there is no such run; {nearest(wanted.name, valid)}"
        ) from None
    memory, weights, done = memory_of(folder, progress)
    memory = Memory(memory.name, memory.options | wanted.options)
    settings = replace(experiment.agent, memory=str(memory))
    source = source_of(folder.name, done, weights)
    return replace(experiment, agent=settings), WarmStart({**start.sources, ROLE: source})


def memory_of(folder: RunFolder, progress: int | None = None) -> tuple[Memory, dict[str, Tensor], int]:
    """Read (form, weights, progress) of the sequence encoder in a run's checkpoint.

    Raises:
        RlabError: the run learns no sequence encoder, or one that cannot follow an episode, or has no checkpoint.
    """
    load_all()
    document = folder.config()
    model, data = (document["config"].get(part) or {} for part in ("model", "data"))
    if model.get("encoder", "") not in SEQUENCE_ENCODERS:
        there = f"nearest: --encoder {folder.name}" if document["config"].get("agent") else "nearest: a run of rnn-lm"
        raise RlabError(
            f"run '{folder.name}' ({document['recipe']}) has no sequence encoder of its own to remember with; {there}"
        )
    kind, weights, done = encoder_of(folder, progress)
    if kind.startswith("bi"):  # birnn, bilstm, bigru
        raise RlabError(
            f"run '{folder.name}' ({document['recipe']}) has the encoder '{kind}', which reads both ways and carries "
            "no state from step to step; nearest: a run of rnn-lm"
        )
    width = model["width"]
    in_dim = next((t.shape[1] for name, t in weights.items() if INPUTS.fullmatch(name)), width)
    options = {"in_dim": in_dim, "width": width, "layers": model["layers"]}
    if any(name.startswith("blocks.") for name in weights):  # a Transformer: see `rlab.tasks.sequence`
        if "window" not in data:
            raise RlabError(
                f"run '{folder.name}' ({document['recipe']}) has a Transformer that reads both ways, which carries no "
                "state from step to step; nearest: a run of transformer-lm"
            )
        if "position.weight" in weights:
            raise RlabError(
                f"run '{folder.name}' has learned its positions, which end with its window of {data['window']} tokens, "
                "and an episode may go on; nearest: a run with --positions rotary"
            )
        options["heads"] = model.get("heads") or usual_heads(width)
        options["context"] = data["window"]
        options |= {name: model[name] for name in FORM if model.get(name, "auto") != "auto"}
    return Memory(kind, options), weights, done


def start_memory(encoders: Iterable[nn.Module], folder: Path) -> None:
    """Copy the sequence encoder that a new run starts from into its encoders; does nothing where there is none.

    Raises:
        RlabError: the copy in the run's folder is gone or damaged, or does not fit.
    """
    source = load_source(folder, ROLE)
    if source is None:
        return
    for encoder in encoders:
        core: Any = encoder.core
        own = core.state_dict()
        for key in sorted({*source.tensors, *own}):
            there, here = (str(list(w[key].shape)) if key in w else "none" for w in (source.tensors, own))
            if there != here:
                raise RlabError(
                    f"what run '{source.note['run']}' remembers with does not fit: '{key}' has shape {there} there and "
                    f"{here} here; nearest: --memory {source.note['run']} without other options"
                )
        core.load_state_dict(source.tensors)
