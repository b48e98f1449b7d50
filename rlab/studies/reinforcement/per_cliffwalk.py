"""Replay by priority where what matters is rare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

LENGTHS = (4, 6, 8, 10, 12)


@dataclass(frozen=True)
class Settings:
    """A memory filled with all 2^n courses of a chain of n states; of them one ends with a reward."""

    step_size: float = 0.25
    """Of Q-learning's updates, a transition each."""
    error: float = 1e-3
    """Learned is what has a mean squared error below this."""
    priority_alpha: float = 0.6
    """Exponent of priorities."""
    most: int = 1_000_000
    """Updates after which it ends, learned or not."""


def memory_of(mdp: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(states, actions) of every step of every course, the courses in random order: int64[2^(n+1) - 2] each."""
    steps = []
    for course in rng.permutation(2**mdp.states):
        for s in range(mdp.states):
            a = course >> s & 1
            steps.append((s, a))
            if mdp.terminated[s, a, 0]:
                break
    states, actions = np.array(steps).T
    return states, actions


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of the updates until the table is learned."""
    from rlab.agents.tabular.exact import value_iteration
    from rlab.agents.value.replay.priorities import Priorities
    from rlab.envs.chains import blind_cliffwalk
    from rlab.envs.tabular import model_of
    from rlab.seeding import derive

    mdp = model_of(blind_cliffwalk(variant["length"]), "blind cliffwalk")
    gamma = 1 - 1 / mdp.states  # as in the paper
    exact = value_iteration(mdp, gamma)
    rng = np.random.default_rng(derive(seed, "memory"))
    states, actions = memory_of(mdp, rng)
    count = len(states)
    memory = Priorities(count, settings.priority_alpha)
    memory.enter(np.arange(count), np.ones(count, bool))
    prioritised, q = variant["memory"] == "prioritised", np.zeros((mdp.states, mdp.actions))
    squares, wrong = np.square(q - exact), np.square(q - exact).sum()
    updates = 0
    while wrong / q.size >= settings.error and updates < settings.most:
        updates += 1
        place = memory.draw(rng, 1) if prioritised else rng.integers(count, size=1)
        s, a = int(states[place[0]]), int(actions[place[0]])
        after = 0.0 if mdp.terminated[s, a, 0] else gamma * q[mdp.next_state[s, a, 0]].max()
        error = mdp.reward[s, a, 0] + after - q[s, a]
        q[s, a] += settings.step_size * error
        if prioritised:
            memory.update(place, np.array([error]))
        new = (q[s, a] - exact[s, a]) ** 2
        wrong += new - squares[s, a]
        squares[s, a] = new
    return {"log_updates": float(np.log10(updates)), "learned": float(wrong / q.size < settings.error)}


def draw(figure: Any, results: Results) -> None:
    """Updates over the chain's length."""
    ways = {
        kind: np.array([column(results[f"{kind}-{n}"], "log_updates") for n in LENGTHS]).T
        for kind in ("uniform", "prioritised")
    }
    curves(figure.subplots(), LENGTHS, ways, ("states of the chain", "log10 updates until learned"))


def gain(length: int) -> dict[str, float]:
    """By how many powers of ten prioritised replay is faster, as a contrast's weights."""
    return {f"uniform-{length}/log_updates": 1, f"prioritised-{length}/log_updates": -1}


STUDIES.register("per-cliffwalk")(
    Study(
        claim="Replaying large errors more often needs fewer updates than replaying uniformly, and gains more the "
        "rarer what is worth learning.",
        source="item 274; Schaul et al. 2016, section 3.1 and figure 1",
        settings=Settings(),
        smoke={"most": 150},
        variants={f"{kind}-{n}": {"length": n, "memory": kind} for n in LENGTHS for kind in ("uniform", "prioritised")},
        measure=measure,
        contrasts=(
            Contrast(f"fewer updates with {LENGTHS[-1]} states", gain(LENGTHS[-1])),
            Contrast(
                f"a larger gain with {LENGTHS[-1]} states than with {LENGTHS[0]}",
                gain(LENGTHS[-1]) | {name: -weight for name, weight in gain(LENGTHS[0]).items()},
            ),
        ),
        draw=draw,
        seeds=20,
        small_seeds=6,
        claim_ja="誤差の大きい経験を優先して再生すると、一様に再生するより少ない更新で学習できる。"
        "学ぶべき経験がまれなほど、その差は大きい。",
    )
)
