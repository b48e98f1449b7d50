"""Typed configuration of tabular agents, and their presets: values, not classes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlab.run.config import RunConfig, at_least, within


@dataclass(frozen=True)
class TabularEnvConfig:
    """On what a tabular agent trains, and how it is scored."""

    env: str = "FrozenLake-v1"
    """An environment with a table of transitions `P`: FrozenLake-v1, CliffWalking-v1, Taxi-v4, Blackjack-v1,
    rlab/GridWorld-v0, rlab/CampaignMail-v0 or your own package.module:Id."""
    steps: int = 10_000_000
    """Environment steps to train for, all copies together."""
    num_envs: int = 8
    """Copies of the environment that step side by side and share one table."""
    exploring_starts: bool = True
    """Begin training episodes in any reachable state with any action (Sutton & Barto 2018, section 5.3), so that
    every value is learned, not only those on the way. Evaluations always begin where the environment does."""
    max_steps: int = 0
    """Truncate episodes after this many steps; 0: the environment's own limit, or 1,000 where it has none."""
    env_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, KEY=VALUE, such as map_name=8x8: JSON (5, 0.1, true, null), else a text. Can be
    given several times."""
    evaluate_episodes: int = 20
    """Whole games of each evaluation while training."""
    final_episodes: int = 200
    """Whole games of the evaluation at the end."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, num_envs=1, max_steps=0, evaluate_episodes=1, final_episodes=1)

    def rules(self) -> dict[str, Any]:
        """What `rlab.envs.make_vec` is told of the environment, for evaluations and watching."""
        return {"env_args": self.env_args} if self.env_args else {}


@dataclass(frozen=True)
class TabularConfig:
    """A table of action values. Every method is a choice of these fields, each read in one place.

    `n_step` and `lam` are the two numbers of one return, the truncated lambda-return (Sutton & Barto 2018, section
    12.3): lam = 1 is the n-step return, n_step = 0 reaches to the end of the episode, both together are Monte Carlo.
    """

    method: Literal["sarsa", "expected-sarsa", "q-learning"] = "q-learning"
    """The value of a next state: of the action taken in it (sarsa), of the behaviour's mean (expected-sarsa), or of
    the best action (q-learning, the only one that is off-policy; its returns stop at an exploring action, as in
    Watkins's Q(lambda) and in tree backup towards a greedy policy)."""
    double: bool = False
    """Two tables: one chooses or weighs the next action, the other values it (van Hasselt 2010)."""
    n_step: int = 1
    """Rewards summed before bootstrapping; 0: all, to the end of the episode."""
    lam: float = 1.0
    """Weight lambda of the longer returns within those n_step."""
    gamma: float = 0.99
    """Discount per step."""
    epsilon_start: float = 0.5
    """Probability of a random action at the start, for each copy by itself."""
    epsilon_end: float = 0.5
    """Probability of a random action once it has been lowered linearly."""
    epsilon_fraction: float = 0.5
    """Part of the run over which epsilon is lowered."""
    step_size: float = 1.0
    """Step size of the first update of a state and action; of the n-th: step_size / (1 + (n - 1) / half)^power."""
    step_half: float = 1.0
    """The `half` in it: updates after which the step size has begun to fall."""
    step_power: float = 0.7
    """The `power` in it: 0 keeps it constant; 1 with half = 1 takes the mean of all targets; in between, old targets,
    which stem from worse tables, are forgotten."""
    initial_value: float = 0.0
    """What the table holds at the start."""

    def __post_init__(self) -> None:
        at_least(self, n_step=0, step_half=1e-9)
        within(self, 0, 1, "lam", "gamma", "epsilon_start", "epsilon_end", "epsilon_fraction", "step_size")
        within(self, 0, 1, "step_power")
        within(self, -1e9, 1e9, "initial_value")


