# mypy: allow-untyped-defs
"""The compiled loop that lets a WaveNet generate: a layer keeps its last inputs, so that a sample costs one step.

Without it every sample costs the whole receptive field (Paine et al. 2016, https://arxiv.org/abs/1611.09482).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.kernels import compiled


class Weights(NamedTuple):
    """A WaveNet's weights as the loop reads them: rows are inputs, so that the outputs of one lie side by side."""

    embedding: NDArray  # [K, R]
    gates: NDArray  # [L, 2 R, 2 R]: rows of the input d samples before, then of the one now
    out: NDArray  # [L, R, R + S]: to the next layer and to the sum of all
    out_bias: NDArray  # [L, R + S]
    hidden: NDArray  # [S, S]
    hidden_bias: NDArray  # [S]
    logits: NDArray  # [S, K]
    logits_bias: NDArray  # [K]
    dilations: NDArray[np.int64]  # [L]


@compiled(nogil=True)
def generate(weights, conditions, places, uniform, temperature, given, codes, logits):
    """Write codes[T] from number `given` on; those before are a prompt.

    Args:
        weights: `Weights`, all of one type of float.
        conditions: [P, L, 2 R], what is added to the gates of each layer in each part of the recording.
        places: int64[T], the part that each sample lies in.
        uniform: float64[T] in 0..1, by which codes are drawn.
        temperature: that logits are divided by; 0: the most probable code is taken.
        given: how many codes are there already.
        codes: int64[T].
        logits: [T, K], to be written; [0, K]: they are not kept.
    """
    width, layers, classes = weights.embedding.shape[1], len(weights.dilations), weights.embedding.shape[0]
    summed = weights.hidden.shape[0]
    kind = weights.embedding.dtype
    one = kind.type(1)
    first = np.zeros(layers + 1, np.int64)
    for layer in range(layers):
        first[layer + 1] = first[layer] + weights.dilations[layer]
    kept = np.zeros((first[layers], width), kind)
    x, gates, gated = np.zeros(width, kind), np.empty(2 * width, kind), np.empty(width, kind)
    out, total, hidden = np.empty(width + summed, kind), np.empty(summed, kind), np.empty(summed, kind)
    scores, share = np.empty(classes, kind), np.empty(classes, np.float64)
    for t in range(len(codes)):
        if t:
            x[:] = weights.embedding[codes[t - 1]]
        total[:] = 0
        for layer in range(layers):
            before = kept[first[layer] + t % weights.dilations[layer]]
            matrix = weights.gates[layer]
            gates[:] = conditions[places[t], layer]
            for i in range(width):
                past, now = before[i], x[i]
                for o in range(2 * width):
                    gates[o] += matrix[i, o] * past + matrix[width + i, o] * now
            before[:] = x
            for i in range(width):
                gated[i] = math.tanh(gates[i]) / (one + math.exp(-gates[width + i]))
            matrix = weights.out[layer]
            out[:] = weights.out_bias[layer]
            for i in range(width):
                value = gated[i]
                for o in range(width + summed):
                    out[o] += matrix[i, o] * value
            x += out[:width]
            total += out[width:]
        hidden[:] = weights.hidden_bias
        for i in range(summed):
            value = max(total[i], kind.type(0))
            for o in range(summed):
                hidden[o] += weights.hidden[i, o] * value
        scores[:] = weights.logits_bias
        for i in range(summed):
            value = max(hidden[i], kind.type(0))
            for o in range(classes):
                scores[o] += weights.logits[i, o] * value
        if len(logits):
            logits[t] = scores
        if t < given:
            continue
        best = np.argmax(scores)
        if temperature == 0:
            codes[t] = best
            continue
        whole = 0.0
        for o in range(classes):
            whole += math.exp((np.float64(scores[o]) - np.float64(scores[best])) / temperature)
            share[o] = whole
        codes[t] = min(np.searchsorted(share, uniform[t] * whole, side="right"), classes - 1)
