"""What a run of Go takes from others: copied into its folder when it starts, so that it needs those no more.

A learner that starts at 0 reads the copies (`read`); one that resumes has them in its own checkpoint.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch

from rlab.agents.go.config import NetConfig, size_of
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.weights import Trained, read_network
from rlab.errors import RlabError
from rlab.run.config import from_plain, to_plain
from rlab.run.contract import State
from rlab.run.folder import run_at
from rlab.run.warm_start import Source, WarmStart, source_of


def network_of(source: Source) -> GoNetwork:
    """What is copied of a run as a network, in evaluation."""
    return unpacked({"net": source.note["net"], "weights": source.tensors}, source.note["size"])


def copy_network(role: str, name: str, env: str) -> tuple[Source, Trained]:
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
    return source_of(folder.name, trained.done, trained.network.state_dict(), net=net, size=trained.size), trained


def warm_start_networks(experiment: Any) -> tuple[Any, WarmStart]:
    """Take the networks of runs; the new run's own one is made as the one in the role "start" is.

    Komi that is not said is that of the run in that role, too: its network knows no other.

    Args:
        experiment: with the parts env, net and agent, whose `roles` are role -> run; its flag is called as the role.

    Returns:
        The experiment with those settings, and what is to be put into the new run's folder.

    Raises:
        RlabError: a role without a run, or see `copy_network`.
    """
    sources = {}
    for role, name in experiment.agent.roles.items():
        if not name:
            raise RlabError(f"--{role} is empty; it names a run with a network of Go, such as one of go-policy")
        sources[role], trained = copy_network(role, name, experiment.env.env)
        if role == "start":
            known = getattr(trained.experiment, "env", None)
            komi = getattr(known, "komi", None) if experiment.env.komi is None else experiment.env.komi
            env = replace(experiment.env, komi=komi)
            net = _merged(experiment.net, trained.network.config, sources[role].note["run"])
            experiment = replace(experiment, env=env, net=net)
    return experiment, WarmStart(sources)


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


def packed(network: GoNetwork) -> State:
    """A network as a part of a state."""
    return {"net": to_plain(network.config), "weights": network.state_dict()}


def unpacked(state: State, size: int) -> GoNetwork:
    """What `packed` has packed, in evaluation."""
    with torch.random.fork_rng(devices=[]):  # what it is initialised with is replaced at once
        network = GoNetwork(from_plain(NetConfig, state["net"]), size)
    network.load_state_dict(state["weights"])
    return network.eval().requires_grad_(False)
