"""Dynamic programming as an agent: it knows the table of transitions and plays nothing to learn.

Policy evaluation, policy iteration and value iteration are one scheme, generalised policy iteration (Sutton & Barto
2018, section 4.6), and differ in two fields of `PlanningConfig`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.agents.tabular.config import PlanningConfig
from rlab.agents.tabular.exact import Values, action_values, greedy_policy, policy_evaluation, value_iteration
from rlab.agents.tabular.table_agent import GreedyPolicy
from rlab.envs.tabular import MDP

SAME = 1e-9
"""Relative difference below which two action values are the same."""


class Planner:
    """Values of the states of an MDP, swept until they settle.

    Args:
        config: the method.
        mdp: its table of transitions is all that is read.
    """

    block = 1

    def __init__(self, config: PlanningConfig, mdp: MDP):
        self.config = config
        self.mdp = mdp
        self.gamma = config.gamma
        self.v = np.zeros(mdp.states)
        self.pi = np.full((mdp.states, mdp.actions), 1 / mdp.actions)
        self._change = np.full(1, np.inf)

    def run(self, done: int, ticks: int) -> float:
        """Sweep `ticks` times; return the sum of the sweeps' largest changes of a value.

        Raises:
            RlabError: a policy on the way never ends, and with gamma = 1 it has no values.
        """
        total = 0.0
        for _ in range(ticks):
            before = self.v.copy()
            if self.config.improve:
                self._improve()
            if self.config.sweeps == 0:
                self.v[:] = policy_evaluation(self.mdp, self.pi, self.gamma)
            for _ in range(self.config.sweeps):
                self.v[:] = (self.pi * self.table()).sum(axis=1)
            self._change[0] = np.abs(self.v - before).max()
            total += float(self._change[0])
        return total

    def _improve(self) -> None:
        """Make the policy greedy; one with exact values is only changed where that is better, beyond rounding.

        Otherwise policy iteration need not end: of actions that are equally good, some may go round for ever.
        """
        q = self.table()
        best = greedy_policy(q)
        if self.config.sweeps == 0 and np.isfinite(self._change[0]):
            gain = q.max(axis=1) - (self.pi * q).sum(axis=1)
            better = gain > SAME * np.maximum(1.0, np.abs(q).max(axis=1))
            best = np.where(better[:, None], best, self.pi)
        self.pi[:] = best

    @property
    def settled(self) -> bool:
        """Whether the values are within the tolerance of those they come to (with gamma 1: the last sweep's change)."""
        enough = self.config.tolerance
        if 0 < self.gamma < 1:
            enough *= (1 - self.gamma) / self.gamma
        # Near large values a sweep cannot settle closer than rounding.
        return bool(self._change[0] <= max(enough, 16 * np.finfo(float).eps * np.abs(self.v).max()))

    def epsilon_at(self, done: int) -> None:
        """It does not act while it learns."""
        return None

    def table(self) -> Values:
        """The action values of one more step and then the values so far, [S, A]."""
        return action_values(self.mdp, self.v, self.gamma)

    def reference(self, done: int) -> Values:
        """[S, A]: q* if the policy is improved, else the exact values of actions at random."""
        if self.config.improve:
            return value_iteration(self.mdp, self.gamma)
        return action_values(self.mdp, policy_evaluation(self.mdp, self.pi, self.gamma), self.gamma)

    def policy(self, seed: int) -> GreedyPolicy:
        """Greedy in the table, also where it is the values of actions at random: that is policy improvement.

        Rounding must not choose: with gamma 1 the one of two equal actions may go round for ever. So policy iteration
        plays the policy that it has settled on, and the others any action of those that are best up to rounding.
        """
        if self.config.improve and self.config.sweeps == 0:
            return GreedyPolicy(self.mdp, self.pi, seed)
        q = self.table()
        near = q >= q.max(axis=1, keepdims=True) - SAME * np.maximum(1.0, np.abs(q).max(axis=1, keepdims=True))
        return GreedyPolicy(self.mdp, near.astype(float), seed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that it keeps, by name."""
        return {"v": self.v, "pi": self.pi, "change": self._change}

    @property
    def finished(self) -> tuple[int, Values]:
        """It plays no episodes."""
        return 0, self.v[:0]
