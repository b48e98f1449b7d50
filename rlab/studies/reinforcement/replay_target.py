"""DQN without its memory, without its target network, and without both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 8


@dataclass(frozen=True)
class Settings:
    """One-step DQN; the number of updates and of samples in each is the same with and without memory."""

    env: str = "CartPole-v1"
    """The control task."""
    steps: int = 16_000
    """Environment steps; one update every 4."""
    learning_starts: int = 500
    """Steps at random before the first update."""
    episodes: int = 10
    """Games of each evaluation."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The greedy policy's mean return on the way, and its mean over the last half."""
    from rlab.studies.rl import learner, run, score

    changes = {"steps": settings.steps, "learning_starts": settings.learning_starts, "n_step": 1, "num_envs": 4}
    with learner("dqn", settings.env, seed, **(changes | variant)) as built:
        way = run(built, POINTS, lambda it: score(it, settings.episodes, seed))
    return {"curve": np.round(way, 3), "score": float(np.mean(way[POINTS // 2 :]))}


def draw(figure: Any, results: Results) -> None:
    """Evaluations over the run."""
    ways = columns(results, "curve")
    curves(figure.subplots(), (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "return of a game"))


RECENT = {"memory_size": 40}
"""The last 10 steps of each environment: the smallest memory that a DQN here can have."""

FOLLOWING = {"target_every": 4}
"""The target network is the online one as it is after every update."""

STUDIES.register("replay-target")(
    Study(
        claim="DQN needs both its replay memory and its target network: without either it scores less.",
        source="item 270; Mnih et al. 2015, extended data table 3",
        settings=Settings(),
        smoke={"steps": 160, "learning_starts": 64, "episodes": 1},
        variants={
            "dqn": {},
            "without replay": RECENT,
            "without target": FOLLOWING,
            "without both": RECENT | FOLLOWING,
        },
        measure=measure,
        contrasts=(
            Contrast("the memory helps", {"dqn/score": 1, "without replay/score": -1}),
            Contrast("the target network helps", {"dqn/score": 1, "without target/score": -1}),
        ),
        draw=draw,
        seeds=5,
        small={"steps": 2_500, "episodes": 2},
        small_seeds=3,
        claim_ja="DQN には、経験再生とターゲットネットワークの両方が必要である。どちらか一方がないと、得点が下がる。",
        correction="The page expands DQN as 'Deep Q-Learning'; it is 'Deep Q-Network'. The first one (2013) played "
        "seven games and beat a human on three; that of 2015 had the target network, too.",
        correction_ja="教材は、DQN を Deep Q-Learning の略とする。正しくは Deep Q-Network である。"
        "最初の DQN（2013 年）は、七つのゲームを学習し、三つで人間を上回った。2015 年の DQN には、"
        "ターゲットネットワークも加わった。",
    )
)
