"""The head that a search of Go needs: a policy over points and the pass, and who wins; with KataGo's side tasks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlab.nn.encoders.go_resnet import pooled


class PolicyValue(NamedTuple):
    """The outputs for B positions on n x n boards, from the side of the player to move.

    Attributes:
        policy: logits [B, n * n + 1], the pass last; nothing is masked.
        value: logits [B, 2] of a loss and a win; with softmax probabilities.
        ownership: logits [B, n * n] of a point being its own at the end; None without the head.
        score: expected points more than the other's at the end [B]; None without the head.
        reply: logits [B, n * n + 1] of the other's next move; None without the head.
    """

    policy: Tensor
    value: Tensor
    ownership: Tensor | None = None
    score: Tensor | None = None
    reply: Tensor | None = None


SCORE_SCALE = 10.0
"""Points that one unit of the score head stands for: its weights start small."""


class MovesHead(nn.Module):
    """Logits of every point by convolutions 1x1, and of the pass by what is pooled; the size of the board is free."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.bias = nn.Linear(2 * width, width)
        self.relu2 = nn.ReLU()
        self.point = nn.Conv2d(width, 1, 1, bias=False)
        self.pass_ = nn.Linear(2 * width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, C, n, n] -> logits[B, n * n + 1]."""
        y = self.relu(self.norm(self.conv(maps)))
        all_ = pooled(y)
        y = self.relu2(y + self.bias(all_)[:, :, None, None])
        # As sums, not products of matrices: those of one column would round by the number of rows.
        points = (y * self.point.weight).sum(1)
        pass_ = (all_ * self.pass_.weight).sum(1, keepdim=True) + self.pass_.bias
        return torch.cat((points.flatten(1), pass_), 1)


class PolicyValueHead(nn.Module):
    """A policy and a value on the maps of an encoder, and what else is asked for.

    Args:
        channels: of the maps.
        ownership: predict whose each point will be.
        score: predict by how many points.
        reply: predict the other player's next move.
        width: channels of each head.
        hidden: units of the value's layer.
    """

    def __init__(
        self,
        channels: int,
        *,
        ownership: bool = False,
        score: bool = False,
        reply: bool = False,
        width: int = 16,
        hidden: int = 64,
    ):
        super().__init__()
        self.policy = MovesHead(channels, width)
        self.reply = MovesHead(channels, width) if reply else None
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.dense = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU())
        self.value = nn.Linear(hidden, 2)
        self.score = nn.Linear(hidden, 1) if score else None
        self.ownership = nn.Conv2d(width, 1, 1) if ownership else None

    def forward(self, maps: Tensor) -> PolicyValue:
        """maps[B, C, n, n] -> PolicyValue."""
        y = self.relu(self.norm(self.conv(maps)))
        hidden = self.dense(pooled(y))
        return PolicyValue(
            self.policy(maps),
            self.value(hidden),
            None if self.ownership is None else self.ownership(y).flatten(1),
            None if self.score is None else self.score(hidden).squeeze(1) * SCORE_SCALE,
            None if self.reply is None else self.reply(maps),
        )
