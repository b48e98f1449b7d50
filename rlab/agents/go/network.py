"""The network that plays Go."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from rlab.agents.go.config import NetConfig
from rlab.envs.go.planes import PLANES
from rlab.errors import RlabError
from rlab.nn import make_encoder
from rlab.nn.graph import Function, Graph
from rlab.nn.heads import PolicyValue, PolicyValueHead

POLICY_VALUE = "policy_value"
"""What the outputs of an exported network of Go are called."""


class GoNetwork(nn.Module):
    """Planes -> policy and value; any encoder whose maps are as large as the board.

    Args:
        config: its parts.
        size: of the board; with a fully convolutional encoder the weights fit every size.

    Raises:
        RlabError: the encoder's maps are smaller than the board.
    """

    def __init__(self, config: NetConfig, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.encoder = make_encoder(config.encoder, (len(PLANES), size, size))
        maps = getattr(self.encoder, "feature_maps", None)
        shape = None
        if maps is not None:
            self.encoder.eval()
            with torch.no_grad():
                shape = maps(torch.zeros(2, len(PLANES), size, size)).shape
            self.encoder.train()
        if shape is None or tuple(shape[2:]) != (size, size):
            raise RlabError(
                f"encoder '{config.encoder}' has no maps of {size}x{size} for a {size}x{size} board; nearest: go-resnet"
            )
        self.head = PolicyValueHead(
            shape[1],
            ownership=config.ownership,
            score=config.score,
            reply=config.reply,
            width=config.width,
            hidden=config.hidden,
        )

    def forward(self, planes: Tensor) -> PolicyValue:
        """planes[B, C, n, n] -> PolicyValue."""
        outputs: PolicyValue = self.head(cast(Any, self.encoder).feature_maps(planes))
        return outputs

    def graph(self) -> Graph:
        """Return it for an export, with all outputs side by side: [B, n * n + 2]."""

        def call(network: GoNetwork, planes: Tensor) -> Tensor:
            outputs = network(planes)
            return torch.cat([outputs.policy, outputs.value.softmax(1).diff(dim=1)], 1)

        planes = (torch.rand(2, len(PLANES), self.size, self.size) < 0.3).float()
        words = f"logits of the {self.size**2} points and the pass, then the value from -1 to 1"
        return Graph(Function(self, call), {"planes": planes}, {POLICY_VALUE: words})
