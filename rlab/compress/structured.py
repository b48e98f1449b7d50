"""Structured pruning: whole neurons and channels go, so that the network that is left is really smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rlab.agents.interaction import Interaction
from rlab.compress.training import Weights, built
from rlab.errors import RlabError
from rlab.nn.encoders.modifiers import with_widths
from rlab.nn.encoders.narrow import importance, keep
from rlab.run.contract import Learner
from rlab.run.folder import RunFolder
from rlab.tasks.classification import Classification
from rlab.tasks.trainer import Trainer


def narrower(
    folder: RunFolder, config: Any, place: tuple[str, ...], weights: Mapping[str, Tensor], share: float
) -> tuple[Any, Weights]:
    """Take the neurons and channels with the smallest L1 norms out of every layer of a run's encoder (Li et al. 2017).

    What a head computed from features that are gone goes with them. Every layer keeps at least one.

    Args:
        folder: the run.
        config: its settings.
        place: where its state has the network, see `rlab.compress.compress.network_in`.
        weights: of the network.
        share: of each layer's neurons or channels that go.

    Returns:
        Settings with a narrower encoder, and the weights of the network that they make.

    Raises:
        RlabError: the run has no such encoder, or its encoder is no plain stack of layers.
    """
    part = "agent" if hasattr(config, "agent") else "model"
    with built(folder, config) as learner:
        network, encoders = _network(learner, place, folder)
        name: str = getattr(config, part).encoder
        network.load_state_dict(dict(weights))
        try:
            norms = [importance(encoder, name) for encoder in encoders]
        except RlabError as e:
            raise RlabError(f"{e}; nearest: --method prune") from None
        sums = [torch.stack(each).sum(0) for each in zip(*norms, strict=True)]
        kept = [total.topk(max(1, round((1 - share) * len(total)))).indices.sort().values for total in sums]
        features = [keep(encoder, name, kept) for encoder in encoders][-1]
        inside = {id(module) for encoder in encoders for module in encoder.modules()}
        own = {
            f"{prefix}.{key}": tensor.detach().clone()
            for prefix, module in network.named_modules()
            if id(module) in inside
            for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        }
    new = with_widths(name, [len(index) for index in kept])
    config = replace(config, **{part: replace(getattr(config, part), encoder=new)})
    try:
        with built(folder, config) as learner:
            shapes = {key: tensor.shape for key, tensor in _network(learner, place, folder)[0].state_dict().items()}
    except RlabError as e:  # a norm that was exchanged holds layers that could be narrowed without it
        raise RlabError(
            f"of encoder '{name}' only some layers can be made narrower, which its name cannot say ({e}); nearest: "
            "--method prune"
        ) from e
    return config, {key: _fitted(key, own.get(key, weights[key]), shape, features) for key, shape in shapes.items()}


def _network(learner: Learner, place: tuple[str, ...], folder: RunFolder) -> tuple[nn.Module, list[nn.Module]]:
    """The network that a learner's state has at a place, and the encoders in it."""
    network: Any = None
    if isinstance(learner, Trainer) and isinstance(learner.task, Classification):
        network = learner.task.modules
        encoders = [m.encoder for m in network.modules() if isinstance(getattr(m, "encoder", None), nn.Module)]
    elif isinstance(learner, Interaction) and place[0] == "agent" and place[1] in ("online", "network"):
        network = getattr(learner.agent, place[1])
        there = list(network.modules())
        encoders = [encoder for encoder in learner.agent.encoders if any(encoder is module for module in there)]
    if network is None or not encoders:
        recipe = folder.config()["recipe"]
        raise RlabError(
            f"run '{folder.name}' is one of {recipe}, and --method structured takes neurons and channels out of the "
            "encoders of our classifiers, value-based agents and policies; nearest: --method prune"
        )
    return network, encoders


def _fitted(key: str, old: Tensor, shape: torch.Size, features: Tensor) -> Tensor:
    """A tensor as a narrower network has it: outside of the encoder, what belonged to features that are gone goes."""
    if old.shape == shape:
        return old
    axes = [axis for axis, (one, other) in enumerate(zip(old.shape, shape, strict=True)) if one != other]
    if len(axes) != 1 or shape[axes[0]] != len(features):
        raise RlabError(
            f"'{key}' has shape {list(old.shape)}, and {list(shape)} with fewer features, which is no choice among "
            "them; nearest: --method prune"
        )
    return old.index_select(axes[0], features)
