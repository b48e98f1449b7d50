"""WaveNet (van den Oord et al. 2016): gated dilated causal convolutions that predict the next sample of a sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlab.kernels import THREADS
from rlab.nn.wavenet_kernel import Weights, generate


def receptive_field(dilations: Sequence[int], kernel: int = 2) -> int:
    """Count the samples that a stack of dilated causal convolutions sees: 1 + (kernel - 1) times the sum of dilations.

    >>> receptive_field([1, 2, 4, 8])
    16
    """
    return 1 + (kernel - 1) * sum(dilations)


class WaveLayer(nn.Module):
    """A gated convolution of two samples, `dilation` apart: x -> x + residual, and what goes to the sum of all layers.

    Args:
        width: R, channels.
        skip: S, channels of the sum.
        dilation: distance of the two samples.
        condition: C, channels of what it is conditioned on.
    """

    def __init__(self, width: int, skip: int, dilation: int, condition: int):
        super().__init__()
        self.width, self.skip, self.dilation = width, skip, dilation
        self.gates = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.condition = nn.Conv1d(condition, 2 * width, 1, bias=False)
        self.out = nn.Conv1d(width, width + skip, 1)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x[B, R, T], condition[B, C, T] -> ([B, R, T], [B, S, T])."""
        gates = self.gates(F.pad(x, (self.dilation, 0))) + self.condition(condition)
        filtered, gate = gates.chunk(2, 1)
        residual, skip = self.out(filtered.tanh() * gate.sigmoid()).split([self.width, self.skip], 1)
        return x + residual, skip


class WaveNet(nn.Module):
    """Predict each code of a recording from the codes before it, its class, its speaker and the place in it.

    Args:
        dilations: of the layers, in order.
        width: R, channels of the layers.
        skip: S, channels of the sum of all layers.
        labels: classes; 1: it is not conditioned on them.
        speakers: speakers; 1: it is not conditioned on them.
        places: P, equal parts of a recording that it tells from each other; 1: none.
        condition: C, channels of the condition.
        codes: K.
    """

    def __init__(
        self,
        dilations: Sequence[int],
        width: int = 32,
        skip: int = 64,
        labels: int = 1,
        speakers: int = 1,
        places: int = 64,
        condition: int = 32,
        codes: int = 256,
    ):
        super().__init__()
        self.dilations, self.places, self.classes = tuple(dilations), places, codes
        self.embedding = nn.Embedding(codes, width)
        self.label = nn.Embedding(labels, condition)
        self.speaker = nn.Embedding(speakers, condition)
        self.place = nn.Embedding(places, condition)
        self.mixed = nn.Linear(condition, condition)
        self.layers = nn.ModuleList([WaveLayer(width, skip, d, condition) for d in self.dilations])
        self.hidden = nn.Conv1d(skip, skip, 1)
        self.logits = nn.Conv1d(skip, codes, 1)
        nn.init.normal_(self.embedding.weight, std=0.3)

    @property
    def field(self) -> int:
        """The receptive field: so many codes decide about the one after them."""
        return receptive_field(self.dilations)

    def conditions(self, label: Tensor, speaker: Tensor) -> Tensor:
        """Compute the condition in each part of a recording: int64[B], int64[B] -> [B, P, C]."""
        whole = self.label(label) + self.speaker(speaker)
        condition: Tensor = self.mixed(F.relu(whole[:, None] + self.place.weight))
        return condition

    def forward(self, codes: Tensor, label: Tensor, speaker: Tensor, position: Tensor) -> Tensor:
        """Compute logits[B, T, K] of each code of int64[B, T], of which the network sees only the codes before it.

        Args:
            codes: int64[B, T].
            label: int64[B].
            speaker: int64[B].
            position: float[B, T], the place in the recording, in 0..1.
        """
        part = part_of(position, self.places)
        condition = torch.take_along_dim(self.conditions(label, speaker), part[:, :, None], 1).transpose(1, 2)
        x = F.pad(self.embedding(codes).transpose(1, 2), (1, 0))[:, :, :-1]  # before the first one there is nothing
        total = torch.zeros((), device=x.device, dtype=x.dtype)
        for layer in self.layers:
            x, skip = layer(x, condition)
            total = total + skip
        logits: Tensor = self.logits(F.relu(self.hidden(F.relu(total))))
        return logits.transpose(1, 2)


def part_of(position: Tensor, places: int) -> Tensor:
    """The part of a recording that places in 0..1 lie in: float[...] -> int64[...] in 0..P - 1."""
    return (position * places).long().clamp(0, places - 1)


