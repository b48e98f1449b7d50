"""Small worlds with a known table `P[s, a]` in which one difficulty of value learning stands alone.

``rlab/NoisyChoice-v0``, ``rlab/Coin-v0`` and ``rlab/Chain10-v0`` .. ``Chain30-v0`` have ids. The others are for
whoever needs only their tables: ``rlab.envs.tabular.model_of(blind_cliffwalk(8))``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

from rlab.envs.tabular import Outcome, Transitions
from rlab.errors import RlabError

Table = list[list[list[Outcome]]]
"""For each state and action the outcomes (probability, next state, reward, terminated)."""


class TableWorld(gym.Env[np.int64, np.int64]):
    """Plays a table; it starts in one state and exposes `P[s, a]`.

    Args:
        table: [S][A] lists of outcomes.
        start: the first state.
    """

    def __init__(self, table: Table, start: int = 0):
        self.P = Transitions(table)
        self.initial_state_distrib = np.eye(1, len(table), start)[0]
        self.observation_space = Discrete(len(table))
        self.action_space = Discrete(len(table[0]))
        self.start = self.s = start

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Return to the first state."""
        super().reset(seed=seed)
        self.s = self.start
        return np.int64(self.s), {}

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Draw an outcome."""
        outcomes = self.P[self.s, int(action)]
        chosen = 0 if len(outcomes) == 1 else int(self.np_random.choice(len(outcomes), p=[o[0] for o in outcomes]))
        _, self.s, reward, terminated = outcomes[chosen]
        return np.int64(self.s), reward, terminated, False, {}


def noisy_choice(actions: int = 10, mean: float = -0.1, noise: float = 1.0) -> TableWorld:
    """Where a maximum over noisy values misleads (Sutton & Barto 2018, example 6.7, with a coin for the normal noise).

    In state 0 even actions end the game and pay 0; odd ones lead to state 1. There every action ends the game and
    pays mean + noise or mean - noise, equally likely. So with mean below 0 the best is to stay away from state 1.
    """
    _at_least(2, actions=actions)
    first: list[list[Outcome]] = [[(1.0, 1, 0.0, False)] if a % 2 else [(1.0, 0, 0.0, True)] for a in range(actions)]
    coin: list[Outcome] = [(0.5, 1, mean + noise, True), (0.5, 1, mean - noise, True)]
    return TableWorld([first, [coin] * actions])


def coin() -> TableWorld:
    """Two ways with the same mean: action 0 leads to a sure 0, action 1 to +1 or -1 by a coin, one step later.

    States: 0 the choice, 1 before the sure pay, 2 before the coin.
    """
    sure: list[Outcome] = [(1.0, 1, 0.0, True)]
    tossed: list[Outcome] = [(0.5, 2, 1.0, True), (0.5, 2, -1.0, True)]
    return TableWorld([[[(1.0, 1, 0.0, False)], [(1.0, 2, 0.0, False)]], [sure] * 2, [tossed] * 2])


def chain(length: int = 20) -> TableWorld:
    """The far end of a chain pays 1 a step, its near end 0.001 (Osband et al. 2016, section 5.1).

    The start is state 1 of 0 .. length - 1. Which of the two actions goes forward is fixed for each state but drawn
    (seed 0), so that it must be learned state by state.
    """
    _at_least(3, length=length)
    forward = np.random.default_rng(0).integers(2, size=length)
    table: Table = []
    for s in range(length):
        back, on = max(s - 1, 0), min(s + 1, length - 1)
        row: list[list[Outcome]] = [[], []]
        row[forward[s]] = [(1.0, on, 1.0 if s == length - 1 else 0.0, False)]
        row[1 - forward[s]] = [(1.0, back, 0.001 if s == 0 else 0.0, False)]
        table.append(row)
    return TableWorld(table, start=1)


def blind_cliffwalk(length: int) -> TableWorld:
    """One of two actions goes on, the other falls off and ends the game with 0 (Schaul et al. 2016, section 3.1).

    Going on from the last state pays 1 and ends the game. The right action alternates from state to state.
    """
    _at_least(1, length=length)
    table: Table = []
    for s in range(length):
        end = s == length - 1
        row: list[list[Outcome]] = [[(1.0, s, 0.0, True)]] * 2
        row[s % 2] = [(1.0, s if end else s + 1, float(end), end)]
        table.append(row)
    return TableWorld(table)


def corridor(actions: int = 5, height: int = 10, width: int = 50) -> TableWorld:
    """Three connected corridors from the bottom left to the top right (Wang et al. 2016, section 4.1).

    Down the left side, along the bottom, up the right side: the agent starts at the top of the left corridor, and
    only to enter the top of the right one pays 1 and ends the game. Actions 0 .. 3 go up, down, left and right where
    there is floor; all others do nothing, as the paper's no-ops.

    Args:
        actions: 5 or more in the paper: four moves and no-ops.
        height: cells of each vertical corridor.
        width: cells of the horizontal one.
    """
    _at_least(4, actions=actions)
    _at_least(2, height=height, width=width)
    left = [(row, 0) for row in range(height)]
    bottom = [(height - 1, column) for column in range(1, width - 1)]
    cells = [*left, *bottom, *[(row, width - 1) for row in reversed(range(height))]]
    place = {cell: s for s, cell in enumerate(cells)}
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1), *[(0, 0)] * (actions - 4)]
    table: Table = []
    for row, column in cells:
        entries: list[list[Outcome]] = []
        for down, right in moves:
            s = place.get((row + down, column + right), place[row, column])
            end = s == len(cells) - 1
            entries.append([(1.0, s, float(end), end)])
        table.append(entries)
    table[-1] = [[(1.0, len(cells) - 1, 0.0, True)]] * actions  # no action is ever taken there
    return TableWorld(table)


def _at_least(bound: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < bound:
            raise RlabError(f"{name} is {number}; it must be at least {bound}")
