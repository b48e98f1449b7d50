# mypy: allow-untyped-defs
"""What the five games of MinAtar share: the arrays of N copies, and what the loop over them does besides playing.

The rules are those of the authors' package `minatar` 1.0.15 (Young & Tian 2019, https://arxiv.org/abs/1903.03176),
written anew for arrays; ``tests/envs/test_minatar.py`` lets both play with the same random numbers and compares every
step.

A copy of a game is a row of integers and an RNG key. The module of a game names its integers and has four functions:
``reset``, ``step``, ``draw``, and ``run``, the loop over rows lo .. hi-1, which is all that is called from Python while
playing; it holds no GIL. Rows know nothing of each other, so neither the number of copies nor the way in which threads
share them changes what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.envs.splitmix import uniform
from rlab.kernels import compiled

SIZE = 10
"""Rows and columns of the board."""
ON = 255
"""A set cell of an observation."""
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
STEP, RESET, OBSERVE = range(3)
"""What a run does: step, begin new games, or only draw."""

jit = compiled(nogil=True)


class GameStates(NamedTuple):
    """The whole state of N copies of a game: whoever puts these arrays back has the games back."""

    rows: NDArray[np.int32]
    """[N, columns of the game]."""
    rng_keys: NDArray[np.uint64]
    """[N]."""
    last_action: NDArray[np.int64]
    """[N]: the action executed before, 0 .. 5; like the package's it outlives a game."""
    steps: NDArray[np.int64]
    """[N]: steps of the present game."""


class StepBuffers(NamedTuple):
    """The arrays that a step of N copies is written to."""

    obs: NDArray[np.uint8]
    """[N, C, 10, 10]: after an autoreset, the new game's first observation."""
    final: NDArray[np.uint8]
    """[N, C, 10, 10]: the observation that ended a game; written only where one ended."""
    reward: NDArray[np.float32]
    """[N]."""
    terminated: NDArray[np.bool_]
    """[N]."""
    truncated: NDArray[np.bool_]
    """[N]."""


class MinAtarRules(NamedTuple):
    """What holds for all copies."""

    actions: NDArray[np.int64]
    """[A]: the game's action for each action of the environment."""
    sticky: float
    ramping: bool
    max_steps: int


class MinAtarGame(NamedTuple):
    """What the engine has to know of a game."""

    channels: tuple[str, ...]
    """Names of the C channels, in the package's order."""
    actions: tuple[int, ...]
    """The actions that do something: the package's minimal set."""
    columns: int
    """Integers of a copy."""
    run: Callable[..., None]
    """(lo, hi, mode, actions [N], MinAtarRules, GameStates, StepBuffers): step, reset or only draw the rows lo .. hi-1.
    """
    step: Callable[..., tuple[int, bool]]
    """(rows, i, rng_keys, action 0 .. 5, ramping) -> (reward, over): one step of one copy, without a reset."""
    draw: Callable[..., None]
    """(rows, i, images [N, C, 10, 10])."""


@jit
def below(rng_keys, i, n):
    """Draw from 0 .. n-1 and advance rng_keys[i]; n is at most 10 here, so the bias of 2^-53 does not matter."""
    return int(uniform(rng_keys, i) * n)


@jit
def choose_action(i, actions, rules, states):
    """The action 0 .. 5 that copy i executes: the one that was sent, or, with probability `sticky`, the one before."""
    action = rules.actions[actions[i]]
    if uniform(states.rng_keys, i) < rules.sticky:
        action = states.last_action[i]
    states.last_action[i] = action
    return action


@jit
def record(i, reward, over, rules, states, buffers):
    """Write down what a step gave and say whether the game has ended."""
    states.steps[i] += 1
    late = not over and states.steps[i] >= rules.max_steps
    buffers.reward[i] = reward
    buffers.terminated[i] = over
    buffers.truncated[i] = late
    if over or late:
        states.steps[i] = 0
        return True
    return False


@jit
def clear(image, i):
    """Unset all cells of observation i."""
    for c in range(image.shape[1]):
        for y in range(SIZE):
            for x in range(SIZE):
                image[i, c, y, x] = 0
