"""By what a search chooses its move: visits, the policy before it, or the highest value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.go_matches import draw_leads, lead, meet, searcher
from rlab.studies.study import STUDIES, Numbers, Study


@dataclass(frozen=True)
class Settings:
    """One search on a small board."""

    board: int = 9
    """Its size."""
    policy: str = "go9"
    """The run whose policy is the prior, and whose value counts."""
    visits: int = 100
    """Simulations of a move."""
    games: int = 20
    """Of a match, half of them with each colour."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How far the search that plays its most visited edge is ahead of the one that decides otherwise."""
    s = settings
    usual = {"policy": s.policy, "mix": 0.0, "visits": s.visits}
    return {"behind": meet(s.board, s.games, seed, searcher(s.board, usual), searcher(s.board, usual | variant))}


STUDIES.register("move-selection")(
    Study(
        claim="What a search visited most is a better move than what its policy network holds most probable, and than "
        "what it values highest.",
        source="items 276, 277; Silver et al. 2016, methods",
        settings=Settings(),
        smoke={"board": 5, "policy": "go5", "visits": 4, "games": 2},
        variants={"most probable": {"decide": "policy", "visits": 1}, "highest value": {"decide": "value"}},
        measure=measure,
        contrasts=(
            lead("visits beat the policy's first choice", {"most probable/behind": 1}),
            lead("visits beat the highest value", {"highest value/behind": 1}),
        ),
        draw=partial(draw_leads, number="behind", label="lead of the most visited edge"),
        seeds=10,
        small={"visits": 16, "games": 4},
        small_seeds=3,
        claim_ja="探索の訪問回数が最も多い手は、方策ネットワークの最有力の手よりも、"
        "探索の評価値が最も高い手よりもよい。",
        correction="The policy network does not decide the move: AlphaGo plays the most visited edge of the search, "
        "and the network only says where to search first.",
        correction_ja="手を決めるのは方策ネットワークではない。AlphaGo は、探索の訪問回数が最も多い枝の手を打つ。"
        "方策ネットワークは、どこを先に探索するかを示すだけである。",
    )
)
