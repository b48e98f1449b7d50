"""Language models: any causal sequence encoder between an embedding of tokens and logits of the next one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError
from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.transformer import Transformer


class LanguageModel(nn.Module):
    """A sequence encoder that predicts each next token.

    Args:
        vocabulary: K, how many tokens there are.
        encoder: name of a sequence encoder that is causal.
        width: features of the embedding and of the encoder.
        layers: of the encoder.
        dropout: of the embedding, of what the encoder gives, and within it.
        tied: whether the logits' weights are those of the embedding (Press & Wolf 2017).
        options: other arguments of the encoder.
    """

    def __init__(
        self,
        vocabulary: int,
        encoder: str = "transformer",
        width: int = 256,
        layers: int = 4,
        dropout: float = 0.0,
        tied: bool = True,
        **options: Any,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, width)
        self.encoder = make_sequence_encoder(encoder, width, width, layers, dropout, **options)
        if not self.encoder.causal:
            raise RlabError(f"a language model reads forwards, and encoder '{encoder}' looks ahead; nearest: gru")
        out_dim: int = self.encoder.out_dim  # type: ignore[assignment]
        attends = isinstance(self.encoder, Transformer)
        # The Transformer drops its inputs itself, and ends in a norm.
        self.dropout = nn.Identity() if attends or not dropout else nn.Dropout(dropout)
        self.head = nn.Linear(out_dim, vocabulary, bias=not attends)
        nn.init.normal_(self.embedding.weight, std=0.02 if attends else width**-0.5)
        nn.init.normal_(self.head.weight, std=0.02)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)
        self.scale = math.sqrt(width) if attends and self.encoder.positions == "sinusoidal" else 1.0
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens int64[B, T], mask bool[B, T] (False: padding) -> logits[B, T, K] of what follows each."""
        return self._logits(self.encoder(self._embed(tokens), mask))

    def begin(self, batch: int) -> Any:
        """The state before the first token of `batch` sequences: a tree of tensors whose first axis is the batch."""
        weight = self.embedding.weight
        if isinstance(self.encoder, Transformer):
            return {"tokens": torch.zeros(batch, 0, dtype=torch.int64, device=weight.device), "cache": ()}
        size: int = self.encoder.state_dim  # type: ignore[assignment]
        return weight.new_zeros(batch, size)

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """ids int64[B], state -> (logits[B, K] of what follows, state after them)."""
        logits, state = self.unroll(ids.unsqueeze(1), state)
        return logits.squeeze(1), state

    def unroll(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """tokens int64[B, T], state -> (logits[B, T, K], state after them).

        Gradients flow through the state; `detached` cuts it for truncated backpropagation through time. A Transformer
        sees what its `context` holds: where more comes in, it starts anew with the last half of what it has seen.
        """
        if not isinstance(self.encoder, Transformer):
            features, state = self.encoder.unroll(self._embed(tokens), state)  # type: ignore[operator]
            return self._logits(features), state
        steps, context = tokens.shape[1], self.encoder.context
        if steps > context:
            raise RlabError(f"{steps} tokens at once are more than the model's context of {context}")
        seen, cache = state["tokens"], state["cache"]
        new = tokens
        if seen.shape[1] + steps > context:
            kept = min(context // 2, context - steps)
            seen, cache = seen[:, :0], ()
            new = torch.cat([state["tokens"], tokens], dim=1)[:, -(kept + steps) :]
        features, cache = self.encoder.extend(self._embed(new), cache)
        return self._logits(features[:, -steps:]), {"tokens": torch.cat([seen, new], dim=1), "cache": cache}

    def _embed(self, tokens: Tensor) -> Tensor:
        x = self.dropout(self.embedding(tokens))
        return x if self.scale == 1.0 else x * self.scale

    def _logits(self, features: Tensor) -> Tensor:
        return self.head(self.dropout(features))


def detached(state: Any) -> Any:
    """The same state, behind which no gradient goes: what truncated backpropagation through time carries on."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {name: detached(part) for name, part in state.items()}
    return tuple(detached(part) for part in state)


def next_token_loss(logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats over all tokens of a batch that are no padding; a scalar.

    Args:
        logits: [B, T, K].
        targets: int64[B, T].
        mask: bool[B, T], False where there is nothing to predict.
    """
    if mask is None:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (nats * mask.flatten()).sum() / mask.sum().clamp(min=1)
