"""AlphaZero on a small board with one of KataGo's savings at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import columns, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

POINTS = 5


@dataclass(frozen=True)
class Settings:
    """AlphaZero from nothing; variants differ in one switch and have the same moves and, on average, simulations."""

    board: int = 5
    """Its size."""
    steps: int = 60_000
    """Moves of self-play."""
    num_envs: int = 128
    """Games that go on side by side."""
    learning_starts: int = 4_000
    """Positions before the first update."""
    opponent: str = "rollout:400"
    """Whom it is measured by: the best move of so many random games, without a network."""
    visits: int = 32
    """Simulations of a move."""
    evaluate_visits: int = 32
    """Simulations of a move in a match."""
    games: int = 40
    """Of each of the five matches on the way."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """Points of a game on the way, and their mean: who learns faster has more of them."""
    from rlab.studies.rl import learner, run, score

    s = settings
    changes: dict[str, Any] = {
        "steps": s.steps, "num_envs": s.num_envs, "learning_starts": s.learning_starts, "opponent": s.opponent,
        "visits": s.visits, "evaluate_visits": s.evaluate_visits, "ownership": False, "score": False,
    }  # fmt: skip
    if "cap" in variant:  # a quarter of the moves with 5/2 of the simulations, the others with half of them
        changes |= {"visits": max(1, 5 * s.visits // 2), "fast_visits": max(1, s.visits // 2), "full_share": 0.25}
    else:
        changes |= variant
    with learner("alphazero", f"Go{s.board}", seed, **changes) as built:
        way = run(built, POINTS, lambda it: score(it, s.games, seed))
    return {"curve": np.round(way, 4), "points": float(np.mean(way))}


def draw(figure: Any, results: Results) -> None:
    """Points over the run."""
    ways = columns(results, "curve")
    curves(figure.subplots(), (np.arange(POINTS) + 1) / POINTS, ways, ("part of the run", "points of a game"))


SAVINGS: dict[str, dict[str, Any]] = {
    "ownership": {"ownership": True},
    "score": {"score": True},
    "next move": {"reply": True},
    "global pooling": {"encoder": "go-resnet-pool-3x32"},
    "playout cap": {"cap": True},
}
"""Switch -> what is other than in the plain run."""

STUDIES.register("savings-of-katago")(
    Study(
        claim="With each of KataGo's savings AlphaZero learns more from the same moves and simulations: ownership, "
        "score and next move as targets, global pooling, capped playouts, forced playouts that are not learned, and "
        "symmetries.",
        source="item 275; Wu 2019, the ablations; Silver et al. 2017, on symmetries",
        settings=Settings(),
        smoke={
            "steps": 96,
            "num_envs": 8,
            "learning_starts": 32,
            "opponent": "random",
            "visits": 4,
            "evaluate_visits": 1,
            "games": 2,
        },
        variants={"plain": {}}
        | SAVINGS
        | {
            "no symmetries": {"symmetries": False},
            "PUCT": {"search": "puct"},
            "PUCT, forced": {"search": "puct", "forced": 2.0},
        },
        measure=measure,
        contrasts=(
            *(Contrast(f"{name} helps", {f"{name}/points": 1, "plain/points": -1}) for name in SAVINGS),
            Contrast("symmetries help", {"plain/points": 1, "no symmetries/points": -1}),
            Contrast("forced playouts help", {"PUCT, forced/points": 1, "PUCT/points": -1}),
        ),
        draw=draw,
        seeds=5,
        small={"steps": 3_000, "num_envs": 32, "learning_starts": 500, "visits": 8, "opponent": "random", "games": 20},
        small_seeds=3,
        claim_ja="KataGo の工夫はどれも、同じ手数とシミュレーション数から、AlphaZero により多くを学習させる。"
        "工夫とは、地の帰属、点差、次の手を補助目標とすること、大域プーリング、プレイアウト数の上限、"
        "学習に使わない強制プレイアウト、対称性である。",
    )
)
