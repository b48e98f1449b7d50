# mypy: allow-untyped-defs
"""The compiled loop of word2vec (Mikolov et al. 2013), a step of gradient descent for each window of a text.

All neighbours in a window share its noise words (Ji et al. 2016, https://arxiv.org/abs/1604.04661), so that a window is
a product of two small matrices whose rows are read once. Rows are padded with zeros to a multiple of `LANES` numbers,
for which a processor has wide instructions; they stay zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.splitmix import GAMMA, mix
from rlab.kernels import compiled

LANES = 16
"""Numbers in a row come in multiples of this."""

LONGEST = 10_000
"""Words of a sentence at the most; a longer one is learned in parts."""


class Vectors(NamedTuple):
    """What is learned: float32[V, D'] each, D' being D rounded up to `LANES`."""

    input: NDArray[np.float32]
    output: NDArray[np.float32]


class Draws(NamedTuple):
    """What is drawn from: the part of its occurrences that is kept of each word, and the noise as an alias table."""

    keep: NDArray[np.float32]
    accept: NDArray[np.float32]
    alias: NDArray[np.int32]


class Method(NamedTuple):
    """How it is learned; see `WordsConfig`."""

    skip_gram: bool
    window: int
    negative: int
    shared_error: bool
    """Of CBOW: each neighbour gets the whole error, as in word2vec.c, in place of its part of the gradient."""


_mix = compiled(nogil=True)(mix)
_S32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@compiled(nogil=True)
def below(key, n):
    """Draw a whole number below n from a key uint64[1], and advance it."""
    key[0] += GAMMA
    return np.int64(((_mix(key[0]) >> _S32) * np.uint64(n)) >> _S32)


@compiled(nogil=True, fastmath=True)
def noise_word(key, draws):
    """Draw a word of the noise distribution (Walker 1977) from a key uint64[1], and advance it."""
    key[0] += GAMMA
    bits = _mix(key[0])
    word = np.int64(((bits >> _S32) * np.uint64(len(draws.accept))) >> _S32)
    if np.float32(bits & _LOW) * np.float32(2.0**-32) < draws.accept[word]:
        return word
    return np.int64(draws.alias[word])


@compiled(nogil=True, fastmath=True)
def _products(rows, i, others, out, at):
    """Compute out[at + j] = rows[i] . others[j], four at a time, so that the row is read less often."""
    many, width = others.shape
    whole = many // 4 * 4
    for j in range(0, whole, 4):
        s = t = u = v = np.float32(0)
        for d in range(width):
            x = rows[i, d]
            s += x * others[j, d]
            t += x * others[j + 1, d]
            u += x * others[j + 2, d]
            v += x * others[j + 3, d]
        out[at + j], out[at + j + 1], out[at + j + 2], out[at + j + 3] = s, t, u, v
    for j in range(whole, many):
        s = np.float32(0)
        for d in range(width):
            s += rows[i, d] * others[j, d]
        out[at + j] = s


@compiled(nogil=True, fastmath=True)
def _add(rows, i, weights, at, others, many):
    """Add to rows[i] the first `many` of `others` by their weights[at + j], four at a time."""
    width = others.shape[1]
    whole = many // 4 * 4
    for j in range(0, whole, 4):
        s, t, u, v = weights[at + j], weights[at + j + 1], weights[at + j + 2], weights[at + j + 3]
        for d in range(width):
            rows[i, d] += s * others[j, d] + t * others[j + 1, d] + u * others[j + 2, d] + v * others[j + 3, d]
    for j in range(whole, many):
        s = weights[at + j]
        for d in range(width):
            rows[i, d] += s * others[j, d]


@compiled(nogil=True, fastmath=True, error_model="numpy")  # NaN of vectors that diverged is found by the learner
def sigmoids(x, many):
    """Put 1 / (1 + exp(-x)) in place of the first of x, float32[N], to 1e-6.

    It is half of 1 + tanh(x / 2), by a quotient of polynomials (Eigen's), for which there are wide instructions; there
    are none to look up a table.
    """
    for n in range(many):
        h = np.float32(0.5) * min(max(x[n], np.float32(-18)), np.float32(18))
        q = h * h
        above = np.float32(-2.76076847742355e-16)
        above = above * q + np.float32(2.00018790482477e-13)
        above = above * q + np.float32(-8.60467152213735e-11)
        above = above * q + np.float32(5.12229709037114e-08)
        above = above * q + np.float32(1.48572235717979e-05)
        above = above * q + np.float32(6.37261928875436e-04)
        above = above * q + np.float32(4.89352455891786e-03)
        below = np.float32(1.19825839466702e-06)
        below = below * q + np.float32(1.18534705686654e-04)
        below = below * q + np.float32(2.26843463243900e-03)
        below = below * q + np.float32(4.89352518554385e-03)
        x[n] = np.float32(0.5) + np.float32(0.5) * h * above / below


@compiled(nogil=True, fastmath=True)
def _learn_sentence(words, n, vectors, draws, method, rate, key, space):
    """Learn every window of the first n words, of which only those are left that were kept."""
    hidden, output, steps, across, targets = space
    many, width = output.shape
    for i in range(n):
        reach = method.window - below(key, method.window)
        first, last = max(0, i - reach), min(n, i + reach + 1)
        around = last - first - 1
        if around == 0:
            continue
        rows = around if method.skip_gram else 1
        share = np.float32(1) / np.float32(around)
        if not method.skip_gram:
            for d in range(width):
                hidden[0, d] = 0
        row = 0
        for j in range(first, last):
            if j != i:
                word = words[j]
                if method.skip_gram:
                    for d in range(width):
                        hidden[row, d] = vectors.input[word, d]
                    row += 1
                else:
                    for d in range(width):
                        hidden[0, d] += vectors.input[word, d] * share
        for k in range(many):
            word = np.int64(words[i]) if k == 0 else noise_word(key, draws)
            targets[k] = word
            for d in range(width):
                output[k, d] = vectors.output[word, d]
        for row in range(rows):
            _products(hidden, row, output, steps, row * many)
        sigmoids(steps, rows * many)
        for k in range(many):
            label = np.float32(k == 0)
            on = np.float32(0) if k and targets[k] == targets[0] else rate
            for row in range(rows):
                across[row] = steps[row * many + k] = on * (label - steps[row * many + k])
            _add(vectors.output, targets[k], across, 0, hidden, rows)
        if method.skip_gram:
            row = 0
            for j in range(first, last):
                if j != i:
                    _add(vectors.input, words[j], steps, row * many, output, many)
                    row += 1
        else:
            for d in range(width):
                hidden[0, d] = 0
            _add(hidden, 0, steps, 0, output, many)
            part = np.float32(1) if method.shared_error else share
            for j in range(first, last):
                if j != i:
                    word = words[j]
                    for d in range(width):
                        vectors.input[word, d] += part * hidden[0, d]


@compiled(nogil=True, fastmath=True)
def learn(tokens, begins, vectors, draws, method, rates, key):
    """Learn a part of a text in order.

    Args:
        tokens: words, int32[N].
        begins: whether no window reaches across to the word before, bool[N].
        vectors: `Vectors`, which change.
        draws: `Draws`.
        method: `Method`.
        rates: learning rate at the first word and behind the last, float64[2]; between them it is on a line.
        key: the RNG key, uint64[1]; it advances.
    """
    width, reach, many = vectors.input.shape[1], method.window, method.negative + 1
    space = (
        np.zeros((2 * reach, width), np.float32),
        np.zeros((many, width), np.float32),
        np.zeros(2 * reach * many, np.float32),
        np.zeros(2 * reach, np.float32),
        np.zeros(many, np.int64),
    )
    kept = np.empty(LONGEST, np.int32)
    n = start = 0
    for at in range(len(tokens) + 1):
        if at == len(tokens) or begins[at] or at - start == LONGEST:
            rate = np.float32(rates[0] + (rates[1] - rates[0]) * start / len(tokens))
            _learn_sentence(kept, n, vectors, draws, method, rate, key, space)
            n, start = 0, at
        if at < len(tokens):
            key[0] += GAMMA
            if np.float32(_mix(key[0]) >> _S32) * np.float32(2.0**-32) < draws.keep[tokens[at]]:
                kept[n] = tokens[at]
                n += 1


@compiled(nogil=True)
def windows(tokens, begins, keep, window, fixed, key, centres, around):
    """Find the windows of a part of a text, as `learn` does: centres int64[N], around int64[N, 2 * window].

    Args:
        tokens, begins: see `learn`.
        keep: see `Draws`.
        window: neighbours on either side at the most.
        fixed: whether all windows reach as far as that; else the reach of each is drawn.
        key: the RNG key, uint64[1]; it advances.
        centres, around: what is found; where there is no neighbour stands -1.

    Returns:
        The number of windows with a neighbour.
    """
    kept = np.empty(len(tokens), np.int64)
    sentence = np.empty(len(tokens), np.int64)
    n = part = 0
    for at in range(len(tokens)):
        part += begins[at]
        key[0] += GAMMA
        if np.float32(_mix(key[0]) >> _S32) * np.float32(2.0**-32) < keep[tokens[at]]:
            kept[n], sentence[n] = tokens[at], part
            n += 1
    found = 0
    for i in range(n):
        reach = window if fixed else window - below(key, window)
        neighbours = 0
        for j in range(max(0, i - reach), min(n, i + reach + 1)):
            if j != i and sentence[j] == sentence[i]:
                around[found, neighbours] = kept[j]
                neighbours += 1
        if neighbours:
            centres[found] = kept[i]
            around[found, neighbours:] = -1
            found += 1
    return found
