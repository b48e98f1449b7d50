"""Tables of values: exact methods, and learning methods that run compiled on many copies of a finite MDP.

Exact: `policy_evaluation`, `policy_iteration`, `value_iteration`. Learning: `TableAgent`, one kernel whose fields
make it Monte Carlo, SARSA, Expected SARSA, Q-learning, their double, n-step and lambda versions; and `LinUCB`, a
contextual bandit. `Tabular` is the Learner around either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from agents.evaluation import play, score
from agents.exploration import linear
from agents.tabular_config import LinUCBConfig, TabularConfig, TabularEnvConfig
from envs import make_vec
from envs.copies import Now, advance, begin, compile_model, restart, uniform
from envs.tabular import MDP, load_model
from rlab.errors import RlabError
from rlab.run.checkpoint import KEEP
from rlab.run.files import disk_error
from rlab.run.learner import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.seeding import derive

Values = NDArray[np.float64]

BLOCK = 20_000
"""Environment steps of one `step()`: milliseconds of compiled work."""

NO_LIMIT = 1_000
"""Steps of an episode at the most where the environment names no limit."""

RECENT = 100
"""Episodes that the running mean return is taken over."""

SWEEPS = 1_000_000
"""Sweeps after which value iteration gives up."""

SARSA, EXPECTED, GREEDY = range(3)
METHODS = {"sarsa": SARSA, "expected-sarsa": EXPECTED, "q-learning": GREEDY}


# ----------------------------------------------------------------------------------------------------------- exact


def action_values(mdp: MDP, v: Values, gamma: float) -> Values:
    """q(s, a) = sum over outcomes of p (r + gamma v(s')), with v(s') = 0 where the episode is over.

    Sutton & Barto 2018, eq. 4.6.

    Args:
        mdp: S states, A actions.
        v: values of the states, [S].
        gamma: discount per step.

    Returns:
        [S, A].
    """
    after = np.where(mdp.terminated, 0.0, v[mdp.next_state])
    q: Values = (mdp.probability * (mdp.reward + gamma * after)).sum(axis=-1)
    return q


def greedy_policy(q: Values) -> Values:
    """Each state's best actions [S, A], equally likely where several are exactly as good."""
    best = q == q.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)


def epsilon_greedy_policy(q: Values, epsilon: float) -> Values:
    """pi(a | s) = epsilon / A + (1 - epsilon) greedy(a | s), [S, A]; Sutton & Barto 2018, section 5.4."""
    return epsilon / q.shape[1] + (1 - epsilon) * greedy_policy(q)


def policy_evaluation(mdp: MDP, policy: Values, gamma: float) -> Values:
    """v of a policy, from the linear system (I - gamma P_pi) v = r_pi (Sutton & Barto 2018, eq. 4.4).

    Args:
        mdp: S states, A actions.
        policy: pi(a | s), [S, A].
        gamma: discount per step; 1 only if the policy ends from everywhere.

    Returns:
        [S].

    Raises:
        RlabError: gamma is outside 0..1, the policy is no policy, or with gamma = 1 it never ends.
    """
    _check_gamma(gamma)
    if policy.shape != (mdp.states, mdp.actions) or not np.allclose(policy.sum(axis=1), 1) or (policy < 0).any():
        raise RlabError(f"a policy of '{mdp.name}' is probabilities [{mdp.states}, {mdp.actions}] that add up to 1")
    weight = policy[:, :, None] * mdp.probability
    rewards = (weight * mdp.reward).sum(axis=(1, 2))
    goes_on = (weight * ~mdp.terminated).reshape(mdp.states, -1)
    rows, columns = np.nonzero(goes_on)
    after = mdp.next_state.reshape(mdp.states, -1)[rows, columns]
    ones = np.arange(mdp.states)
    entries = np.concatenate([np.ones(mdp.states), -gamma * goes_on[rows, columns]])
    shape = (mdp.states, mdp.states)
    system = csc_array((entries, (np.concatenate([ones, rows]), np.concatenate([ones, after]))), shape)
    try:
        v: Values = splu(system).solve(rewards)
    except RuntimeError:  # what scipy says of a singular matrix
        v = np.full(mdp.states, np.nan)
    # Nearly singular is singular: then the residual, or the size of the values, tells.
    if not np.isfinite(v).all() or np.abs(system @ v - rewards).max() > 1e-6 * max(1.0, np.abs(rewards).max()):
        raise RlabError(f"this policy never ends in '{mdp.name}', so it has no values with gamma {gamma:g}; use 0.99")
    return v


