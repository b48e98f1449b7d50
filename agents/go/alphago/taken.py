"""Networks of Go that a run takes from others: copied into its folder when it starts, so that it needs those no more.

A learner that starts at 0 reads the copies (`read`); one that resumes has them in its own checkpoint.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from agents.go.config import NetConfig, size_of
from agents.go.network import GoNetwork
from agents.go.weights import read_network
from rlab.errors import RlabError
from rlab.registry import Taken
from rlab.run.checkpoint import digest
from rlab.run.config import from_plain, to_plain
from rlab.run.files import read_json
from rlab.run.folder import find_run
from rlab.run.learner import State

NOTE = "networks"
"""In a run's config.json: role -> of which run the network is, and what it is made of."""


def fetch(experiment: Any) -> tuple[Any, Taken]:
    """Take the networks of runs; the new run's own one is made as the one in the role "start" is.

    Komi that is not said is that of the run in that role, too: its network knows no other.

    Args:
        experiment: with the parts env, net and agent, whose `roles` are role -> run; its flag is called as the role.

    Returns:
        The experiment with those settings, and what is to be put into the new run's folder.

    Raises:
        RlabError: no such run, one without a network of Go or without a checkpoint, or one on another board.
    """
    notes, files = {}, {}
    for role, name in experiment.agent.roles.items():
        if not name:
            raise RlabError(f"--{role} is empty; it names a run with a network of Go, such as one of go-policy")
        folder = find_run(name)
        trained = read_network(folder)
        if trained.size != size_of(experiment.env.env):
            raise RlabError(
                f"--{role}: run '{folder.name}' plays on {trained.size}x{trained.size}, and this one on "
                f"{experiment.env.env}; nearest: --env Go{trained.size}"
            )
        weights = {key: tensor.contiguous() for key, tensor in trained.network.state_dict().items()}
        net = trained.network.config
        notes[role] = {"run": folder.name, "step": trained.done, "digest": digest(weights), "net": to_plain(net)}
        files[_file(role)] = save(weights)
        if role == "start":
            known = getattr(trained.experiment, "env", None)
            komi = getattr(known, "komi", None) if experiment.env.komi is None else experiment.env.komi
            env = replace(experiment.env, komi=komi)
            experiment = replace(experiment, env=env, net=_merged(experiment.net, net, folder.name))
    return experiment, Taken({NOTE: notes}, files)


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


def read(folder: Path, role: str, size: int) -> GoNetwork:
    """The copy of a network that lies in a new run's folder.

    Raises:
        RlabError: it is not there, or damaged.
    """
    path = folder / _file(role)
    note = read_json(folder / "config.json").get(NOTE, {}).get(role)
    if note is None:
        raise RlabError(f"{folder / 'config.json'} names no network in the role '{role}', which 'rlab train' takes")
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError) as e:
        raise RlabError(f"{path}, a network that this run starts from, cannot be read ({e})") from None
    if digest(weights) != note["digest"]:
        raise RlabError(f"{path}, a network that this run starts from, is damaged (its digest differs)")
    return unpacked({"net": note["net"], "weights": weights}, size)


def packed(network: GoNetwork) -> State:
    """A network as a part of a state."""
    return {"net": to_plain(network.config), "weights": network.state_dict()}


def unpacked(state: State, size: int) -> GoNetwork:
    """What `packed` has packed, in evaluation."""
    with torch.random.fork_rng(devices=[]):  # what it is initialised with is replaced at once
        network = GoNetwork(from_plain(NetConfig, state["net"]), size)
    network.load_state_dict(state["weights"])
    return network.eval().requires_grad_(False)
