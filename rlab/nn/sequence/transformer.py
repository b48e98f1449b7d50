"""Transformers: a stack for one sequence, causal or not, a gated one with a memory, and an encoder with a decoder.

A cache is a tuple with keys and values [B, heads, t, D] for each layer; an empty one stands before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.errors import RlabError, nearest
from rlab.nn.sequence import SEQUENCE_ENCODERS
from rlab.nn.sequence.attention import attend, attention_mask, causal_mask, scaled_dot_product

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
NORMS = ("pre", "post")
FEED_FORWARDS = ("gelu", "swiglu", "relu")

KeysValues = tuple[Tensor, Tensor]
Cache = tuple[KeysValues, ...]
"""Keys and values [B, heads, t, D] of every layer."""


def _angles(positions: Tensor, size: int) -> Tensor:
    """positions[...] times rates from 1 to nearly 1 / 10,000: float64[..., size / 2], exact far out, too."""
    rates = torch.arange(0, size, 2, device=positions.device, dtype=torch.float64) * (-math.log(10000.0) / size)
    return positions.unsqueeze(-1) * rates.exp()


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions[...] at wavelengths from 2 pi to 10,000 * 2 pi: [..., width] (Vaswani 2017)."""
    angles = _angles(positions, width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]


def rotation(positions: Tensor, size: int) -> Tensor:
    """Cosines and sines by which heads of `size` numbers are turned at positions[T]: [2, T, size / 2] (Su 2021)."""
    angles = _angles(positions, size)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn x[..., T, D] by `rotation`; products of two turned vectors depend on the distance of their positions."""
    cos, sin = turn.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, queries, keys and values by one product."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        turn: Tensor | None = None,
        cache: KeysValues | None = None,
        queries: int | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """x[B, N, W] -> ([B, Q, W], keys and values of the cache and of x); Q is N, or the last `queries` of it."""
        batch, steps, width = x.shape
        q, k, v = self.qkv(x).view(batch, steps, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if queries is not None and queries < steps:
            q = q[:, :, -queries:]
        if turn is not None:
            q, k = rotate(q, turn[:, turn.shape[1] - q.shape[2] :]), rotate(k, turn[:, turn.shape[1] - steps :])
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        y = attend(q, k, v, mask, causal, self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(batch, -1, width)), (k, v)


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(width, 2 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """memory[B, S, W] -> keys and values [B, heads, S, D], computed once for all steps of decoding."""
        batch, steps, width = memory.shape
        k, v = self.kv(memory).view(batch, steps, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        """x[B, T, W], mask bool[B, 1, 1, S] -> [B, T, W]."""
        y = attend(self._queries(x), *memory, mask, dropout=self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(x.shape))

    def weights(self, x: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
        """How much each step attends to each of the memory, mean of the heads: [B, T, S]."""
        return scaled_dot_product(self._queries(x), *memory, mask)[1].mean(1)

    def _queries(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        return self.q(x).view(batch, steps, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """What a Transformer does at each step alone; SwiGLU with 2/3 of the hidden units has as many weights."""

    def __init__(self, width: int, kind: str, dropout: float, bias: bool, expansion: float = 4):
        super().__init__()
        self.kind = kind
        hidden = int(expansion * width * (2 / 3 if kind == "swiglu" else 1))
        self.up = nn.Linear(width, 2 * hidden if kind == "swiglu" else hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x[..., W] -> [..., W]."""
        x = self.up(x)
        if self.kind == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        else:
            x = F.gelu(x) if self.kind == "gelu" else F.relu(x)
        return self.dropout(self.down(x))