def value_iteration(mdp: MDP, gamma: float, tolerance: float = 1e-10) -> Values:
    """q* by sweeps of q(s, a) <- sum p (r + gamma max q(s', .)) (Sutton & Barto 2018, section 4.4).

    Args:
        mdp: S states, A actions.
        gamma: discount per step.
        tolerance: how far the result may be from q* (with gamma = 1: how little the last sweep changed).

    Returns:
        [S, A].

    Raises:
        RlabError: gamma is outside 0..1, or the values grow without end.
    """
    _check_gamma(gamma)
    v = np.zeros(mdp.states)
    enough = tolerance if gamma == 1 else tolerance * (1 - gamma) / max(gamma, 1e-12)
    for _ in range(SWEEPS):
        better = action_values(mdp, v, gamma).max(axis=1)
        change = np.abs(better - v).max()
        v = better
        # Near large values a sweep cannot settle closer than rounding.
        if change <= max(enough, 4 * np.finfo(float).eps * np.abs(v).max()):
            return action_values(mdp, v, gamma)
    raise RlabError(f"value iteration of '{mdp.name}' with gamma {gamma:g} did not settle; use 0.99")


def policy_iteration(mdp: MDP, gamma: float) -> tuple[Values, NDArray[np.int64]]:
    """q* and an optimal policy by evaluating and improving in turn (Sutton & Barto 2018, section 4.3).

    Returns:
        (q* [S, A], best action of each state int64[S]).

    Raises:
        RlabError: gamma is outside 0..1, or with gamma = 1 a policy on the way never ends.
    """
    states = np.arange(mdp.states)
    policy = action_values(mdp, np.zeros(mdp.states), gamma).argmax(axis=1)
    while True:
        q = action_values(mdp, policy_evaluation(mdp, np.eye(mdp.actions)[policy], gamma), gamma)
        # An action is only changed for a better one, beyond rounding, so this ends.
        better = q.max(axis=1) > q[states, policy] + 1e-10 * np.maximum(1.0, np.abs(q).max(axis=1))
        if not better.any():
            return q, policy
        policy = np.where(better, q.argmax(axis=1), policy)


def _check_gamma(gamma: float) -> None:
    if not 0 <= gamma <= 1:
        raise RlabError(f"gamma is {gamma}; it must lie between 0 and 1")


# -------------------------------------------------------------------------------------------------------- learning


class Rule(NamedTuple):
    """A `TabularConfig` as the compiled code reads it."""

    method: int
    lam: float
    gamma: float
    step_size: float
    step_half: float
    step_power: float
    exploring: bool


class Memory(NamedTuple):
    """What the kernel keeps of N copies; changed in place. H is the longest return."""

    q: Values  # [T, S, A], one or two tables
    visits: NDArray[np.int64]  # [T, S, A], updates so far
    action: NDArray[np.int64]  # [N], chosen for the present state
    states: NDArray[np.int64]  # [N, H], a ring: what is still to be learned from
    actions: NDArray[np.int64]  # [N, H]
    rewards: Values  # [N, H]
    first: NDArray[np.int64]  # [N], where in the ring the oldest lies
    length: NDArray[np.int64]  # [N], how many there are
    returns: Values  # [N], of the present episodes
    recent: Values  # [RECENT], returns of finished episodes, a ring
    episodes: NDArray[np.int64]  # [1], finished so far


@njit(cache=True)
def _mean(q: Any, s: int, a: int) -> float:
    """The value that the behaviour goes by: the mean over the tables."""
    return q[0, s, a] if q.shape[0] == 1 else 0.5 * (q[0, s, a] + q[1, s, a])