@dataclass(frozen=True)
class LinUCBConfig:
    """A contextual bandit: it looks at the reward of this step only (Li et al. 2010, algorithm 1, disjoint arms)."""

    confidence: float = 1.0
    """Width of the confidence bound that is added to an action's estimate (their alpha)."""
    ridge: float = 1.0
    """Regularisation of the least squares (the multiple of the identity that they start with)."""

    def __post_init__(self) -> None:
        at_least(self, confidence=0, ridge=1e-9)


@dataclass(frozen=True)
class PlanningEnvConfig:
    """What a planner is given, and how it is scored."""

    env: str = "FrozenLake-v1"
    """An environment with a table of transitions `P`, as for tabular agents."""
    steps: int = 10_000
    """Sweeps, or improvements of the policy, at the most: it ends when values have settled."""
    max_steps: int = 0
    """Truncate evaluated episodes after this many steps; 0: the environment's own limit, or 1,000 without one."""
    env_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, KEY=VALUE, such as map_name=8x8: JSON (5, 0.1, true, null), else a text. Can be
    given several times."""
    evaluate_episodes: int = 20
    """Whole games of each evaluation on the way."""
    final_episodes: int = 200
    """Whole games of the evaluation at the end."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, max_steps=0, evaluate_episodes=1, final_episodes=1)

    def rules(self) -> dict[str, Any]:
        """What `rlab.envs.make_vec` is told of the environment, for evaluations and watching."""
        return {"env_args": self.env_args} if self.env_args else {}

    @property
    def num_envs(self) -> int:
        """Steps are counted one by one: no copies step side by side."""
        return 1


@dataclass(frozen=True)
class PlanningConfig:
    """Generalised policy iteration (Sutton & Barto 2018, section 4.6): improve a policy, evaluate it, and so on.

    With one sweep between improvements it is value iteration, with the exact values policy iteration, with several
    sweeps modified policy iteration (Puterman & Shin 1978); without improvements it is policy evaluation.
    """

    improve: bool = True
    """Take the greedy policy before every evaluation; else it stays that of actions at random."""
    sweeps: int = 1
    """Sweeps of an evaluation over all states; 0: solve the linear system for the exact values."""
    gamma: float = 0.99
    """Discount per step."""
    tolerance: float = 1e-10
    """How far values may be from those they come to (with gamma 1: how little the last sweep changed them)."""

    def __post_init__(self) -> None:
        at_least(self, sweeps=0, tolerance=0)
        within(self, 0, 1, "gamma")


@dataclass(frozen=True)
class PlanningExperiment:
    """All settings of a run of dynamic programming."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(threads=1, checkpoint_steps=1_000, log_steps=10, evaluate_steps=1_000)
    )
    env: PlanningEnvConfig = field(default_factory=PlanningEnvConfig)
    agent: PlanningConfig = field(default_factory=PlanningConfig)


@dataclass(frozen=True)
class TabularExperiment:
    """All settings of a run of a tabular agent."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            threads=1, checkpoint_steps=2_000_000, log_steps=200_000, evaluate_steps=2_000_000
        )
    )
    env: TabularEnvConfig = field(default_factory=TabularEnvConfig)
    agent: TabularConfig = field(default_factory=TabularConfig)


