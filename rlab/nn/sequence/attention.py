"""Attention: additive, dot and scaled dot product, with its masks.

In a mask True is what may be attended to. A query that may attend to nothing gets 0, and its gradients are finite.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError, nearest


def causal_mask(queries: int, keys: int, device: torch.device | str = "cpu", window: int | None = None) -> Tensor:
    """Mask bool[queries, keys] in which the last query sees the last key, and each no later one.

    Args:
        queries: how many, the latest ones of a sequence.
        keys: of the whole sequence, those of a cache first.
        device: where to make it.
        window: the most keys that a query sees, its own among them.
    """
    later = torch.ones(queries, keys, dtype=torch.bool, device=device)
    mask = later.tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)


def attention_mask(mask: Tensor, causal: bool = False, window: int | None = None) -> Tensor:
    """mask bool[B, T] of what is no padding -> bool[B, 1, T or 1, T] of what each step may attend to."""
    keys = mask[:, None, None, :]
    return keys & causal_mask(mask.shape[1], mask.shape[1], mask.device, window) if causal else keys


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis where the mask is True; 0 elsewhere, and everywhere in a row that is masked whole."""
    if mask is None:
        return scores.softmax(-1)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(~mask, 0.0)


def scaled_dot_product(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention as an equation, softmax(q k' / sqrt(D)) v (Vaswani et al. 2017), with its weights.

    Args:
        query: [..., Q, D].
        key: [..., N, D].
        value: [..., N, V].
        mask: bool, [..., Q, N] or what broadcasts to it.
        scale: instead of 1 / sqrt(D).

    Returns:
        What was attended to [..., Q, V] and the weights [..., Q, N]. `attend` computes the first alone, faster.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = masked_softmax(query @ key.transpose(-1, -2) * scale, mask)
    return weights @ value, weights


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """`scaled_dot_product` by torch's fused kernels, without weights.

    Args:
        query: [B, heads, Q, D].
        key: [B, heads, N, D].
        value: [B, heads, N, D].
        mask: bool, of what may be attended to; broadcasts to [B, heads, Q, N].
        causal: no query sees a later key; the last query belongs to the last key.
        dropout: probability to drop a weight.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    by_product = query.device.type == "cpu" and query.dtype == torch.bfloat16
    causal = causal and bool(queries == keys or queries > 1)  # the last query sees all keys
    if causal and (queries != keys or mask is not None or by_product):
        # torch's own `is_causal` lets the first query belong to the first key.
        ordered = causal_mask(queries, keys, query.device)
        mask, causal = ordered if mask is None else mask & ordered, False
    some = None if mask is None else mask.any(-1, keepdim=True)
    if mask is not None and some is not None:
        mask = mask | ~some
    if by_product:  # on CPUs the fused kernel is slow in bfloat16, up to 4 times slower than three operations
        scores = query * (1 / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
        if mask is not None:
            scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill(
                ~mask, torch.finfo(scores.dtype).min
            )
        out = F.dropout(scores.softmax(-1), dropout) @ value
    else:
        out = F.scaled_dot_product_attention(query, key, value, mask, dropout, causal)
    return out if some is None else out.masked_fill(~some, 0.0)


class AlignmentAttention(nn.Module):
    """Attention of a decoder's outputs to an encoder's, with one head and its weights to be looked at.

    Args:
        query_dim: features of a query.
        memory_dim: features of what is attended to.
        score: "additive", v' tanh(W q + U m) (Bahdanau et al. 2015); "dot", q' W m, W only where the sizes differ
            (Luong et al. 2015); or "scaled", the latter divided by the root of the size.
        width: hidden units of the additive score; the query's size if None.
    """

    def __init__(self, query_dim: int, memory_dim: int, score: str = "additive", width: int | None = None):
        super().__init__()
        if score not in SCORES:
            raise RlabError(f"no attention has the score '{score}'; {nearest(score, SCORES)}")
        self.score = score
        if score == "additive":
            width = width or query_dim
            self.query = nn.Linear(query_dim, width, bias=False)
            self.key: nn.Module = nn.Linear(memory_dim, width)
            self.direction = nn.Parameter(torch.empty(width).uniform_(-1, 1) / math.sqrt(width))
        else:
            self.key = nn.Identity() if query_dim == memory_dim else nn.Linear(memory_dim, query_dim, bias=False)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """query[B, Q, D], memory[B, N, M], mask bool[B, N] -> (attended to [B, Q, M], weights [B, Q, N])."""
        keys = self.key(memory)
        if self.score == "additive":
            scores = torch.tanh(self.query(query).unsqueeze(2) + keys.unsqueeze(1)) @ self.direction
        else:
            scores = query @ keys.transpose(1, 2)
        if self.score == "scaled":
            scores = scores / math.sqrt(query.shape[-1])
        weights = masked_softmax(scores, None if mask is None else mask.unsqueeze(1))
        return weights @ memory, weights


SCORES = ("additive", "dot", "scaled")
