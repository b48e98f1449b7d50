"""`Tabular`, the Learner around an agent that keeps its values in a table: budget, evaluations, state, picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlab.agents.evaluation import play, refuse_no_games, score
from rlab.agents.tabular.bandits import LinUCB
from rlab.agents.tabular.config import LinUCBConfig, PlanningConfig, PlanningEnvConfig, TabularEnvConfig
from rlab.agents.tabular.exact import Values, policy_evaluation, value_iteration
from rlab.agents.tabular.picture import draw_table
from rlab.agents.tabular.planning import Planner
from rlab.agents.tabular.table_agent import NO_LIMIT, GreedyPolicy, TableAgent
from rlab.envs import make_vec
from rlab.envs.make import is_foreign, load_model
from rlab.envs.tabular import MDP
from rlab.errors import RlabError
from rlab.run.budget import Budget
from rlab.run.contract import Footprint, Metrics, NonFinite, Progress, Score, State, Stop, Stopped
from rlab.seeding import derive


class TabularAgent(Protocol):
    """What `Tabular` drives."""

    mdp: MDP
    gamma: float
    block: int
    """Ticks of one `step()` of the learner: milliseconds of work."""

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to learn."""

    def run(self, done: int, ticks: int) -> float:
        """Step all copies `ticks` times, `done` being taken already; return the sum of |error|."""

    def epsilon_at(self, done: int) -> float | None:
        """The probability of a random action after `done` steps of each copy; None if it does not act."""

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


class Tabular:
    """The Learner of a tabular agent.

    Args:
        agent: learns on its own copies of the model.
        env: budget and evaluations.
        seed: the run's seed.
    """

    def __init__(self, agent: TabularAgent, env: TabularEnvConfig | PlanningEnvConfig, seed: int):
        self.agent = agent
        self.env = env
        self.seed = seed
        self.done_ticks = 0
        self.budget = Budget()

    @property
    def budget(self) -> Budget:
        """Where the run ends and its schedules stand."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        self._budget = budget
        if isinstance(self.agent, TableAgent):
            self.agent.budget = budget

    @property
    def done(self) -> int:
        """Environment steps taken."""
        return self.done_ticks * self.env.num_envs

    def step(self) -> Metrics:
        """Take a block of steps and learn; ends with the budget."""
        started = time.perf_counter()
        left = -(-(self.budget.end(self.env.steps) - self.done) // self.env.num_envs)
        ticks = max(0, min(self.agent.block, left))
        if ticks == 0 or self.agent.settled:
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
            "clock_learn": time.perf_counter() - started,
        }
        epsilon = self.agent.epsilon_at(self.done_ticks)
        if epsilon is not None:
            metrics |= {"epsilon_last": epsilon, "episodes_last": episodes}
        return metrics | ({"return_mean_last": float(recent.mean())} if episodes else {})

    def evaluate(self, stop: Stop) -> Score:
        """Play whole games; environments and random numbers depend on seed and progress only."""
        final = self.progress().finished
        episodes = self.env.final_episodes if final else self.env.evaluate_episodes
        return self.evaluate_games(episodes, derive(self.seed, "evaluation", self.done), stop)

    def policy(self, seed: int) -> Any:
        """What evaluations and films play; see `rlab.run.contract.Acts`."""
        return self.agent.policy(seed)

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
        refuse_no_games(episodes, seed)
        mdp = self.agent.mdp
        limit = None if mdp.limit else self.env.max_steps or NO_LIMIT  # a greedy policy may go round for ever
        copies, rules = 1 if is_foreign(self.env.env) else min(episodes, 32), self.env.rules()
        envs = make_vec(self.env.env, copies, seed, training=False, max_steps=limit, **rules)
        with closing(envs):
            policy = self.agent.policy(derive(seed, "policy"))
            returns, lengths = play(policy, envs, episodes, seed, stop)
        how = {"protocol": None, "epsilon": policy.epsilon, "seed": seed}
        return score(returns, lengths, self.env.env) | rules | how | self.exact()

    def exact(self) -> dict[str, float | None]:
        """`start_value`, `best_start_value` and `q_error`; see `evaluate_games`."""
        mdp, table = self.agent.mdp, self.agent.table()
        gamma, played = self.agent.gamma or 0.99, self.agent.policy(0).pi

        def error() -> float | None:
            reference = self.agent.reference(self.done_ticks)
            return None if reference is None else float(np.abs(table - reference)[mdp.reachable()].max())

        return {
            "start_value": _or_none(lambda: float(mdp.start @ policy_evaluation(mdp, played, gamma))),
            "best_start_value": _or_none(lambda: float(mdp.start @ value_iteration(mdp, gamma).max(axis=1))),
            "q_error": _or_none(error),
        }

    def progress(self) -> Progress:
        """Environment steps done and planned; what has settled has planned no more."""
        return Progress(self.done, self.done if self.agent.settled else self.budget.end(self.env.steps), "steps")

    def footprint(self, stop: Stop) -> Footprint:
        """Memory and disk from the arrays; time from a copy that runs for a moment."""
        held = sum(a.nbytes for a in self.agent.arrays().values())
        mdp = self.agent.mdp
        model = sum(a.nbytes for a in (mdp.probability, mdp.next_state, mdp.reward, mdp.terminated))
        twin = deepcopy(self.agent)
        twin.run(0, 1)  # compiles
        started = time.perf_counter()
        twin.run(1, twin.block)
        seconds = (time.perf_counter() - started) / (twin.block * self.env.num_envs)
        return Footprint(3 * held + 2 * model, 0, held + 20_000, seconds * self.env.steps)

    def state(self) -> State:
        """Everything: the copies, their random numbers, tables and what is still to be learned from."""
        arrays = {name: np.array(array) for name, array in self.agent.arrays().items()}
        if "random" in arrays:
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

    def draw(self, stop: Stop) -> dict[str, bytes]:
        """Draw the values and the greedy policy; see `rlab.run.contract.Draws`."""
        return {"values": draw_table(self.agent.mdp, self.agent.table(), f"{self.env.env} after {self.done:,} steps")}

    def close(self) -> None:
        """Nothing is held open."""


def _or_none(number: Callable[[], float | None]) -> float | None:
    """A number, or None where the MDP has none (gamma = 1 and no end)."""
    try:
        return number()
    except RlabError:
        return None


def build_tabular(experiment: Any, context: Any) -> Tabular:
    """Build the Learner of a `TabularExperiment`, `LinUCBExperiment` or `PlanningExperiment`.

    Raises:
        RlabError: the environment is unknown or has no table of transitions.
    """
    config, env, seed = experiment.agent, experiment.env, experiment.run.seed
    mdp = load_model(env.env, env.env_args)
    if isinstance(config, PlanningConfig):
        return Tabular(Planner(config, mdp), env, seed)
    make = LinUCB if isinstance(config, LinUCBConfig) else TableAgent
    return Tabular(make(config, env, mdp, seed), env, seed)
