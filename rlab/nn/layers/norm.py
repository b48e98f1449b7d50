"""Normalisation that torch has only in another layout."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """LayerNorm (Ba et al. 2016) over the C channels of each position by itself: maps[B, C, h, w] -> the same shape.

    What Flax calls LayerNorm of maps, and so what PQN's authors used. Over a whole map a ball of four pixels hardly
    moves the mean; here it decides its position's. Fastest on channels-last maps, which it does not copy.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """maps[B, C, h, w]: mean 0 and variance 1 over C, then scaled and shifted per channel."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
