"""Averaged-DQN (Anschel, Baram & Shimkin 2017): targets from the mean of the last K target networks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rlab.agents.value.config import AveragedDQNConfig
from rlab.agents.value.dqn import DQN
from rlab.agents.value.q_network import QNetwork


class AveragedQ(nn.Module):
    """K Q-networks as one, the newest first, whose action values are the mean of theirs; all of them start alike."""

    def __init__(self, network: QNetwork, count: int):
        super().__init__()
        self.networks: Any = nn.ModuleList(copy.deepcopy(network) for _ in range(count))

    def encode(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> features float32[K, B, D]."""
        return torch.stack([network.encode(obs) for network in self.networks])

    def head_outputs(self, features: Tensor) -> Tensor:
        """features[K, B, D] -> the mean of Q over the networks (section 4): [B, A]."""
        pairs = zip(self.networks, features, strict=True)
        return torch.stack([network.head_outputs(x) for network, x in pairs]).mean(dim=0)

    def q_values(self, outputs: Tensor) -> Tensor:
        """The same: Q[B, A]."""
        return outputs

    def resample(self, generator: torch.Generator) -> None:
        """Draw new noise for the layers that have it."""
        for network in self.networks:
            network.resample(generator)


class AveragedDQN(DQN):
    """DQN whose targets vary less: they are means over the last K target networks.

    Until there were K of them, the first one counts for those that are missing.
    """

    config: AveragedDQNConfig

    def make_target(self) -> AveragedQ:
        """K copies of the online network."""
        return AveragedQ(self.online, self.config.averaged)

    def update_target(self) -> None:
        """Put the online network's weights first, and drop the oldest."""
        networks = [self.online, *self.target.networks]
        for older, newer in zip(networks[:0:-1], networks[-2::-1], strict=True):
            older.load_state_dict(newer.state_dict())
