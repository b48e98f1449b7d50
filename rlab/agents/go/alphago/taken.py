"""What a run of Go takes from others: copied into its folder when it starts, so that it needs those no more.

A learner that starts at 0 reads the copies (`read`); one that resumes has them in its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rlab.agents.go.config import NetConfig, size_of
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.weights import Trained, read_network
from rlab.errors import RlabError
from rlab.registry import Taken
from rlab.run.checkpoint import digest
from rlab.run.config import from_plain, to_plain
from rlab.run.files import read_json, read_plain
from rlab.run.folder import run_at
from rlab.run.learner import State

NOTE = "networks"
"""In a run's config.json: role -> of which run it is, and what a network is made of."""


@dataclass(frozen=True)
class Copy:
    """What is taken of a run.

    Attributes:
        note: of which run it is, its digest, and of a network the settings (net) and the board (size).
        weights: by name.
    """

    note: dict[str, Any]
    weights: dict[str, Tensor]

    def network(self) -> GoNetwork:
        """It as a network, in evaluation."""
        return unpacked({"net": self.note["net"], "weights": self.weights}, self.note["size"])


def copy_of(run: str, weights: Mapping[str, Tensor], **note: Any) -> Copy:
    """Weights of a run, and what is to be known of them."""
    whole = {key: tensor.contiguous() for key, tensor in weights.items()}
    return Copy({"run": run, "digest": digest(cast(State, whole))} | note, whole)


def copy_network(role: str, name: str, env: str) -> tuple[Copy, Trained]:
    """The network of a run (RUN, or RUN:PROGRESS), for a role on a board; and all else that there is to say of it.

    Raises:
        RlabError: no such run, one without a network of Go or without a checkpoint, or one on another board.
    """
    folder, progress = run_at(name)
    trained = read_network(folder, progress)
    if trained.size != size_of(env):
        raise RlabError(
            f"--{role}: run '{folder.name}' plays on {trained.size}x{trained.size}, and this one on {env}; nearest: "
            f"--env Go{trained.size}"
        )
    net = to_plain(trained.network.config)
    weights = trained.network.state_dict()
    return copy_of(folder.name, weights, step=trained.done, net=net, size=trained.size), trained


def put(copies: Mapping[str, Copy]) -> Taken:
    """What goes into a new run's folder, by role."""
    files = {_file(role): save(copy.weights) for role, copy in copies.items()}
    return Taken({NOTE: {role: copy.note for role, copy in copies.items()}}, files)


def fetch(experiment: Any) -> tuple[Any, Taken]:
    """Take the networks of runs; the new run's own one is made as the one in the role "start" is.

    Komi that is not said is that of the run in that role, too: its network knows no other.

    Args:
        experiment: with the parts env, net and agent, whose `roles` are role -> run; its flag is called as the role.

    Returns:
        The experiment with those settings, and what is to be put into the new run's folder.

    Raises:
        RlabError: a role without a run, or see `copy_network`.
    """
    copies = {}
    for role, name in experiment.agent.roles.items():
        if not name:
            raise RlabError(f"--{role} is empty; it names a run with a network of Go, such as one of go-policy")
        copies[role], trained = copy_network(role, name, experiment.env.env)
        if role == "start":
            known = getattr(trained.experiment, "env", None)
            komi = getattr(known, "komi", None) if experiment.env.komi is None else experiment.env.komi
            env = replace(experiment.env, komi=komi)
            net = _merged(experiment.net, trained.network.config, copies[role].note["run"])
            experiment = replace(experiment, env=env, net=net)
    return experiment, put(copies)


def _file(role: str) -> str:
    return f"{role}.safetensors"


def _merged(asked: NetConfig, taken: NetConfig, run: str) -> NetConfig:
    """The settings of the network that is taken; those of searches are the new run's own.

    Raises:
        RlabError: others were asked for.
    """
    usual = NetConfig()
    for name in (field.name for field in fields(NetConfig) if field.name != "search_precision"):
        wanted, there = getattr(asked, name), getattr(taken, name)
        if wanted not in (getattr(usual, name), there):
            raise RlabError(
                f"--{name.replace('_', '-')} is {wanted}, but the network is taken from run '{run}', where it is "
                f"{there}; leave it out"
            )
    return replace(taken, search_precision=asked.search_precision)


def read(folder: Path) -> dict[str, Copy]:
    """What was put into a new run's folder, by role.

    Raises:
        RlabError: it is not there, or damaged.
    """
    notes = read_json(folder / "config.json").get(NOTE)
    if notes is None:
        raise RlabError(f"{folder / 'config.json'} does not say what 'rlab train' took from other runs")
    copies = {}
    for role, note in notes.items():
        path = folder / _file(role)
        try:
            weights = load(read_plain(path))
        except (OSError, SafetensorError) as e:
            raise RlabError(f"{path}, which this run starts from, cannot be read ({e})") from None
        if digest(cast(State, weights)) != note["digest"]:
            raise RlabError(f"{path}, which this run starts from, is damaged (its digest differs)")
        copies[role] = Copy(note, weights)
    return copies


def packed(network: GoNetwork) -> State:
    """A network as a part of a state."""
    return {"net": to_plain(network.config), "weights": network.state_dict()}


def unpacked(state: State, size: int) -> GoNetwork:
    """What `packed` has packed, in evaluation."""
    with torch.random.fork_rng(devices=[]):  # what it is initialised with is replaced at once
        network = GoNetwork(from_plain(NetConfig, state["net"]), size)
    network.load_state_dict(state["weights"])
    return network.eval().requires_grad_(False)
