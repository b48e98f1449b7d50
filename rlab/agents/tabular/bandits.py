"""LinUCB, a contextual bandit of linear upper confidence bounds, compiled, on many copies of a finite MDP.

The epsilon-greedy bandit needs no code of its own: it is a table with gamma 0 (`rlab.agents.tabular.config`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.agents.tabular.config import LinUCBConfig, TabularEnvConfig
from rlab.agents.tabular.exact import Values
from rlab.agents.tabular.table_agent import BLOCK, NO_LIMIT, RECENT, GreedyPolicy
from rlab.envs.batched_mdp import advance, begin, compile_model, restart
from rlab.envs.splitmix import uniform
from rlab.envs.tabular import MDP
from rlab.kernels import compiled
from rlab.seeding import derive


class Linear(NamedTuple):
    """What LinUCB keeps for D features; changed in place."""

    inverse: Values  # [A, D, D], of the regularised sum of x x^T
    theta: Values  # [A, D]
    returns: Values  # [N]
    recent: Values  # [RECENT]
    episodes: NDArray[np.int64]  # [1]


@compiled()
def confidence_bound(inverse: Any, theta: Any, x: Any, confidence: float) -> float:
    """theta . x + confidence sqrt(x^T inverse x) (Li et al. 2010, eq. 5), x given by the features that are 1."""
    mean, variance = 0.0, 0.0
    for f in x:
        mean += theta[f]
        for g in x:
            variance += inverse[f, g]
    return mean + confidence * np.sqrt(max(variance, 0.0))


@compiled()
def least_squares_update(inverse: Any, theta: Any, x: Any, reward: float) -> float:
    """Take one reward into ridge regression by the Sherman-Morrison formula; returns the error before.

    Args:
        inverse: [D, D], changed in place.
        theta: [D], changed in place.
        x: the features that are 1.
        reward: what was observed.
    """
    d = theta.shape[0]
    gain = np.zeros(d)
    error, scale = reward, 1.0
    for f in x:
        error -= theta[f]
        for j in range(d):
            gain[j] += inverse[j, f]
    for f in x:
        scale += gain[f]
    for j in range(d):
        theta[j] += gain[j] * error / scale
        for k in range(d):
            inverse[j, k] -= gain[j] * gain[k] / scale
    return error


@compiled()
def run_linucb(model: Any, now: Any, linear: Any, features: Any, confidence: float, ticks: int) -> float:
    """Step every copy `ticks` times and learn; returns the sum of |error|."""
    total = 0.0
    for _ in range(ticks):
        for i in range(now.state.shape[0]):
            x = features[now.state[i]]
            action, best, ties = 0, -np.inf, 0
            for a in range(linear.theta.shape[0]):
                bound = confidence_bound(linear.inverse[a], linear.theta[a], x, confidence)
                if bound > best:
                    action, best, ties = a, bound, 1
                elif bound == best:  # any of the best, equally likely
                    ties += 1
                    if uniform(now.random, i) * ties < 1.0:
                        action = a
            _, reward, over, cut = advance(model, now, i, action)
            total += abs(least_squares_update(linear.inverse[action], linear.theta[action], x, reward))
            linear.returns[i] += reward
            if over or cut:
                linear.recent[linear.episodes[0] % RECENT] = linear.returns[i]
                linear.episodes[0] += 1
                linear.returns[i] = 0.0
                restart(model, now, i)
    return total


class LinUCB:
    """Disjoint linear upper confidence bounds on this step's reward (Li et al. 2010, algorithm 1).

    Args:
        config: the bound and the ridge.
        env: copies, starts and the limit of an episode.
        mdp: what is played; its `features` are the context.
        seed: of everything random.
    """

    gamma = 0.0
    settled = False

    def __init__(self, config: LinUCBConfig, env: TabularEnvConfig, mdp: MDP, seed: int):
        self.config = config
        self.mdp = mdp
        self.model = compile_model(mdp, env.max_steps or mdp.limit or NO_LIMIT, env.exploring_starts)
        self.now = begin(self.model, env.num_envs, derive(seed, "copies"))
        d = int(mdp.features.max()) + 1
        self.block = max(1, BLOCK // (1 + d * d // 500) // env.num_envs)  # a step costs the square of the features
        self.linear = Linear(
            inverse=np.tile(np.eye(d) / config.ridge, (mdp.actions, 1, 1)),
            theta=np.zeros((mdp.actions, d)),
            returns=np.zeros(env.num_envs),
            recent=np.zeros(RECENT),
            episodes=np.zeros(1, np.int64),
        )

    def run(self, done: int, ticks: int) -> float:
        """Step all copies `ticks` times; return the sum of |error|."""
        return float(run_linucb(self.model, self.now, self.linear, self.mdp.features, self.config.confidence, ticks))

    def epsilon_at(self, done: int) -> float:
        """It never acts at random."""
        return 0.0

    def table(self) -> Values:
        """The estimates theta . x of each state and action, [S, A], without the bound."""
        estimates: Values = self.linear.theta[:, self.mdp.features].sum(axis=2).T
        return np.ascontiguousarray(estimates)

    def reference(self, done: int) -> None:
        """A linear model need not come to the exact values."""
        return None

    def policy(self, seed: int) -> GreedyPolicy:
        """Greedy in the estimates."""
        return GreedyPolicy(self.mdp, self.table(), seed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that it keeps, by name."""
        return self.now._asdict() | self.linear._asdict()

    @property
    def finished(self) -> tuple[int, Values]:
        """(episodes so far, returns of the last `RECENT`)."""
        episodes = int(self.linear.episodes[0])
        return episodes, self.linear.recent[: min(episodes, RECENT)]
