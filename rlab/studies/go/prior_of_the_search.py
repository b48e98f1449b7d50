"""The policy from records and the one improved by self-play: alone, and as the prior of a search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlab.studies.go_matches import draw_leads, lead, meet, searcher
from rlab.studies.study import STUDIES, Numbers, Study


@dataclass(frozen=True)
class Settings:
    """Two policies and one value on a small board."""

    board: int = 9
    """Its size."""
    supervised: str = "go9"
    """The run of a policy from game records."""
    reinforced: str = "go9-rl"
    """The run that improved it by self-play."""
    value: str = "go9-value"
    """The run whose value both searches have."""
    visits: int = 100
    """Simulations of a move."""
    games: int = 20
    """Of a match, half of them with each colour."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """How far the improved policy is ahead of the one that it was made from."""
    s = settings
    usual = {"value": s.value, "mix": 0.0, "visits": s.visits} | variant
    first, second = (searcher(s.board, usual | {"policy": policy}) for policy in (s.reinforced, s.supervised))
    return {"ahead": meet(s.board, s.games, seed, first, second)}


STUDIES.register("prior-of-the-search")(
    Study(
        claim="The policy improved by self-play is the stronger one alone, and yet the policy from game records serves "
        "a search better as its prior.",
        source="items 276, 277; Silver et al. 2016, on searching with both networks",
        settings=Settings(),
        smoke={"board": 5, "supervised": "go5", "reinforced": "go5", "value": "go5", "visits": 4, "games": 2},
        variants={"alone": {"decide": "policy", "visits": 1}, "in a search": {}},
        measure=measure,
        contrasts=(
            lead("alone the improved policy is ahead", {"alone/ahead": 1}),
            lead("in a search the policy from records is ahead", {"in a search/ahead": -1}),
        ),
        draw=partial(draw_leads, number="ahead", label="lead of the improved policy"),
        seeds=10,
        small={"value": "go9", "visits": 8, "games": 6},
        small_seeds=3,
        claim_ja="自己対局で強化した方策は、単独では強いが、探索の事前確率としては、"
        "棋譜から学習した方策のほうが役に立つ。",
    )
)
