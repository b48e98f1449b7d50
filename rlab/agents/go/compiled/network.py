# mypy: allow-untyped-defs
"""A Go-ResNet's policy and value as one compiled loop for CPUs, which holds no lock of Python from planes to logits.

A search asks for some hundred small positions at a time. There a library's layers cost as much by waiting for each
other's threads and for Python as by arithmetic; here each thread reads its own positions from the first layer to the
last. Convolutions go by Winograd's filtering (`rlab.agents.go.compiled.winograd`), in fp32.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rlab.agents.go.compiled import winograd
from rlab.agents.go.compiled.winograd import LANES, MOST, Floats, Memory, convolve, jit, make_memory
from rlab.agents.go.network import GoNetwork
from rlab.envs.go.symmetry import inverses, symmetries
from rlab.nn.encoders.go_resnet import Block, GoResNet

MOST_AT_ONCE = 256
"""Positions whose maps a thread holds."""


class Weights(NamedTuple):
    """Of L convolutions of C channels, the stem's first, K blocks with a global pooling of Q channels, and heads of W.

    Attributes:
        filters: float32 [L, 49, C, C], and biases [L, LANES].
        pools: int64 [blocks]: which pooling a block has; -1: none.
        pool_filters: [K, 49, C, C], and pool_biases [K, LANES].
        pool_dense: [K, 2 Q, C], and pool_more [K, C]: from what is pooled to biases.
        heads: [C, 2 W], and head_biases [2 W]: the convolutions 1x1 of the policy and of the value.
        dense: [2 W, W], and dense_biases [W]: of the policy, from what is pooled to biases.
        point: [W]: from maps to logits.
        pass_: [2 W + 1]: from what is pooled to the logit of a pass; its bias last.
        hidden: [2 W, H], and hidden_biases [H]: of the value.
        value: [H + 1]: to the logit of a win less that of a loss; its bias last.
    """

    filters: Floats
    biases: Floats
    pools: NDArray[np.int64]
    pool_filters: Floats
    pool_biases: Floats
    pool_dense: Floats
    pool_more: Floats
    heads: Floats
    head_biases: Floats
    dense: Floats
    dense_biases: Floats
    point: Floats
    pass_: Floats
    hidden: Floats
    hidden_biases: Floats
    value: Floats


class Compiled:
    """Reads positions by a network whose normalisations are folded into its convolutions.

    Args:
        folded: the network; its weights are copied.
    """

    def __init__(self, folded: GoNetwork):
        encoder, head = cast(GoResNet, folded.encoder), folded.head
        self.size, self.channels = folded.size, encoder.channels
        blocks = [cast(Block, block) for block in encoder.blocks]
        convolutions = [encoder.stem[0], *(conv for block in blocks for conv in (block.conv1, block.conv2))]
        pooling = [block.pool for block in blocks if block.pool is not None]
        filters, biases = self._filters(convolutions)
        pool_filters, pool_biases = self._filters([pool.conv for pool in pooling])
        numbers = np.cumsum([block.pool is not None for block in blocks]) - 1
        policy, dense = head.policy, cast(nn.Linear, head.dense[0])
        self.weights = Weights(
            filters,
            biases,
            np.array([k if block.pool is not None else -1 for k, block in zip(numbers, blocks, strict=True)], np.int64),
            pool_filters,
            pool_biases,
            _stacked([_array(pool.bias.weight).T for pool in pooling], (0, self.channels)),
            _stacked([_array(pool.bias.bias) for pool in pooling], (self.channels,)),
            np.ascontiguousarray(
                np.concatenate([_array(conv.weight)[:, :, 0, 0] for conv in (policy.conv, head.conv)]).T
            ),
            np.concatenate([_array(c.bias) for c in (policy.conv, head.conv)]),
            np.ascontiguousarray(_array(policy.bias.weight).T),
            _array(policy.bias.bias),
            _array(policy.point.weight).ravel(),
            np.append(_array(policy.pass_.weight), _array(policy.pass_.bias)),
            np.ascontiguousarray(_array(dense.weight).T),
            _array(dense.bias),
            np.diff(np.column_stack((_array(head.value.weight), _array(head.value.bias))), axis=0).ravel(),
        )
        self._memory: list[Memory] = []
        """Of threads, while they need none."""

    def _filters(self, convolutions: list[Any]) -> tuple[Floats, Floats]:
        found = [winograd.transform(_array(c.weight), _array(c.bias), self.channels) for c in convolutions]
        c = self.channels
        return (
            _stacked([weight for weight, _ in found], (winograd.POINTS**2, c, c)),
            _stacked([bias for _, bias in found], (LANES,)),
        )

    def __call__(
        self,
        planes: Floats,
        rows: NDArray[np.int64],
        kinds: NDArray[np.int64],
        logits: Floats,
        values: Floats,
        lo: int,
        hi: int,
    ) -> None:
        """Write logits [J, n * n + 1] and values [J] of lo .. hi-1: planes [K, C, n * n] of rows [J], moved by the
        symmetries kinds [J] before and back after."""
        n, most = self.size, min(hi - lo, MOST_AT_ONCE)
        try:
            memory = self._memory.pop()
        except IndexError:
            memory = make_memory(n, self.channels, most)
        if len(memory.x) * LANES < most * self.channels:
            memory = make_memory(n, self.channels, most)
        for low in range(lo, hi, MOST_AT_ONCE):
            read(planes, rows, kinds, inverses(n), symmetries(n), self.weights, memory, winograd.TILES,
                 n, logits, values, low, min(low + MOST_AT_ONCE, hi))  # fmt: skip
        self._memory.append(memory)


def _array(tensor: Tensor | None) -> Floats:
    assert tensor is not None
    return tensor.detach().float().numpy()


def _stacked(arrays: list[Floats], shape: tuple[int, ...]) -> Floats:
    """Arrays as one; of none, so shaped."""
    return np.ascontiguousarray(np.stack(arrays)) if arrays else np.zeros((0, *shape), np.float32)


# ---- Kernels.


@jit
def read(planes, rows, kinds, sources, places, weights, memory, t, n, logits, values, lo, hi):
    """See `Compiled`."""
    channels = weights.filters.shape[2]
    per = LANES // channels
    strips = (hi - lo + per - 1) // per
    x, y, nothing = memory.x, memory.y, memory.nothing
    more = np.zeros((strips, LANES), np.float32)
    _put(planes, rows, kinds, sources, x, n, channels, lo, hi)
    convolve(x, weights.filters[0], weights.biases[0], more, nothing, y, memory, t, n, strips)
    for block in range(len(weights.pools)):
        k = weights.pools[block]
        if k >= 0:
            convolve(y, weights.pool_filters[k], weights.pool_biases[k], more, nothing, x, memory, t, n, strips)
            _pool(x, weights.pool_dense[k], weights.pool_more[k], more, n, channels, strips)
        first, second = 1 + 2 * block, 2 + 2 * block
        convolve(y, weights.filters[first], weights.biases[first], more, nothing, x, memory, t, n, strips)
        more[:] = 0
        convolve(x, weights.filters[second], weights.biases[second], more, y, y, memory, t, n, strips)
    _heads(y, weights, kinds, places, n, channels, logits, values, lo, hi)


@jit
def _put(planes, rows, kinds, sources, x, n, channels, lo, hi):
    """Planes into strips, the other channels 0."""
    side, per = int(np.sqrt(x.shape[1])), LANES // channels
    number = planes.shape[1]
    for j in range(lo, hi):
        s, low = (j - lo) // per, (j - lo) % per * channels
        of, source = planes[rows[j]], sources[kinds[j]]
        for p in range(n * n):
            to = x[s, (p // n + 1) * side + p % n + 1, low : low + channels]
            q = source[p]
            for c in range(number):
                to[c] = of[c, q]
            for c in range(number, channels):
                to[c] = np.float32(0)


@jit
def _mean_and_max(maps, low, width, side, n, found):
    """Of channels low .. low+width-1 of maps [side^2, D] over the board -> found [2 width]."""
    for c in range(2 * width):
        found[c] = np.float32(0)
    for i in range(n):
        for j in range(n):
            of = maps[(i + 1) * side + j + 1, low : low + width]
            for c in range(width):
                found[c] += of[c]
                found[width + c] = max(found[width + c], of[c])  # of maps that are 0 or more
    for c in range(width):
        found[c] *= np.float32(1 / (n * n))


@jit
def _affine(found, weight, bias, out):
    """found [K] weight [K, D] + bias [D] -> out [D]."""
    for d in range(len(out)):
        out[d] = bias[d]
    for k in range(len(found)):
        of, v = weight[k], found[k]
        for d in range(len(out)):
            out[d] += v * of[d]


@jit
def _pool(x, dense, bias, more, n, channels, strips):
    """What is pooled of maps x as biases of the others -> more [strips, LANES]."""
    side, width = int(np.sqrt(x.shape[1])), len(dense) // 2
    found = np.empty(2 * width, np.float32)
    for s in range(strips):
        for low in range(0, LANES, channels):
            _mean_and_max(x[s], low, width, side, n, found)
            _affine(found, dense, bias, more[s, low : low + channels])


@jit
def _heads(x, weights, kinds, places, n, channels, logits, values, lo, hi):
    """Logits, moved back, and values of maps."""
    side, per, width = int(np.sqrt(x.shape[1])), LANES // channels, len(weights.point)
    maps, step = np.empty((x.shape[1] * per, 2 * width), np.float32), max(1, MOST // (channels * 2 * width))
    found, bias = np.empty(2 * width, np.float32), np.empty(width, np.float32)
    hidden, policy = np.empty(len(weights.hidden_biases), np.float32), np.empty(n * n + 1, np.float32)
    zero = np.float32(0)
    for j in range(lo, hi):
        s, k = (j - lo) // per, (j - lo) % per
        if k == 0:
            of = x[s].reshape(-1, channels)
            for p in range(0, len(maps), step):
                np.dot(of[p : p + step], weights.heads, maps[p : p + step])
            for p in range(len(maps)):
                of = maps[p]
                for c in range(2 * width):
                    v = of[c] + weights.head_biases[c]
                    of[c] = v if v > zero else zero
        mine = maps.reshape(x.shape[1], per * 2 * width)
        low = k * 2 * width
        _mean_and_max(mine, low, width, side, n, found)
        _affine(found, weights.dense, weights.dense_biases, bias)
        sum_ = weights.pass_[2 * width]
        for c in range(2 * width):
            sum_ += found[c] * weights.pass_[c]
        policy[n * n] = sum_
        for p in range(n * n):
            of = mine[(p // n + 1) * side + p % n + 1, low : low + width]
            sum_ = zero
            for c in range(width):
                v = of[c] + bias[c]
                sum_ += (v if v > zero else zero) * weights.point[c]
            policy[p] = sum_
        for a in range(n * n + 1):
            logits[j, a] += policy[places[kinds[j], a]]
        _mean_and_max(mine, low + width, width, side, n, found)
        _affine(found, weights.hidden, weights.hidden_biases, hidden)
        sum_ = weights.value[len(hidden)]
        for c in range(len(hidden)):
            sum_ += max(zero, hidden[c]) * weights.value[c]
        values[j] = np.tanh(sum_ / np.float32(2))
