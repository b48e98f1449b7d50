"""Networks that read one sequence of tokens and write another: recurrent ones, with attention or not, and Transformers.

All of them have `forward` for training, where the target is known, `begin` and `step` for writing, and `alignments`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rlab.errors import RlabError
from rlab.nn.sequence import make_sequence_encoder
from rlab.nn.sequence.attention import AlignmentAttention
from rlab.nn.sequence.recurrent import Recurrent
from rlab.nn.sequence.transformer import EncoderDecoder


class Seq2Seq(nn.Module):
    """An encoder and a decoder that are recurrent (Sutskever et al. 2014), with attention between them if wanted.

    The decoder starts from a state made of the encoder's last one. Without attention that is all it knows of the
    source. With attention each of its outputs is joined by what it attends to (Luong et al. 2015).

    Args:
        source_vocabulary: tokens of the source.
        target_vocabulary: K, tokens of the target.
        encoder: name of a recurrent sequence encoder, in one direction or both.
        decoder: the same, in one direction; None: the encoder's cell.
        attention: "none", or a score of `AlignmentAttention`: "additive", "dot", "scaled".
        width: features of the embeddings and of each layer.
        layers: of both.
        dropout: of embeddings, between layers, and of what the logits are made of.
        tied: whether the logits' weights are those of the target's embedding.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        encoder: str = "bigru",
        decoder: str | None = None,
        attention: str = "additive",
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = True,
    ):
        super().__init__()
        self.source = nn.Embedding(source_vocabulary, width)
        self.target = nn.Embedding(target_vocabulary, width)
        made = make_sequence_encoder(encoder, width, width, layers, dropout)
        wrote = make_sequence_encoder(decoder or encoder.removeprefix("bi"), width, width, layers, dropout)
        for name, one in ((encoder, made), (decoder, wrote)):
            if not isinstance(one, Recurrent):
                raise RlabError(
                    f"Seq2Seq takes recurrent encoders, not '{name}'; nearest: bigru, or TransformerTranslator"
                )
        self.encoder: Recurrent = made  # type: ignore[assignment]
        self.decoder: Recurrent = wrote  # type: ignore[assignment]
        if not self.decoder.causal:
            raise RlabError(f"a decoder writes forwards, and '{decoder}' looks ahead; nearest: gru")
        self.bridge = nn.Linear(self.encoder.final_dim, self.decoder.state_dim)
        self.attention = None
        if attention != "none":
            self.attention = AlignmentAttention(self.decoder.out_dim, self.encoder.out_dim, attention)
            self.join = nn.Linear(self.decoder.out_dim + self.encoder.out_dim, width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(width, target_vocabulary)
        for embedding in (self.source, self.target):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        if tied:
            self.head.weight = self.target.weight

    def forward(
        self,
        source: Tensor,
        source_mask: Tensor | None,
        target_in: Tensor,
        own: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """source int64[B, S], source_mask bool[B, S], target_in int64[B, T] (BOS ...) -> logits[B, T, K].

        Args:
            source: tokens that are read.
            source_mask: False where they are padding.
            target_in: what comes before each token to be predicted.
            own: probability that a token of `target_in` is replaced by the model's own last prediction (scheduled
                sampling, Bengio et al. 2015); BOS stays.
            generator: of the CPU, draws which.
        """
        state = self.begin(source, source_mask)
        if not own:
            return self._write(target_in, state)[0]
        batch, steps = target_in.shape
        replaced = (torch.rand(batch, steps, generator=generator) < own).to(target_in.device)
        ids, out = target_in[:, 0], []
        for t in range(steps):
            logits, state = self.step(ids, state)
            out.append(logits)
            if t + 1 < steps:
                ids = torch.where(replaced[:, t + 1], logits.detach().argmax(1), target_in[:, t + 1])
        return torch.stack(out, dim=1)

    def begin(self, source: Tensor, source_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Read source int64[B, S]: the state before the first token is written."""
        mask = torch.ones_like(source, dtype=torch.bool) if source_mask is None else source_mask
        outputs, final = self.encoder.encode(self.dropout(self.source(source)), mask)
        state = {"state": torch.tanh(self.bridge(final))}
        return state if self.attention is None else state | {"memory": outputs, "mask": mask}

    def step(self, ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """ids int64[B], state -> (logits[B, K] of what follows, state after them)."""
        logits, state = self._write(ids.unsqueeze(1), state)
        return logits.squeeze(1), state

    def alignments(self, source: Tensor, mask: Tensor | None, target_in: Tensor) -> Tensor:
        """How much each step of the target attends to each of the source: [B, T, S], rows sum to 1."""
        if self.attention is None:
            raise RlabError("this network has no attention, so there are no alignments; nearest: attention additive")
        state = self.begin(source, mask)
        out, _ = self.decoder.unroll(self.dropout(self.target(target_in)), state["state"])
        return self.attention(out, state["memory"], state["mask"])[1]

    def _write(self, ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        out, after = self.decoder.unroll(self.dropout(self.target(ids)), state["state"])
        if self.attention is not None:
            attended, _ = self.attention(out, state["memory"], state["mask"])
            out = torch.tanh(self.join(torch.cat([out, attended], dim=2)))
        return self.head(self.dropout(out)), state | {"state": after}


class TransformerTranslator(nn.Module):
    """A Transformer with encoder and decoder between embeddings and logits (Vaswani et al. 2017).

    Args:
        source_vocabulary: tokens of the source.
        target_vocabulary: K, tokens of the target.
        width: features of embeddings and layers.
        layers: of the encoder, and of the decoder.
        dropout: see `Transformer`.
        tied: whether the logits' weights are those of the target's embedding.
        shared: whether source and target have one vocabulary and one embedding.
        options: other arguments of `Transformer`.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        width: int = 256,
        layers: int = 3,
        dropout: float = 0.1,
        tied: bool = True,
        shared: bool = False,
        **options: Any,
    ):
        super().__init__()
        if shared and source_vocabulary != target_vocabulary:
            raise RlabError(
                f"one embedding cannot be shared by vocabularies of {source_vocabulary} and {target_vocabulary} tokens"
            )
        self.width = width
        self.source = nn.Embedding(source_vocabulary, width)
        self.target = self.source if shared else nn.Embedding(target_vocabulary, width)
        options = {"positions": "sinusoidal"} | options
        self.body = EncoderDecoder(width, layers, dropout, **options)
        self.head = nn.Linear(width, target_vocabulary, bias=False)
        for embedding in (self.source, self.target):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        if tied:
            self.head.weight = self.target.weight

    def forward(self, source: Tensor, source_mask: Tensor | None, target_in: Tensor) -> Tensor:
        """source int64[B, S], source_mask bool[B, S], target_in int64[B, T] (BOS ...) -> logits[B, T, K]."""
        return self.head(self.body(self._embed(self.source, source), source_mask, self._embed(self.target, target_in)))

    def begin(self, source: Tensor, source_mask: Tensor | None = None) -> dict[str, Any]:
        """Read source int64[B, S]: the state before the first token is written."""
        mask = torch.ones_like(source, dtype=torch.bool) if source_mask is None else source_mask
        memory, seen = self.body.read(self._embed(self.source, source), mask)
        return {"memory": memory, "mask": seen, "cache": ()}

    def step(self, ids: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """ids int64[B], state -> (logits[B, K] of what follows, state after them)."""
        x = self._embed(self.target, ids.unsqueeze(1))
        out, cache = self.body.decoder.extend(x, state["cache"], state["memory"], state["mask"])
        return self.head(out.squeeze(1)), state | {"cache": cache}

    def alignments(self, source: Tensor, mask: Tensor | None, target_in: Tensor) -> Tensor:
        """How much each step of the target attends to each of the source: [B, T, S], rows sum to 1.

        It is the last layer's attention, the mean of its heads.
        """
        memory, seen = self.body.read(self._embed(self.source, source), mask)
        return self.body.decoder.cross_weights(self._embed(self.target, target_in), memory, seen)

    def _embed(self, embedding: nn.Module, ids: Tensor) -> Tensor:
        return embedding(ids) * math.sqrt(self.width)