@dataclass(frozen=True)
class LinUCBExperiment:
    """All settings of a run of LinUCB."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(threads=1, checkpoint_steps=200_000, log_steps=20_000, evaluate_steps=200_000)
    )
    env: TabularEnvConfig = field(
        default_factory=lambda: TabularEnvConfig(
            env="rlab/CampaignMail-v0", steps=400_000, num_envs=1, exploring_starts=False
        )
    )
    agent: LinUCBConfig = field(default_factory=LinUCBConfig)


_Q = TabularConfig()
_SARSA = TabularConfig(method="sarsa", epsilon_start=0.1, epsilon_end=0.1)

TABULAR_PRESETS = {
    "q-learning": _Q,
    "double-q": replace(_Q, double=True),
    "n-step-q": replace(_Q, n_step=4, step_power=0.8),
    "q-lambda": replace(_Q, n_step=32, lam=0.8, step_power=0.8),
    "sarsa": _SARSA,
    "n-step-sarsa": replace(_SARSA, n_step=4, step_power=0.8),
    "sarsa-lambda": replace(_SARSA, n_step=32, lam=0.8, step_power=0.8),
    "expected-sarsa": replace(_SARSA, method="expected-sarsa"),
    "monte-carlo": replace(_SARSA, n_step=0, step_power=0.85),
    "epsilon-greedy": replace(_Q, gamma=0.0, epsilon_start=0.1, epsilon_end=0.1, step_power=1.0),
}
"""Name -> settings. Longer returns vary more and need less bootstrapping, so their steps shrink faster. The last is the
contextual bandit: the mean reward of each action in each state, no future."""

PLANNING_PRESETS = {
    "policy-evaluation": PlanningConfig(improve=False),
    "policy-iteration": PlanningConfig(sweeps=0),
    "value-iteration": PlanningConfig(),
}
"""Name -> settings."""

STEP_POWERS = {"CliffWalking-v1": 0.0, "Taxi-v4": 0.0, "rlab/FrozenLakeSure-v0": 0.0, "Blackjack-v1": 0.9}
"""Environment -> step_power. Where nothing is random the targets of Q-learning and Expected SARSA are not either, and
the newest is the best; Blackjack's games are short and vary much."""

TABULAR_SUMMARIES = {
    "q-learning": "table of values, off-policy (Watkins 1989)",
    "double-q": "Q-learning with two tables (van Hasselt 2010)",
    "n-step-q": "Q-learning with 4-step returns that stop at an exploring action (tree backup, Precup et al. 2000)",
    "q-lambda": "Watkins's Q(lambda): lambda-returns that stop at an exploring action",
    "sarsa": "table of values of its own epsilon-greedy policy (Rummery & Niranjan 1994)",
    "n-step-sarsa": "SARSA with 4-step returns",
    "sarsa-lambda": "SARSA(lambda): lambda-returns over 32 steps",
    "expected-sarsa": "SARSA with the mean over next actions (van Seijen et al. 2009)",
    "monte-carlo": "means of whole episodes' returns, every visit (Sutton & Barto 2018, chapter 5)",
    "epsilon-greedy": "contextual bandit: best mean reward of this step, else at random",
    "linucb": "contextual bandit: linear upper confidence bounds (Li et al. 2010)",
    "policy-evaluation": "dynamic programming: the values of actions at random, from the table of transitions",
    "policy-iteration": "dynamic programming: exact values and improvement of a policy in turn (Howard 1960)",
    "value-iteration": "dynamic programming: sweeps of the Bellman optimality equation (Bellman 1957)",
}
"""Name -> what `rlab train` says of it."""


Experiment = TabularExperiment | LinUCBExperiment | PlanningExperiment


def default_tabular(preset: str, env: str) -> Experiment:
    """The settings that a preset starts from on an environment; "" is none yet."""
    if preset in PLANNING_PRESETS:
        plan = PlanningExperiment(agent=PLANNING_PRESETS[preset])
        if plan.agent.sweeps == 0:  # a few improvements are all
            plan = replace(plan, run=replace(plan.run, log_steps=1))
        return replace(plan, env=replace(plan.env, env=env)) if env else plan
    base: TabularExperiment | LinUCBExperiment
    if preset == "linucb":
        base = LinUCBExperiment()
    else:
        bandit = preset == "epsilon-greedy"
        home = TabularEnvConfig(env="rlab/CampaignMail-v0", exploring_starts=False) if bandit else TabularEnvConfig()
        agent = TABULAR_PRESETS[preset]
        power = STEP_POWERS.get(env)
        if not bandit and power is not None and (power > 0 or agent.method != "sarsa"):
            agent = replace(agent, step_power=power)
        base = TabularExperiment(agent=agent, env=home)
    return replace(base, env=replace(base.env, env=env)) if env else base