@njit(cache=True)
def _choose(q: Any, s: int, epsilon: float, random: Any, i: int) -> int:
    """Epsilon-greedy in state s; of several best actions any, equally likely."""
    count = q.shape[2]
    if uniform(random, i) < epsilon:
        return int(uniform(random, i) * count)
    best, ties, value = 0, 1, _mean(q, s, 0)
    for a in range(1, count):
        other = _mean(q, s, a)
        if other > value:
            best, ties, value = a, 1, other
        elif other == value:
            ties += 1
    if ties == 1:
        return best
    nth = int(uniform(random, i) * ties)
    for a in range(best, count):
        if _mean(q, s, a) == value:
            if nth == 0:
                return a
            nth -= 1
    return best


@njit(cache=True)
def next_value(q: Any, chooser: int, s: int, a: int, method: int, epsilon: float) -> float:
    """The value of state s as a target sees it (Sutton & Barto 2018, eq. 6.7, 6.8, 6.9 and 6.10).

    Args:
        q: one table or two, [T, S, A].
        chooser: the table that is updated; it chooses or weighs actions, and the other one, if any, values them.
        s: the next state.
        a: the action taken in it, for SARSA.
        method: SARSA, EXPECTED or GREEDY.
        epsilon: of the behaviour, for EXPECTED.
    """
    valuer = q.shape[0] - 1 - chooser
    if method == SARSA:
        return q[valuer, s, a]
    actions = q.shape[2]
    best, chosen, ties, everything = -np.inf, 0.0, 0, 0.0
    for other in range(actions):
        value = q[valuer, s, other]
        everything += value
        if q[chooser, s, other] > best:
            best, chosen, ties = q[chooser, s, other], value, 1
        elif q[chooser, s, other] == best:
            ties += 1
            if method == EXPECTED:
                chosen += value
    if method == GREEDY:
        return chosen
    return epsilon * everything / actions + (1 - epsilon) * chosen / ties


@njit(cache=True)
def is_best(q: Any, table: int, s: int, a: int) -> bool:
    """Whether no action of state s has a larger value in a table."""
    for other in range(q.shape[2]):  # noqa: SIM110 - a generator is not compiled
        if q[table, s, other] > q[table, s, a]:
            return False
    return True


@njit(cache=True)
def returns_of(
    q: Any, chooser: int, steps: Any, rewards: Any, length: int, bootstrap: float, rule: Any, epsilon: float, out: Any
) -> None:
    """The truncated lambda-return of each step of a piece of an episode, backwards (S&B 2018, eq. 12.18 and 12.20).

    G_k = r_k + gamma ((1 - w) V(s_k+1) + w G_k+1), where w is lambda; for GREEDY it is 0 if the action in s_k+1 was
    not a best one (Watkins 1989; tree backup towards the greedy policy, S&B section 7.5).

    Args:
        q: [T, S, A].
        chooser: see `next_value`.
        steps: int64[2, L or more], states and actions.
        rewards: [L or more].
        length: L.
        bootstrap: the value of what follows the last step; 0 if the episode is over.
        rule: gives method, lambda and gamma.
        epsilon: of the behaviour.
        out: [L or more], receives the returns.
    """
    value = bootstrap
    for k in range(length - 1, -1, -1):
        out[k] = rewards[k] + rule.gamma * value
        if k == 0:
            return
        s, a = steps[0, k], steps[1, k]
        weight = rule.lam
        if rule.method == GREEDY and not is_best(q, chooser, s, a):
            weight = 0.0
        value = out[k]
        if weight < 1.0:
            value = weight * value + (1.0 - weight) * next_value(q, chooser, s, a, rule.method, epsilon)


