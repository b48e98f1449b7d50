# mypy: allow-untyped-defs
"""Random numbers for compiled loops: an RNG key of 64 bits for each stream, by SplitMix64.

Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", https://doi.org/10.1145/2660193.2660195.
The state of the random numbers of N copies is an array of N keys, and what a copy draws depends neither on how many
others there are nor on threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlab.kernels import compiled

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""What a key grows by from draw to draw; what is drawn is `mix` of it."""
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


def mix(z):
    """Scatter integers of 64 bits, one to one: for numpy arrays as it stands, for numba compiled."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


_mix = compiled(nogil=True)(mix)


def rng_key(seed: ArrayLike, stream: ArrayLike) -> NDArray[np.uint64]:
    """The RNG keys of streams, numbers below 2^32, of a seed (or of seeds, one each); of 64-bit seeds 32 bits count."""
    with np.errstate(over="ignore"):
        return np.asarray(mix(_integers(seed) << np.uint64(32) | _integers(stream)))


def split(rng_keys: NDArray[np.uint64] | np.uint64, number: ArrayLike) -> NDArray[np.uint64]:
    """The RNG keys of the draws with these numbers, 1 being the first; keys and numbers are broadcast."""
    with np.errstate(over="ignore"):
        return np.asarray(mix(rng_keys + GAMMA * _integers(number)))


def uniforms(rng_keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1) in steps of 2^-53, one for each key; a key gives the same number again."""
    return np.asarray((mix(rng_keys) >> _S11).astype(np.float64) * 2.0**-53)


def _integers(x: ArrayLike) -> Any:
    return np.asarray(x).astype(np.uint64)


@compiled(nogil=True)
def uniform(rng_keys, i):
    """Draw from [0, 1) in steps of 2^-53 and advance rng_keys[i], uint64."""
    rng_keys[i] += GAMMA
    return np.float64(_mix(rng_keys[i]) >> _S11) * (1.0 / 9007199254740992.0)