class CachedWaveNet:
    """A WaveNet that generates sample by sample in a compiled loop; it is a copy of the weights as they are.

    Args:
        model: the network, float32 or float64.
    """

    def __init__(self, model: WaveNet):
        def array(tensor: Tensor) -> np.ndarray:
            return np.ascontiguousarray(tensor.detach().cpu().numpy())

        layers = [layer for layer in model.layers if isinstance(layer, WaveLayer)]
        self.model = model
        self.weights = Weights(
            array(model.embedding.weight),
            array(torch.stack([layer.gates.weight.permute(2, 1, 0).flatten(0, 1) for layer in layers])),
            array(torch.stack([layer.out.weight[:, :, 0].T for layer in layers])),
            array(torch.stack([layer.out.bias for layer in layers])),  # type: ignore[misc]
            array(model.hidden.weight[:, :, 0].T),
            array(model.hidden.bias),  # type: ignore[arg-type]
            array(model.logits.weight[:, :, 0].T),
            array(model.logits.bias),  # type: ignore[arg-type]
            np.array(model.dilations, np.int64),
        )

    @torch.no_grad()
    def conditions(self, label: int, speaker: int) -> np.ndarray:
        """What is added to the gates of each layer in each part of a recording, [P, L, 2 R]."""
        here = self.model.embedding.weight.device
        table = self.model.conditions(torch.tensor([label], device=here), torch.tensor([speaker], device=here))[0]
        added = [table @ layer.condition.weight[:, :, 0].T + layer.gates.bias for layer in self.model.layers]  # type: ignore[union-attr,operator,index]
        return np.ascontiguousarray(torch.stack(added, 1).cpu().numpy())

    def generate(
        self,
        labels: Sequence[int],
        speakers: Sequence[int],
        uniform: Sequence[np.ndarray],
        temperature: float = 1.0,
    ) -> list[np.ndarray]:
        """Generate recordings, each by itself, so that one does not depend on how many others there are.

        Args:
            labels: class of each.
            speakers: speaker of each.
            uniform: float64[T] in 0..1 for each, by which its T codes are drawn.
            temperature: that logits are divided by; 0: the most probable code is taken each time.

        Returns:
            int64[T] codes of each.
        """
        codes = [np.zeros(len(draws), np.int64) for draws in uniform]
        of = list(zip(labels, speakers, strict=True))
        added = {pair: self.conditions(*pair) for pair in set(of)}
        nothing = np.empty((0, self.model.classes), self.weights.embedding.dtype)

        def some(low: int, high: int) -> None:
            for n in range(low, high):
                places = self.places(len(codes[n]))
                generate(self.weights, added[of[n]], places, uniform[n], float(temperature), 0, codes[n], nothing)

        THREADS.share(some, len(codes), least=1)
        return codes

    def score(self, codes: np.ndarray, label: int, speaker: int) -> np.ndarray:
        """Compute logits[T, K] of given codes[T], as generating them would have."""
        logits = np.empty((len(codes), self.model.classes), self.weights.embedding.dtype)
        places, given = self.places(len(codes)), np.array(codes, np.int64)
        draws = np.zeros(len(codes))
        generate(self.weights, self.conditions(label, speaker), places, draws, 1.0, len(codes), given, logits)
        return logits

    def places(self, length: int) -> np.ndarray:
        """The part of a recording that each of so many samples lies in, int64[T]."""
        return part_of(torch.arange(length) / length, self.model.places).numpy()


@torch.no_grad()
def generate_naively(
    model: WaveNet,
    label: int,
    speaker: int,
    uniform: np.ndarray,
    temperature: float = 1.0,
    *,
    start: Tensor | None = None,
    most: int | None = None,
) -> np.ndarray:
    """Generate one recording by a whole pass over the receptive field for every sample: the slow reference.

    Args:
        model: the network, on the CPU.
        label, speaker: what it is conditioned on.
        uniform: float64[T] in 0..1, by which the T codes are drawn.
        temperature: that logits are divided by; 0: the most probable code is taken each time.
        start: the first of the T codes, int64[S].
        most: stop after so many new samples; None: at the end.

    Returns:
        int64[T - S], the new codes, or the first `most` of them.
    """
    known = 0 if start is None else len(start)
    end = len(uniform) if most is None else min(known + most, len(uniform))
    codes = torch.zeros(1, len(uniform), dtype=torch.int64)
    if start is not None:
        codes[0, :known] = start
    position = (torch.arange(len(uniform)) / len(uniform))[None]
    ids = torch.tensor([label]), torch.tensor([speaker])
    for t in range(known, end):
        seen = slice(max(0, t - model.field), t + 1)
        scores = model(codes[:, seen], *ids, position[:, seen])[0, -1].numpy()
        if temperature == 0:
            codes[0, t] = int(scores.argmax())
            continue
        share = np.exp((scores.astype(np.float64) - float(scores.max())) / temperature).cumsum()
        codes[0, t] = min(int(share.searchsorted(uniform[t] * share[-1], side="right")), model.classes - 1)
    return codes[0, known:end].numpy()
