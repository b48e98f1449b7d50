"""A GPT (Radford et al. 2019) in one plain file of torch, in the manner of nanoGPT: what ours is measured beside.

The defaults are the shape of nanoGPT's published command for a CPU: 4 layers of 4 heads and 128 units, windows of 64
tokens, no dropout. Linear layers and norms have biases, as GPT-2's do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Args:
    """The shape."""

    vocabulary: int = 65
    window: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128


class SelfAttention(nn.Module):
    """Causal attention by torch's fused kernel."""

    def __init__(self, args: Args):
        super().__init__()
        self.heads = args.heads
        self.qkv = nn.Linear(args.width, 3 * args.width)
        self.out = nn.Linear(args.width, args.width)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, W] -> [B, T, W]."""
        batch, steps, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        q, k, v = (part.view(batch, steps, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).contiguous().view(batch, steps, width))
        return out


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm."""

    def __init__(self, args: Args):
        super().__init__()
        self.norm1 = nn.LayerNorm(args.width)
        self.attention = SelfAttention(args)
        self.norm2 = nn.LayerNorm(args.width)
        self.up = nn.Linear(args.width, 4 * args.width)
        self.down = nn.Linear(4 * args.width, args.width)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, T, W] -> [B, T, W]."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class GPT(nn.Module):
    """Tokens -> the mean loss of the next ones; the logits' weights are those of the embedding."""

    def __init__(self, args: Args):
        super().__init__()
        self.tokens = nn.Embedding(args.vocabulary, args.width)
        self.positions = nn.Embedding(args.window, args.width)
        self.blocks = nn.ModuleList(Block(args) for _ in range(args.layers))
        self.norm = nn.LayerNorm(args.width)
        self.head = nn.Linear(args.width, args.vocabulary, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                added = name.endswith((".out", ".down"))
                nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * args.layers) if added else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """tokens int64[B, T] and what follows each of them, int64[B, T] -> nats, a scalar."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def take(self, ours: Mapping[str, Tensor]) -> None:
        """Begin with the weights of an `rlab.nn.sequence.language.LanguageModel` of the same shape."""
        names = {"encoder.position.": "positions.", "encoder.": "", "embedding.": "tokens.", ".ffn.": ".",
                 ".norms.0.": ".norm1.", ".norms.1.": ".norm2."}  # fmt: skip
        found: dict[str, Any] = {}
        for name, tensor in ours.items():
            for there, here in names.items():
                name = name.replace(there, here)
            found[name] = tensor
        self.load_state_dict(found)


def train(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.99),
    max_grad_norm: float = 1.0,
) -> Iterator[float]:
    """Make an update on each of some batches, of which `model` tells the loss; yield it."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas)
    model.train()
    for batch in batches:
        loss = model(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.item()