class GRUGate(nn.Module):
    """The gate that takes the place of a residual sum, x + y, in a gated Transformer (Parisotto et al. 2020).

    Its bias of 2 lets x through at first: an untrained layer changes little.
    """

    def __init__(self, width: int, bias: float = 2.0):
        super().__init__()
        self.of_y = nn.Linear(width, 3 * width, bias=False)
        self.of_x = nn.Linear(width, 2 * width, bias=False)
        self.candidate = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x[..., W], y[..., W] -> [..., W]."""
        r_y, z_y, h_y = self.of_y(y).chunk(3, dim=-1)
        r_x, z_x = self.of_x(x).chunk(2, dim=-1)
        z = torch.sigmoid(z_y + z_x - self.bias)
        h = torch.tanh(h_y + self.candidate(torch.sigmoid(r_y + r_x) * x))
        return x + z * (h - x)


class Block(nn.Module):
    """One layer: attention to itself, to another sequence if `cross`, and a feed-forward network."""

    def __init__(
        self, width: int, heads: int, dropout: float, norm: str, ffn: str, bias: bool, cross: bool, gated: bool
    ):
        super().__init__()
        self.pre = norm == "pre"
        self.attention = SelfAttention(width, heads, dropout, bias)
        self.cross = CrossAttention(width, heads, dropout, bias) if cross else None
        self.ffn = FeedForward(width, ffn, dropout, bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        parts = 3 if cross else 2
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=bias) for _ in range(parts))
        self.gates = nn.ModuleList(GRUGate(width) for _ in range(parts)) if gated else None

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        turn: Tensor | None = None,
        cache: KeysValues | None = None,
        past: Tensor | None = None,
        memory: KeysValues | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """x[B, T, W], what came into this layer before past[B, M, W] -> ([B, T, W], keys and values)."""
        seen = x if past is None else torch.cat([past, x], dim=1)
        y, keys_values = self.attention(self._before(0, seen), mask, causal, turn, cache, x.shape[1])
        x = self._join(0, x, self.dropout(y))
        if self.cross is not None and memory is not None:
            x = self._join(1, x, self.dropout(self.cross(self._before(1, x), memory, memory_mask)))
        return self._join(-1, x, self.ffn(self._before(-1, x))), keys_values

    def cross_weights(self, x: Tensor, turn: Tensor | None, memory: KeysValues, memory_mask: Tensor | None) -> Tensor:
        """How much each of x[B, T, W] attends to each of the other sequence: [B, T, S]."""
        x = self._join(0, x, self.dropout(self.attention(self._before(0, x), None, True, turn)[0]))
        weights: Tensor = self.cross.weights(self._before(1, x), memory, memory_mask)  # type: ignore[union-attr]
        return weights

    def _before(self, n: int, x: Tensor) -> Tensor:
        return self.norms[n](x) if self.pre else x

    def _join(self, n: int, x: Tensor, y: Tensor) -> Tensor:
        joined = x + y if self.gates is None else self.gates[n](x, F.relu(y))
        return joined if self.pre else self.norms[n](joined)


class Transformer(nn.Module):
    """A stack of attention layers as a `SequenceEncoder`.

    Args:
        in_dim: D, features of each input; a linear layer makes W of them where they differ.
        width: W, features of each layer.
        layers: how many.
        dropout: of attention weights and of what each part of a layer adds.
        heads: of attention; None: one for every 64 features.
        context: steps that a layer sees, the present one among them. As an encoder with a state (`step`, `unroll`) it
            remembers what came into each layer in the `context` - 1 steps before.
        causal: whether no step sees a later one. Else there is no state.
        positions: "learned" (no sequence may be longer than `context`), "sinusoidal", "rotary" (by distance only), or
            "none".
        norm: LayerNorm "pre", before each part of a layer, or "post", after each sum.
        ffn: feed-forward network with "gelu", "swiglu" or "relu".
        bias: whether linear layers and norms have biases.
        gated: GRU gates in the place of residual sums, as in GTrXL.
        cross: whether each layer attends to another sequence, too (see `EncoderDecoder`).
    """

    def __init__(
        self,
        in_dim: int,
        width: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
        *,
        heads: int | None = None,
        context: int = 256,
        causal: bool = True,
        positions: str = "rotary",
        norm: str = "pre",
        ffn: str = "gelu",
        bias: bool = True,
        gated: bool = False,
        cross: bool = False,
    ):
        super().__init__()
        for what, value, valid in (
            ("positions", positions, POSITIONS),
            ("norm", norm, NORMS),
            ("ffn", ffn, FEED_FORWARDS),
        ):
            if value not in valid:
                raise RlabError(f"a Transformer has no {what} '{value}'; {nearest(value, valid)}")
        heads = max(1, width // 64) if heads is None else heads
        if heads < 1 or width % heads or (positions == "rotary" and width // heads % 2):
            even = "an even number" if positions == "rotary" else "the same number"
            fitting = [
                h for h in range(1, width + 1) if width % h == 0 and (positions != "rotary" or width // h % 2 == 0)
            ]
            close = f"; nearest: {min(fitting, key=lambda h: abs(h - heads))}" if fitting else ""
            raise RlabError(
                f"a Transformer of width {width} cannot have {heads} heads of {even} of features each{close}"
            )
        if context < 1:
            raise RlabError(f"a Transformer's context is 1 step or more, not {context}")
        if not 0 <= dropout < 1:
            raise RlabError(f"dropout takes a probability in [0, 1), not {dropout}")
        self.in_dim, self.out_dim, self.context, self.causal = in_dim, width, context, causal
        self.positions, self.heads = positions, heads
        self.state_dim = 1 + layers * (context - 1) * width if causal and not cross else 0
        self.project = nn.Linear(in_dim, width) if in_dim != width else nn.Identity()
        self.position = nn.Embedding(context, width) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(width, heads, dropout, norm, ffn, bias, cross, gated) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias) if norm == "pre" else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """As GPT-2: normal with deviation 0.02; what is added to the residual stream by the root of its parts less."""
        parts = sum(len(block.norms) for block in self.blocks)  # type: ignore[arg-type, misc]
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                added = name.endswith((".out", ".down"))
                nn.init.normal_(module.weight, std=0.02 / math.sqrt(parts) if added else 0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        if isinstance(self.project, nn.Linear):
            nn.init.xavier_uniform_(self.project.weight)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """features[B, T, D] and mask bool[B, T] (False: padding) -> [B, T, W]; padding is not seen, and gives 0."""
        steps = x.shape[1]
        if self.position is not None:
            self._check_length(steps)
        window = self.context if steps > self.context and self.causal else None
        allowed = None
        if mask is not None:
            allowed = attention_mask(mask, self.causal, window)
        elif window is not None:
            allowed = causal_mask(steps, steps, x.device, window)
        positions = torch.arange(steps, device=x.device)
        x, turn = self._enter(x, positions), self._turn(positions)
        for block in self.blocks:
            x, _ = block(x, allowed, self.causal and allowed is None, turn)
        x = self.norm(x)
        return x if mask is None else x.masked_fill(~mask.unsqueeze(2), 0.0)

    def extend(
        self,
        x: Tensor,
        cache: Cache | None = None,
        memory: Cache | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:
        """Go on after what a cache holds: features[B, T, D] -> ([B, T, W], the longer cache).

        Args:
            x: what comes next.
            cache: of the steps before; together they may not be more than `context`, where positions are learned.
            memory: keys and values of the other sequence for each layer (`cross`).
            memory_mask: bool[B, 1, 1, S] of what is no padding in it.
        """
        past = cache[0][0].shape[2] if cache else 0
        if self.position is not None:
            self._check_length(past + x.shape[1])
        positions = torch.arange(past, past + x.shape[1], device=x.device)
        x, turn = self._enter(x, positions), self._turn(positions)
        longer = []
        for n, block in enumerate(self.blocks):
            before = cache[n] if cache else None
            other = memory[n] if memory else None
            x, after = block(x, None, self.causal, turn, before, None, other, memory_mask)
            longer.append(after)
        return self.norm(x), tuple(longer)

    def unroll(self, x: Tensor, state: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """features[B, T, D], state[B, S], first bool[B, T] -> ([B, T, W], state after them).

        Where `first`, a sequence starts: nothing before it is seen. The state has the number of steps since the
        sequence's start and, for each layer, what came into it in the `context` - 1 steps before (the memory of
        Transformer-XL). Keys and values are made of it anew, so gradients reach their weights even where the state
        is detached.
        """
        if not self.state_dim:
            raise RlabError("a Transformer that is not causal reads whole sequences and has no step; nearest: causal")
        batch, steps = x.shape[:2]
        slots, width = self.context - 1, self.out_dim
        count = state[:, :1].long()
        pasts = state[:, 1:].to(x.dtype).view(batch, len(self.blocks), slots, width).unbind(1)
        t = torch.arange(steps, device=x.device)
        start = -count.expand(batch, steps)  # of the sequence that a step is in, counted from the first step of x
        if first is not None:
            start = torch.where(first, t, start).cummax(1).values
        since = t - start
        if self.position is not None:
            self._check_length(int(since.max()) + 1)
        positions = torch.arange(-slots, steps, device=x.device)
        allowed = (positions <= t[:, None]) & (positions >= t[:, None] - slots) & (positions >= start[:, :, None])
        x, turn = self._enter(x, since), self._turn(positions + slots)
        kept = []
        for block, past in zip(self.blocks, pasts, strict=True):
            kept.append(torch.cat([past, x], dim=1)[:, steps:])
            x, _ = block(x, allowed.unsqueeze(1), False, turn, None, past)
        after = torch.stack(kept, dim=1).view(batch, len(kept) * slots * width)
        return self.norm(x), torch.cat([(since[:, -1:] + 1).to(after.dtype), after], dim=1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features[B, D], state[B, S] -> ([B, W], state after it)."""
        out, state = self.unroll(x.unsqueeze(1), state)
        return out.squeeze(1), state

    def cross_weights(self, x: Tensor, memory: Cache, memory_mask: Tensor | None) -> Tensor:
        """How much each of features[B, T, D] attends to each of the other sequence: [B, T, S], the mean of heads.

        It is the last layer's attention.
        """
        positions = torch.arange(x.shape[1], device=x.device)
        x, turn = self._enter(x, positions), self._turn(positions)
        for n, block in enumerate(self.blocks):
            if n + 1 == len(self.blocks):
                return block.cross_weights(x, turn, memory[n], memory_mask)  # type: ignore[operator]
            x, _ = block(x, None, self.causal, turn, None, None, memory[n], memory_mask)
        raise RlabError("a Transformer without layers attends to nothing; nearest: 1 layer")

    def _check_length(self, steps: int) -> None:
        if steps > self.context:
            raise RlabError(
                f"{steps} steps are more than this Transformer's context of {self.context}, and its positions are "
                "learned; nearest: a longer context, or positions rotary"
            )

    def _enter(self, x: Tensor, positions: Tensor) -> Tensor:
        """Project x[B, T, D] and add what tells its positions[T] or [B, T]."""
        x = self.project(x)
        if self.position is not None:
            x = x + self.position(positions)
        elif self.positions == "sinusoidal":
            x = x + sinusoids(positions, self.out_dim).to(x.dtype)
        return self.dropout(x)

    def _turn(self, positions: Tensor) -> Tensor | None:
        return rotation(positions, self.out_dim // self.heads) if self.positions == "rotary" else None


class EncoderDecoder(nn.Module):
    """A Transformer that reads one sequence and writes another (Vaswani et al. 2017).

    Args:
        width: W, features of both.
        layers: of the encoder, and of the decoder.
        dropout: see `Transformer`.
        options: other arguments of `Transformer`, of both.
    """

    def __init__(self, width: int = 256, layers: int = 3, dropout: float = 0.1, **options: object):
        super().__init__()
        make: Callable[..., Transformer] = Transformer
        self.encoder = make(width, width, layers, dropout, causal=False, **options)
        self.decoder = make(width, width, layers, dropout, causal=True, cross=True, **options)

    def forward(self, source: Tensor, mask: Tensor | None, target: Tensor) -> Tensor:
        """source[B, S, W], mask bool[B, S] (False: padding), target[B, T, W] -> [B, T, W]."""
        memory, seen = self.read(source, mask)
        return self.decoder.extend(target, None, memory, seen)[0]

    def read(self, source: Tensor, mask: Tensor | None) -> tuple[Cache, Tensor | None]:
        """Encode source[B, S, W]: keys and values for each layer of the decoder, and the mask in their shape."""
        encoded = self.encoder(source, mask)
        memory = tuple(block.cross.keys_values(encoded) for block in self.decoder.blocks)  # type: ignore[operator, union-attr]
        return memory, None if mask is None else mask[:, None, None, :]


SEQUENCE_ENCODERS.register("transformer")(Transformer)
SEQUENCE_ENCODERS.register("gtrxl")(partial(Transformer, gated=True, context=64, ffn="relu"))
