"""What an agent acts by, as a network that can be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.graph import Function, Graph

OBSERVATION, STATE, NEW_STATE, ACTION = "observation", "state", "new_state", "action"
"""Names of inputs and outputs; the action itself is what a policy of continuous actions gives."""

Q_VALUES = {"q_values": "the value of each action; the largest one is played"}
LOGITS = {"logits": "of each action's probability"}


@runtime_checkable
class ExportsPolicy(Protocol):
    """An agent, or its network, that can be exported."""

    def graph(self, observations: gym.Space[Any]) -> Graph:
        """Return what it acts by: observations[B, *shape] -> values of actions, logits, or means of continuous ones.

        With a memory a state[B, S] goes in, too, and the new one comes out.

        Raises:
            RlabError: this one cannot be exported.
        """


def policy_graph(
    network: nn.Module,
    observations: gym.Space[Any],
    call: Callable[..., Any],
    outputs: Mapping[str, str],
    state_dim: int = 0,
) -> Graph:
    """Make the graph of a policy.

    Args:
        network: what has the weights.
        observations: the space of one.
        call: (network, observations) -> outputs; with a memory (network, observations, state) -> (outputs, new state).
        outputs: their name, and what they are in words.
        state_dim: S, numbers of a state; 0 without a memory.
    """
    obs = torch.from_numpy(np.stack([observations.sample() for _ in range(2)]))
    graph = Graph(Function(network, call), {OBSERVATION: obs}, outputs)
    if not state_dim:
        return graph
    with torch.no_grad():
        _, state = call(network, obs, torch.zeros(2, state_dim))
    remembered = {NEW_STATE: f"the `{STATE}` of the next step; zeros are that of an episode's first"}
    return replace(graph, inputs={OBSERVATION: obs, STATE: state}, outputs={**outputs, **remembered})


def agent_graph(agent: Any, observations: gym.Space[Any], actions: gym.Space[Any], rules: Mapping[str, Any]) -> Graph:
    """Return what an agent acts by; see `ExportsPolicy.graph`.

    Args:
        agent: has a `graph` of its own, or its network has.
        observations: the space of one.
        actions: the space of one; means of continuous ones become the action that is played.
        rules: what the environment is made with.

    Raises:
        RlabError: it cannot be exported.
    """
    held = (getattr(agent, name, None) for name in ("online", "network"))
    found = next((part for part in (*held, agent) if isinstance(part, ExportsPolicy)), None)
    if found is None:
        raise RlabError("this agent has no network that could be exported; value-based agents and policies have one")
    graph = replace(found.graph(observations), rules=rules)
    if not isinstance(actions, Box):
        return graph
    low, high = torch.from_numpy(actions.low), torch.from_numpy(actions.high)

    def bounded(network: nn.Module, *inputs: Tensor) -> Any:
        """The mean of a policy within the bounds of its actions, [B, *shape]."""
        mean, *state = (network(*inputs),) if len(graph.outputs) == 1 else network(*inputs)
        action = mean.reshape(-1, *low.shape).clamp(low, high)
        return (action, *state) if state else action

    _, *others = graph.outputs.items()
    outputs = {ACTION: "the action that is played", **dict(others)}
    return replace(graph, module=Function(graph.module, bounded), outputs=outputs)