@njit(cache=True)
def _learn(
    memory: Any, i: int, s: int, a: int, terminated: bool, ended: bool, rule: Any, epsilon: float, random: Any,
    steps: Any, rewards: Any, returns: Any,
) -> float:  # fmt: skip
    """Update from those steps of copy i that have their whole return; s and a follow the newest.

    Args:
        memory: of all copies.
        i: the copy.
        s: the state after its newest step.
        a: the action chosen there, for SARSA.
        terminated: nothing follows.
        ended: the episode does not go on (terminated or truncated).
        rule: the method.
        epsilon: of the behaviour.
        random: words of the copies.
        steps: int64[2, H], scratch.
        rewards: float64[H], scratch.
        returns: float64[H], scratch.

    Returns:
        The sum of |error|.
    """
    length, horizon, q = memory.length[i], memory.states.shape[1], memory.q
    if length < horizon and not ended:
        return 0.0
    table = 1 if q.shape[0] == 2 and uniform(random, i) < 0.5 else 0
    bootstrap = 0.0 if terminated else next_value(q, table, s, a, rule.method, epsilon)
    at = memory.first[i]
    for k in range(length):
        steps[0, k], steps[1, k], rewards[k] = memory.states[i, at], memory.actions[i, at], memory.rewards[i, at]
        at = at + 1 if at + 1 < horizon else 0
    returns_of(q, table, steps, rewards, length, bootstrap, rule, epsilon, returns)
    error = 0.0
    count = length if ended else 1  # at an episode's end all that are left, else the oldest
    for k in range(count):
        s, a = steps[0, k], steps[1, k]
        difference = returns[k] - q[table, s, a]
        q[table, s, a] += step_size_of(memory.visits[table, s, a], rule) * difference
        memory.visits[table, s, a] += 1
        error += abs(difference)
    memory.first[i] = 0 if ended else (memory.first[i] + 1) % horizon
    memory.length[i] = length - count
    return error


@njit(cache=True)
def step_size_of(before: int, rule: Any) -> float:
    """The step size of an update after `before` others of the same state and action."""
    if rule.step_power == 0:
        return rule.step_size
    return rule.step_size * (1.0 + before / rule.step_half) ** -rule.step_power


@njit(cache=True)
def begin_episode(model: Any, now: Any, memory: Any, i: int, rule: Any, epsilon: float) -> None:
    """Restart copy i and choose its first action."""
    restart(model, now, i)
    memory.returns[i] = 0.0
    memory.action[i] = _choose(memory.q, now.state[i], 1.0 if rule.exploring else epsilon, now.random, i)


@njit(cache=True)
def run_table(model: Any, now: Any, memory: Any, rule: Any, epsilons: Any) -> float:
    """Step every copy len(epsilons) times and learn; returns the sum of |error| over all updates."""
    horizon = memory.states.shape[1]
    steps, rewards, returns = np.empty((2, horizon), np.int64), np.empty(horizon), np.empty(horizon)
    total = 0.0
    for t in range(len(epsilons)):
        epsilon = epsilons[t]
        for i in range(now.state.shape[0]):
            s, a = now.state[i], memory.action[i]
            after, reward, over, cut = advance(model, now, i, a)
            at = (memory.first[i] + memory.length[i]) % horizon
            memory.states[i, at], memory.actions[i, at], memory.rewards[i, at] = s, a, reward
            memory.length[i] += 1
            memory.returns[i] += reward
            ended = over or cut
            following = 0
            if rule.method == SARSA and not over:  # its target needs the next action, so that is chosen first
                following = _choose(memory.q, after, epsilon, now.random, i)
            total += _learn(
                memory, i, after, following, over, ended, rule, epsilon, now.random, steps, rewards, returns
            )
            if ended:
                memory.recent[memory.episodes[0] % RECENT] = memory.returns[i]
                memory.episodes[0] += 1
                begin_episode(model, now, memory, i, rule, epsilon)
            else:
                if rule.method != SARSA:
                    following = _choose(memory.q, after, epsilon, now.random, i)
                memory.action[i] = following
    return total


class Linear(NamedTuple):
    """What LinUCB keeps for D features; changed in place."""

    inverse: Values  # [A, D, D], of the regularised sum of x x^T
    theta: Values  # [A, D]
    returns: Values  # [N]
    recent: Values  # [RECENT]
    episodes: NDArray[np.int64]  # [1]


