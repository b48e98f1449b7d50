"""AlphaGo's search with parts left out, against the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.go_matches import draw_leads, lead, meet, searcher
from rlab.studies.study import STUDIES, Numbers, Study


@dataclass(frozen=True)
class Settings:
    """A search by policy, value and rollouts on a small board."""

    board: int = 9
    """Its size."""
    policy: str = "go9"
    """The run whose policy is the prior."""
    value: str = "go9-value"
    """The run whose value counts; empty: that of --policy."""
    rollout: str = "go9-rollout"
    """The run of go-rollout that plays games to their ends."""
    visits: int = 100
    """Simulations of a move."""
    games: int = 20
    """Of a match, half of them with each colour."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How far the variant is behind the search that mixes values and rollouts by halves."""
    s = settings
    whole = {"policy": s.policy, "value": s.value, "rollout": s.rollout, "mix": 0.5, "visits": s.visits}
    part = whole | variant
    if part["mix"] == 0:
        part["rollout"] = ""
    if part["mix"] == 1:
        part["value"] = ""
    return {"behind": meet(s.board, s.games, seed, searcher(s.board, whole), searcher(s.board, part))}


STUDIES.register("parts-of-alphago")(
    Study(
        claim="AlphaGo's search plays best with all its parts: it beats its policy network alone, and itself with only "
        "values or only rollouts at the leaves.",
        source="items 275, 276; Silver et al. 2016, figure 4b and extended data table 7",
        settings=Settings(),
        smoke={"board": 5, "policy": "go5", "value": "", "visits": 4, "games": 2},
        variants={
            "policy alone": {"decide": "policy", "mix": 0.0, "visits": 1},
            "values": {"mix": 0.0},
            "1/4 rollouts": {"mix": 0.25},
            "3/4 rollouts": {"mix": 0.75},
            "rollouts": {"mix": 1.0},
        },
        measure=measure,
        contrasts=(
            lead("the whole beats its policy alone", {"policy alone/behind": 1}),
            lead("the whole beats the search by values", {"values/behind": 1}),
            lead("the whole beats the search by rollouts", {"rollouts/behind": 1}),
        ),
        draw=partial(draw_leads, number="behind", label="lead of the whole search"),
        seeds=10,
        small={"board": 5, "policy": "go5", "value": "", "visits": 16, "games": 8},
        small_seeds=3,
        claim_ja="AlphaGo の探索は、すべての部品がそろったときに最も強い。方策ネットワークだけの場合にも、"
        "葉の評価が価値だけ、またはロールアウトだけの場合にも勝つ。",
    )
)
