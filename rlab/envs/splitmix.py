# mypy: allow-untyped-defs
"""Chance for compiled loops: one word of 64 bits a copy, by SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators", https://doi.org/10.1145/2660193.2660195).

So the state of chance is an array, and what a copy does depends neither on how many others there are nor on threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""What a word grows by from draw to draw; what is drawn is `mix` of it."""
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


def mix(z):
    """Scatter words of 64 bits, one to one: for numpy arrays as it stands, for numba compiled."""
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


_mix = njit(mix, cache=True, nogil=True)


@njit(cache=True, nogil=True)
def uniform(words, i):
    """Draw from [0, 1) in steps of 2^-53 and advance words[i], uint64."""
    words[i] += GAMMA
    return np.float64(_mix(words[i]) >> _S11) * (1.0 / 9007199254740992.0)
