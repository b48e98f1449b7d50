"""A model that labels sequences: an embedding of tokens where there are tokens, a sequence encoder, a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SequenceClassifier(nn.Module):
    """Label whole sequences, or each of their steps.

    Args:
        encoder: a `SequenceEncoder`.
        outputs: K.
        embedding: of tokens; None: inputs are features.
        pooling: what of the features a whole sequence is told from: "last", "mean" or "max" of its own steps; "steps":
            every step is told by itself.
        dropout: of the features.
        scale: mean and deviation of each channel, float32[2, D], by which features are standardised; None: not.
        plain: the last layer has no bias, and weights from N(0, 1), as in the listing of `Elman`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        outputs: int,
        embedding: nn.Embedding | None = None,
        pooling: str = "last",
        dropout: float = 0.0,
        scale: Tensor | None = None,
        plain: bool = False,
    ):
        super().__init__()
        self.embedding, self.encoder, self.pooling = embedding, encoder, pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(encoder.out_dim), outputs, bias=not plain)  # type: ignore[arg-type]
        if plain:
            nn.init.normal_(self.head.weight)
        self.register_buffer("scale", scale)
        self.scale: Tensor | None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens int64[B, T] or features[B, T, D], mask bool[B, T] (False: padding) -> [B, K], of steps [B, T, K].

        A sequence of length 0 has features of 0.
        """
        if self.scale is not None:
            x = (x - self.scale[0]) / self.scale[1]
            x = x if mask is None else x * mask.unsqueeze(2)
        features = self.encoder(x if self.embedding is None else self.embedding(x), mask)
        logits: Tensor = self.head(self.dropout(self._pooled(features, mask)))
        return logits

    def _pooled(self, features: Tensor, mask: Tensor | None) -> Tensor:
        if self.pooling == "steps":
            return features
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        there, lengths = mask.unsqueeze(2), mask.sum(1, keepdim=True)
        if self.pooling == "mean":
            return (features * there).sum(1) / lengths.clamp(min=1)
        if self.pooling == "max":
            most = features.masked_fill(~there, torch.finfo(features.dtype).min).amax(1)
            return most.masked_fill(lengths == 0, 0.0)
        last = (lengths - 1).clamp(min=0).unsqueeze(2).expand(-1, 1, features.shape[2])
        return features.gather(1, last).squeeze(1) * (lengths > 0)
