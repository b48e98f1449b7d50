"""The network of a run that learned Go, without the rest of the run: no data, no environment, nothing to learn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlab.agents.go.config import NetConfig, size_of
from rlab.agents.go.evaluator import Evaluator, Symmetry
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.search_player import SearchPlayer
from rlab.errors import RlabError
from rlab.run.folder import RunFolder
from rlab.run.lifecycle import configuration_of, find_checkpoint, of_this_version, resolve_device
from rlab.tasks.trainer import of_several_modules

RECORDS_SIZE = 9
"""Of the boards of runs whose settings name no board: those that learn from game records."""


@dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Attributes:
        network: in evaluation, on the CPU.
        size: of the board that it learned on.
        recipe: the run's.
        experiment: the run's settings.
        done: its progress then.
    """

    network: GoNetwork
    size: int
    recipe: str
    experiment: Any
    done: int


def has_network(folder: RunFolder) -> bool:
    """Whether the run is one of a `GoNetwork`."""
    _, experiment = configuration_of(folder)
    return isinstance(getattr(experiment, "net", None), NetConfig)


def read_network(folder: RunFolder, progress: int | None = None) -> Trained:
    """The network of a run: of a fit the best one in validation, otherwise the newest.

    Args:
        folder: the run.
        progress: of the checkpoint; None: the newest one.

    Raises:
        RlabError: the run has no such network, or no such checkpoint.
    """
    recipe, experiment = configuration_of(folder)
    if not isinstance(getattr(experiment, "net", None), NetConfig):
        raise RlabError(f"run '{folder.name}' is one of {recipe}, which has no network of Go; nearest: go-policy")
    saved = find_checkpoint(folder, progress)
    env = getattr(experiment, "env", None)
    size = RECORDS_SIZE if env is None else size_of(env.env)
    network = GoNetwork(experiment.net, size)
    with of_this_version(folder):
        network.load_state_dict(weights_of(saved.state))
    return Trained(network.eval(), size, recipe, experiment, saved.done)


def network_player(
    folder: RunFolder, label: str, progress: int | None = None, visits: int | None = None, device: str = "auto"
) -> SearchPlayer:
    """A run's network as a player.

    Args:
        folder: the run.
        label: the player's name.
        progress: see `read_network`.
        visits: simulations of a move; None: as many as in the run's own evaluations.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        RlabError: as `read_network`.
    """
    trained, chosen = read_network(folder, progress), resolve_device(device)
    agent = getattr(trained.experiment, "agent", None)
    usual = getattr(agent, "evaluate_visits", 0)
    number = usual if visits is None else visits
    # Where one answer decides, all eight are heard.
    symmetry: Symmetry = "none" if not getattr(agent, "symmetries", True) else "random" if number else "all"
    evaluator = Evaluator(trained.network, chosen, symmetry, trained.experiment.net.search_precision)
    player = SearchPlayer(label, evaluator, number)
    player.home = trained.size
    return player


def weights_of(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint's, of a fit those that were best in validation."""
    if "network" in state:
        weights: dict[str, torch.Tensor] = state["network"]
        return weights
    state = of_several_modules(state)
    modules = (state.get("best") or state)["modules"]
    return {name.removeprefix("model."): tensor for name, tensor in modules.items()}
