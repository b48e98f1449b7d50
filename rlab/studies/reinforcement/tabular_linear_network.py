"""One learning rule, three representations: a table of cells, a linear function, a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 8

LIMITS = ((-2.4, 2.4), (-2.0, 2.0), (-0.21, 0.21), (-2.0, 2.0))
"""CartPole's position, speed, angle and angular speed, as far as cells tell them apart."""

CELLS = (3, 3, 8, 8)
"""Into how many parts each is cut."""


@dataclass(frozen=True)
class Settings:
    """CartPole by DQN's rule; only what the Q-values are a linear function of differs."""

    steps: int = 16_000
    """Environment steps; one update of 64 samples every 8."""
    episodes: int = 10
    """Games of each evaluation."""


@lru_cache(maxsize=1)
def register_encoders() -> None:
    """Make the encoders known that turn DQN's last layer into a linear function and into a table."""
    import torch
    from torch import Tensor, nn

    from rlab.nn import ENCODERS

    class Raw(nn.Module):
        """The observation itself."""

        def __init__(self, shape: tuple[int, ...]):
            super().__init__()
            self.out_dim = int(np.prod(shape))

        def forward(self, obs: Tensor) -> Tensor:
            """obs[B, *shape] -> [B, out_dim]."""
            return obs.flatten(1)

    class Cells(nn.Module):
        """One indicator a cell."""

        def __init__(self, shape: tuple[int, ...]):
            super().__init__()
            self.out_dim = int(np.prod(CELLS))
            self.low, self.high = torch.tensor(LIMITS).T
            self.cells = torch.tensor(CELLS)

        def forward(self, obs: Tensor) -> Tensor:
            """obs[B, 4] -> [B, out_dim]."""
            part = ((obs - self.low) / (self.high - self.low) * self.cells).long()
            part = part.clamp(min=torch.zeros_like(self.cells), max=self.cells - 1)
            index = torch.zeros(len(obs), dtype=torch.int64)
            for k, count in enumerate(CELLS):
                index = index * count + part[:, k]
            return nn.functional.one_hot(index, self.out_dim).float()

    ENCODERS.register("cartpole-raw")(Raw)
    ENCODERS.register("cartpole-cells")(Cells)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The greedy policy's mean return on the way, and its mean over the last half."""
    from rlab.studies.rl import learner, run, score

    register_encoders()
    changes = {"steps": settings.steps, "learning_starts": 500, "train_every": 8, "target_every": 256}
    changes |= {"final_learning_rate": variant["learning_rate"]}
    with learner("dqn", "CartPole-v1", seed, **changes, **variant) as built:
        way = run(built, POINTS, lambda it: score(it, settings.episodes, seed))
    return {"curve": np.round(way, 3), "score": float(np.mean(way[POINTS // 2 :]))}


def draw(figure: Any, results: Results) -> None:
    """Evaluations over the run."""
    ways = columns(results, "curve")
    curves(figure.subplots(), (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "return of a game"))


STUDIES.register("tabular-linear-network")(
    Study(
        claim="How states are represented decides what reinforcement learning comes to: of the same experience a "
        "network makes more than a table of cells or a function linear in the raw observation.",
        source="item 269; Sutton & Barto 2018, chapter 9; Mnih et al. 2013",
        settings=Settings(),
        smoke={"steps": 400, "episodes": 1},
        variants={
            # A weight of the table is only moved when its cell is met, so its steps are larger.
            "table": {"encoder": "cartpole-cells", "learning_rate": 1e-2},
            "linear": {"encoder": "cartpole-raw", "learning_rate": 1e-2},
            "network": {"encoder": "mlp", "learning_rate": 1e-3},
        },
        measure=measure,
        contrasts=(
            Contrast("the network beats the linear function", {"network/score": 1, "linear/score": -1}),
            Contrast("the network beats the table", {"network/score": 1, "table/score": -1}),
        ),
        draw=draw,
        seeds=10,
        small={"steps": 4_000, "episodes": 5},
        small_seeds=4,
        claim_ja="状態の表現が、強化学習の成果を左右する。同じ経験からでも、ニューラルネットワークは、"
        "離散化したテーブルや、生の観測についての線形関数より多くを学ぶ。",
    )
)
