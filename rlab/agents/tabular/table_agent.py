"""Learning a table of values, compiled, on many copies of a finite MDP.

One kernel, whose fields make it Monte Carlo, SARSA, Expected SARSA, Q-learning, their double, n-step and lambda
versions; `TableAgent` keeps its arrays, `GreedyPolicy` plays a table.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlab.agents.tabular.config import TabularConfig, TabularEnvConfig
from rlab.agents.tabular.exact import (
    Values,
    action_values,
    epsilon_greedy_policy,
    greedy_policy,
    policy_evaluation,
    value_iteration,
)
from rlab.agents.value.exploration import linear
from rlab.envs.batched_mdp import advance, begin, compile_model, restart
from rlab.envs.splitmix import uniform
from rlab.envs.tabular import MDP
from rlab.kernels import compiled
from rlab.run.budget import Budget
from rlab.seeding import derive

BLOCK = 20_000
"""Environment steps of one `step()` of the learner: milliseconds of compiled work."""
NO_LIMIT = 1_000
"""Steps of an episode at the most where the environment names no limit."""

RECENT = 100
"""Episodes that the running mean return is taken over."""

SARSA, EXPECTED, GREEDY = range(3)
METHODS = {"sarsa": SARSA, "expected-sarsa": EXPECTED, "q-learning": GREEDY}


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


@compiled()
def _mean(q: Any, s: int, a: int) -> float:
    """The value that the behaviour goes by: the mean over the tables."""
    return q[0, s, a] if q.shape[0] == 1 else 0.5 * (q[0, s, a] + q[1, s, a])


@compiled()
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


@compiled()
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


@compiled()
def is_best(q: Any, table: int, s: int, a: int) -> bool:
    """Whether no action of state s has a larger value in a table."""
    for other in range(q.shape[2]):  # noqa: SIM110 - a generator is not compiled
        if q[table, s, other] > q[table, s, a]:
            return False
    return True


@compiled()
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


@compiled()
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


@compiled()
def step_size_of(before: int, rule: Any) -> float:
    """The step size of an update after `before` others of the same state and action."""
    if rule.step_power == 0:
        return rule.step_size
    return rule.step_size * (1.0 + before / rule.step_half) ** -rule.step_power


@compiled()
def begin_episode(model: Any, now: Any, memory: Any, i: int, rule: Any, epsilon: float) -> None:
    """Restart copy i and choose its first action."""
    restart(model, now, i)
    memory.returns[i] = 0.0
    memory.action[i] = _choose(memory.q, now.state[i], 1.0 if rule.exploring else epsilon, now.random, i)


@compiled()
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


class GreedyPolicy:
    """Plays the best action of a table; of several any, equally likely.

    Attributes:
        pi: probabilities of actions, [S, A].
    """

    epsilon = 0.0

    def __init__(self, mdp: MDP, q: Values, seed: int):
        self._encode = mdp.encode
        self.pi = greedy_policy(q)
        self._rng = np.random.default_rng(seed)

    def act(self, obs: NDArray[Any], first: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """obs [N, *], first bool[N] -> int64[N]. A mask only names actions without effect (Taxi's), and is ignored."""
        sums = self.pi[self._encode(obs, first)].cumsum(axis=1)
        return (self._rng.random(len(sums))[:, None] >= sums[:, :-1]).sum(axis=1)


class TableAgent:
    """Action values in one table, or two, learned on N copies of an MDP.

    Args:
        config: the method.
        env: copies, starts and the limit of an episode.
        mdp: what is played.
        seed: of everything random.
    """

    settled = False

    def __init__(self, config: TabularConfig, env: TabularEnvConfig, mdp: MDP, seed: int):
        self.config = config
        self.mdp = mdp
        self.gamma = config.gamma
        limit = env.max_steps or mdp.limit or NO_LIMIT
        self.model = compile_model(mdp, limit, env.exploring_starts)
        self.now = begin(self.model, env.num_envs, derive(seed, "copies"))
        self.env = env
        self.budget = Budget()
        self.block = max(1, BLOCK // env.num_envs)
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
        n, total = self.env.num_envs, self.budget.horizon(self.env.steps)
        place = self.budget.place(done * n, total) / n
        return linear(config.epsilon_start, config.epsilon_end, place, config.epsilon_fraction * math.ceil(total / n))

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
