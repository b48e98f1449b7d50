"""Double learning against over-estimation, where the true values are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ENV = "rlab/NoisyChoice-v0"
POINTS = 20


@dataclass(frozen=True)
class Settings:
    """In state 0 half of the actions lead to state 1, where every action pays -0.1 +- 1 by a coin."""

    table_steps: int = 20_000
    """Environment steps of the tables."""
    deep_steps: int = 6_000
    """Environment steps of the networks."""
    step_size: float = 0.1
    """Of the tables, constant."""
    epsilon: float = 1.0
    """Probability of a random action; 1: all learn from the same kind of data, whatever their own errors."""
    memory_size: int = 500
    """Of the networks: steps that the replay holds, so few that means over them are noisy, and also the steps from
    one target network to the next, so that it knows other data than the online network."""


def errors(q: Any, exact: Any) -> float:
    """Learned less true value of going to state 1, in the mean over the actions that do.

    A mean, not a maximum: what is wrong in it came from state 1 through the bootstrap.
    """
    return float((q[0, 1::2] - exact[0, 1::2]).mean())


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The error's way, and its mean over the last half of it."""
    from rlab.agents.tabular.exact import value_iteration
    from rlab.envs.make import load_model

    exact = value_iteration(load_model(ENV), 1.0)
    way = (_table if variant["kind"] == "table" else _network)(settings, variant["double"], seed, exact)
    return {"curve": np.round(way, 4), "bias": float(np.mean(way[POINTS // 2 :]))}


def _table(settings: Settings, double: bool, seed: int, exact: Any) -> list[float]:
    from rlab.agents.tabular.config import TabularConfig, TabularEnvConfig
    from rlab.agents.tabular.table_agent import TableAgent
    from rlab.envs.make import load_model

    config = TabularConfig(double=double, gamma=1.0, step_size=settings.step_size, step_power=0.0)
    config = replace(config, epsilon_start=settings.epsilon, epsilon_end=settings.epsilon)
    where = TabularEnvConfig(env=ENV, steps=settings.table_steps, num_envs=1, exploring_starts=False)
    agent, part, way = TableAgent(config, where, load_model(ENV), seed), settings.table_steps // POINTS, []
    for point in range(POINTS):
        agent.run(point * part, part)
        way.append(errors(agent.table(), exact))
    return way


def _network(settings: Settings, double: bool, seed: int, exact: Any) -> list[float]:
    from rlab.studies.rl import learner, run

    changes: dict[str, Any] = {"n_step": 1, "gamma": 1.0, "learning_starts": 200, "final_learning_rate": 1e-3}
    changes |= {"epsilon_start": settings.epsilon, "epsilon_end": settings.epsilon}
    changes |= {"memory_size": settings.memory_size, "target_every": settings.memory_size}
    with learner("dqn", ENV, seed, double=double, steps=settings.deep_steps, **changes) as built:
        return run(built, POINTS, lambda it: errors(it.agent.online.predict(np.arange(2)), exact))


def draw(figure: Any, results: Results) -> None:
    """The error over the run."""
    axes = figure.subplots(1, 2, sharey=True)
    parts = (np.arange(POINTS) + 1) / POINTS
    for panel, kind in zip(axes, ("table", "network"), strict=True):
        chosen = {name: column(seeds, "curve") for name, seeds in results.items() if VARIANTS[name]["kind"] == kind}
        curves(panel, parts, chosen, ("part of the run", "learned less true value"))
        panel.axhline(0, color="black", lw=1, ls=":")


VARIANTS = {
    "q-learning": {"kind": "table", "double": False},
    "double-q": {"kind": "table", "double": True},
    "dqn": {"kind": "network", "double": False},
    "double-dqn": {"kind": "network", "double": True},
}

STUDIES.register("double-overestimation")(
    Study(
        claim="A maximum over noisy values over-estimates; letting one estimate choose and another value lowers that, "
        "in tables and in networks.",
        source="item 271; van Hasselt 2010; van Hasselt et al. 2016; Sutton & Barto 2018, example 6.7",
        settings=Settings(),
        smoke={"table_steps": 300, "deep_steps": 200},
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("Q-learning over-estimates", {"q-learning/bias": 1}),
            Contrast("Double Q-learning does so less", {"q-learning/bias": 1, "double-q/bias": -1}),
            Contrast("DQN over-estimates", {"dqn/bias": 1}),
            Contrast("Double DQN does so less", {"dqn/bias": 1, "double-dqn/bias": -1}),
        ),
        draw=draw,
        small={"table_steps": 5_000, "deep_steps": 2_000},
        small_seeds=4,
        claim_ja="ノイズのある価値の最大値を取ると、過大評価になる。行動を選ぶ推定値と評価する推定値を分けると、"
        "表形式でもニューラルネットワークでも、過大評価は小さくなる。",
    )
)
