"""A translator around `torch.nn.Transformer`, written after PyTorch's tutorial: what ours is measured beside."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.data.text.tokens import PAD


@dataclass
class Args:
    """The shape."""

    source_vocabulary: int = 1_000
    target_vocabulary: int = 1_000
    layers: int = 3
    heads: int = 4
    width: int = 256


class Translator(nn.Module):
    """Source and target -> the mean loss of the target's tokens; norms stand before each part, nothing is dropped."""

    def __init__(self, args: Args):
        super().__init__()
        self.width = args.width
        self.source = nn.Embedding(args.source_vocabulary, args.width)
        self.target = nn.Embedding(args.target_vocabulary, args.width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that norms before the parts rule nested tensors out
            self.body = nn.Transformer(
                args.width, args.heads, args.layers, args.layers, 4 * args.width, 0.0, "gelu", batch_first=True,
                norm_first=True,
            )  # fmt: skip
        self.head = nn.Linear(args.width, args.target_vocabulary, bias=False)
        self.head.weight = self.target.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source int64[B, S], target int64[B, T], padded with `PAD` -> nats, a scalar."""
        given, wanted = target[:, :-1], target[:, 1:]
        later = torch.ones(given.shape[1], given.shape[1], dtype=torch.bool, device=source.device).triu(1)
        padding = source == PAD
        x = self.body(
            self._embed(self.source, source), self._embed(self.target, given), tgt_mask=later, tgt_is_causal=True,
            src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_key_padding_mask=given == PAD,
        )  # fmt: skip
        logits = self.head(x)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), wanted.reshape(-1), ignore_index=PAD)

    def _embed(self, embedding: nn.Module, ids: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(0, self.width, 2, device=ids.device) * (-math.log(10_000.0) / self.width))
        angles = torch.arange(ids.shape[1], device=ids.device)[:, None] * rates
        places = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
        out: Tensor = embedding(ids) * math.sqrt(self.width) + places
        return out

    def take(self, ours: Mapping[str, Tensor]) -> None:
        """Begin with the weights of an `rlab.nn.sequence.seq2seq.TransformerTranslator` of the same shape."""
        names = {".blocks.": ".layers.", ".attention.qkv.": ".self_attn.in_proj_",
                 ".attention.out.": ".self_attn.out_proj.", ".cross.out.": ".multihead_attn.out_proj.",
                 ".ffn.up.": ".linear1.", ".ffn.down.": ".linear2.",
                 ".norms.0.": ".norm1.", ".norms.1.": ".norm2.", ".norms.2.": ".norm3."}  # fmt: skip
        found: dict[str, Any] = {}
        for name, tensor in ours.items():
            if ".cross.q." in name:  # queries and keys with values are one matrix there
                tensor = torch.cat([tensor, ours[name.replace(".cross.q.", ".cross.kv.")]])
                name = name.replace(".cross.q.", ".multihead_attn.in_proj_")
            elif ".cross.kv." in name:
                continue
            for there, here in names.items():
                name = name.replace(there, here)
            found[name] = tensor
        self.load_state_dict(found)