@njit(cache=True)
def confidence_bound(inverse: Any, theta: Any, x: Any, confidence: float) -> float:
    """theta . x + confidence sqrt(x^T inverse x) (Li et al. 2010, eq. 5), x given by the features that are 1."""
    mean, variance = 0.0, 0.0
    for f in x:
        mean += theta[f]
        for g in x:
            variance += inverse[f, g]
    return mean + confidence * np.sqrt(max(variance, 0.0))


@njit(cache=True)
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


@njit(cache=True)
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


# ---------------------------------------------------------------------------------------------------------- agents


class GreedyPolicy:
    """Plays the best action of a table; of several any, equally likely."""

    epsilon = 0.0

    def __init__(self, mdp: MDP, q: Values, seed: int):
        self._encode = mdp.encode
        self._best = greedy_policy(q)
        self._rng = np.random.default_rng(seed)

    def act(self, obs: NDArray[Any], first: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """obs [N, *], first bool[N] -> int64[N]. A mask only names actions without effect (Taxi's), and is ignored."""
        sums = self._best[self._encode(obs, first)].cumsum(axis=1)
        return (self._rng.random(len(sums))[:, None] >= sums[:, :-1]).sum(axis=1)


class TabularAgent(Protocol):
    """What `Tabular` drives."""

    mdp: MDP
    now: Now
    gamma: float

    def run(self, done: int, ticks: int) -> float:
        """Step all copies `ticks` times, `done` being taken already; return the sum of |error|."""

    def epsilon_at(self, done: int) -> float:
        """The probability of a random action after `done` steps of each copy."""

    def table(self) -> Values:
        """The action values [S, A] that it plays by."""

    def reference(self, done: int) -> Values | None:
        """The exact values [S, A] that `table` should come to; None if there are none."""

    def policy(self, seed: int) -> GreedyPolicy:
        """What evaluations play."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that it keeps, by name."""

    @property
    def finished(self) -> tuple[int, Values]:
        """(episodes so far, returns of the last `RECENT`)."""


class TableAgent:
    """Action values in one table, or two, learned on N copies of an MDP.

    Args:
        config: the method.
        env: copies, starts and the limit of an episode.
        mdp: what is played.
        seed: of everything random.
    """

    def __init__(self, config: TabularConfig, env: TabularEnvConfig, mdp: MDP, seed: int):
        self.config = config
        self.mdp = mdp
        self.gamma = config.gamma
        limit = env.max_steps or mdp.limit or NO_LIMIT
        self.model = compile_model(mdp, limit, env.exploring_starts)
        self.now = begin(self.model, env.num_envs, derive(seed, "copies"))
        self._ticks = -(-env.steps // env.num_envs)
        n, horizon = env.num_envs, config.n_step or limit
        self.rule = Rule(
            METHODS[config.method], config.lam, config.gamma, config.step_size, config.step_half,
            config.step_power, env.exploring_starts,
        )  # fmt: skip
        shape = (2 if config.double else 1, mdp.states, mdp.actions)
        self.memory = Memory(
            q=np.full(shape, config.initial_value),
            visits=np.zeros(shape, np.int64),
            action=np.zeros(n, np.int64),
            states=np.zeros((n, horizon), np.int64),
            actions=np.zeros((n, horizon), np.int64),
            rewards=np.zeros((n, horizon)),
            first=np.zeros(n, np.int64),
            length=np.zeros(n, np.int64),
            returns=np.zeros(n),
            recent=np.zeros(RECENT),
            episodes=np.zeros(1, np.int64),
        )
        for i in range(n):
            begin_episode(self.model, self.now, self.memory, i, self.rule, config.epsilon_start)

    def run(self, done: int, ticks: int) -> float:
        """Step all copies `ticks` times, `done` being taken already; return the sum of |error|."""
        epsilons = np.array([self.epsilon_at(t) for t in (done, done + ticks)])
        if epsilons[0] == epsilons[1]:
            epsilons = np.full(ticks, epsilons[0])
        else:
            epsilons = np.array([self.epsilon_at(t) for t in range(done, done + ticks)])
        return float(run_table(self.model, self.now, self.memory, self.rule, epsilons))

    def epsilon_at(self, done: int) -> float:
        """The probability of a random action after `done` steps of each copy."""
        config = self.config
        return linear(config.epsilon_start, config.epsilon_end, done, config.epsilon_fraction * self._ticks)

    def table(self) -> Values:
        """The mean over the tables, [S, A]."""
        mean: Values = self.memory.q.mean(axis=0)
        return mean

    def reference(self, done: int) -> Values:
        """[S, A]: q* for an off-policy method, else the exact values of its own present epsilon-greedy policy."""
        if self.rule.method == GREEDY:
            return value_iteration(self.mdp, self.gamma)
        own = epsilon_greedy_policy(self.table(), self.epsilon_at(done))
        return action_values(self.mdp, policy_evaluation(self.mdp, own, self.gamma), self.gamma)

    def policy(self, seed: int) -> GreedyPolicy:
        """Greedy in the table."""
        return GreedyPolicy(self.mdp, self.table(), seed)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that it keeps, by name."""
        return self.now._asdict() | self.memory._asdict()

    @property
    def finished(self) -> tuple[int, Values]:
        """(episodes so far, returns of the last `RECENT`)."""
        episodes = int(self.memory.episodes[0])
        return episodes, self.memory.recent[: min(episodes, RECENT)]


class LinUCB:
    """Disjoint linear upper confidence bounds on this step's reward (Li et al. 2010, algorithm 1).

    Args:
        config: the bound and the ridge.
        env: copies, starts and the limit of an episode.
        mdp: what is played; its `features` are the context.
        seed: of everything random.
    """

    gamma = 0.0

    def __init__(self, config: LinUCBConfig, env: TabularEnvConfig, mdp: MDP, seed: int):
        self.config = config
        self.mdp = mdp
        self.model = compile_model(mdp, env.max_steps or mdp.limit or NO_LIMIT, env.exploring_starts)
        self.now = begin(self.model, env.num_envs, derive(seed, "copies"))
        d = int(mdp.features.max()) + 1
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


class Tabular:
    """The Learner of a tabular agent.

    Args:
        agent: learns on its own copies of the model.
        env: budget and evaluations.
        seed: the run's seed.
    """

    def __init__(self, agent: TabularAgent, env: TabularEnvConfig, seed: int):
        self.agent = agent
        self.env = env
        self.seed = seed
        self.done_ticks = 0
        # A step of LinUCB costs the square of its features.
        cost = 1 if not isinstance(agent, LinUCB) else 1 + agent.linear.theta.shape[1] ** 2 // 500
        self._block = max(1, BLOCK // cost // env.num_envs)

    @property
    def done(self) -> int:
        """Environment steps taken."""
        return self.done_ticks * self.env.num_envs

    def step(self) -> Metrics:
        """Take a block of steps and learn; ends with the budget."""
        started = time.perf_counter()
        left = -(-(self.env.steps - self.done) // self.env.num_envs)
        ticks = max(0, min(self._block, left))
        if ticks == 0:
            return {}
        error = self.agent.run(self.done_ticks, ticks)
        self.done_ticks += ticks
        table = self.agent.table()
        if not np.isfinite(table).all():
            raise NonFinite("value", float(table[~np.isfinite(table)][0]), f"step {self.done:,}")
        episodes, recent = self.agent.finished
        metrics = {
            "td_error": error / (ticks * self.env.num_envs),
            "q_mean": float(self.agent.mdp.start @ table.max(axis=1)),
            "epsilon_last": self.agent.epsilon_at(self.done_ticks),
            "episodes_last": episodes,
            "clock_learn": time.perf_counter() - started,
        }
        return metrics | ({"return_mean_last": float(recent.mean())} if episodes else {})

    def evaluate(self, stop: Stop) -> Score:
        """Play whole games; environments and random numbers depend on seed and progress only."""
        final = self.done >= self.env.steps
        episodes = self.env.final_episodes if final else self.env.evaluate_episodes
        return self.evaluate_games(episodes, derive(self.seed, "evaluation", self.done), stop)

    def evaluate_games(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play `episodes` whole games in the real environment, and compare with what is exact.

        Returns:
            A score, with `start_value` and `best_start_value`, the exact discounted values of the greedy policy and of
            an optimal one where episodes start (a bandit's with gamma 0.99), and `q_error`, the largest difference
            over reachable states and their actions between the table and the exact values that it should come to.
            None where there is no such number.

        Raises:
            Stopped: a stop was requested.
        """
        mdp = self.agent.mdp
        limit = None if mdp.limit else self.env.max_steps or NO_LIMIT  # a greedy policy may go round for ever
        envs = make_vec(self.env.env, min(episodes, 32), seed, training=False, max_steps=limit)
        with closing(envs):
            policy = self.agent.policy(derive(seed, "policy"))
            returns, lengths = play(policy, envs, episodes, seed, stop)
        how = {"protocol": None, "epsilon": policy.epsilon, "seed": seed}
        return score(returns, lengths, self.env.env) | how | self.exact()

    def exact(self) -> dict[str, float | None]:
        """`start_value`, `best_start_value` and `q_error`; see `evaluate_games`."""
        mdp, table = self.agent.mdp, self.agent.table()
        gamma = self.agent.gamma or 0.99

        def error() -> float | None:
            reference = self.agent.reference(self.done_ticks)
            return None if reference is None else float(np.abs(table - reference)[mdp.reachable()].max())

        return {
            "start_value": _or_none(lambda: float(mdp.start @ policy_evaluation(mdp, greedy_policy(table), gamma))),
            "best_start_value": _or_none(lambda: float(mdp.start @ value_iteration(mdp, gamma).max(axis=1))),
            "q_error": _or_none(error),
        }

    def progress(self) -> Progress:
        """Environment steps done and planned."""
        return Progress(self.done, self.env.steps, "steps")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory and disk from the arrays; time from a copy that runs for a moment."""
        held = sum(a.nbytes for a in self.agent.arrays().values())
        mdp = self.agent.mdp
        model = sum(a.nbytes for a in (mdp.probability, mdp.next_state, mdp.reward, mdp.terminated))
        twin = deepcopy(self.agent)
        twin.run(0, 1)  # compiles
        started = time.perf_counter()
        twin.run(1, self._block)
        seconds = (time.perf_counter() - started) / (self._block * self.env.num_envs)
        return Footprint(3 * held + 2 * model, 0, (KEEP + 1) * (held + 20_000), seconds * self.env.steps)

    def state(self) -> State:
        """Everything: the copies, their random numbers, tables and what is still to be learned from."""
        arrays = {name: np.array(array) for name, array in self.agent.arrays().items()}
        arrays["random"] = arrays["random"].view(np.int64)  # not every format knows unsigned words
        return {"ticks": self.done_ticks, "arrays": arrays}

    def restore(self, state: State, stop: Stop) -> None:
        """Become what `state` describes."""
        if stop.requested:
            raise Stopped
        self.restore_policy(state)

    def restore_policy(self, state: State) -> None:
        """The same: it is small."""
        self.done_ticks = int(state["ticks"])
        for name, array in self.agent.arrays().items():
            array[...] = np.asarray(state["arrays"][name]).view(array.dtype)

    def picture(self, path: Path) -> Path:
        """Draw the values and the greedy policy as a PNG.

        Raises:
            RlabError: the disk refused.
        """
        draw_table(self.agent.mdp, self.agent.table(), path, f"{self.env.env} after {self.done:,} steps")
        return path

    def close(self) -> None:
        """Nothing is held open."""


def _or_none(number: Callable[[], float | None]) -> float | None:
    """A number, or None where the MDP has none (gamma = 1 and no end)."""
    try:
        return number()
    except RlabError:
        return None


def build_tabular(experiment: Any, workshop: Any) -> Tabular:
    """Build the Learner of a `TabularExperiment` or `LinUCBExperiment`.

    Raises:
        RlabError: the environment is unknown or has no table of transitions.
    """
    make = LinUCB if isinstance(experiment.agent, LinUCBConfig) else TableAgent
    mdp = load_model(experiment.env.env)
    return Tabular(
        make(experiment.agent, experiment.env, mdp, experiment.run.seed), experiment.env, experiment.run.seed
    )


# --------------------------------------------------------------------------------------------------------- pictures

CELL = 0.55
"""Inches of a cell."""


def draw_table(mdp: MDP, q: Values, path: Path, title: str) -> None:
    """Write a PNG: the value max_a q of each reachable state as a map, and its best actions as arrows or letters.

    Where nothing is known of how the states lie, the picture is the table q itself.

    Args:
        mdp: gives the layout.
        q: action values, [S, A].
        path: the file, ending in .png.
        title: above the picture.

    Raises:
        RlabError: the disk refused.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    reachable = mdp.reachable()
    layout = mdp.layout
    if layout is None:
        figure = Figure(figsize=(2.0 + 0.4 * mdp.actions, 6.0), layout="constrained")
        axes = figure.add_subplot()
        shown = axes.imshow(np.where(reachable[:, None], q, np.nan), aspect="auto", interpolation="nearest")
        axes.set(xlabel="action", ylabel="state", title=title, xticks=range(mdp.actions))
    else:
        columns = min(len(layout.panels), layout.across)
        rows = -(-len(layout.panels) // columns)
        height, width = (max(panel.states.shape[k] for panel in layout.panels) for k in (0, 1))
        size = (max(4.0, columns * (width * CELL + 0.7)) + 1.0, max(2.5, rows * (height * CELL + 0.8)) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title + (f"\n{layout.legend}" if layout.legend else ""))
        grid = figure.subplots(rows, columns, squeeze=False)
        values = np.where(reachable, q.max(axis=1), np.nan)
        best = (greedy_policy(q) > 0) & reachable[:, None]
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        for axes in grid.flat[len(layout.panels) :]:
            axes.axis("off")
        for axes, panel in zip(grid.flat, layout.panels, strict=False):
            shown = _draw_panel(axes, panel, values, best, layout.marks, low, max(high, low + 1e-9))
    figure.colorbar(shown, ax=figure.axes, label="value", shrink=0.8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure).print_png(str(path))
    except OSError as e:
        raise disk_error(e, path.parent) from None


def _draw_panel(
    axes: Any, panel: Any, values: Values, best: NDArray[np.bool_], marks: tuple[Any, ...], low: float, high: float
) -> Any:
    """One map; returns what a colour bar needs."""
    states = panel.states
    cells = np.where(states >= 0, values[states], np.nan)
    axes.set_facecolor("0.75")
    shown = axes.imshow(cells, vmin=low, vmax=high, cmap="viridis")
    axes.set(title=panel.title, xlabel=panel.columns, ylabel=panel.rows)
    height, width = states.shape
    named = bool(panel.rows)
    axes.set_xticks(range(width), [panel.first[1] + c for c in range(width)] if named else [""] * width)
    down = -1 if panel.rows_fall else 1
    axes.set_yticks(range(height), [panel.first[0] + down * r for r in range(height)] if named else [""] * height)
    axes.tick_params(length=0)
    for r, c in np.ndindex(states.shape):
        known = not np.isnan(cells[r, c])
        ink = "white" if known and cells[r, c] < low + 0.6 * (high - low) else "black"
        letter = "" if panel.letters is None else str(panel.letters[r, c])
        if letter not in ("", ".", "F"):
            axes.text(c - 0.45, r - 0.45, letter, ha="left", va="top", fontsize=7, color=ink)
        if not known:
            continue
        if not named:
            axes.text(c, r + 0.42, f"{cells[r, c]:.3g}", ha="center", va="bottom", fontsize=6, color=ink)
        for mark in (m for m, chosen in zip(marks, best[states[r, c]], strict=True) if chosen):
            if isinstance(mark, str):
                axes.text(c, r - 0.05, mark, ha="center", va="center", fontsize=8, color=ink)
            else:
                tail, head = (c - 0.05 * mark[1], r - 0.05 * mark[0]), (c + 0.36 * mark[1], r + 0.36 * mark[0])
                axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": ink, "shrinkA": 0, "shrinkB": 0})
    return shown
